"""The run that ablates: whole, killed, cancelled, asked for what cannot be; and its results as the store reads them."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core.autointerp.request import ExplainRequest, Setting
from core.autointerp.run import run_explain
from core.bases.dictionary import Dictionary
from core.bases.info import BasisInfo
from core.causal import effect_files as files
from core.causal import effect_run
from core.causal.effect_request import EffectRequest
from core.causal.effect_run import run_effect
from core.errors import AtlasError
from core.index.indexer import run_index
from core.runs.progress import Cancelled
from core.runs.registry import Registry
from core.runs.worker import work
from core.store.effects import EffectView, effects_of, load_effect, load_effect_run
from core.store.explanation_view import load_explanation
from core.store.units import load_unit
from core.units import Site, UnitName
from core.workspace import Workspace, write_json
from tests.planted import FIGHT, WIDTH, QuietProgress, plant

UNIT = f"planted/mlp.0/neurons/{FIGHT}"
SITE = "planted/resid.0/pair"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A model with planted units that is indexed, an explanation of one, and a dictionary that is not tied and not indexed."""
    workspace = Workspace.open(tmp_path_factory.mktemp("effect") / "ws")
    params = plant(workspace.path.parent)
    (workspace.runs / "index-planted").mkdir()
    run_index(workspace, workspace.runs / "index-planted", params, QuietProgress())
    (workspace.runs / "explain-planted").mkdir()
    request = ExplainRequest((UnitName.parse(UNIT),), (Setting(),))
    run_explain(workspace, workspace.runs / "explain-planted", request.to_params(), QuietProgress())
    rows = torch.randn(2, WIDTH, generator=torch.Generator().manual_seed(0))
    tensors = {"encoder": rows, "bias": torch.zeros(2), "decoder": torch.stack([rows[0] + rows[1], rows[1]])}
    info = BasisInfo("pair", "planted", Site("resid", 0), "sae", "relu", WIDTH, 2, tied=False)
    Dictionary(info, tensors).save(workspace)
    return workspace


@pytest.fixture
def run_dir(world: Workspace) -> Any:
    folder = world.runs / "effect-test"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


def done(world: Workspace, folder: Path, **params: Any) -> EffectView:
    run_effect(world, folder, EffectRequest.from_params({"units": [UNIT], **params}).to_params(), QuietProgress())
    return load_effect(world, folder.name)


def test_the_strongest_records_are_read_and_what_the_index_knows_of_them_is_found_again(world: Workspace, run_dir: Path) -> None:
    view = done(world, run_dir, records=7)
    records = load_unit(world, UnitName.parse(UNIT)).bands["top"][:7]
    assert [text["context"] for text in view.run.manifest["texts"]] == [record.context for record in records]
    for place, record in enumerate(records):
        rows = view.rows_of(place)
        assert view.token[rows].tolist() == record.tokens[record.first :].tolist()
        np.testing.assert_allclose(view.activations[rows, 0], record.activations[record.first :], atol=2e-4 * record.value)
    assert view.run.firing == int(view.fires.sum()) > 0
    assert view.run.said(UnitName.parse(UNIT))["above"] == pytest.approx(max(0, load_unit(world, UnitName.parse(UNIT)).quantiles["p999"]))
    assert view.run.kl == pytest.approx(float(view.kl.mean()))
    assert view.run.loss_change == pytest.approx(-float(np.nanmean(view.change)), abs=1e-7)
    assert view.run.state == "complete"
    assert not (run_dir / "parts").exists()


def test_the_vocabulary_is_sorted_by_its_mean_change_and_each_token_effect_stands_under_the_token_itself(
    world: Workspace, run_dir: Path
) -> None:
    view = done(world, run_dir, listed=5)
    change = view.vocabulary["change"]
    assert [token.token for token in view.run.raised] == np.argsort(-change, kind="stable")[:5].tolist()
    assert view.run.lowered[0].change == pytest.approx(float(change.min()))
    assert view.run.lowered[0].direct == pytest.approx(float(view.vocabulary["direct"][view.run.lowered[0].token]))
    assert view.lists["lowered"].tokens.shape == (view.run.positions, 5)
    of_token = view.of_token()
    for place in range(len(view.run.manifest["texts"])):
        rows = view.rows_of(place)
        assert math.isnan(of_token[rows][0])
        np.testing.assert_array_equal(of_token[rows][1:], view.change[rows][:-1])


