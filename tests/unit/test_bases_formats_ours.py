"""What is exported for SAELens and brought in again is what it was: kind, ties, preparing, recipe, and numbers to the last bit."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from core.bases.dictionary import Dictionary
from core.bases.formats.bring import bring
from core.bases.formats.bring_run import run_bring
from core.bases.formats.ours import CHANGED
from core.bases.formats.saelens import CONFIG, WEIGHTS, export
from core.bases.info import Prepare
from core.bases.measure_request import HELD_OUT_CORPUS, text_for
from core.bases.shelf import find_named
from core.bases.unseen import made_from_this
from core.corpus.spec import CorpusSpec
from core.errors import AtlasError
from core.subject.subject import Subject
from core.units import Site
from core.workspace import Workspace
from tests.job_text import write_text
from tests.models import D_MODEL, load_tiny_model
from tests.published import random

CORPUS: dict[str, Any] = CorpusSpec("embedded", 100, 64, bos=False).to_json()
RECIPE: dict[str, Any] = {
    "run": "sae-1", "kind": "tied", "alpha": 0.5, "mse_reduction": "mean", "alpha_sum": 16.0, "alpha_mean": 0.5, "ratio": 2.0, "seed": 3,
    "centre": "per_token", "scale": 0.37, "screened": True, "corpus": CORPUS, "slice": "0123456789ab",
    "model": {"dtype": "float32", "device": "cpu"}, "code": "1",
}  # fmt: skip
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "tied": ("relu", {"tied": True}),
    "tied, scaled": ("relu", {"tied": True, "prepare": Prepare(scale=0.37)}),
    "tied, scaled by a power of two": ("relu", {"tied": True, "prepare": Prepare(scale=0.25)}),
    "tied, centred, scaled": ("relu", {"tied": True, "prepare": Prepare("per_token", "none", 0.37)}),
    "tied topk of a head": ("topk", {"k": 5, "tied": True, "site": Site("attn", 1), "head": 1, "prepare": Prepare(scale=3.1)}),
    "topk, scaled": ("topk", {"k": 5, "subtract_decoder_bias": True, "prepare": Prepare(scale=1.7)}),
    "topk, centred": ("topk", {"k": 5, "subtract_decoder_bias": True, "prepare": Prepare("per_token", "none", 1.7)}),
    "gated, scaled": ("gated", {"subtract_decoder_bias": True, "prepare": Prepare(scale=2.3)}),
    "jumprelu, layer norm, scaled": ("jumprelu", {"prepare": Prepare("none", "layer_norm", 0.8)}),
    "transcoder, scaled": ("relu", {"d_out": D_MODEL, "writes_to": "blocks.1.hook_mlp_out", "prepare": Prepare(scale=0.7)}),
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return load_tiny_model(tmp_path_factory.mktemp("tiny"), "gpt2", 2)


def back(subject: Subject, folder: Path) -> Dictionary:
    workspace = Workspace.open(folder.parent / "ws")
    return bring(workspace, subject, folder, name="back", any_model=True)


def mine(case: str, subject: Subject, **changes: Any) -> Dictionary:
    """A random one of the subject's width, or of one of its heads'."""
    rule, options = CASES[case]
    made = random(rule, 5, **{**options, **({"d_out": 10} if "d_out" in options else {}), "head": None} | {"site": Site("resid", 1)})
    width = subject.info.widths["attn"] // 4 if options.get("head") is not None else D_MODEL
    generator = torch.Generator().manual_seed(8)
    tensors = {
        name: torch.randn(len(one), width, generator=generator) if name in ("encoder", "decoder") else one
        for name, one in made.tensors.items()
    }
    if "decoder_bias" in tensors:
        tensors["decoder_bias"] = torch.randn(width, generator=generator)
    d_out = width if "d_out" in options else None
    places = {"site": options.get("site", Site("resid", 1)), "head": options.get("head"), "writes_to": options.get("writes_to")}
    family = "transcoder" if d_out else "sae"
    given: dict[str, Any] = {"subject": subject.info.slug, "weights_hash": subject.info.weights_hash, "family": family, "recipe": RECIPE}
    return Dictionary(replace(made.info, d_in=width, d_out=d_out, **given | places | changes), tensors)


@pytest.mark.parametrize("case", list(CASES))
def test_what_comes_back_is_what_went(tiny: Subject, tmp_path: Path, case: str) -> None:
    went = mine(case, tiny)
    export(went, tmp_path / "out")
    came = back(tiny, tmp_path / "out")
    same = ("family", "rule", "k", "tied", "prepare", "site", "head", "d_in", "d_out", "units", "writes_to", "weights_hash")
    assert {name: getattr(came.info, name) for name in same} == {name: getattr(went.info, name) for name in same}
    assert {**came.info.recipe, "run": "sae-1"} == {
        **RECIPE,
        "brought": "saelens",
        "context": 64,
        "bos": False,
        "dataset": "embedded",
        "version": "6.0.0",
    }
    x = torch.randn(40, went.info.d_in, generator=torch.Generator().manual_seed(1)) * 2 + 0.5
    for ours, theirs in zip(went.reconstruct(x), came.reconstruct(x), strict=True):
        torch.testing.assert_close(theirs, ours, rtol=1e-5, atol=1e-5)
    scale, centred = went.info.prepare.scale, went.info.prepare.centre == "per_token"
    if not centred and came.info.rule != "gated":
        exact = scale in (1.0, 0.25)
        for name, tensor in went.tensors.items():
            if exact:
                assert torch.equal(came.tensors[name], tensor)
            else:
                torch.testing.assert_close(came.tensors[name], tensor, rtol=2e-7, atol=0)
        export(came, tmp_path / "again")
        first, second = (load_file(tmp_path / name / WEIGHTS) for name in ("out", "again"))
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first), "what came back is written as what it came from"


@pytest.mark.parametrize("family", ["pca", "ica", "random", "axes"])
def test_baselines_stay_what_they_are(tiny: Subject, tmp_path: Path, family: str) -> None:
    export(mine("tied", tiny, family=family), tmp_path / "out")
    assert back(tiny, tmp_path / "out").info.family == family


def test_weights_that_were_trained_on_are_not_described_by_what_they_were(tiny: Subject, tmp_path: Path) -> None:
    export(mine("tied, scaled", tiny), tmp_path / "out")
    weights = load_file(tmp_path / "out" / WEIGHTS)
    weights["W_enc"][0, 0] += 1
    save_file(weights, tmp_path / "out" / WEIGHTS)
    came = back(tiny, tmp_path / "out")
    assert CHANGED in came.info.source["notes"]
    assert (came.info.tied, came.info.prepare, came.info.family) == (False, Prepare(), "sae")
    assert "alpha" not in came.info.recipe
    assert came.info.source["said"] == {}
    assert torch.equal(came.encoder, weights["W_enc"].T)


def test_the_hash_does_not_depend_on_the_order_in_which_a_file_holds_its_tensors(tiny: Subject, tmp_path: Path) -> None:
    export(mine("tied, scaled", tiny), tmp_path / "out")
    weights = load_file(tmp_path / "out" / WEIGHTS)
    save_file({name: weights[name] for name in sorted(weights, reverse=True)}, tmp_path / "out" / WEIGHTS, {"made": "elsewhere"})
    assert back(tiny, tmp_path / "out").info.tied


@pytest.mark.parametrize(
    ("changed", "kept"),
    [
        ({"family": "<b>"}, {"family": "sae"}),
        ({"scale": "big"}, {"prepare": Prepare()}),
        ({"scale": -1}, {"prepare": Prepare()}),
        ({"recipe": {"alpha": "much", "lr": 0.1, "kind": "x" * 400, "extra": [1], "corpus": {"source": 5}, "slice": "s"}}, {}),
        ({"recipe": 7, "metrics": [1], "weights_hash": 3}, {}),
    ],
)
def test_facts_that_make_no_sense_are_left_out(tiny: Subject, tmp_path: Path, changed: dict[str, Any], kept: dict[str, Any]) -> None:
    export(mine("topk, scaled", tiny), tmp_path / "out")
    config = json.loads((tmp_path / "out" / CONFIG).read_text("utf8"))
    config["metadata"]["neuron_atlas"] |= changed
    (tmp_path / "out" / CONFIG).write_text(json.dumps(config), "utf8")
    info = back(tiny, tmp_path / "out").info
    assert {name: getattr(info, name) for name in kept} == kept
    if "recipe" in changed:
        assert info.recipe.keys() - {"lr"} == {"brought", "context", "bos", "dataset", "version"}


def test_a_file_that_says_its_decoder_is_its_encoder_when_it_is_not_is_refused(tiny: Subject, tmp_path: Path) -> None:
    export(mine("topk, scaled", tiny), tmp_path / "out")
    config = json.loads((tmp_path / "out" / CONFIG).read_text("utf8"))
    config["metadata"]["neuron_atlas"]["tied"] = True
    (tmp_path / "out" / CONFIG).write_text(json.dumps(config), "utf8")
    with pytest.raises(AtlasError, match="they are not alike"):
        back(tiny, tmp_path / "out")


def test_other_weights_of_the_model_are_told(tiny: Subject, tmp_path: Path) -> None:
    export(mine("tied", tiny, weights_hash="f" * 64), tmp_path / "out")
    came = back(tiny, tmp_path / "out")
    assert any("other weights" in note for note in came.info.source["notes"])


def test_a_text_named_without_its_folder_is_not_looked_for_here(tiny: Subject, tmp_path: Path) -> None:
    corpus = {**CORPUS, "source": str(tmp_path / "private" / "notes.txt")}
    went = mine("tied", tiny, recipe={**RECIPE, "corpus": corpus})
    assert text_for(went.info) == corpus
    export(went, tmp_path / "out")
    came = back(tiny, tmp_path / "out").info
    assert text_for(came) == HELD_OUT_CORPUS
    assert made_from_this(came, CorpusSpec.from_json(corpus)), "that file is known by its name where it is given"
    export(mine("tied", tiny), tmp_path / "embedded")
    assert text_for(back(tiny, tmp_path / "embedded").info) == CORPUS


def test_measured_on_the_text_that_it_was_made_from_the_run_says_so(tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path / "ws")
    subject = load_tiny_model(tmp_path, "gpt2", 2)
    corpus = {"source": str(write_text(tmp_path / "text.jsonl")), "contexts": 20, "length": 16}
    export(mine("tied", subject, recipe={**RECIPE, "corpus": CorpusSpec.from_json(corpus).to_json()}), tmp_path / "out")
    run_dir = workspace.runs / "dictionary-1"
    run_dir.mkdir()

    class Told:
        def __init__(self) -> None:
            self.lines: list[str] = []

        def update(self, done: int, total: int, message: str = "", unit: str = "contexts") -> None:
            pass

        def stage(self, name: str) -> None:
            pass

        def log(self, line: str) -> None:
            self.lines.append(line)

    told = Told()
    run_bring(
        workspace, run_dir, {"model": "gpt2", "source": str(tmp_path / "out"), "name": "back", "corpus": corpus, "device": "cpu"}, told
    )
    assert any("made from this text" in line for line in told.lines)
    assert find_named(workspace, "back").info.recipe["alpha"] == 0.5
