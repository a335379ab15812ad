"""Explanations in the cache and from their files: what is written comes back, parts are read once, damage costs only what it touched."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from core.autointerp.request import Setting, SimulatorChoice
from core.autointerp.scoring import Score, is_evidence
from core.errors import AtlasError
from core.store import catalog, explained_ingest, explanation_queries
from core.store.explained import explained_runs, load_explained, scan
from core.store.explanation_view import load_explanation
from core.units import UnitName
from core.workspace import Workspace, write_json
from tests.synthetic import write_synthetic_index
from tests.synthetic_explanations import Quality, chat_setting, damage, write_synthetic_explanations
from tests.unit.test_store_cache import ask, opened, tables

UNIT = UnitName.parse("tiny/mlp.1/neurons/0")
UNITS = [f"tiny/mlp.{layer}/neurons/{unit}" for layer in range(2) for unit in range(3)]


@pytest.fixture
def indexed(workspace: Workspace) -> Workspace:
    write_synthetic_index(workspace, n_layers=2, width=8)
    return workspace


def test_the_tables_hold_every_score_once_with_undefined_as_null(indexed: Workspace) -> None:
    settings = [Setting("one", kinds=("top-and-random", "top-only")), chat_setting()]
    quality = {UNITS[0]: Quality(flat=True)}
    written = write_synthetic_explanations(indexed, units=UNITS, settings=settings, quality=quality)
    with opened(indexed) as cache:
        assert cache.ingest() == []
        assert sorted(str(row[0]) for row in ask(cache, "SELECT explanation FROM explanations")) == sorted(written)
        assert ask(cache, "SELECT count(*), count(DISTINCT (explanation, role, kind, split)) FROM scores") == [(len(UNITS) * 9,) * 2]
        assert ask(cache, "SELECT DISTINCT reason FROM scores WHERE rho IS NULL AND role = 'simulated'") == [
            ("the simulated activations are constant on these records",)
        ]
        assert ask(cache, "SELECT count(*) FROM scores WHERE isnan(rho)") == [(0,)]
        assert ask(cache, "SELECT kind, layer, unit, unit_place, setting_place, step FROM explanations ORDER BY explanation")[1] == (
            *("mlp", 0, 0, 0, 1, 0),
        )


def test_the_cache_agrees_with_the_files_about_every_number(indexed: Workspace) -> None:
    (identity,) = write_synthetic_explanations(indexed, quality=Quality(failing=0.3), controls=("lookup", "shuffled", "paraphrase"))
    view = load_explanation(indexed, identity)
    with opened(indexed) as cache:
        cache.ingest()
        (row,) = explanation_queries.of_unit(cache, UNIT).to_dict("records")
    for role, before in (("simulated", ""), ("lookup", "lookup_"), ("shuffled", "shuffled_"), ("paraphrase", "paraphrase_")):
        found = view.score(role, "top-and-random", "test")
        assert found is not None
        for name in ("rho", "low", "high", "coverage", "reason"):
            assert row[before + name] == getattr(found.score, name), (role, name)
    assert row["coverage"] < 1
    assert row["shuffled_said_of"] == "tiny/mlp.0/neurons/1"


def test_one_explanation_comes_back_whole(indexed: Workspace) -> None:
    (identity,) = write_synthetic_explanations(indexed, quality=Quality(failing=0.2))
    view = load_explanation(indexed, identity)
    assert (view.identity, view.unit, view.author, view.explainer) == (identity, UNIT, "pattern", "pattern")
    assert view.pattern is not None
    assert view.pattern.level == 0.0
    assert view.text_missing == ""
    simulated = view.of_role("simulated", "test")
    origins = [one.origin for one in simulated]
    assert origins == sorted(origins, reverse=True), "top records first"
    assert set(origins) == {"top", "random"}
    for one in simulated:
        assert len(one.tokens) == len(one.pieces) == len(one.activations) == len(one.simulated)
        assert bool(one.failed) == bool(np.isnan(one.simulated).all())
        if one.probabilities is not None:
            assert one.probabilities.sum(axis=1) == pytest.approx(1, abs=1e-5)
    assert any(one.failed for one in view.simulations)
    score = view.score("simulated", "top-and-random", "test")
    assert score is not None
    assert set(score.contexts) == {one.context for one in simulated}
    assert not set(score.contexts) & set(view.train)


def test_records_whose_index_was_deleted_keep_their_numbers(indexed: Workspace) -> None:
    (identity,) = write_synthetic_explanations(indexed)
    (indexed.runs / "index-test" / "manifest.json").unlink()
    view = load_explanation(indexed, identity)
    assert "index-test" in view.text_missing
    assert view.simulations[0].pieces == ()
    assert len(view.simulations[0].activations) > 0


def test_an_explanation_that_is_not_there_is_a_sentence(indexed: Workspace) -> None:
    write_synthetic_explanations(indexed)
    with pytest.raises(AtlasError, match=r"no explanation “explain-test\.7\.0\.0”"):
        load_explanation(indexed, "explain-test.7.0.0")
    for identity in ("nothing", "", "other-run.0.0.0", "../../etc.0.0.0"):
        with pytest.raises(AtlasError, match="has no explanations here"):
            load_explanation(indexed, identity)


def test_evidence_in_sql_is_evidence_in_python(indexed: Workspace) -> None:
    for number, quality in enumerate((Quality(), Quality(noise=5.0), Quality(noise=20.0), Quality(noise=50.0), Quality(flat=True))):
        for seed in range(3):
            write_synthetic_explanations(indexed, run=f"explain-{number}-{seed}", quality=quality, seed=seed)
    write_synthetic_explanations(indexed, run="explain-alone", controls=())
    with opened(indexed) as cache:
        cache.ingest()
        rows = explanation_queries.of_unit(cache, UNIT).to_dict("records")
    seen: set[bool] = set()
    for row in rows:
        run = row["run"]
        if run == "explain-alone":
            assert pd.isna(row["evidence"])
            continue
        blank = Score("top-and-random", np.nan, np.nan, np.nan, np.nan, np.nan, np.nan, 0, 0, 0.0)
        score, shuffled = replace(blank, low=row["low"]), replace(blank, high=row["shuffled_high"])
        assert bool(row["evidence"]) == is_evidence(score, shuffled), run
        seen.add(bool(row["evidence"]))
    assert seen == {True, False}


def test_a_unit_s_explanations_come_best_first_and_failures_last(indexed: Workspace) -> None:
    write_synthetic_explanations(indexed, run="explain-bad", quality=Quality(noise=3.0))
    write_synthetic_explanations(indexed, run="explain-good", quality=Quality(noise=0.01))
    write_synthetic_explanations(indexed, run="explain-flat", quality=Quality(flat=True))
    write_synthetic_explanations(indexed, run="explain-failed", failed="the model refused")
    write_synthetic_explanations(indexed, run="explain-other", units=["tiny/mlp.0/neurons/0"])
    with opened(indexed) as cache:
        cache.ingest()
        frame = explanation_queries.of_unit(cache, UNIT)
        rows = explanation_queries.rows_of_unit(cache, UNIT)
        assert explanation_queries.rows_of_unit(cache, UnitName.parse("tiny/mlp.0/neurons/5")) == []
    assert list(frame["run"])[:2] == ["explain-good", "explain-bad"]
    assert set(frame["run"][2:]) == {"explain-flat", "explain-failed"}
    assert list(rows[0]) == list(frame.columns)
    for row, same in zip(rows, frame.to_dict("records"), strict=True):
        assert all(value == same[name] or (value is None and pd.isna(same[name])) for name, value in row.items())
    failed = frame.set_index("run").loc["explain-failed"]
    assert failed["failed"] == "the model refused"
    assert pd.isna(failed["rho"])


def test_the_headline_prefers_both_kinds_of_records_and_the_untouched_split(indexed: Workspace) -> None:
    kinds = ("top-only", "random-only", "top-and-random")
    write_synthetic_explanations(indexed, run="explain-all", settings=[Setting(kinds=kinds)])
    write_synthetic_explanations(indexed, run="explain-top", settings=[Setting(kinds=("top-only",))], split="validation")
    with opened(indexed) as cache:
        cache.ingest()
        with cache.cursor() as cursor:  # the same explanation scored on validation too
            cursor.execute(
                "INSERT INTO scores BY NAME SELECT * REPLACE ('validation' AS split, 2.0 AS rho) FROM scores WHERE run = 'explain-all'"
            )
        frame = explanation_queries.of_unit(cache, UNIT).set_index("run")
        assert (frame.loc["explain-all", "kind"], frame.loc["explain-all", "split"]) == ("top-and-random", "test")
        assert frame.loc["explain-top", "kind"] == "top-only"
        page, total = explanation_queries.scored(cache, kind="random-only")
        assert (total, list(page["run"])) == (1, ["explain-all"])


def test_scored_filters_sorts_and_counts(indexed: Workspace) -> None:
    settings = [Setting("plain"), chat_setting()]
    quality = {name: Quality(noise=0.2 + place) for place, name in enumerate(UNITS)}
    write_synthetic_explanations(
        indexed, units=UNITS, settings=settings, quality=quality, authors=("pattern", "test-model"), study="layers"
    )
    write_synthetic_explanations(indexed, run="explain-100%", text="A 100% odd_sentence {unit}.")
    write_synthetic_explanations(indexed, run="explain-failed", failed="no answer")
    with opened(indexed) as cache:
        cache.ingest()
        page, total = explanation_queries.scored(cache, limit=5)
        assert (len(page), total) == (5, 13)
        assert page["rho"].is_monotonic_decreasing
        assert explanation_queries.scored(cache, limit=5, offset=100)[1] == 13
        worst, _ = explanation_queries.scored(cache, descending=False, limit=1)
        assert worst["rho"].iloc[0] == explanation_queries.scored(cache, limit=100)[0]["rho"].min()
        assert explanation_queries.scored(cache, with_failed=True)[1] == 14
        assert explanation_queries.scored(cache, simulator="chat")[1] == 6
        assert explanation_queries.scored(cache, layers=[0], study="layers", explainer="token-activation")[1] == 3
        assert explanation_queries.scored(cache, best_only=True)[1] == 6
        assert explanation_queries.scored(cache, subject="nothing")[1] == 0
        assert explanation_queries.scored(cache, text="100% ODD")[1] == 1
        assert explanation_queries.scored(cache, text="0%s")[1] == 0
        assert explanation_queries.scored(cache, text="odd-sentence")[1] == 0, "an underscore is no wildcard"
        yes, no = (explanation_queries.scored(cache, evidence=value)[1] for value in (True, False))
        assert yes + no == 13
        assert set(explanation_queries.choices(cache)["simulators"]) == {"pattern", "chat"}
        with pytest.raises(AtlasError, match="cannot be sorted"):
            explanation_queries.scored(cache, sort="drop table")


def test_by_layer_summarises_the_best_explanation_of_each_unit(indexed: Workspace) -> None:
    write_synthetic_explanations(indexed, run="explain-bad", units=UNITS, quality=Quality(noise=4.0))
    write_synthetic_explanations(indexed, run="explain-good", units=UNITS, quality={UNITS[0]: Quality(flat=True)})
    with opened(indexed) as cache:
        cache.ingest()
        frame: Any = explanation_queries.by_layer(cache, subject="tiny")
        best: Any = explanation_queries.scored(cache, best_only=True, limit=100)[0]
    assert list(frame["role"]) == ["simulated", "lookup", "shuffled"] * 2
    for layer in range(2):
        mine = best[best["layer"] == layer]
        row = frame[(frame["layer"] == layer) & (frame["role"] == "simulated")].iloc[0]
        assert (row["n"], row["defined"]) == (3, mine["rho"].notna().sum())
        assert row["mean"] == pytest.approx(mine["rho"].mean())
        assert row["q50"] == pytest.approx(mine["rho"].median())
        lookup = frame[(frame["layer"] == layer) & (frame["role"] == "lookup")].iloc[0]
        assert lookup["mean"] == pytest.approx(mine["lookup_rho"].mean())


def test_a_study_lists_settings_units_and_steps_in_the_order_of_the_run(indexed: Workspace) -> None:
    settings = [Setting("a"), Setting("b", simulator=SimulatorChoice("lookup"))]
    write_synthetic_explanations(indexed, units=UNITS[:2], settings=settings, steps=2, study="simulators")
    with opened(indexed) as cache:
        cache.ingest()
        frame: Any = explanation_queries.study(cache, "explain-test")
        assert list(zip(frame["setting"], frame["name"], frame["step"], strict=True)) == [
            (setting, name, step) for setting in ("a", "b") for name in UNITS[:2] for step in range(2)
        ]
        assert frame[["rho", "lookup_rho", "shuffled_rho"]].notna().all().all()
        (row,) = explanation_queries.runs(cache).to_dict("records")
        assert (row["study"], row["explanations"], list(row["subjects"])) == ("simulators", 8, ["tiny"])
        assert [setting["label"] for setting in json.loads(row["settings"])] == ["a", "b"]


def test_a_part_is_read_only_once(indexed: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    rows = explained_ingest.part_rows
    monkeypatch.setattr(explained_ingest, "part_rows", lambda found, part: (read.append(part.number), rows(found, part))[1])
    write_synthetic_explanations(indexed, units=UNITS)
    manifest_path = indexed.runs / "explain-test" / "manifest.json"
    whole = json.loads(manifest_path.read_text())
    with opened(indexed) as cache:
        write_json(manifest_path, {**whole, "parts": whole["parts"][:1], "state": "partial", "work_done": 2})
        cache.ingest()
        assert read == [0]
        write_json(manifest_path, {**whole, "generation": 2})
        cache.ingest()
        assert read == [0, 1, 2]
        cache.ingest()
        assert read == [0, 1, 2]
        assert ask(cache, "SELECT count(*) FROM explanations") == [(6,)]
        assert ask(cache, "SELECT state, generation FROM explain_runs") == [("complete", 2)]


def test_a_cache_made_again_has_the_same_tables_and_a_deleted_run_disappears(indexed: Workspace) -> None:
    write_synthetic_explanations(indexed, units=UNITS, quality=Quality(failing=0.2), spend={"calls": 3, "cached": 1, "money": 0.5})
    with opened(indexed) as cache:
        assert cache.ingest() == []
        write_synthetic_explanations(indexed, run="explain-later", settings=[chat_setting()])
        cache.ingest()
        before = tables(cache)
        assert cache.rebuild() == []
        assert tables(cache) == before
    indexed.cache.unlink()
    with opened(indexed) as cache:
        assert cache.ingest() == []
        assert tables(cache) == before
        (indexed.runs / "explain-later").rename(indexed.scratch / "gone")
        assert cache.ingest() == []
        assert ask(cache, "SELECT run FROM explain_runs") == [("explain-test",)]
        assert ask(cache, "SELECT DISTINCT run FROM scores") == [("explain-test",)]


@pytest.mark.parametrize("how", ["truncated", "missing"])
@pytest.mark.parametrize("name", ["explanations", "scores", "simulations"])
def test_a_damaged_part_costs_only_its_own_rows(indexed: Workspace, name: str, how: str) -> None:
    write_synthetic_explanations(indexed, units=UNITS)
    path = indexed.runs / "explain-test" / "parts" / "000001" / f"{name}.parquet"
    content = path.read_bytes()
    damage(path, how)
    what = "is missing" if how == "missing" else "is damaged"
    sentence = f"runs/explain-test/parts/000001/{name}.parquet {what}: make it again with python -m core resume explain-test."
    with opened(indexed) as cache:
        assert cache.ingest() == [sentence]
        assert cache.ingest() == [sentence]
        assert ask(cache, "SELECT DISTINCT part FROM explanations ORDER BY part") == [(0,), (2,)]
    with opened(indexed) as cache:
        assert cache.ingest() == [sentence], "another process says so too"
        path.write_bytes(content)
        assert cache.ingest() == []
        assert ask(cache, "SELECT count(*) FROM explanations") == [(6,)]


def test_garbled_content_is_a_sentence_on_the_page_and_found_by_a_rebuild(indexed: Workspace) -> None:
    first, *_ = write_synthetic_explanations(indexed, units=UNITS)
    path = indexed.runs / "explain-test" / "parts" / "000000" / "simulations.parquet"
    damage(path, "garbled")
    sentence = "runs/explain-test/parts/000000/simulations.parquet is damaged: make it again with python -m core resume explain-test."
    with pytest.raises(AtlasError) as refused:
        load_explanation(indexed, first)
    assert str(refused.value) == sentence
    with opened(indexed) as cache:
        assert cache.rebuild() == [sentence]


def test_an_explanation_in_a_sound_part_is_read_beside_a_damaged_one(indexed: Workspace) -> None:
    first, *_, last = write_synthetic_explanations(indexed, units=UNITS)
    damage(indexed.runs / "explain-test" / "parts" / "000000" / "explanations.parquet", "truncated")
    assert load_explanation(indexed, last).identity == last
    with pytest.raises(AtlasError, match=r"parts/000000/explanations\.parquet is damaged"):
        load_explanation(indexed, first)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda text: text[:50], "is damaged"),
        (lambda text: text.replace('"parts": [', '"parts": [7, '), "is damaged"),
        (lambda text: text.replace('"path": "parts/', '"path": "../../'), "is damaged"),
        (lambda text: text.replace('"schema": 1', '"schema": 2'), "newer Neuron Atlas"),
    ],
)
def test_a_manifest_that_cannot_be_read_keeps_the_rows_it_had(indexed: Workspace, harm: "object", said: str) -> None:
    write_synthetic_explanations(indexed, units=UNITS)
    write_synthetic_explanations(indexed, run="explain-well")
    path = indexed.runs / "explain-test" / "manifest.json"
    with opened(indexed) as cache:
        cache.ingest()
        path.write_text(harm(path.read_text()))  # type: ignore[operator]
        (sentence,) = cache.ingest()
        assert said in sentence
        assert "explain-test" in sentence
        assert ask(cache, "SELECT count(*) FROM explanations") == [(7,)]
    assert [run.run for run in explained_runs(indexed)] == ["explain-well"]
    assert list(scan(indexed)[1]) == ["explain-test"]
    with pytest.raises(AtlasError, match=said):
        load_explained(indexed, "explain-test")


def test_a_run_of_explaining_is_no_index_and_an_index_no_run_of_explaining(indexed: Workspace) -> None:
    write_synthetic_explanations(indexed)
    assert [index.run for index in catalog.indexes(indexed)] == ["index-test"]
    assert catalog.damaged(indexed) == []
    assert [run.run for run in explained_runs(indexed)] == ["explain-test"]


def test_an_older_cache_gains_the_new_tables_and_keeps_its_rows(indexed: Workspace, tmp_path: Path) -> None:
    from core.store import migrations

    write_synthetic_explanations(indexed)
    with opened(indexed) as cache:
        cache.ingest()
        before = tables(cache)
        with cache.cursor() as cursor:
            for table in explained_ingest.TABLES:
                cursor.execute(f"DROP TABLE {table}")
            cursor.execute("DELETE FROM schema_version WHERE version > 1")
    with opened(indexed) as cache:
        assert ask(cache, "SELECT max(version) FROM schema_version") == [(migrations.LATEST,)]
        assert ask(cache, "SELECT count(*) FROM units") == [(16,)]
        cache.ingest()
        assert tables(cache) == before


def test_the_store_of_many_explanations_answers_fast(indexed: Workspace) -> None:
    """A page waits for these queries; 50,000 explanations are a run over every unit of a model."""
    import time

    with opened(indexed) as cache:
        with cache.cursor() as cursor:
            cursor.execute(
                "INSERT INTO explanations SELECT 'r', 0, 'r.' || i || '.0.0', 'tiny/mlp.' || i % 30 || '/neurons/' || i, 'tiny', 'mlp',"
                " i % 30, 'neurons', i, 'x', i, 0, '', 0, 'pattern', 'pattern', 'Fires on ' || i, '', 0, 0 FROM range(50000) t(i)"
            )
            cursor.execute(
                "INSERT INTO scores SELECT 'r', 0, explanation, role, 'top-and-random', 'test', 'pattern', 'none', random(), 0, 1, 0, 0, 0,"
                " 640, 10, 1, '', '', '' FROM explanations, (VALUES ('simulated'), ('lookup'), ('shuffled')) v(role)"
            )
        took: dict[str, float] = {}
        for name, question in {
            "unit": lambda: explanation_queries.of_unit(cache, UnitName.parse("tiny/mlp.1/neurons/1")),
            "scored": lambda: explanation_queries.scored(cache),
            "layers": lambda: explanation_queries.by_layer(cache, subject="tiny"),
        }.items():
            began = time.monotonic()
            question()
            took[name] = time.monotonic() - began
        assert max(took.values()) < 3, took
