"""The inputs of sites, kept by an index: all that a second reading takes, whoever read the text and however often it was cut off."""

import errno
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core.autointerp.reading import Reading, read_again
from core.autointerp.request import ExplainerChoice, ExplainRequest, Setting
from core.autointerp.run import run_explain
from core.corpus.slice import Slice
from core.errors import AtlasError
from core.index import inputs
from core.index.indexer import run_index
from core.index.inputs import inputs_path, kept_input
from core.index.parts import find_parts
from core.runs.progress import Cancelled
from core.store.catalog import IndexInfo, load_index
from core.store.explanation_view import load_explanation
from core.subject.load import load_subject
from core.subject.subject import Subject
from core.units import Site, UnitName
from core.workspace import Workspace, write_json
from tests.planted import QuietProgress, plant

CONTEXTS = 70
SITES = (Site("mlp", 0), Site("attn", 0), Site("resid", 0))
UNITS = tuple(UnitName("planted", site, "neurons", unit) for site in SITES for unit in (5, 1))


class Stopped(QuietProgress):
    """Stops the run at its second block."""

    def __init__(self) -> None:
        self.updates = 0

    def update(self, done: int, total: int, message: str = "", unit: str = "contexts") -> None:
        if unit == "contexts" and 8 <= done < total and not message:
            raise Cancelled


