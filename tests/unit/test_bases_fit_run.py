"""Runs that make baselines and measure them: what they write, what a second attempt does not do again, and what they refuse."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core.bases import fit_run, measure_run
from core.bases.dictionary import load
from core.bases.fit_request import FitRequest
from core.bases.fit_run import run_fit
from core.bases.held_out import split
from core.bases.measure_request import MeasureRequest
from core.bases.measure_run import run_measure, spread
from core.bases.run_titles import KINDS, title
from core.bases.shelf import find_named, remove, shelved
from core.corpus.slice import Slice
from core.errors import AtlasError
from core.runs import worker
from core.runs.progress import Cancelled
from core.subject.load import load_subject
from core.units import Site
from core.workspace import Workspace, write_json
from tests.job_text import write_text
from tests.models import D_MODEL, HEADS, make_tiny_model
from tests.unit.test_docs_formats import _keys


class Watched:
    """Progress that keeps the stages and the log, and raises when a stage begins with `stop`."""

    def __init__(self, stop: str = "never") -> None:
        self.stages: list[str] = []
        self.lines: list[str] = []
        self._stop = stop

    def update(self, done: int, total: int, message: str = "", unit: str = "contexts") -> None:
        assert 0 <= done <= total

    def stage(self, name: str) -> None:
        self.stages.append(name)
        if name.startswith(self._stop):
            raise Cancelled

    def log(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fit")
    make_tiny_model(folder / "tiny", "llama", 2)
    write_text(folder / "text.jsonl", documents=60)
    return folder


def fitting(base: Path, **changes: Any) -> dict[str, Any]:
    params: dict[str, Any] = {
        "model": str(base / "tiny"),
        "corpus": {"source": str(base / "text.jsonl"), "contexts": 300, "length": 16},
        "families": ["axes", "random", "pca", "ica"],
        "sites": "resid.0,mlp.1",
        "ica_iterations": 20,
        "device": "cpu",
    }
    return FitRequest.from_params(params | changes).params()


def measuring(base: Path, keys: list[str], **changes: Any) -> dict[str, Any]:
    params = {"dictionaries": keys, "corpus": fitting(base)["corpus"], "model": str(base / "tiny"), "device": "cpu"}
    return MeasureRequest.from_params(params | changes).params()


def folder(workspace: Workspace, name: str) -> Path:
    path = workspace.runs / name
    path.mkdir(parents=True, exist_ok=True)
    return path


def manifest(workspace: Workspace, name: str) -> dict[str, Any]:
    return json.loads((workspace.runs / name / "manifest.json").read_text("utf8"))


def test_every_baseline_is_on_the_shelf_and_reconstructs_what_it_read(workspace: Workspace, base: Path) -> None:
    run_fit(workspace, folder(workspace, "basis-1"), fitting(base), Watched())
    found = {(str(one.info.site), one.info.name): one for one in shelved(workspace)}
    assert set(found) == {(site, name) for site in ("resid.0", "mlp.1") for name in ("axes", "random", "pca", "ica")}
    document = manifest(workspace, "basis-1")
    assert document["state"] == "complete"
    assert {one["key"] for one in document["dictionaries"]} == {one.info.key for one in found.values()}
    subject = load_subject(workspace, str(base / "tiny"), device="cpu")
    piece = Slice.load(workspace, document["slice"]["id"])
    for one in found.values():
        x = subject.capture(torch.from_numpy(piece.tokens[:4].astype(np.int64)), [one.info.site])[one.info.site][:, piece.first :]
        _, written = load(one).reconstruct(x)
        assert float((written - x).abs().max() / x.abs().max()) < 1e-4, one.info.key
        assert one.info.recipe["run"] == "basis-1"
        assert one.info.recipe["corpus"]["length"] == 16


def test_pca_of_a_run_is_that_of_all_training_tokens_at_once(workspace: Workspace, base: Path) -> None:
    run_fit(workspace, folder(workspace, "basis-1"), fitting(base, families=["pca"], sites="resid.0"), Watched())
    one = find_named(workspace, "pca")
    subject = load_subject(workspace, str(base / "tiny"), device="cpu")
    piece = Slice.load(workspace, one.info.recipe["slice"])
    train, _ = split(piece)
    rows: list[torch.Tensor] = []
    for rank in train:
        tokens = torch.from_numpy(piece.tokens[rank : rank + 1, : piece.lengths[rank]].astype(np.int64))
        rows.append(subject.capture(tokens, [Site("resid", 0)])[Site("resid", 0)][0, piece.first :].double())
    x = torch.cat(rows).numpy()
    assert one.info.recipe["tokens"] == len(x)
    assert one.info.recipe["variances"] == pytest.approx(np.linalg.eigvalsh(np.cov(x, rowvar=False, bias=True))[::-1].tolist(), rel=1e-4)


def test_a_second_attempt_makes_only_what_is_missing_and_the_same(workspace: Workspace, base: Path) -> None:
    run = folder(workspace, "basis-1")
    with pytest.raises(Cancelled):
        run_fit(workspace, run, fitting(base), Watched(stop="fitting pca at mlp.1"))
    before = {one.info.key: one.hash for one in shelved(workspace)}
    assert len(before) == len(manifest(workspace, "basis-1")["dictionaries"]) == 6
    assert manifest(workspace, "basis-1")["state"] == "partial"
    watched = Watched()
    run_fit(workspace, run, fitting(base), watched)
    assert [stage for stage in watched.stages if stage.startswith("fitting")] == ["fitting pca at mlp.1", "fitting ica at mlp.1"]
    assert before.items() <= {one.info.key: one.hash for one in shelved(workspace)}.items()
    other = Workspace.open(workspace.path.parent / "other")
    run_fit(other, folder(other, "basis-1"), fitting(base), Watched())
    assert {one.info.key: one.hash for one in shelved(other)} == {one.info.key: one.hash for one in shelved(workspace)}


def test_sites_are_read_in_groups_that_fit_into_memory(workspace: Workspace, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit_run, "_BYTES", 1)
    watched = Watched()
    run_fit(workspace, folder(workspace, "basis-1"), fitting(base, families=["pca"]), watched)
    assert [stage for stage in watched.stages if stage.startswith("reading")] == [
        "reading the text at resid.0",
        "reading the text at mlp.1",
    ]


def test_the_tokens_that_were_asked_for_are_not_exceeded(workspace: Workspace, base: Path) -> None:
    run_fit(
        workspace, folder(workspace, "basis-1"), fitting(base, families=["ica"], sites="resid.0", tokens=400, ica_tokens=200), Watched()
    )
    recipe = find_named(workspace, "ica").info.recipe
    assert 350 < recipe["tokens"] <= 400
    assert recipe["ica_tokens"] == 200
    assert isinstance(recipe["converged"], bool)


def test_a_top_k_control_has_a_name_of_its_own(workspace: Workspace, base: Path) -> None:
    run_fit(workspace, folder(workspace, "basis-1"), fitting(base, families=["pca", "random"], sites="resid.0", k=4), Watched())
    assert [one.info.name for one in shelved(workspace)] == ["pca-k4", "random-k4"]
    with pytest.raises(AtlasError, match="top-k"):
        run_fit(workspace, folder(workspace, "basis-2"), fitting(base, sites="resid.0", k=2 * D_MODEL + 1), Watched())


def test_baselines_of_one_head_read_and_reconstruct_that_heads_part(workspace: Workspace, base: Path) -> None:
    run_fit(workspace, folder(workspace, "head"), fitting(base, sites="attn.0-1", head=2), Watched())
    found = {(str(one.info.site), one.info.name): one for one in shelved(workspace)}
    assert set(found) == {(site, f"{family}-h2") for site in ("attn.0", "attn.1") for family in ("axes", "random", "pca", "ica")}
    subject = load_subject(workspace, str(base / "tiny"), device="cpu")
    width = subject.info.widths["attn"] // HEADS
    piece = Slice.load(workspace, found["attn.1", "pca-h2"].info.recipe["slice"])
    for (site, _), one in found.items():
        assert (one.info.head, one.info.d_in, one.info.site) == (2, width, Site.parse(site))
        x = subject.capture(torch.from_numpy(piece.tokens[:4].astype(np.int64)), [one.info.site])[one.info.site][:, piece.first :]
        part = x[..., 2 * width : 3 * width]
        dictionary = load(one)
        assert torch.equal(dictionary.cut(x), part)
        assert float((dictionary.reconstruct(part)[1] - part).abs().max() / part.abs().max()) < 1e-4, one.info.key
    run_measure(workspace, folder(workspace, "measured"), measuring(base, ["tiny/attn.1/pca-h2"], contexts=8), Watched())
    assert find_named(workspace, "tiny/attn.1/pca-h2").info.metrics["explained_variance"] == pytest.approx(1, abs=1e-6)


def test_a_head_that_the_model_lacks_is_refused_before_anything_is_read(workspace: Workspace, base: Path) -> None:
    with pytest.raises(AtlasError, match=r"Head 9 is out of range: the heads of attn.0 are 0 to 3"):
        run_fit(workspace, folder(workspace, "head"), fitting(base, sites="attn.0", head=9), Watched("reading"))


def test_a_baseline_of_another_head_is_not_replaced(workspace: Workspace, base: Path) -> None:
    run_fit(workspace, folder(workspace, "one"), fitting(base, sites="attn.0", head=1, families=["axes"], name="mine"), Watched())
    with pytest.raises(AtlasError, match=r"There is a dictionary “mine” at attn\.0"):
        run_fit(workspace, folder(workspace, "two"), fitting(base, sites="attn.0", head=2, families=["axes"], name="mine"), Watched())


def test_measuring_writes_beside_each_dictionary_what_was_measured_and_on_what(workspace: Workspace, base: Path) -> None:
    run_fit(workspace, folder(workspace, "basis-1"), fitting(base, families=["axes", "random"], k=3), Watched())
    keys = [one.info.key for one in shelved(workspace)]
    run_measure(workspace, folder(workspace, "measure-1"), measuring(base, keys, output_contexts=5), Watched())
    for one in shelved(workspace):
        metrics = one.info.metrics
        assert metrics["l0"] == pytest.approx(3, abs=0.1)
        assert 0 < metrics["explained_variance"] < 1
        assert metrics["kl"] > 0
        assert metrics["weights"] == one.hash
        assert metrics["text"]["slice"] == one.info.recipe["slice"]
        assert metrics["output_contexts"] == 5
        assert metrics == manifest(workspace, "measure-1")["metrics"][one.info.key]
    piece = Slice.load(workspace, shelved(workspace)[0].info.recipe["slice"])
    assert shelved(workspace)[0].info.metrics["contexts"] == len(split(piece)[1])


def test_a_second_attempt_measures_only_the_sites_that_are_missing(workspace: Workspace, base: Path) -> None:
    run_fit(workspace, folder(workspace, "basis-1"), fitting(base, families=["axes"]), Watched())
    keys = [one.info.key for one in shelved(workspace)]
    run = folder(workspace, "measure-1")
    with pytest.raises(Cancelled):
        run_measure(workspace, run, measuring(base, keys), Watched(stop="measuring at resid.0"))
    first = manifest(workspace, "measure-1")
    assert (first["state"], [key.split("/")[1] for key in first["metrics"]]) == ("partial", ["mlp.1"])
    watched = Watched()
    run_measure(workspace, run, measuring(base, keys), watched)
    assert [stage for stage in watched.stages if stage.startswith("measuring")] == ["measuring at resid.0"]
    assert manifest(workspace, "measure-1")["state"] == "complete"
    assert manifest(workspace, "measure-1")["metrics"].items() >= first["metrics"].items()


def test_results_of_other_weights_are_measured_again(workspace: Workspace, base: Path) -> None:
    run_fit(workspace, folder(workspace, "basis-1"), fitting(base, families=["random"], sites="resid.0"), Watched())
    key = shelved(workspace)[0].info.key
    run_measure(workspace, folder(workspace, "measure-1"), measuring(base, [key]), Watched())
    run_fit(workspace, folder(workspace, "basis-2"), fitting(base, families=["random"], sites="resid.0", seed=7), Watched())
    watched = Watched()
    run_measure(workspace, folder(workspace, "measure-1"), measuring(base, [key]), watched)
    assert "measuring at resid.0" in watched.stages
    (workspace.runs / "measure-1" / "manifest.json").write_text("{", "utf8")
    with pytest.raises(AtlasError, match="measuring again"):
        run_measure(workspace, workspace.runs / "measure-1", measuring(base, [key]), Watched())


def test_a_dictionary_replaced_meanwhile_does_not_get_the_other_ones_numbers(
    workspace: Workspace, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_fit(workspace, folder(workspace, "basis-1"), fitting(base, families=["random"], sites="resid.0"), Watched())
    key = shelved(workspace)[0].info.key
    real = measure_run.measure

    def replacing(*args: Any, **kwargs: Any) -> list[dict[str, Any]]:
        run_fit(workspace, folder(workspace, "basis-2"), fitting(base, families=["random"], sites="resid.0", seed=7), Watched())
        return real(*args, **kwargs)

    monkeypatch.setattr(measure_run, "measure", replacing)
    with pytest.raises(AtlasError, match="replaced while"):
        run_measure(workspace, folder(workspace, "measure-1"), measuring(base, [key]), Watched())
    assert shelved(workspace)[0].info.metrics == {}


def test_a_model_that_the_dictionaries_do_not_belong_to_is_refused(workspace: Workspace, base: Path) -> None:
    run_fit(workspace, folder(workspace, "basis-1"), fitting(base, families=["axes"], sites="resid.0"), Watched())
    make_tiny_model(base / "another", "gpt2", 2)
    with pytest.raises(AtlasError, match="belong to tiny, and the model is another"):
        run_measure(
            workspace, folder(workspace, "measure-1"), measuring(base, ["tiny/resid.0/axes"], model=str(base / "another")), Watched()
        )


def test_a_site_that_the_model_lacks_is_refused(workspace: Workspace, base: Path) -> None:
    with pytest.raises(AtlasError, match="layers are 0 to 1"):
        run_fit(workspace, folder(workspace, "basis-1"), fitting(base, sites="resid.7"), Watched())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"families": ["nmf"]}, "“nmf” is not a baseline"),
        ({"families": []}, "No baseline"),
        ({"families": ["pca", "ica"], "name": "both"}, "cannot name 2"),
        ({"families": ["pca"], "name": "Not A Slug"}, "not the name"),
        ({"k": 0}, "k must be a whole number"),
        ({"k": 1.5}, "k must be a whole number"),
        ({"sites": "nose.3"}, "not a choice of sites"),
        ({"head": 1}, "resid.0 has no heads"),
        ({"head": -1, "sites": "attn.0"}, "The head must be a whole number"),
        ({"tokens": -1}, "number of tokens"),
        ({"seed": "x"}, "seed"),
        ({"wings": 2}, "no parameter “wings”"),
        ({"dtype": "int8"}, "number format"),
        ({"device": "toaster"}, "not a device"),
        ({"model": " "}, "No model"),
        ({"corpus": {"source": "embedded"}}, "no “contexts”"),
    ],
)
def test_a_wrong_fit_request_is_one_sentence(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(AtlasError, match=words):
        FitRequest.from_params({"families": ["pca"], "sites": "resid.0"} | changes)


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({}, "No dictionary was named"),
        ({"dictionaries": ["pca"]}, "subject/site/name"),
        ({"dictionaries": ["a/resid.0/x", "b/resid.0/x"]}, "one for each model"),
        ({"dictionaries": ["a/resid.0/x"], "contexts": 0}, "held-out contexts"),
        ({"dictionaries": ["a/resid.0/x"], "output_contexts": -1}, "whole model"),
    ],
)
def test_a_wrong_measure_request_is_one_sentence(params: dict[str, Any], words: str) -> None:
    with pytest.raises(AtlasError, match=words):
        MeasureRequest.from_params(params)


def test_requests_survive_their_own_json(base: Path) -> None:
    params = json.loads(json.dumps(fitting(base)))
    assert FitRequest.from_params(params).params() == params
    measured = json.loads(json.dumps(measuring(base, ["tiny/resid.0/pca"])))
    assert MeasureRequest.from_params(measured).params() == measured
    assert MeasureRequest.from_params({"dictionaries": ["tiny/resid.0/pca"]}).model == "tiny"


def test_contexts_to_measure_on_are_spread_over_the_whole_held_out_part() -> None:
    ranks = np.arange(100, 200)
    assert spread(ranks, 4).tolist() == [100, 125, 150, 175]
    assert spread(ranks, 500) is ranks
    assert len(spread(ranks, 0)) == 0


def test_every_kind_of_run_has_a_function_and_a_title() -> None:
    for kind in KINDS:
        assert kind in worker.KINDS
        assert title(kind, {})
    assert title(
        "basis", {"families": ["pca", "ica"], "sites": "resid.0-5", "k": 32, "model": "tiny", "corpus": {"source": "embedded"}}
    ) == ("Fit pca, ica · top 32 · resid.0-5 · tiny · embedded")
    assert title("sae", {"name": "a", "kind": "tied", "alphas": [1, 2], "site": "resid.9"}) == "Train a · tied · 2 alphas · resid.9"
    assert title("basis", {"families": ["pca"], "sites": "attn.3", "head": 2}) == "Fit pca · head 2 · attn.3"
    assert title("measure", {"dictionaries": ["tiny/resid.0/pca"], "model": "tiny"}) == "Measure resid.0/pca · tiny"
    assert title("index", {}) == ""


def test_a_damaged_dictionary_is_made_again(workspace: Workspace, base: Path) -> None:
    run = folder(workspace, "basis-1")
    run_fit(workspace, run, fitting(base, families=["pca"], sites="resid.0"), Watched())
    one = find_named(workspace, "pca")
    one.weights.write_bytes(b"nothing")
    write_json(run / "params.json", {})
    run_fit(workspace, run, fitting(base, families=["pca"], sites="resid.0"), Watched())
    assert find_named(workspace, "pca").hash == one.hash
    load(find_named(workspace, "pca"))


def test_the_manifests_and_metrics_are_those_that_are_described(workspace: Workspace, base: Path) -> None:
    run_fit(workspace, folder(workspace, "basis-1"), fitting(base, families=["axes"], sites="resid.0"), Watched())
    made = manifest(workspace, "basis-1")
    assert set(made) == _keys("The manifest of a run of kind `basis`")
    assert set(made["dictionaries"][0]) == {"key", "family", "k", "units", "weights"}
    run_measure(workspace, folder(workspace, "measure-1"), measuring(base, ["tiny/resid.0/axes"]), Watched())
    measured = manifest(workspace, "measure-1")
    assert set(measured) == _keys("The manifest of a run of kind `measure`")
    assert set(measured["metrics"]["tiny/resid.0/axes"]) == _keys("What was measured of one dictionary")


def test_a_baseline_does_not_take_another_dictionarys_name(base: Path, tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path)
    fit_here(workspace, "first", fitting(base, families=["axes"], sites="resid.0", name="mine"))
    before = find_named(workspace, "mine")
    with pytest.raises(AtlasError, match="There is a dictionary “mine” at"):
        fit_here(workspace, "second", fitting(base, families=["random"], sites="resid.0", name="mine"))
    assert find_named(workspace, "mine").hash == before.hash
    (before.folder / "basis.json").write_text("{", "utf8")  # of use to nobody any more
    fit_here(workspace, "third", fitting(base, families=["random"], sites="resid.0", name="mine"))
    assert find_named(workspace, "mine").info.family == "random"
    (before.folder / "basis.json").write_text("{", "utf8")
    assert remove(workspace, before.info.key) == before.info.key
    assert not before.folder.exists()


def fit_here(workspace: Workspace, run: str, params: dict[str, Any]) -> None:
    (workspace.runs / run).mkdir()
    run_fit(workspace, workspace.runs / run, params, Watched())
