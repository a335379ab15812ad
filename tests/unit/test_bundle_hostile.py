"""Bundles from people who mean harm, and from broken disks: refused in a sentence or inert, and the workspace is as it was."""

import io
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
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.errors import AtlasError
from core.findings.bundle import archive, tables
from core.findings.bundle.archive import MANIFEST, Refused, read_json, unpack
from core.findings.bundle.importing import import_bundle
from core.findings.bundle.reduced import Reduced
from core.findings.bundle.schemas import Form
from core.findings.bundle.staging import stage
from core.findings.bundle.taking import reindexed, taken_explanations, taken_index
from core.findings.findings import Findings
from core.store.cache import Cache
from core.store.catalog import find_unit
from core.store.explained import explained_runs
from core.store.units import load_unit
from core.workspace import Workspace, write_json
from tests.shared_bundle import UNITS, Members, exported, fill, members, pack, snapshot

FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = Workspace.open(tmp_path_factory.mktemp("source") / "ws")
    fill(workspace)
    return workspace


@pytest.fixture(scope="module")
def good(source: Workspace) -> Members:
    return members(exported(source, source.path.parent / "good.atlas.zip"))


def refused(workspace: Workspace, path: Path) -> str:
    """The one sentence with which a file is refused; the workspace must be as it was."""
    before = snapshot(workspace)
    with pytest.raises(AtlasError) as caught:
        import_bundle(workspace, path, findings=Findings(workspace), stage=stage)
    assert snapshot(workspace) == before
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert len(sentence) < 500
    return sentence


def sealed(source: Workspace, made: list[Reduced], tmp_path: Path, title: str = "") -> Path:
    """A bundle whose names and hashes are right, whatever the runs hold."""
    folder = tmp_path / "made"
    for one in made:
        one.write(folder / "runs" / one.run)
    (folder / "subjects" / "tiny").mkdir(parents=True)
    (folder / "subjects" / "tiny" / "vocab.parquet").write_bytes((source.subjects / "tiny" / "vocab.parquet").read_bytes())
    write_json(folder / "subjects" / "tiny" / "subject.json", made[0].manifest["subject"])
    head: dict[str, Any] = {"format": "neuron-atlas-bundle", "schema": 1, "title": title, "units": [str(UNITS[0])]}
    head["runs"] = [{"run": one.run, "kind": one.kind, "origin": one.origin} for one in made]
    content = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return pack(tmp_path / "sealed.zip", {**content, MANIFEST: json.dumps(head).encode()})


def taken(source: Workspace) -> list[Reduced]:
    """An index of one unit, and its explanation."""
    index = taken_index(source, find_unit(source, UNITS[0]), {UNITS[0].site: [UNITS[0].index]}, range(64))
    explained = taken_explanations(explained_runs(source)[0], {str(UNITS[0])})
    assert explained is not None
    return [index, reindexed(explained, {"index-test": index.run}, {})]


def parquet(table: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, store_schema=False)
    return sink.getvalue()


def table(content: bytes) -> Any:
    return pq.read_table(io.BytesIO(content))


def named(good: Members, end: str, start: str = "runs/") -> str:
    return next(name for name in good if name.endswith(end) and name.startswith(start))


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


