"""Bundles from people who mean harm, and from broken disks: refused in a sentence or inert, and the workspace is as it was."""

import json
import os
import stat
import struct
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.errors import AtlasError
from core.findings.bundle import archive, tables
from core.findings.bundle.archive import Refused, read_json, unpack
from core.findings.bundle.importing import import_bundle
from core.findings.bundle.schemas import Form
from core.workspace import Workspace
from tests.shared_bundle import UNITS, Members, named, pack, parquet, refused, snapshot

FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize(
    "name",
    [
        *(
            "../evil.txt",
            "runs/../../evil.txt",
            "/etc/evil",
            "c:/evil",
            "C:\\evil",
            "runs\\..\\evil",
            "\\\\host\\share\\evil",
            "runs/./evil",
        ),
        *(
            "runs//evil",
            ".hidden",
            "runs/.hidden/evil",
            "runs/EVIL",
            "a\x00b",
            "runs/évil",
            "ru\u202ens/evil",
            "con:",
            "x" * 300,
            "runs/evil/",
        ),
    ],
)
def test_names_that_lead_elsewhere_are_refused(workspace: Workspace, good: Members, tmp_path: Path, name: str) -> None:
    path = pack(tmp_path / "bad.zip", {**good, name: b"evil"})
    assert "member" in refused(workspace, path)
    assert not list(tmp_path.rglob("evil*"))


def test_links_and_devices_are_refused(workspace: Workspace, good: Members, tmp_path: Path) -> None:
    for kind in (stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFDIR):
        path = pack(tmp_path / "link.zip", good)
        with zipfile.ZipFile(path, "a") as opened:
            info = zipfile.ZipInfo("subjects/link")
            info.external_attr = (kind | 0o777) << 16
            opened.writestr(info, "/etc/passwd")
        assert "link or device" in refused(workspace, path)


@pytest.mark.parametrize(
    "content", [b'{"' + b'\\"' * 1_000_000, b'{"a": "' + b"\\" * 2_000_001, b'"' * 1_000_001, b'{"a' + b"[" * 2_000_000]
)
def test_json_that_never_ends_is_refused_in_time_that_grows_with_its_length(content: bytes) -> None:
    began = time.process_time()
    with pytest.raises(Refused):
        read_json(content, "manifest")
    assert time.process_time() - began < 20


def test_brackets_in_strings_are_not_nesting_and_those_beside_them_are() -> None:
    assert read_json(json.dumps({'a"[': "[" * 200, "b": '\\"' + "{" * 200}).encode(), "manifest")['a"['] == "[" * 200
    with pytest.raises(Refused):
        read_json(b'{"a\\"": ' + b"[" * 65 + b"]" * 65 + b"}", "manifest")


def test_a_bomb_is_refused_before_it_goes_off(workspace: Workspace, good: Members, tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, data in good.items():
            opened.writestr(name, data)
        with opened.open("runs/bomb.parquet", "w") as file:
            for _ in range(200):
                file.write(b"\0" * (1 << 20))
    began = time.process_time()
    assert "would unpack to" in refused(workspace, path)
    assert time.process_time() - began < 5


def test_a_bomb_that_lies_about_its_size_stops_at_what_it_said(workspace: Workspace, good: Members, tmp_path: Path) -> None:
    path = pack(tmp_path / "lie.zip", {**good, "runs/bomb": b"\0" * (8 << 20)})
    content = bytearray(path.read_bytes())
    for signature, at in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):  # the sizes in both headers
        place = -1
        while (place := content.find(signature, place + 1)) >= 0:
            if struct.unpack_from("<L", content, place + at)[0] == 8 << 20:
                struct.pack_into("<L", content, place + at, 1000)
    path.write_bytes(content)
    refused(workspace, path)


def test_a_parquet_file_that_unpacks_to_ten_gigabytes_is_refused(workspace: Workspace, good: Members, tmp_path: Path) -> None:
    name = named(good, "text/documents.parquet")
    ids = pa.DictionaryArray.from_arrays(pa.array(np.zeros(3_000_000, np.int32)), pa.array(["x" * 4000]))
    bomb = pa.table({"document": pa.array(np.arange(3_000_000, dtype=np.int32)), "id": ids, "source": ids})
    began = time.process_time()
    content = parquet(bomb)
    assert len(content) < 20 << 20
    assert "holds more than" in refused(workspace, pack(tmp_path / "bomb.zip", {**good, name: content}))
    long = pa.table({"document": pa.array([0], pa.int32()), "id": ["x" * (5 << 20)], "source": [""]})
    assert "a text of" in refused(workspace, pack(tmp_path / "long.zip", {**good, name: parquet(long)}))
    rows = pa.table({"token": pa.array(np.zeros(tables.ROWS + 1, np.int32))})
    vocabulary = named(good, "vocab.parquet", "subjects/")
    assert "rows" in refused(workspace, pack(tmp_path / "rows.zip", {**good, vocabulary: parquet(rows)}))
    assert time.process_time() - began < 30


