"""Bundles: what goes out comes in again, equal in every number, without the model and the text; twice is once."""

import json
import os
import zipfile
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from core.autointerp.selection import Selection, select
from core.cli import main
from core.errors import AtlasError
from core.findings.bundle import schemas
from core.findings.bundle.archive import Refused
from core.findings.bundle.exporting import export_bundle
from core.findings.bundle.importing import import_bundle
from core.findings.bundle.staging import stage
from core.findings.findings import Findings
from core.store import queries
from core.store.cache import Cache
from core.store.catalog import IndexInfo, find_unit, indexes
from core.store.effects import effects_of, load_effect
from core.store.explained import explained_runs
from core.store.explanation_view import load_explanation
from core.store.features import load_feature
from core.store.picks import random_interesting
from core.store.units import UnitView, load_unit
from core.ui.feature_tables import feature_data
from core.ui.unit_address import Asked, near, step
from core.units import UnitName
from core.workspace import Workspace
from tests.shared_bundle import UNITS, exported, fill, members, pack, snapshot
from tests.synthetic import EFFECTS, POSITION_ROWS, RECORDS, write_synthetic_index
from tests.synthetic import UNITS as UNIT_ROWS


@pytest.fixture(scope="module")
def bundle(source: Workspace) -> Path:
    return exported(source, source.path.parent / "four.atlas.zip")


def take(workspace: Workspace, bundle: Path) -> Any:
    return import_bundle(workspace, bundle, findings=Findings(workspace), stage=stage)


