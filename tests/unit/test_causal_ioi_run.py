"""Runs that patch sentences: what they write, what a second attempt does not do again, and what they refuse."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from core.causal import orders
from core.causal.ioi_run import run_ioi
from core.errors import AtlasError
from core.runs import worker
from core.runs.progress import Cancelled
from core.store.ioi import band, features_needed, ioi_runs, load_ioi, pairs, points, ranked
from core.subject.load import load_subject
from core.workspace import Workspace, write_json
from tests.models import make_tiny_model
from tests.patchable import put_dictionary, put_rotation

WORDING = {
    "templates": ["# {IO} and {S} . {S} #", "# {S} and {IO} . {S} #"],
    "names": ["t", "s", "w", "c", "f", "b", "p"],
    "places": ["x"],
    "objects": ["y"],
}


class Watched:
    """Progress that keeps the stages, and raises when a stage begins with `stop`."""

    def __init__(self, stop: str = "never") -> None:
        self.stages: list[str] = []
        self.shares: list[float] = []
        self._stop = stop

    def update(self, done: int, total: int, message: str = "", unit: str = "contexts") -> None:
        assert 0 <= done <= total
        self.shares.append(done / total)

    def stage(self, name: str) -> None:
        self.stages.append(name)
        if name.startswith(self._stop):
            raise Cancelled

    def log(self, line: str) -> None:
        raise AssertionError(line)


@pytest.fixture
def ready(workspace: Workspace, tmp_path: Path) -> Workspace:
    subject = load_subject(workspace, str(make_tiny_model(tmp_path / "tiny", "llama", 2)))
    put_dictionary(workspace, subject)
    put_rotation(workspace, subject)
    return workspace


def asking(**changes: Any) -> dict[str, Any]:
    return {
        "model": "tiny",
        "decompositions": ["resid.0/made", "resid.0/random:linear"],
        "orders": ["acdc", "greedy", "single", "gradient"],
        "pairs": 6,
        "seeds": 2,
        "thresholds": 4,
        "again": 0,
        "wording": WORDING,
    } | changes


def carry_out(workspace: Workspace, params: dict[str, Any], progress: Watched | None = None, run: str = "ioi-1") -> Path:
    folder = workspace.runs / run
    folder.mkdir(exist_ok=True)
    run_ioi(workspace, folder, params, progress or Watched())
    return folder


def test_the_kind_is_done_by_the_worker() -> None:
    assert worker.KINDS["ioi"] == "core.causal.ioi_run:run_ioi"


def test_a_run_writes_the_baseline_and_a_curve_for_every_piece(ready: Workspace) -> None:
    carry_out(ready, asking())
    (run,) = ioi_runs(ready)
    assert run.complete
    assert len(run.curves) == run.total == 2 * 2 * 4
    for sentences in run.sentences:
        assert sentences.baseline["all"]["pairs"] == 6
        assert sentences.baseline["ABBA"]["pairs"] == sentences.baseline["BABA"]["pairs"] == 3
        frame = pairs(ready, run, sentences.seed)
        assert len(frame) == 6
        columns = {name: frame[name].to_numpy(np.float64) for name in ("kl", "base_difference")}
        assert columns["kl"].mean() == pytest.approx(sentences.baseline["all"]["kl"])
        assert (columns["base_difference"] > 0).mean() == pytest.approx(sentences.baseline["all"]["original"]["accuracy"])
    found: Any = points(ready, run)
    for curve in run.curves:
        here = found[(found["key"] == curve.key) & (found["order"] == curve.order) & (found["seed"] == curve.seed)]
        columns = {name: here[name].to_numpy(np.float64) for name in ("features", "kl", "kl_abba", "kl_baba")}
        none, everything = int(columns["features"].argmin()), int(columns["features"].argmax())
        assert columns["features"][none] == 0
        assert columns["kl"][none] == pytest.approx(run.sentences[curve.seed].baseline["all"]["kl"], abs=1e-5)
        assert columns["features"][everything] == curve.supported
        if curve.decomposition == "random:linear":
            assert columns["kl"][everything] == pytest.approx(0, abs=1e-6)
        assert columns["kl"] == pytest.approx((columns["kl_abba"] + columns["kl_baba"]) / 2, abs=1e-9)
    first: Any = ranked(ready, run, "resid.0/made", "single")
    assert sorted(first["unit"]) == sorted(set(first["unit"]))
    assert first["rank"].is_monotonic_increasing
    assert first["seeds"].max() == 2


def test_an_attempt_that_was_stopped_goes_on_and_makes_no_curve_twice(ready: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = carry_out(ready, asking(), run="ioi-whole")
    folder = ready.runs / "ioi-1"
    with pytest.raises(Cancelled):
        carry_out(ready, asking(), Watched("acdc of made at resid.0, seed 1"))
    before = json.loads((folder / "manifest.json").read_text("utf8"))
    assert before["state"] == "partial"
    kept = {one["piece"]: one for one in before["pieces"]}
    assert len(kept) == 8 + 3
    made: list[str] = []
    sweep = orders.acdc
    monkeypatch.setattr(orders, "acdc", lambda *args, **more: made.append("acdc") or sweep(*args, **more))
    watched = Watched()
    carry_out(ready, asking(), watched)
    after = json.loads((folder / "manifest.json").read_text("utf8"))
    assert after["state"] == "complete"
    assert len(made) == 2
    assert sum(stage.startswith("baseline") for stage in watched.stages) == 2
    for one in after["pieces"]:
        if one["piece"] in kept:
            assert one == kept[one["piece"]]
    other = load_ioi(ready, "ioi-whole")
    assert whole.is_dir()
    np.testing.assert_allclose(points(ready, load_ioi(ready, "ioi-1"))["kl"], points(ready, other)["kl"], atol=1e-6)


def test_a_curve_whose_file_was_lost_is_made_again(ready: Workspace) -> None:
    params = asking(orders=["gradient"], seeds=1)
    folder = carry_out(ready, params)
    (folder / "pieces" / "0001" / "points.parquet").unlink()
    with pytest.raises(AtlasError, match=r"pieces/0001/points.parquet is missing"):
        points(ready, load_ioi(ready, "ioi-1"))
    watched = Watched()
    carry_out(ready, params, watched)
    assert [stage for stage in watched.stages if stage.startswith("gradient")] == ["gradient of random:linear at resid.0, seed 0"]
    assert len(points(ready, load_ioi(ready, "ioi-1"))) > 0


def test_the_effects_of_single_features_are_measured_once_for_two_orders(ready: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    alone = orders.single_effects
    monkeypatch.setattr(orders, "single_effects", lambda *args: asked.append(1) or alone(*args))
    params = asking(decompositions=["resid.0/made"], orders=["single", "greedy"], seeds=1)
    with pytest.raises(Cancelled):
        carry_out(ready, params, Watched("greedy"))
    carry_out(ready, params)
    assert len(asked) == 1


def test_a_run_without_decompositions_measures_the_baseline(ready: Workspace) -> None:
    carry_out(ready, asking(decompositions=[]))
    run = load_ioi(ready, "ioi-1")
    assert run.complete
    assert run.curves == ()
    assert run.ceiling > 0
    assert points(ready, run).empty


def test_a_dictionary_that_was_replaced_since_is_not_mixed_with_the_new_one(ready: Workspace) -> None:
    params = asking(decompositions=["resid.0/made"], orders=["gradient", "single"], seeds=1)
    with pytest.raises(Cancelled):
        carry_out(ready, params, Watched("single"))
    put_dictionary(ready, load_subject(ready, "tiny"), units=12)
    with pytest.raises(AtlasError, match="was replaced since"):
        carry_out(ready, params)


def test_a_model_that_was_replaced_since_is_not_mixed_with_the_new_one(ready: Workspace) -> None:
    params = asking(decompositions=["resid.0/neurons"], orders=["gradient", "single"], seeds=1)
    with pytest.raises(Cancelled):
        carry_out(ready, params, Watched("single"))
    path = ready.runs / "ioi-1" / "manifest.json"
    document = json.loads(path.read_text("utf8"))
    write_json(path, {**document, "subject": {**document["subject"], "weights_hash": "0" * 64}})
    with pytest.raises(AtlasError, match="model tiny was replaced since"):
        carry_out(ready, params)


def test_bands_are_over_the_seeds_and_a_curve_goes_on_as_it_ends() -> None:
    one = pd.DataFrame({"features": [0, 4], "kl": [2.0, 0.0], "edit": [0.0, 1.0]})
    other = pd.DataFrame({"features": [8, 0], "kl": [1.0, 3.0], "edit": [4.0, 0.0]})
    found = band([one, other], "features")
    assert found.x.tolist() == [0, 4, 8]
    assert found.mean.tolist() == [2.5, 1.0, 0.5]
    assert found.low.tolist() == [2.0, 0.0, 0.0]
    assert found.high.tolist() == [3.0, 2.0, 1.0]
    assert band([one, other], "edit").x.tolist() == [0, 1]
    assert features_needed([one, other], 1.5) == [4, 8]
    assert features_needed([one, other], 0.5) == [4, None]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"decompositions": ["resid.0/nobody"]}, "has no dictionary “nobody”"),
        ({"decompositions": ["resid.7/neurons"]}, "out of range"),
        ({"decompositions": ["resid.0/made:linear"]}, "negatives"),
        ({"model": "nothere"}, "nothere"),
        ({"wording": {**WORDING, "names": ["t", "s", "Anna"]}}, "“Anna” is not a single token"),
        ({"wording": {}}, "Fewer than three of our names"),
        ({"bos": True, "wording": {**WORDING, "templates": ["# " * 110 + "{IO} and {S} . {S} #"]}}, "longer than the 128 tokens"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence(changes: dict[str, Any], said: str, ready: Workspace) -> None:
    with pytest.raises(AtlasError, match=said) as told:
        carry_out(ready, asking(**changes))
    assert "\n" not in str(told.value)


def test_a_dictionary_made_for_other_weights_is_refused(ready: Workspace) -> None:
    path = ready.bases / "tiny" / "resid.0" / "made" / "basis.json"
    document = json.loads(path.read_text("utf8"))
    path.unlink()
    path.write_text(json.dumps(document | {"weights_hash": "0" * 64}), "utf8")
    with pytest.raises(AtlasError, match="made for other weights"):
        carry_out(ready, asking())