def test_a_million_entries_are_refused_at_a_glance(workspace: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "many.zip"
    entry = struct.pack("<4s6H3L5H2L", b"PK\x01\x02", 20, 20, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    count = 1_000_000
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, count & 0xFFFF, count & 0xFFFF, len(entry) * count, 0, 0)
    path.write_bytes(entry * count + end)
    began = time.process_time()
    assert "more members" in refused(workspace, path)
    assert time.process_time() - began < 2
    with zipfile.ZipFile(path, "w") as opened:
        for at in range(archive.MEMBERS + 1):
            opened.writestr(f"m{at}", b"")
    assert "more members" in refused(workspace, path)


def test_what_was_changed_on_the_way_is_noticed(workspace: Workspace, good: Members, tmp_path: Path) -> None:
    name = named(good, "records.parquet")
    changed = {**good, name: good[name][:-1] + bytes([good[name][-1] ^ 1])}
    assert "not what its manifest says" in refused(workspace, pack(tmp_path / "a.zip", changed, honest=False))
    missing = {key: data for key, data in good.items() if key != name}
    assert "not those that its manifest names" in refused(workspace, pack(tmp_path / "b.zip", missing, honest=False))
    assert "is missing" in refused(workspace, pack(tmp_path / "c.zip", missing))
    assert "not those" in refused(workspace, pack(tmp_path / "d.zip", {**good, "extra": b""}, honest=False))
    whole = pack(tmp_path / "e.zip", good).read_bytes()
    for size in (0, 10, len(whole) // 2, len(whole) - 1):
        (tmp_path / "f.zip").write_bytes(whole[:size])
        refused(workspace, tmp_path / "f.zip")
    (tmp_path / "g.zip").write_bytes(b"#!/bin/sh\n" + whole)
    assert "before, between or after" in refused(workspace, tmp_path / "g.zip")
    twice = pack(tmp_path / "h.zip", good)
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(twice, "a") as opened:
        opened.writestr(name, b"another")
    assert "two members" in refused(workspace, twice)


MANIFESTS: dict[str, Callable[[dict[str, Any]], object]] = {
    "units that are none": lambda m: m.update(units=["../../etc"]),
    "no units": lambda m: m.update(units=[]),
    "a unit twice": lambda m: m.update(units=[str(UNITS[0])] * 2),
    "units that are no list": lambda m: m.update(units=7),
    "a run that leads elsewhere": lambda m: m["runs"][0].update(run="../../evil"),
    "a run less": lambda m: m["runs"].pop(),
    "a run twice": lambda m: m["runs"].append(m["runs"][0]),
    "no runs": lambda m: m.pop("runs"),
    "a title of another kind": lambda m: m.update(title={"a": 1}),
    "a schema of another kind": lambda m: m.update(schema="1"),
    "a newer schema": lambda m: m.update(schema=2),
    "another format": lambda m: m.update(format="zip"),
    "a title without end": lambda m: m.update(title="x" * 2000),
}


@pytest.mark.parametrize("what", MANIFESTS)
def test_manifests_that_say_something_else_are_refused(workspace: Workspace, good: Members, tmp_path: Path, what: str) -> None:
    refused(workspace, pack(tmp_path / "bad.zip", good, change=MANIFESTS[what]))


@pytest.mark.parametrize(
    "text",
    [
        *(
            '{"a": NaN}',
            '{"a": Infinity}',
            '{"a": 1e999}',
            '{"a": 1, "a": 2}',
            "[" * 100_000,
            '{"a": ' * 200 + "1" + "}" * 200,
            "[]",
            "",
            "{",
        ),
        *('{"a": ' + "9" * 5000 + "}", '"\ud800"'.encode("utf8", "surrogatepass").decode("latin1")),
    ],
)
def test_json_that_python_would_choke_on_is_refused(text: str) -> None:
    with pytest.raises(Refused):
        read_json(text.encode("utf8", "surrogatepass"), "manifest")


def test_json_with_many_brackets_in_its_texts_is_read() -> None:
    assert read_json(json.dumps({"a": "[{" * 500 + '"\\'}).encode(), "manifest")["a"].startswith("[{")


def test_the_process_of_its_own_hands_back_what_it_found(workspace: Workspace, good: Members, tmp_path: Path) -> None:
    """As people import: the sentence comes back, and a bundle that is sound is taken in."""
    path = pack(tmp_path / "bad.zip", good, change=lambda manifest: manifest.update(schema=2))
    before = snapshot(workspace)
    with pytest.raises(Refused, match="newer Neuron Atlas"):
        import_bundle(workspace, path)
    assert import_bundle(workspace, pack(tmp_path / "good.zip", good)).changed
    assert snapshot(workspace) != before


@pytest.mark.skipif(sys.platform == "win32", reason="bounds on a process are POSIX's")
@pytest.mark.parametrize("bound", ["MEMORY = 300 << 20", "SECONDS = 0"])
def test_a_check_that_takes_all_memory_or_never_ends_is_a_refusal(
    workspace: Workspace, good: Members, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    """The child's own bounds, made so narrow that a sound bundle hits them."""
    path = pack(tmp_path / "good.zip", good)
    code = f"import sys; from core.findings.bundle import staging; staging.{bound}; sys.stdout.write(str(staging._main(*sys.argv[1:])))"
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\nshift 2\nexec {sys.executable} -c '{code}' \"$@\"\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    before = snapshot(workspace)
    with pytest.raises(Refused, match="memory"):
        import_bundle(workspace, path)
    assert snapshot(workspace) == before


@FUZZ
@given(data=st.data())
def test_any_byte_changed_anywhere_is_refused_or_means_nothing(
    source: Workspace, good: Members, tmp_path: Path, data: st.DataObject
) -> None:
    """Bytes of the archive itself: headers, directory, contents."""
    content = bytearray(pack(tmp_path / "good.zip", good).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
    path = tmp_path / "fuzzed.zip"
    path.write_bytes(content)
    folder = tmp_path / f"out-{os.urandom(6).hex()}"
    folder.mkdir()
    try:
        unpack(path, folder)
    except AtlasError:
        return
    assert {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}.items() <= good.items()


@FUZZ
@given(content=st.binary(max_size=300))
def test_any_bytes_as_parquet_or_archive_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "any"
    path.write_bytes(content)
    with pytest.raises(Refused):
        tables.read_table(path, Form({"unit": pa.int32()}), "x")
    with pytest.raises(Refused):
        unpack(path, tmp_path)