def assert_same(one: Any, other: Any, where: str = "") -> None:
    """Equal in every field and number, but for the run, where it lies and when it was written."""
    if isinstance(one, np.ndarray):
        np.testing.assert_array_equal(one, other, where)
    elif isinstance(one, IndexInfo | Workspace):
        return
    elif is_dataclass(one) and not isinstance(one, type):
        assert type(one) is type(other), where
        for field in fields(one):
            if field.name not in ("run", "folder", "written", "manifest", "identity", "index", "explanation", "_workspace"):
                assert_same(getattr(one, field.name), getattr(other, field.name), f"{where}.{field.name}")
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one.keys() - {"run"}:
            assert_same(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for at, (left, right) in enumerate(zip(one, other, strict=True)):
            assert_same(left, right, f"{where}[{at}]")
    elif isinstance(one, float) and one != one:
        assert other != other, where
    else:
        assert one == other, where


def units_of(workspace: Workspace, run: str) -> list[UnitView]:
    return [load_unit(workspace, name) for name in UNITS if find_unit(workspace, name).run == run]


def test_every_figure_of_an_imported_unit_is_equal_provenance_included(workspace: Workspace, source: Workspace, bundle: Path) -> None:
    done = take(workspace, bundle)
    assert (len(done.runs), done.subjects, done.units) == (4, ["tiny"], list(UNITS))
    for name in UNITS:
        here, there = load_unit(workspace, name), load_unit(source, name)
        assert_same(there, here, str(name))
        for kind in ("strong", "sampled"):
            assert_same(there.positions(kind), here.positions(kind), kind)
        assert_same(load_feature(source, there), load_feature(workspace, here), "feature")
        assert_same(feature_data(source, there), feature_data(workspace, here), "feature page")
    ours = [load_explanation(workspace, one) for one in _identities(workspace)]
    theirs = [load_explanation(source, one) for one in _identities(source) if load_explanation(source, one).unit in UNITS]
    assert [one.unit for one in ours] == list(UNITS[:2])
    assert all(one.simulations and not one.text_missing for one in ours)
    assert_same(theirs, ours)
    here, there = effects_of(workspace, UNITS[0])[0], effects_of(source, UNITS[0])[0]
    assert_same(load_effect(source, there.run), load_effect(workspace, here.run))
    assert here.scores[0].explanation == ours[0].identity
    assert here.index in {index.run for index in indexes(workspace)}


def _identities(workspace: Workspace) -> list[str]:
    return [
        identity
        for run in explained_runs(workspace)
        for part in run.parts
        for identity in pq.read_table(run.path(part, "explanations")).column("explanation").to_pylist()
    ]


def test_the_cache_says_the_same_of_the_units_that_came(workspace: Workspace, source: Workspace, bundle: Path) -> None:
    take(workspace, bundle)
    rows: list[Any] = []
    for one in (source, workspace):
        cache = Cache.open(one)
        assert cache.ingest() == []
        run = find_unit(one, UNITS[0]).run
        frame, total = queries.explore(cache, run, sort="unit", descending=False)
        rows.append(frame[frame["name"].isin(list(map(str, UNITS)))].reset_index(drop=True))
        found, _ = queries.explore(cache, run, text=str(rows[-1]["peak_text"][0]))
        assert str(UNITS[0]) in set(found["name"])
        picked = random_interesting(cache, run, 1)
        cache.close()
    assert total == 2
    assert picked in UNITS
    assert rows[0].equals(rows[1])


def test_twice_is_once_and_back_home_nothing_is_new(workspace: Workspace, source: Workspace, bundle: Path) -> None:
    take(workspace, bundle)
    before = snapshot(workspace)
    again = take(workspace, bundle)
    assert (again.changed, again.runs, len(again.known)) == (False, [], 4)
    assert snapshot(workspace) == before
    at_home = snapshot(source)
    assert not take(source, bundle).changed
    assert snapshot(source) == at_home


def test_what_was_written_there_comes_back_and_merges(workspace: Workspace, tmp_path: Path) -> None:
    fill(workspace)
    other = Workspace.open(tmp_path / "other")
    assert take(other, exported(workspace, tmp_path / "out.atlas.zip")).findings == 2
    Findings(other, "Grace").save_note(UNITS[1], "Closing brackets")
    Findings(workspace, "Ada").label(UNITS[0], "lists")
    back = take(workspace, exported(other, tmp_path / "back.atlas.zip"))
    assert (back.findings, back.runs) == (1, [])
    assert [note.current.by for note in Findings(workspace).notes(UNITS[1])] == ["Grace"]
    assert Findings(workspace).labels(UNITS[0]) == ["lists"]


def test_equal_content_has_an_equal_name_and_other_units_another(source: Workspace, bundle: Path, tmp_path: Path) -> None:
    same, fewer = exported(source, tmp_path / "same.atlas.zip"), exported(source, tmp_path / "fewer.atlas.zip", UNITS[1:])
    named = [{one["run"] for one in json.loads(members(path)["manifest.json"])["runs"]} for path in (bundle, same, fewer)]
    assert named[0] == named[1]
    assert {run for run in named[0] if run.startswith("index-test")}.isdisjoint(named[2])


def test_bundles_of_different_units_stand_side_by_side(workspace: Workspace, source: Workspace, tmp_path: Path) -> None:
    for at in (0, 1):
        take(workspace, exported(source, tmp_path / f"{at}.atlas.zip", UNITS[at : at + 1]))
    for name in UNITS[:2]:
        assert load_unit(workspace, name).name == name
    with pytest.raises(AtlasError, match=r"not in the bundle that was imported; of mlp\.1 it has 5"):
        load_unit(workspace, UnitName.parse("tiny/mlp.1/neurons/4"))


def test_a_damaged_run_is_mended_by_importing_again(workspace: Workspace, bundle: Path) -> None:
    done = take(workspace, bundle)
    run = next(run for run in done.runs if run.startswith("index-test"))
    path = workspace.runs / run / "mlp.1" / "records.parquet"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(AtlasError, match="import its bundle again"):
        load_unit(workspace, UNITS[0])
    assert take(workspace, bundle).runs == [run]
    load_unit(workspace, UNITS[0])


def test_what_a_killed_import_left_is_swept_away_a_day_later(workspace: Workspace, bundle: Path) -> None:
    old, new = workspace.scratch / "import-old", workspace.scratch / "export-new"
    for folder in (old, new):
        folder.mkdir()
        (folder / "half.parquet").write_bytes(b"PAR1")
    os.utime(old, (0, 0))
    take(workspace, bundle)
    assert (old.exists(), new.exists()) == (False, True)
    assert [path.name for path in workspace.scratch.iterdir()] == ["export-new"]


def test_steps_go_from_one_unit_that_came_to_the_next(workspace: Workspace, bundle: Path) -> None:
    take(workspace, bundle)
    index = find_unit(workspace, UNITS[0])
    assert step(Asked(UNITS[0], index), 1) == UNITS[1] == step(Asked(UNITS[0], index), -1)
    assert near(indexes(workspace), "tiny/mlp.1/neurons/0")[0] == UNITS[0]
    assert set(select(workspace, index, Selection())) == set(UNITS[:2])


def test_a_whole_index_goes_before_an_imported_one(source: Workspace, workspace: Workspace, bundle: Path, tmp_path: Path) -> None:
    exported(source, tmp_path / "one.atlas.zip", UNITS[:1])
    take(workspace, tmp_path / "one.atlas.zip")
    assert find_unit(workspace, UNITS[0]).excerpt
    fill(workspace)
    assert not find_unit(workspace, UNITS[0]).excerpt


def test_a_newer_bundle_and_another_model_are_refused_in_a_sentence(workspace: Workspace, bundle: Path, tmp_path: Path) -> None:
    newer = pack(tmp_path / "newer.atlas.zip", members(bundle), change=lambda manifest: manifest.update(schema=2))
    with pytest.raises(Refused, match="written by a newer Neuron Atlas"):
        take(workspace, newer)
    fill(workspace)
    card = json.loads((workspace.subjects / "tiny" / "subject.json").read_text("utf8"))
    (workspace.subjects / "tiny" / "subject.json").write_text(json.dumps({**card, "weights_hash": "another"}))
    before = snapshot(workspace)
    with pytest.raises(AtlasError, match="another model under the name tiny"):
        take(workspace, bundle)
    assert snapshot(workspace) == before


def test_only_what_the_units_need_goes_along(source: Workspace, tmp_path: Path) -> None:
    held = members(exported(source, tmp_path / "one.atlas.zip", UNITS[1:2]))
    assert not any("neurons/0" in name or "safetensors" in name for name in held)
    assert not any(b"effect-test" in data for data in held.values())
    large = Workspace.open(tmp_path / "large")
    write_synthetic_index(large, contexts=1500, n_layers=1, width=8)
    held = members(exported(large, tmp_path / "large.atlas.zip", [UnitName.parse("tiny/mlp.0/neurons/0")]))
    text = next(name for name in held if name.endswith("text/contexts.parquet"))
    (tmp_path / "text.parquet").write_bytes(held[text])
    lengths = [len(row) for row in pq.read_table(tmp_path / "text.parquet").column("tokens").to_pylist()]
    assert len(lengths) == 1500
    assert 250 < sum(length > 0 for length in lengths) < 1000


def test_the_forms_are_those_of_the_files_that_are_written(source: Workspace) -> None:
    for form, schema in ((schemas.UNITS, UNIT_ROWS), (schemas.RECORDS, RECORDS), (schemas.POSITIONS, POSITION_ROWS)):
        assert form.schema(list(form.columns)) == schema
    names = [name for name in schemas.EFFECTS.columns if name not in schemas.EFFECTS.optional]
    assert schemas.EFFECTS.schema(names) == EFFECTS
    from core.autointerp.files import SCHEMAS
    from core.causal.effect_files import POSITIONS, VOCABULARY

    for name, form in schemas.PART.items():
        assert form.schema(list(form.columns)) == SCHEMAS[name]
    assert schemas.ABLATED.columns == dict(zip(POSITIONS.names, POSITIONS.types, strict=True))
    assert schemas.VOCABULARY.schema(list(schemas.VOCABULARY.columns)) == VOCABULARY


def test_a_failed_export_leaves_nothing(source: Workspace, tmp_path: Path) -> None:
    before = snapshot(source)
    for units, path in (
        ([], tmp_path / "a.zip"),
        ([UnitName.parse("tiny/mlp.1/neurons/99")], tmp_path / "b.zip"),
        (UNITS, tmp_path / "no" / "c"),
    ):
        with pytest.raises(AtlasError):
            export_bundle(source, units, path)
    assert list(tmp_path.iterdir()) == []
    assert snapshot(source) == before


def test_the_commands_write_a_collection_and_take_it_in(source: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    findings = Findings(source, "Ada")
    collection = findings.collections.create("Two neurons", "In an order")
    findings.collections.add(collection.id, [UNITS[1], UNITS[0]])
    out, other = tmp_path / "two.atlas.zip", tmp_path / "other"
    assert main(["export", "Two neurons", "--out", str(out), "--json", "--workspace", str(source.path)]) == 0
    written = json.loads(capsys.readouterr().out)
    assert (written["units"], written["explanations"], written["effects"]) == (2, 2, 1)
    assert zipfile.is_zipfile(out)
    for changed in (True, False):
        assert main(["import", str(out), "--json", "--workspace", str(other)]) == 0
        assert json.loads(capsys.readouterr().out)["changed"] is changed
    there = Workspace.open(other)
    assert Findings(there).collections.find("two neurons").units == [UNITS[1], UNITS[0]]
    assert main(["show", str(UNITS[0]), "--json", "--workspace", str(other)]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert main(["show", str(UNITS[0]), "--json", "--workspace", str(source.path)]) == 0
    mine = json.loads(capsys.readouterr().out)
    assert shown["provenance"].pop("run") != mine["provenance"].pop("run")
    assert shown == mine


def test_many_units_of_many_layers_come_through(workspace: Workspace, tmp_path: Path) -> None:
    """More sites than sort by their names alone, and more units than a row group holds."""
    large = Workspace.open(tmp_path / "large")
    write_synthetic_index(large, n_layers=12, width=80)
    units = [UnitName.parse(f"tiny/mlp.2/neurons/{unit}") for unit in range(0, 80, 2)]
    units += [UnitName.parse(f"tiny/mlp.{layer}/neurons/{layer}") for layer in (11, 10, 1)]
    take(workspace, exported(large, tmp_path / "many.atlas.zip", units))
    for unit in units:
        assert_same(load_unit(large, unit), load_unit(workspace, unit), str(unit))
