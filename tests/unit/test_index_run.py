"""An index run: the same tables whoever reads the text, in how many pieces, and however often it is killed."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from core.bases.basis import Basis
from core.corpus.slice import Slice
from core.errors import AtlasError
from core.index.effects import largest
from core.index.indexer import prepare, run_index
from core.index.reader import contexts_of
from core.index.sketch import Sketch
from core.runs.progress import Cancelled
from core.runs.registry import Registry
from core.subject.load import load_subject
from core.units import Site
from core.workspace import Workspace, write_json
from tests import synthetic
from tests.models import make_tiny_model
from tests.slow_index import slow_unit

ROOT = Path(__file__).parents[2]
Place = tuple[Workspace, dict[str, Any]]
CONTEXTS = 160


class Quiet:
    """Progress that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def update(self, done: int, total: int, message: str = "", unit: str = "contexts") -> None:
        pass

    def stage(self, name: str) -> None:
        self.lines.append(name)

    def log(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A workspace, and the parameters of a run over a tiny model and a text of its own."""
    folder = tmp_path_factory.mktemp("index")
    make_tiny_model(folder / "tiny-llama", n_layers=2)
    rng = random.Random(0)
    words = ["the", "cat", "and", "a", "dog", "of", "house", "on", "it", "is", "in", "re", "water", "no", "one", "all", "not", "fight"]
    texts = [{"text": " ".join(rng.choices(words, k=rng.randint(3, 60)))} for _ in range(110)]
    (folder / "text.jsonl").write_text("\n".join(json.dumps(text) for text in texts), "utf8")
    corpus = {"source": str(folder / "text.jsonl"), "contexts": CONTEXTS, "length": 16}
    params = {"model": str(folder / "tiny-llama"), "corpus": corpus, "sites": "mlp.all,resid.all,attn.1", "block": 4, "publish_seconds": 0}
    return Workspace.open(folder / "ws"), params


def do_run(workspace: Workspace, name: str, params: dict[str, Any]) -> Quiet:
    progress = Quiet()
    folder = workspace.runs / name
    folder.mkdir(exist_ok=True)
    write_json(folder / "params.json", {"run": name, "kind": "index", "lane": "batch", "created": 0, "params": params})
    run_index(workspace, folder, params, progress)
    return progress


def tables(workspace: Workspace, name: str) -> dict[str, pa.Table]:
    """All files of a complete run, less the unrounded sums."""
    folder = workspace.runs / name
    manifest = json.loads((folder / "manifest.json").read_text("utf8"))
    assert manifest["state"] == "complete"
    notes = {f"{site}/{kind}": note for site, kinds in manifest["files"].items() for kind, note in kinds.items()}
    notes |= {f"effects/{site}": note for site, note in manifest["effects"].items()}
    found = {key: pq.read_table(folder / note["path"]) for key, note in notes.items()}
    return {key: table.drop(["sums"]) if key.endswith("units") else table for key, table in found.items()}


@pytest.fixture(scope="module")
def uncut(place: Place) -> dict[str, pa.Table]:
    workspace, params = place
    do_run(workspace, "uncut", {**params, "publish_seconds": 1000})
    return tables(workspace, "uncut")


def _types(schema: pa.Schema) -> dict[str, pa.DataType]:
    return {column.name: pa.list_(column.type.value_type) if pa.types.is_list(column.type) else column.type for column in schema}


@pytest.mark.parametrize("kind", ["units", "records", "positions", "effects"])
def test_the_files_have_the_columns_of_the_synthetic_index_which_the_docs_describe(uncut: dict[str, pa.Table], kind: str) -> None:
    described = {"units": synthetic.UNITS, "records": synthetic.RECORDS, "positions": synthetic.POSITION_ROWS, "effects": synthetic.EFFECTS}
    expected = {name: type_ for name, type_ in _types(described[kind]).items() if name != "sums"}
    assert _types(uncut["effects/mlp.0" if kind == "effects" else f"mlp.0/{kind}"].schema) == expected


def assert_same(found: dict[str, pa.Table], expected: dict[str, pa.Table]) -> None:
    assert found.keys() == expected.keys()
    for name, table in expected.items():
        assert found[name].equals(table), name


def test_the_run_equals_the_slow_index_of_the_models_own_activations(place: Place, uncut: dict[str, pa.Table]) -> None:
    workspace, params = place
    manifest = json.loads((workspace.runs / "uncut" / "manifest.json").read_text("utf8"))
    piece = Slice.load(workspace, manifest["slice"]["id"])
    subject = load_subject(workspace, params["model"])
    sites = [Site("mlp", 1), Site("resid", 0), Site("attn", 1)]
    values: dict[Site, list[np.ndarray]] = {site: [] for site in sites}
    for start in range(0, len(piece), params["block"]):
        ranks = range(start, min(start + params["block"], len(piece)))
        width = int(piece.lengths[ranks].max())
        caught = subject.capture(torch.from_numpy(piece.tokens[ranks, :width].astype(np.int64)), sites)
        for site in sites:
            values[site].extend(caught[site][i, : piece.lengths[rank]].numpy() for i, rank in enumerate(ranks))
    alone = subject.capture(torch.from_numpy(piece.tokens[5:6, : piece.lengths[5]].astype(np.int64)), sites)
    for site in sites:
        np.testing.assert_allclose(values[site][5], alone[site][0].numpy(), atol=1e-5)
        units = values[site][0].shape[1]
        records = uncut[f"{site}/records"].to_pylist()
        for unit in (0, 7, units - 1):
            slow = slow_unit([row[:, unit] for row in values[site]], contexts_of(piece), str(site), "neurons", unit, units)
            row = uncut[f"{site}/units"].slice(unit, 1).to_pylist()[0]
            for name, value in slow.stats.items():
                assert row[name] == pytest.approx(value, rel=1e-5, abs=1e-5), (site, unit, name)
            for band in records[unit * 7 : unit * 7 + 7]:
                found = list(zip(band["contexts"], band["positions"], band["values"], strict=True))
                assert found == slow.bands[band["band"]], (site, unit, band["band"])


def test_three_workers_and_many_parts_give_the_same_tables(place: Place, uncut: dict[str, pa.Table]) -> None:
    workspace, params = place
    do_run(workspace, "parts", params)
    assert_same(tables(workspace, "parts"), uncut)
    do_run(workspace, "three", {**params, "workers": 3})
    assert_same(tables(workspace, "three"), uncut)


def test_killed_runs_resume_to_the_tables_of_an_uncut_one(place: Place, uncut: dict[str, pa.Table]) -> None:
    workspace, params = place
    registry = Registry(workspace)
    run = registry.submit("index", params)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    rng = random.Random(1)
    kills, covered, reached = 0, 0, 0
    log = registry.folder(run.id) / "log.txt"
    command = [sys.executable, "-m", "core.runs.worker", "--workspace", str(workspace.path)]
    while True:
        worker = subprocess.Popen(command, cwd=ROOT, env=environment)
        lines = log.read_text("utf8").count("published") if log.exists() else 0
        # Let it get past the imports and publish something, then kill it at a random moment, sometimes earlier.
        until = time.monotonic() + rng.uniform(0.5, 4) if rng.random() < 0.3 else None
        deadline = time.monotonic() + 120
        while worker.poll() is None and time.monotonic() < (until or deadline):
            if until is None and log.exists() and log.read_text("utf8").count("published") > lines:
                until = time.monotonic() + rng.uniform(0, 0.15)
            time.sleep(0.01)
        if worker.poll() is not None:
            break
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        if registry.get(run.id).state == "done":
            break
        kills += 1
        assert registry.get(run.id).state == "failed"
        registry.resume(run.id, repair=False)
        if kills == 20:
            assert subprocess.run(command, cwd=ROOT, env=environment).returncode == 0
            break
    assert registry.get(run.id).state == "done"
    for line in log.read_text("utf8").splitlines():
        if "share 0: blocks" in line:
            start = int(line.rsplit(" ", 1)[1])
            assert start >= covered, "a finished part was done again"
            reached += start > 0
        if " published " in line:
            covered = -(-int(line.split(" published ")[1].split(" of ")[0]) // params["block"])
    assert kills >= 5
    assert reached
    assert_same(tables(workspace, run.id), uncut)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_tables_do_not_depend_on_how_many_passes_run_at_a_time(place: Place, uncut: dict[str, pa.Table], threads: int) -> None:
    workspace, params = place
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        do_run(workspace, f"threads-{threads}", params)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert_same(tables(workspace, f"threads-{threads}"), uncut)


@dataclass(frozen=True)
class Breaking(Basis):
    """A basis that breaks at its second block."""

    blocks: Iterator[int] = field(default_factory=lambda: count(1))

    def read(self, activations: torch.Tensor) -> torch.Tensor:
        if next(self.blocks) == 2:
            raise RuntimeError("the second block broke")
        return super().read(activations)


def test_a_pass_that_fails_ends_the_others_is_told_and_leaves_nothing_on_the_model(place: Place) -> None:
    workspace, params = place
    folder = workspace.runs / "broken"
    folder.mkdir()
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        reader = prepare(workspace, folder, params, Quiet()).reader(None)
        site = min(reader.sites)
        sketches = {one: Sketch(str(one), "neurons", basis.units, reader.contexts) for one, basis in reader.sites.items()}
        reader.sites = {**reader.sites, site: Breaking(site, reader.sites[site].units)}
        with pytest.raises(RuntimeError, match="the second block broke"), reader.lanes:
            reader.add_blocks(sketches, 0, 3)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    hooked = [
        module for lane in reader.lanes.subjects for module in lane.model.modules() if module._forward_pre_hooks or module._forward_hooks
    ]
    assert hooked == []


def test_a_cancelled_run_keeps_all_that_it_has_read(place: Place, uncut: dict[str, pa.Table]) -> None:
    told: list[int] = []

    class Impatient(Quiet):
        def update(self, done: int, total: int, message: str = "", unit: str = "contexts") -> None:
            if self.lines and self.lines[-1].startswith("share 0") and done >= 50:
                told.append(done)
                raise Cancelled

    workspace, params = place
    folder = workspace.runs / "cancelled"
    folder.mkdir()
    with pytest.raises(Cancelled):
        run_index(workspace, folder, {**params, "publish_seconds": 1000}, Impatient())
    manifest = json.loads((folder / "manifest.json").read_text("utf8"))
    assert (manifest["state"], manifest["contexts_done"]) == ("partial", told[0])
    progress = do_run(workspace, "cancelled", params)
    assert any(line.endswith(f"starting at {told[0] // params['block']}") for line in progress.lines)
    assert_same(tables(workspace, "cancelled"), uncut)


def test_a_damaged_part_is_read_again(place: Place, uncut: dict[str, pa.Table]) -> None:
    workspace, params = place
    do_run(workspace, "damaged", params)
    part = next((workspace.runs / "damaged" / "parts").iterdir())
    path = part / "mlp.0" / "records.parquet"
    path.write_bytes(path.read_bytes()[:-50])
    progress = do_run(workspace, "damaged", params)
    assert any("is not finished or is damaged" in line or "damaged" in line for line in progress.lines)
    assert_same(tables(workspace, "damaged"), uncut)


def test_damaged_effects_are_made_again(place: Place, uncut: dict[str, pa.Table]) -> None:
    workspace, params = place
    do_run(workspace, "effects", {**params, "publish_seconds": 1000})
    path = workspace.runs / "effects" / "effects" / "mlp.1.parquet"
    path.write_bytes(path.read_bytes()[:-50])
    progress = do_run(workspace, "effects", {**params, "publish_seconds": 1000})
    assert "removed effects/mlp.1.parquet, which is damaged" in progress.lines
    assert_same(tables(workspace, "effects"), uncut)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"sites": "mlp.0-5"}, "layers are 0 to 1"),
        ({"sites": "head.1"}, "not a choice of sites"),
        ({"corpus": {"source": "embedded", "contexts": 4, "length": 4000}}, "128"),
        ({"workers": 0}, "workers"),
        ({"speed": 3}, "no parameter"),
    ],
)
def test_impossible_parameters_are_refused_in_a_sentence(place: Place, change: dict[str, Any], sentence: str) -> None:
    workspace, params = place
    with pytest.raises(AtlasError, match=sentence):
        do_run(workspace, "bad", {**params, **change})


def test_largest_equals_sorting() -> None:
    values = np.random.default_rng(0).integers(0, 9, (20, 50)).astype(np.float32)
    indices, found = largest(values, 7)
    order = np.argsort(-values, axis=1, kind="stable")[:, :7]
    assert (indices == order).all()
    assert (found == np.take_along_axis(values, order, 1)).all()