class Logged(QuietProgress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def log(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    plant(folder, 2 * CONTEXTS)
    return folder


def indexed(source: Path, name: str, progress: Any = None, **more: Any) -> IndexInfo:
    workspace = Workspace.open(source / "ws")
    folder = workspace.runs / name
    folder.mkdir(exist_ok=True)
    corpus = {"source": str(source / "text.jsonl"), "contexts": CONTEXTS, "length": 16}
    params = {
        "model": str(source / "planted"),
        "corpus": corpus,
        "sites": ",".join(map(str, SITES)),
        "block": 4,
        "keep_inputs": True,
        **more,
    }
    write_json(folder / "params.json", {"run": name, "kind": "index", "lane": "batch", "created": 0, "params": params})
    run_index(workspace, folder, params, progress or QuietProgress())
    return load_index(workspace, name)


@pytest.fixture(scope="module")
def index(source: Path) -> IndexInfo:
    return indexed(source, "index-kept")


def bytes_of(index: IndexInfo) -> list[bytes]:
    return [inputs_path(index.folder, site).read_bytes() for site in SITES]


def reading_of(source: Path, index: IndexInfo, tokens: int = 10**6) -> Reading:
    told: list[tuple[int, int]] = []
    reading = read_again(Workspace.open(source / "ws"), index, UNITS, tokens, lambda done, total: told.append((done, total)))
    assert told[-1][0] == told[-1][1]
    return reading


def test_a_row_is_kept_for_each_counted_token_in_the_order_of_the_text(source: Path, index: IndexInfo) -> None:
    workspace = Workspace.open(source / "ws")
    piece = Slice.load(workspace, str(index.slice["id"]))
    subject = load_subject(workspace, index.slug)
    tokens = int((piece.lengths - piece.first).sum())
    at = 0
    kept = kept_input(index.folder, index.manifest, SITES[2], tokens)
    assert kept is not None
    for rank in range(len(piece)):
        ids = torch.from_numpy(piece.tokens[rank, : piece.lengths[rank]].astype(np.int64))[None]
        true = subject.capture(ids, [SITES[2]])[SITES[2]][0, piece.first :]
        found = kept.tensor(np.arange(at, at + len(true))).float()
        torch.testing.assert_close(found, true, rtol=2**-7, atol=1e-5)
        at += len(true)
    assert at == tokens == len(kept.rows)


def test_kept_inputs_are_the_same_with_one_worker_and_three_and_after_a_run_was_cut_off(source: Path, index: IndexInfo) -> None:
    expected = bytes_of(index)
    assert bytes_of(indexed(source, "index-three", workers=3)) == expected
    with pytest.raises(Cancelled):
        indexed(source, "index-cut", Stopped())
    # What was read before the cut is not read again: it has to be in the file already.
    assert bytes_of(indexed(source, "index-cut")) == expected


def test_a_run_that_was_cut_off_and_lost_its_inputs_is_read_from_the_beginning(source: Path, index: IndexInfo) -> None:
    with pytest.raises(Cancelled):
        indexed(source, "index-lost", Stopped())
    folder = Workspace.open(source / "ws").runs / "index-lost"
    shutil.rmtree(folder / "inputs")
    # A kill may have left an older part of the share beside the newest one.
    [newest] = (folder / "parts").glob("0-*")
    older = shutil.copytree(newest, folder / "parts" / "0-00000001")
    about = json.loads((older / "part.json").read_text("utf8"))
    write_json(older / "part.json", json.loads(json.dumps(about | {"next_block": 1}).replace(newest.name, older.name)))
    found = find_parts(folder, lambda _: None)
    assert found[0].folder == newest
    assert bytes_of(indexed(source, "index-lost")) == bytes_of(index)
    assert not older.exists()


def test_a_second_reading_of_the_indexed_text_takes_no_pass_of_the_model(
    source: Path, index: IndexInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = indexed(source, "index-plain", keep_inputs=False)
    own = int(plain.tokens_done)
    expected = reading_of(source, plain, own)
    assert (plain.tokens_kept, index.tokens_kept) == (0, own)

    def never(*_: Any) -> None:
        raise AssertionError("a pass over the text")

    with monkeypatch.context() as patched:
        patched.setattr("core.autointerp.reading._Work._task", never)
        found = reading_of(source, index, own)
    assert found.recipe["from_inputs"] == CONTEXTS
    assert expected.recipe["from_inputs"] == 0
    assert np.array_equal(found.contexts, expected.contexts)
    assert np.array_equal(found.positions, expected.positions)
    for unit in UNITS:
        one, other = found.of(unit), expected.of(unit)
        assert one is not None
        assert other is not None
        np.testing.assert_allclose(one, other, rtol=0.02, atol=0.02 * float(np.abs(other).max()))


def test_a_single_unit_is_explained_from_all_of_the_text_when_its_inputs_were_kept(source: Path, index: IndexInfo) -> None:
    workspace = Workspace.open(source / "ws")
    plain = indexed(source, "index-plain", keep_inputs=False)
    for number, (one, read) in enumerate(((index, int(index.tokens_done)), (plain, 0))):
        folder = workspace.runs / f"explain-{number}"
        folder.mkdir()
        setting = Setting(index=one.run, controls=())
        run_explain(workspace, folder, ExplainRequest(UNITS[:1], (setting,)).to_params(), QuietProgress())
        recipe = load_explanation(workspace, f"{folder.name}.0.0.0").recipe
        assert recipe.get("reading", {}).get("tokens", 0) == read


def test_ones_own_sentence_is_held_against_the_same_lookup_table_as_a_pattern(source: Path, index: IndexInfo) -> None:
    workspace = Workspace.open(source / "ws")
    folder = workspace.runs / "explain-own"
    folder.mkdir()
    own = ExplainerChoice("by-hand", text="Fires on *the*.")
    settings = tuple(Setting(index=index.run, controls=("lookup",), explainer=choice) for choice in (ExplainerChoice(), own))
    run_explain(workspace, folder, ExplainRequest(UNITS[:1], settings).to_params(), QuietProgress())
    tables = [
        load_explanation(workspace, f"explain-own.0.{setting}.0").score("lookup", "top-and-random", "validation") for setting in (0, 1)
    ]
    assert tables[0] is not None
    assert tables[0] == tables[1]
    again = workspace.runs / "explain-alone"
    again.mkdir()
    run_explain(workspace, again, ExplainRequest(UNITS[:1], settings[1:]).to_params(), QuietProgress())
    assert load_explanation(workspace, "explain-alone.0.0.0").score("lookup", "top-and-random", "validation") == tables[0]


def test_that_inputs_are_damaged_and_the_model_is_read_instead_stands_in_the_log(source: Path) -> None:
    found = indexed(source, "index-told")
    inputs_path(found.folder, SITES[0]).write_bytes(b"\0" * inputs_path(found.folder, SITES[0]).stat().st_size)
    workspace, progress = Workspace.open(source / "ws"), Logged()
    folder = workspace.runs / "explain-told"
    folder.mkdir()
    units = tuple(unit for unit in UNITS if unit.site == SITES[0])
    setting = Setting(index=found.run, controls=(), explainer=ExplainerChoice(read=500))
    run_explain(workspace, folder, ExplainRequest(units, (setting,)).to_params(), progress)
    assert progress.lines == ["the inputs that index-told kept are damaged or gone: its text was read with the model"]


def test_a_single_unit_whose_inputs_are_damaged_is_explained_without_a_pass_over_the_text(source: Path) -> None:
    found = indexed(source, "index-hurt")
    path = inputs_path(found.folder, SITES[0])
    data = bytearray(path.read_bytes())
    data[7] ^= 1
    path.write_bytes(data)
    workspace = Workspace.open(source / "ws")
    with pytest.raises(AtlasError, match="inputs that index-hurt kept are damaged"):
        read_again(workspace, found, UNITS[:1], 1000, lambda *_: None, with_model=0)
    units = tuple(unit for unit in UNITS if unit.site == SITES[0])
    folder = workspace.runs / "explain-hurt"
    folder.mkdir()
    run_explain(workspace, folder, ExplainRequest(units[:1], (Setting(index=found.run, controls=()),)).to_params(), QuietProgress())
    assert "reading" not in load_explanation(workspace, "explain-hurt.0.0.0").recipe


def test_a_bos_has_no_row_and_all_of_the_text_is_read(source: Path) -> None:
    corpus = {"source": str(source / "text.jsonl"), "contexts": CONTEXTS, "length": 16, "bos": True}
    found = {keep: indexed(source, f"index-bos-{keep}", corpus=corpus, keep_inputs=keep) for keep in (True, False)}
    assert found[True].tokens_kept == int(found[True].tokens_done) + CONTEXTS
    kept, plain = (reading_of(source, one, found[True].tokens_kept) for one in found.values())
    assert kept.recipe["from_inputs"] == CONTEXTS
    assert kept.values.shape[1] == int(found[True].tokens_done)
    assert kept.positions.min() == 1
    assert np.array_equal(kept.positions, plain.positions)
    np.testing.assert_allclose(kept.values, plain.values, rtol=0.02, atol=0.02 * float(np.abs(plain.values).max()))


def test_text_beyond_the_index_is_read_with_the_model_and_the_rest_is_not(source: Path, index: IndexInfo) -> None:
    expected = reading_of(source, indexed(source, "index-plain", keep_inputs=False))
    found = reading_of(source, index)
    assert set(found.contexts.tolist()) == set(range(2 * CONTEXTS))
    assert found.recipe["from_inputs"] == CONTEXTS
    assert np.array_equal(found.contexts, expected.contexts)
    np.testing.assert_allclose(found.values, expected.values, rtol=0.02, atol=0.02 * float(np.abs(expected.values).max()))


@pytest.mark.parametrize("harm", ["changed", "cut", "gone", "note"])
def test_inputs_that_are_not_what_was_written_are_not_used(source: Path, index: IndexInfo, tmp_path: Path, harm: str) -> None:
    folder = tmp_path / "run"
    shutil.copytree(index.folder, folder)
    manifest = json.loads(json.dumps(dict(index.manifest)))
    path = inputs_path(folder, SITES[0])
    rows = path.stat().st_size // (2 * manifest["inputs"]["mlp.0"]["width"])
    assert kept_input(folder, manifest, SITES[0], rows) is not None
    if harm == "changed":
        data = bytearray(path.read_bytes())
        data[100] ^= 1
        path.write_bytes(data)
    elif harm == "cut":
        path.write_bytes(path.read_bytes()[:-2])
    elif harm == "gone":
        path.unlink()
    else:
        manifest["inputs"]["mlp.0"] |= {"width": "wide"}
    assert kept_input(folder, manifest, SITES[0], rows) is None


def test_a_finished_run_does_without_inputs_that_were_deleted(source: Path, index: IndexInfo) -> None:
    found = indexed(source, "index-freed")
    assert found.tokens_kept
    before_bytes = found.bytes
    shutil.rmtree(found.folder / "inputs")
    assert not found.tokens_kept
    assert found.bytes < before_bytes
    before = {path: path.stat().st_mtime_ns for path in found.folder.glob("parts/*/*/*.parquet")}
    assert reading_of(source, found, int(found.tokens_done)).recipe["from_inputs"] == 0
    again = indexed(source, "index-freed")
    assert not (again.folder / "inputs").exists()
    assert {path: path.stat().st_mtime_ns for path in again.folder.glob("parts/*/*/*.parquet")} == before


def test_a_disk_without_room_for_the_inputs_is_found_before_anything_is_read(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def never(*_: Any) -> None:
        raise AssertionError("the text was read")

    monkeypatch.setattr(inputs.os, "posix_fallocate", full)
    monkeypatch.setattr("core.index.reader.ShareReader.read", never)
    with pytest.raises(AtlasError, match="The disk is full, found while keeping the inputs of the sites"):
        indexed(source, "index-full")


def test_watching_ends_with_its_context(source: Path, index: IndexInfo) -> None:
    subject: Subject = load_subject(Workspace.open(source / "ws"), index.slug)
    piece = Slice.load(Workspace.open(source / "ws"), str(index.slice["id"]))
    writer = inputs.InputWriter(index.folder, subject, SITES, piece)
    with writer.watching(subject, range(1)):
        pass
    subject.capture(torch.zeros(1, 3, dtype=torch.long), SITES)  # would write to files that were never opened