def test_a_bomb_is_refused_before_it_goes_off(workspace: Workspace, good: Members, tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, data in good.items():
            opened.writestr(name, data)
        with opened.open("runs/bomb.parquet", "w") as file:
            for _ in range(200):
                file.write(b"\0" * (1 << 20))
    began = time.perf_counter()
    assert "would unpack to" in refused(workspace, path)
    assert time.perf_counter() - began < 5


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
    began = time.perf_counter()
    content = parquet(bomb)
    assert len(content) < 20 << 20
    assert "holds more than" in refused(workspace, pack(tmp_path / "bomb.zip", {**good, name: content}))
    long = pa.table({"document": pa.array([0], pa.int32()), "id": ["x" * (5 << 20)], "source": [""]})
    assert "a text of" in refused(workspace, pack(tmp_path / "long.zip", {**good, name: parquet(long)}))
    rows = pa.table({"token": pa.array(np.zeros(tables.ROWS + 1, np.int32))})
    vocabulary = named(good, "vocab.parquet", "subjects/")
    assert "rows" in refused(workspace, pack(tmp_path / "rows.zip", {**good, vocabulary: parquet(rows)}))
    assert time.perf_counter() - began < 30


def test_a_million_entries_are_refused_at_a_glance(workspace: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "many.zip"
    entry = struct.pack("<4s6H3L5H2L", b"PK\x01\x02", 20, 20, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    count = 1_000_000
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, count & 0xFFFF, count & 0xFFFF, len(entry) * count, 0, 0)
    path.write_bytes(entry * count + end)
    began = time.perf_counter()
    assert "more members" in refused(workspace, path)
    assert time.perf_counter() - began < 2
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


def test_content_under_the_name_of_another_run_is_refused(workspace: Workspace, good: Members, tmp_path: Path) -> None:
    """Sound files, right hashes, but not what the run's name stands for: else a bundle could stand in for another one's run."""
    name = named(good, "mlp.1/units.parquet")
    units = table(good[name])
    raised = units.set_column(
        units.column_names.index("max"), "max", pc.call_function("add", [units.column("max"), pa.scalar(1, pa.float32())])
    )
    sentence = refused(workspace, pack(tmp_path / "a.zip", {**good, name: parquet(raised)}))
    assert "does not hold what its name stands for" in sentence


Change = Callable[[Any], Any]


def _set(column: str, value: Any) -> Change:
    def change(found: Any) -> Any:
        at = found.column_names.index(column)
        kind = found.schema.field(column).type
        values = found.column(column).to_pylist()
        values[0] = value(values[0]) if callable(value) else value
        return found.set_column(at, column, pa.array(values, kind))

    return change


HARM: dict[str, tuple[str, Change]] = {
    "infinity": ("mlp.1/units.parquet", _set("max", float("inf"))),
    "NaN where a number must be": ("mlp.1/records.parquet", _set("values", lambda old: [float("nan"), *old[1:]])),
    "a null": ("mlp.1/units.parquet", _set("tokens", None)),
    "a bin that is none": ("mlp.1/units.parquet", _set("bins", lambda old: [32000, *old[1:]])),
    "lists of different lengths": ("mlp.1/units.parquet", _set("counts", lambda old: old[1:])),
    "a context that is not there": ("mlp.1/records.parquet", _set("contexts", lambda old: [9999, *old[1:]])),
    "a negative context": ("mlp.1/positions.parquet", _set("contexts", lambda old: [-1, *old[1:]])),
    "a position past the end": ("mlp.1/positions.parquet", _set("positions", lambda old: [500, *old[1:]])),
    "activations cut short": ("mlp.1/records.parquet", _set("activations", lambda old: old[:-2])),
    "more shown than there are": ("mlp.1/records.parquet", _set("shown", 10_000)),
    "another unit": ("mlp.1/units.parquet", _set("unit", 6)),
    "a band that is none": ("mlp.1/records.parquet", _set("band", "best")),
    "a document that is not there": ("text/contexts.parquet", _set("document", 999)),
    "ranks out of order": ("text/contexts.parquet", _set("rank", 5)),
    "a similar unit that is none": ("effects/mlp.1.parquet", _set("similar", lambda old: ["<script>/1", *old[1:]])),
    "an explained unit that is none": ("explanations.parquet", _set("unit", "tiny/mlp.1/neurons/../5")),
    "an identity of another run": ("explanations.parquet", _set("explanation", "explain-other.0.0.0")),
    "a recipe that is no JSON": ("explanations.parquet", _set("recipe", "{")),
    "a role that is none": ("scores.parquet", _set("role", "winner")),
    "simulated is longer than true": ("simulations.parquet", _set("simulated", lambda old: [*old, 1.0])),
    "co-active units beyond the dictionary": ("codes/resid.0.parquet", _set("coactive", lambda old: [70_000, *old[1:]])),
    "an ablated token that is none": ("effect-test", _set("token", -7)),
}


@pytest.mark.parametrize("what", HARM)
def test_values_that_no_page_could_show_are_refused(workspace: Workspace, good: Members, tmp_path: Path, what: str) -> None:
    end, change = HARM[what]
    name = next(
        name for name in good if name.endswith(end) or (end == "effect-test" and end in name and name.endswith("positions.parquet"))
    )
    harmed = change(table(good[name]))
    sentence = refused(workspace, pack(tmp_path / "bad.zip", {**good, name: parquet(harmed)}))
    assert "what its name stands for" not in sentence  # refused for itself, not only because its hash is another


UNSEEN: dict[str, tuple[int, str, Change]] = {
    "tokens that the vocabulary lacks": (0, "text/contexts.parquet", _set("tokens", lambda old: [2_000_000] * len(old))),
    "a pattern that is none": (1, "parts/0/explanations.parquet", _set("pattern", '{"level": "high"}')),
    "a unit that is nowhere": (1, "parts/0/explanations.parquet", _set("index", "index-nowhere")),
    "a score of a record that is not there": (1, "parts/0/simulations.parquet", _set("context", 5000)),
}


@pytest.mark.parametrize("what", UNSEEN)
def test_what_only_a_page_would_notice_is_noticed_before(workspace: Workspace, source: Workspace, tmp_path: Path, what: str) -> None:
    """Right types, right hashes: the pages' own readers try it first."""
    at, path, change = UNSEEN[what]
    made = taken(source)
    changed = {place: change(found) if place.path == path else found for place, found in made[at].tables.items()}
    made[at] = Reduced(made[at].kind, made[at].origin, made[at].manifest, changed)
    if at == 0:
        made = made[:1]
    if what == "a unit that is nowhere":  # told when it is shown: the text is missing, as where an index was deleted
        assert import_bundle(workspace, sealed(source, made, tmp_path), stage=stage).changed
        return
    assert "cannot be shown" in refused(workspace, sealed(source, made, tmp_path))


def test_columns_of_another_kind_and_broken_parquet_are_refused(workspace: Workspace, good: Members, tmp_path: Path) -> None:
    name = named(good, "mlp.1/units.parquet")
    units = table(good[name])
    at = units.column_names.index("max")
    for made, said in (
        (units.set_column(at, "max", pc.cast(units.column("max"), pa.string())), "another kind"),
        (units.remove_column(at), "lacks the column max"),
        (units.slice(0, 0), "not as this program"),
    ):
        assert said in refused(workspace, pack(tmp_path / "a.zip", {**good, name: parquet(made)}))
    for content in (b"", b"PAR1", good[name][: len(good[name]) // 2], good[name][:100] + b"\0" * 200 + good[name][300:], b"\0" * 5000):
        refused(workspace, pack(tmp_path / "b.zip", {**good, name: content}))


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


def test_sql_and_html_in_every_text_are_only_text(workspace: Workspace, source: Workspace, tmp_path: Path) -> None:
    """A bundle that is sound but for what its texts say: it is taken in, and means nothing to the database or the page."""
    evil = "'); DROP TABLE units; --<script>alert(1)</script><img src=x onerror=alert(1)>\u202e\x1b[31m{{7*7}}"
    made = taken(source)
    for at, one in enumerate(made):
        changed: dict[Any, Any] = {}
        for place, content in one.tables.items():
            for column in (
                "snippet",
                "text",
                "id",
                "source",
                "author",
                "setting",
                "explainer",
                "reason",
                "said",
                "simulator",
                "calibration",
            ):
                if column in content.column_names and not (column == "text" and place.keys[-1] == "positions"):
                    values = pa.array([evil] * content.num_rows, pa.string())
                    content = content.set_column(content.column_names.index(column), column, values)
            changed[place] = content
        manifest = {**one.manifest, "provenance": {evil: [evil, {evil: None}]}}
        if one.kind == "index":
            manifest["slice"] = {**manifest["slice"], "spec": {"source": evil}, "sources": {evil: 1}}
        else:
            changed = reindexed(Reduced(one.kind, one.origin, manifest, changed), {one.manifest["index"][0]: made[0].run}, {}).tables
            manifest |= {"index": [made[0].run], "part": {**manifest["part"], "indexes": [made[0].run]}}
        made[at] = Reduced(one.kind, one.origin, manifest, changed)
    path = sealed(source, made, tmp_path, evil)
    assert import_bundle(workspace, path, stage=stage).title == evil
    view = load_unit(workspace, UNITS[0])
    assert (view.snippet, view.bands["top"][0].document) == (evil, evil)
    cache = Cache.open(workspace)
    assert cache.ingest() == []
    with cache.cursor() as cursor:
        assert cursor.execute("SELECT count(*) FROM units WHERE snippet = ?", [evil]).fetchall() == [(1,)]
        assert cursor.execute("SELECT text, author FROM explanations").fetchall() == [(evil, evil)]
    cache.close()


def test_findings_that_nobody_could_have_written_stop_the_whole_import(workspace: Workspace, good: Members, tmp_path: Path) -> None:
    rows = table(good["findings.parquet"]).to_pylist()
    schema = table(good["findings.parquet"]).schema
    for change in ({"body": '{"text": "other words"}'}, {"unit": "../../x"}, {"kind": "command"}, {"created": 1e300}, {"version": "x"}):
        bad = pa.Table.from_pylist([{**rows[0], **change}, *rows[1:]], schema=schema)
        refused(workspace, pack(tmp_path / "bad.zip", {**good, "findings.parquet": parquet(bad)}))


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
@given(data=st.data())
def test_parquet_with_any_bytes_changed_is_read_or_refused(good: Members, tmp_path: Path, data: st.DataObject) -> None:
    """Behind right checksums: what the reader of tables makes of it is a table of the agreed kind, or a refusal."""
    from core.findings.bundle import schemas

    end, form = data.draw(st.sampled_from([("mlp.1/units.parquet", schemas.UNITS), ("mlp.1/records.parquet", schemas.RECORDS)]))
    content = bytearray(good[named(good, end)])
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
    _read_or_refuse(tmp_path, bytes(content), form)


@FUZZ
@given(content=st.binary(max_size=300))
def test_any_bytes_as_parquet_or_archive_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "any"
    path.write_bytes(content)
    with pytest.raises(Refused):
        tables.read_table(path, Form({"unit": pa.int32()}), "x")
    with pytest.raises(Refused):
        unpack(path, tmp_path)


def _read_or_refuse(tmp_path: Path, content: bytes, form: Form) -> None:
    path = tmp_path / "fuzzed.parquet"
    path.write_bytes(content)
    try:
        found = tables.read_table(path, form, "x")
    except Refused:
        return
    assert found.schema == form.schema(list(form.columns))