def test_a_run_that_was_cancelled_goes_on_from_its_finished_batches_and_ends_with_the_same_numbers(
    world: Workspace, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = done(world, run_dir, records=10)
    for path in run_dir.iterdir():
        path.unlink()

    class Cancelling(QuietProgress):
        def update(self, done: int, total: int, message: str = "", unit: str = "contexts") -> None:
            if done >= 2 * effect_run.BATCH:
                raise Cancelled

    params = EffectRequest((UNIT,), records=10).to_params()
    with pytest.raises(Cancelled):
        run_effect(world, run_dir, params, Cancelling())
    assert not (run_dir / "manifest.json").exists()
    with pytest.raises(AtlasError, match="no effect to show yet"):
        load_effect_run(world, run_dir.name)
    (run_dir / "parts" / "0001" / "sums.parquet").write_bytes(b"cut off")  # as if the disk had lost it
    read: list[int] = []
    measure: Callable[..., Any] = effect_run.measure
    monkeypatch.setattr(effect_run, "measure", lambda *given: read.append(len(given[3])) or measure(*given))
    run_effect(world, run_dir, params, QuietProgress())
    assert read == [effect_run.BATCH, 2]  # the damaged batch and the one that was never made
    again = load_effect(world, run_dir.name)
    np.testing.assert_array_equal(again.vocabulary["change"], whole.vocabulary["change"])
    np.testing.assert_array_equal(again.kl, whole.kl)
    read.clear()
    run_effect(world, run_dir, params, QuietProgress())
    assert read == []


def test_batches_of_other_texts_or_weights_are_not_mixed_with_those_of_now(
    world: Workspace, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    measure: Callable[..., Any] = effect_run.measure
    monkeypatch.setattr(effect_run, "measure", lambda *given: read.append(len(given[3])) or measure(*given))
    done(world, run_dir, records=10)
    manifest = json.loads((run_dir / "manifest.json").read_text("utf8"))
    write_json(run_dir / "manifest.json", {**manifest, "units": [{**manifest["units"][0], "mean": 0.0}]})  # the index has grown since
    read.clear()
    assert done(world, run_dir, records=10).run.said(UnitName.parse(UNIT))["mean"] != 0.0
    assert read == [4, 4, 2]

    (run_dir / "manifest.json").unlink()
    keep = files.keep_parts_about
    monkeypatch.setattr(files, "keep_parts_about", lambda folder, about: keep(folder, {**about, "texts": []}))
    monkeypatch.setattr(files, "join_parts", lambda *_: (_ for _ in ()).throw(Cancelled))
    with pytest.raises(Cancelled):
        done(world, run_dir, records=10)
    monkeypatch.undo()
    monkeypatch.setattr(effect_run, "measure", lambda *given: read.append(len(given[3])) or measure(*given))
    read.clear()
    done(world, run_dir, records=10)
    assert read == [4, 4, 2]


def test_a_dictionary_made_for_other_weights_is_refused(world: Workspace, run_dir: Path) -> None:
    info = BasisInfo("foreign", "planted", Site("resid", 0), "sae", "relu", WIDTH, 2, "0" * 64, tied=True)
    Dictionary(info, {"encoder": torch.eye(2, WIDTH), "bias": torch.zeros(2)}).save(world)
    with pytest.raises(AtlasError, match="was made for other weights of planted"):
        run_effect(world, run_dir, {"units": ["planted/resid.0/foreign/0"], "text": " the cat"}, QuietProgress())


def test_the_ablation_score_of_a_right_sentence_is_near_one_and_of_another_units_is_refused(world: Workspace, run_dir: Path) -> None:
    identity = "explain-planted.0.0.0"
    view = done(world, run_dir, records=2, explanations=[identity])
    (score,) = view.run.scores
    explanation = load_explanation(world, identity)
    assert explanation.headline() is not None
    assert 0.9 < score.score <= 1
    assert score.score == pytest.approx(1 - score.simulated / score.mean)
    assert set(score.contexts) <= {one.context for one in explanation.simulations}
    assert (score.coverage, score.reason) == (1.0, "")
    other = {"units": [f"planted/mlp.0/neurons/{FIGHT + 1}"], "explanations": [identity]}
    (run_dir / "manifest.json").unlink()
    with pytest.raises(AtlasError, match=r"is of planted/mlp\.0/neurons/0"):
        run_effect(world, run_dir, other, QuietProgress())
    assert load_effect_run(world, run_dir.name).state == "partial"  # the effect itself is there


def test_own_text_takes_several_units_of_several_bases_and_an_untied_one_says_by_how_much_it_reads_what_it_writes(
    world: Workspace, run_dir: Path
) -> None:
    params = {"units": [f"{SITE}/0", f"{SITE}/1"], "text": " the cat fight and a dog not all", "rule": "minimal"}
    run_effect(world, run_dir, params, QuietProgress())
    view = load_effect(world, run_dir.name)
    rows = torch.randn(2, WIDTH, generator=torch.Generator().manual_seed(0))
    said = [view.run.said(UnitName.parse(unit))["silenced_by"] for unit in params["units"]]
    assert said == pytest.approx([float(rows[0] @ (rows[0] + rows[1])), float(rows[1] @ rows[1])], rel=1e-5)
    assert view.activations.shape == (8, 2)
    assert math.isnan(view.change[-1])
    assert view.run.text == params["text"]
    assert effects_of(world, UnitName.parse(UNIT)) == []


def test_the_model_lane_does_the_run_and_it_is_found_as_the_newest_of_its_unit(world: Workspace) -> None:
    registry = Registry(world)
    run = registry.submit("effect", EffectRequest((UNIT,), records=2).to_params(), lane="model")
    work(world, {"effect": "core.causal.effect_run:run_effect"}, "model")
    assert registry.get(run.id).state == "done"
    assert [one.run for one in effects_of(world, UnitName.parse(UNIT))] == [run.id]
    registry.delete(run.id)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"text": " the cat", "positions": [2]}, r"Token 3 \(position 2\) is past the end: the text has 2 tokens"),
    ({"positions": [200]}, r"Token 201 \(position 200\) is past the end: the longest record"),
    ({"positions": [256]}, "256 is not a position"),
    ({"positions": [-1]}, "-1 is not a position"),
    ({"positions": []}, "No position was chosen"),
    ({"text": ""}, "The text is empty"),
    ({"text": " \n"}, "The text is empty"),
    ({"text": " the" * 300}, "300 tokens and at most 12[78] can be read"),
    ({"text": "x" * 30_000}, "30,000 characters"),
    ({"text": " the \udcff"}, "not UTF-8"),
    ({"listed": 49152}, "number of tokens listed must be a whole number from 1 to 100"),
    ({"records": 0}, "number of records"),
    ({"rule": "clamp"}, "“clamp” is not a rule of ablation"),
    ({"units": []}, "No unit was named"),
    ({"units": [UNIT, UNIT], "text": "a"}, "named twice"),
    ({"units": [UNIT, "other/mlp.0/neurons/0"], "text": "a"}, "cannot be ablated together"),
    ({"units": [UNIT, f"{SITE}/0"]}, "Records are those of one unit"),
    ({"units": ["planted/mlp.0/neurons/999"]}, "out of range"),
    ({"units": [f"{SITE}/9"], "text": "a"}, "out of range: pair has units 0 to 1"),
    ({"units": [f"{SITE}/0"]}, "not indexed"),
    ({"units": [f"{SITE}/0"], "text": "a", "rule": "mean"}, "not indexed"),
    ({"units": ["planted/mlp.0/none/0"], "text": "a"}, "no dictionary “none”"),
    ({"units": ["planted/mlp.7/neurons/0"], "text": "a"}, "out of range"),
    ({"strength": 3}, "no parameter “strength”"),
]


