"""Files of the real packages read right, and ours are read right by sae-lens: each runs in its own Python and is asked line by line.

ATLAS_SAELENS_PYTHON, ATLAS_DICTLEARN_PYTHON and ATLAS_SPARSIFY_PYTHON name those Pythons; CONTRIBUTING.md says how to make them.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from core.bases.dictionary import Dictionary
from core.bases.formats.found import Found
from core.bases.formats.place import READERS, locate
from core.bases.formats.saelens import export
from core.bases.info import Prepare
from core.units import Site
from tests.published import UNITS, D, arrays, dictionary, random, write_saelens

SIDE = Path(__file__).resolve().parents[1] / "dictionaries_side.py"
VARIABLES = {"sae-lens": "ATLAS_SAELENS_PYTHON", "dictionary-learning": "ATLAS_DICTLEARN_PYTHON", "eai-sparsify": "ATLAS_SPARSIFY_PYTHON"}
HEADS = 4
CLOSE: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-5}


class Theirs:
    """The other Python."""

    def __init__(self, python: str) -> None:
        # -I: neither this folder nor PYTHON… variables reach it.
        self.process = subprocess.Popen(
            [python, "-W", "ignore", "-I", str(SIDE)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def ask(self, name: str, **what: Any) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"ask": name, **what}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"the other Python ended with {self.process.wait(10)}"
        answer = json.loads(line)
        assert "raised" not in answer, answer
        return answer["answer"]


def theirs(package: str) -> Iterator[Theirs]:
    python = os.environ.get(VARIABLES[package], "")
    if not python:
        pytest.skip(f"{VARIABLES[package]} names no Python that has {package} (CONTRIBUTING.md says how to make one)")
    other = Theirs(python)
    assert other.ask("hello", package=package)
    yield other
    assert other.process.stdin is not None
    other.process.stdin.close()
    assert other.process.wait(20) == 0


@pytest.fixture(scope="module")
def saelens() -> Iterator[Theirs]:
    yield from theirs("sae-lens")


@pytest.fixture(scope="module")
def dictlearn() -> Iterator[Theirs]:
    yield from theirs("dictionary-learning")


@pytest.fixture(scope="module")
def sparsify() -> Iterator[Theirs]:
    yield from theirs("eai-sparsify")


def read(folder: Path) -> Found:
    place, weights = locate(folder, None)
    return READERS[weights](place)


def agree(mine: Dictionary, said: dict[str, Any]) -> float:
    """Codes and reconstructions are theirs; returns the largest difference of a code."""
    codes, out = mine.reconstruct(torch.tensor(said["x"]))
    wanted = torch.tensor(said["codes"])
    assert 0.02 < float((wanted != 0).float().mean()) < 0.98  # neither all off nor all on: the rule matters
    torch.testing.assert_close(codes, wanted, **CLOSE)
    torch.testing.assert_close(out, torch.tensor(said["out"]), rtol=1e-5, atol=1e-4)
    return float((codes - wanted).abs().max())


HOOKS: dict[str, Any] = {"model_name": "tiny", "hook_name": "blocks.1.hook_resid_post", "context_size": 128, "prepend_bos": True}
ARCHITECTURES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "standard": ({"architecture": "standard"}, {}),
    "standard without b_dec in the input": ({"architecture": "standard", "apply_b_dec_to_input": False}, {}),
    "standard, layer norm": ({"architecture": "standard", "normalize_activations": "layer_norm"}, {}),
    "standard, constant norm": ({"architecture": "standard", "normalize_activations": "constant_norm_rescale"}, {}),
    "standard, average norm": ({"architecture": "standard", "normalize_activations": "expected_average_only_in"}, {}),
    "topk": ({"architecture": "topk", "k": 7}, {}),
    "topk, decoder norms": ({"architecture": "topk", "k": 7, "rescale_acts_by_decoder_norm": True}, {}),
    "gated": ({"architecture": "gated"}, {}),
    "jumprelu": ({"architecture": "jumprelu"}, {}),
    "transcoder": ({"architecture": "transcoder", "d_out": 10, "apply_b_dec_to_input": False}, {"hook_name_out": "blocks.1.hook_mlp_out"}),
    "skip transcoder": ({"architecture": "skip_transcoder", "d_out": 10, "apply_b_dec_to_input": False}, {}),
    "jumprelu transcoder": ({"architecture": "jumprelu_transcoder", "d_out": 10, "apply_b_dec_to_input": False}, {}),
    "jumprelu skip transcoder": ({"architecture": "jumprelu_skip_transcoder", "d_out": D, "apply_b_dec_to_input": False}, {}),
    "heads": ({"architecture": "standard", "reshape_activations": "hook_z"}, {"hook_name": "blocks.1.attn.hook_z"}),
}


@pytest.mark.parametrize("case", list(ARCHITECTURES))
def test_a_file_of_sae_lens_gives_its_codes_and_comes_back_to_it_unchanged(saelens: Theirs, tmp_path: Path, case: str) -> None:
    config, metadata = ARCHITECTURES[case]
    heads = HEADS if case == "heads" else 0
    config = {"d_in": D, "d_sae": UNITS, **config}
    said = saelens.ask("saelens_write", folder=str(tmp_path / "theirs"), config=config, metadata=HOOKS | metadata, seed=3, heads=heads)
    mine = dictionary(read(tmp_path / "theirs"))
    agree(mine, said)
    assert mine.info.site == (Site("attn", 1) if heads else Site("resid", 1))
    assert mine.info.writes_to == metadata.get("hook_name_out")

    export(mine, tmp_path / "ours")
    again = saelens.ask("saelens_load", folder=str(tmp_path / "ours"), x=said["x"], heads=heads)
    exact: dict[str, Any] = {"rtol": 1e-6, "atol": 1e-6} if case in ("gated", "topk, decoder norms") else {"rtol": 0.0, "atol": 0.0}
    torch.testing.assert_close(torch.tensor(again["codes"]), torch.tensor(said["codes"]), **exact)
    torch.testing.assert_close(torch.tensor(again["out"]), torch.tensor(said["out"]), rtol=1e-5, atol=1e-5)
    assert again["architecture"] == config["architecture"]


def test_sae_lens_and_we_understand_the_flat_layout_alike(saelens: Theirs, tmp_path: Path) -> None:
    old: dict[str, Any] = {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": 7}, "normalize_activations": "layer_norm"}
    folder = write_saelens(tmp_path / "a", arrays(D, UNITS), flat=True, metadata={"hook_name": "blocks.1.hook_resid_pre"}, **old)
    x = torch.randn(24, D, generator=torch.Generator().manual_seed(8)) * 2 + 0.5
    agree(dictionary(read(folder)), saelens.ask("saelens_load", folder=str(folder), x=x.tolist()) | {"x": x.tolist()})


OURS: dict[str, tuple[str, dict[str, Any]]] = {
    "tied": ("relu", {"tied": True}),
    "tied, centred and scaled": ("relu", {"tied": True, "prepare": Prepare("per_token", "none", 0.37)}),
    "centred, with b_dec": ("relu", {"subtract_decoder_bias": True, "prepare": Prepare("per_token", "none", 1.7)}),
    "centred, gated": ("gated", {"subtract_decoder_bias": True, "prepare": Prepare("per_token", "none", 1.7)}),
    "gated, scaled": ("gated", {"subtract_decoder_bias": True, "prepare": Prepare(scale=2.3)}),
    "topk": ("topk", {"k": 5, "subtract_decoder_bias": True}),
    "topk, tied, centred": ("topk", {"k": 5, "tied": True, "prepare": Prepare("per_token")}),
    "jumprelu, layer norm, scaled": ("jumprelu", {"prepare": Prepare("none", "layer_norm", 0.8)}),
    "relu, constant norm, scaled": ("relu", {"prepare": Prepare("none", "constant_norm", 0.8)}),
    "transcoder, centred and scaled": ("relu", {"d_out": 10, "prepare": Prepare("per_token", "none", 0.7)}),
    "heads": ("relu", {"tied": True, "site": Site("attn", 1)}),
}


@pytest.mark.parametrize("case", list(OURS))
def test_sae_lens_gives_our_codes_for_our_files(saelens: Theirs, tmp_path: Path, case: str) -> None:
    rule, options = OURS[case]
    mine = random(rule, 5, **options)
    x = torch.randn(24, D, generator=torch.Generator().manual_seed(8)) * 2 + 0.5
    notes = export(mine, tmp_path / "ours")
    said = saelens.ask("saelens_load", folder=str(tmp_path / "ours"), x=x.tolist(), heads=HEADS if case == "heads" else 0)
    codes, out = mine.reconstruct(x)
    torch.testing.assert_close(torch.tensor(said["codes"]), codes, **CLOSE)
    lost = x.mean(-1, keepdim=True) if notes else 0  # what the notes say SAELens leaves out
    torch.testing.assert_close(torch.tensor(said["out"]), out - lost, rtol=1e-5, atol=1e-4)
    assert bool(notes) == (mine.info.prepare.centre == "per_token" and mine.info.d_out is None)
    assert (said["model_name"], said["context_size"], said["prepend_bos"]) == ("tiny", 64, False)


@pytest.mark.parametrize("case", ["tied", "tied, centred and scaled", "topk", "jumprelu, layer norm, scaled"])
def test_saved_by_sae_lens_a_file_of_ours_is_still_ours_until_its_weights_change(saelens: Theirs, tmp_path: Path, case: str) -> None:
    rule, options = OURS[case]
    mine = random(rule, 5, **options)
    export(mine, tmp_path / "ours")
    for name, change in (("same", 0.0), ("trained", 0.01)):
        assert saelens.ask("saelens_resave", folder=str(tmp_path / "ours"), to=str(tmp_path / name), change=change)
    direct, kept, trained = (read(tmp_path / name) for name in ("ours", "same", "trained"))
    assert (kept.prepare, kept.tied, kept.family, kept.recipe) == (mine.info.prepare, mine.info.tied, "sae", direct.recipe)
    assert all(torch.equal(kept.tensors[name], direct.tensors[name]) for name in direct.tensors)
    assert trained.family is None
    assert trained.prepare.scale == 1.0
    assert trained.notes


CLASSES = (
    ("AutoEncoder", True),
    ("AutoEncoder", False),
    ("AutoEncoderNew", False),
    ("AutoEncoderTopK", False),
    ("GatedAutoEncoder", False),
    ("JumpReluAutoEncoder", False),
    ("BatchTopKSAE", False),
    ("MatryoshkaBatchTopKSAE", False),
)


@pytest.mark.parametrize(("kind", "unit_norm"), CLASSES)
def test_a_file_of_dictionary_learning_gives_its_codes(dictlearn: Theirs, tmp_path: Path, kind: str, unit_norm: bool) -> None:
    said = dictlearn.ask(
        "dictlearn_write", folder=str(tmp_path / "theirs"), kind=kind, d_in=D, units=UNITS, k=7, seed=2, unit_norm=unit_norm
    )
    found = read(tmp_path / "theirs")
    agree(dictionary(found), said)
    assert (found.model, found.site) == ("EleutherAI/tiny", Site("resid", 1))
    assert bool(found.notes) == (kind == "AutoEncoder" and not unit_norm)


CONFIGS: dict[str, dict[str, Any]] = {
    "topk": {"expansion_factor": 3, "k": 7},
    "latents": {"num_latents": 40, "k": 7},
    "skip": {"expansion_factor": 3, "k": 7, "skip_connection": True},
    "transcode": {"expansion_factor": 3, "k": 7, "transcode": True},
    "transcode and skip": {"expansion_factor": 3, "k": 7, "transcode": True, "skip_connection": True},
}


@pytest.mark.parametrize("case", list(CONFIGS))
def test_a_file_of_sparsify_gives_its_codes(sparsify: Theirs, tmp_path: Path, case: str) -> None:
    said = sparsify.ask("sparsify_write", folder=str(tmp_path / "layers.2"), config=CONFIGS[case], d_in=D, seed=4)
    (tmp_path / "config.json").write_text(json.dumps({"model": "owner/tiny", "ctx_len": 2048}), "utf8")
    found = read(tmp_path / "layers.2")
    agree(dictionary(found), said)
    assert found.model == "owner/tiny"
    assert found.site == Site("resid", 1 if "transcode" in case else 2)