@pytest.mark.parametrize(("params", "sentence"), BAD, ids=[sentence for _, sentence in BAD])
def test_what_cannot_be_done_is_one_sentence(world: Workspace, run_dir: Path, params: dict[str, Any], sentence: str) -> None:
    with pytest.raises(AtlasError, match=sentence) as told:
        run_effect(world, run_dir, {"units": [UNIT], **params}, QuietProgress())
    assert "\n" not in str(told.value)
    assert not (run_dir / "manifest.json").exists()


def test_a_damaged_result_is_named(world: Workspace, run_dir: Path) -> None:
    done(world, run_dir, records=1)
    (run_dir / "positions.parquet").write_bytes(b"PAR1")
    with pytest.raises(AtlasError, match="is damaged"):
        load_effect(world, run_dir.name)
    done(world, run_dir, records=1)  # what resuming does
    manifest = json.loads((run_dir / "manifest.json").read_text("utf8"))
    write_json(run_dir / "manifest.json", {**manifest, "files": {"positions": manifest["files"]["positions"]}})
    with pytest.raises(AtlasError, match=r"manifest\.json is damaged"):
        load_effect(world, run_dir.name)
    (run_dir / "manifest.json").write_text(json.dumps({"kind": "index"}))
    with pytest.raises(AtlasError, match="did not ablate"):
        load_effect_run(world, run_dir.name)
