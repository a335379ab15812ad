"""Changing units: what ablation and steering do to a site, in closed form."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from core.bases.basis import Basis
from core.bases.dictionary import Dictionary
from core.bases.info import BasisInfo, Prepare
from core.causal.change import UnitChange
from core.errors import AtlasError
from core.subject.edits import Edit
from core.units import Site
from tests.models import load_tiny_model, random_tokens

SITE = Site("resid", 0)
D, N = 12, 30
PLAIN = Prepare()


def _basis(rule: str = "relu", *, tied: bool = True, prepare: Prepare = PLAIN, **more: Any) -> Basis:
    draw = torch.Generator().manual_seed(3)
    rows = torch.randn(N, D, generator=draw)
    tensors = {"encoder": rows / rows.norm(dim=1, keepdim=True), "bias": 0.1 * torch.randn(N, generator=draw)}
    if not tied:
        tensors["decoder"] = torch.randn(N, D, generator=draw)
        tensors["decoder_bias"] = torch.randn(D, generator=draw)
    if rule == "jumprelu":
        tensors["threshold"] = torch.full((N,), 0.2)
    if rule == "gated":
        tensors |= {"gate_bias": torch.zeros(N), "magnitude": torch.rand(N, generator=draw) + 0.5}
    info = BasisInfo("d", "tiny", SITE, "sae", rule, D, N, tied=tied, prepare=prepare, k=8 if rule == "topk" else None, **more)  # type: ignore[arg-type]
    return Basis(SITE, N, Dictionary(info, tensors))


def _x(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(5))


BASES = {
    "tied": _basis(),
    "tied, scaled": _basis(prepare=Prepare(scale=3.0)),
    "tied, centred": _basis(prepare=Prepare(centre="per_token")),
    "untied": _basis(tied=False),
    "untied, minus its bias": _basis(tied=False, subtract_decoder_bias=True),
    "constant norm": _basis(tied=False, prepare=Prepare(normalise="constant_norm")),
    "layer norm": _basis(tied=False, prepare=Prepare(normalise="layer_norm")),
    "topk": _basis("topk"),
    "jumprelu": _basis("jumprelu", tied=False),
    "gated": _basis("gated", tied=False),
}


@pytest.mark.parametrize("name", BASES)
def test_zeroing_takes_away_exactly_what_the_unit_added_to_the_reconstruction(name: str) -> None:
    basis = BASES[name]
    one = basis.dictionary
    assert one is not None
    x = _x(4, 7, D)
    prepared = one.prepare(x)
    codes = one.codes(prepared.x)
    unit = int(codes.sum((0, 1)).argmax())
    without = codes.clone()
    without[..., unit] = 0
    expected = x - one.undo(one.decode(codes), prepared) + one.undo(one.decode(without), prepared)
    torch.testing.assert_close(UnitChange(basis, torch.tensor([unit]), "zero").apply(x), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["tied", "tied, scaled", "tied, centred", "untied", "untied, minus its bias", "gated"])
def test_the_minimal_rule_leaves_the_encoders_word_at_zero_where_the_unit_fired(name: str) -> None:
    basis = BASES[name]
    one = basis.dictionary
    assert one is not None
    x = _x(4, 7, D)
    unit = int(one.encode(x).sum((0, 1)).argmax())
    fired = one.encode(x)[..., unit] > 0

    def said(activations: Tensor) -> Tensor:
        source = one.prepare(activations).x
        if one.info.subtract_decoder_bias:
            source = source - one.tensors["decoder_bias"]
        return (source @ one.encoder[unit]) * one.tensors.get("magnitude", torch.ones(N))[unit] + one.bias[unit]

    changed = UnitChange(basis, torch.tensor([unit]), "minimal").apply(x)
    assert said(changed)[fired].abs().max() < 1e-4
    torch.testing.assert_close(changed[~fired], x[~fired], atol=0, rtol=0)
    assert one.encode(changed)[..., unit].max() < 1e-4


def test_for_tied_rows_of_length_one_the_minimal_rule_is_zeroing_and_for_others_it_is_not() -> None:
    x = _x(4, 7, D)
    for name, same in (("tied", True), ("tied, scaled", True), ("untied", False), ("tied, centred", False)):
        unit = torch.tensor([int(BASES[name].read(x).sum((0, 1)).argmax())])
        minimal, zero = (UnitChange(BASES[name], unit, rule).apply(x) for rule in ("minimal", "zero"))
        assert torch.allclose(minimal, zero, atol=1e-5) == same, name


@pytest.mark.parametrize("name", ["tied", "tied, scaled"])
def test_ablating_twice_is_ablating_once(name: str) -> None:
    x = _x(4, 7, D)
    change = UnitChange(BASES[name], torch.tensor([int(BASES[name].read(x).sum((0, 1)).argmax())]), "minimal")
    once = change.apply(x)
    torch.testing.assert_close(change.apply(once), once, atol=1e-5, rtol=1e-5)


def test_clamping_and_adding_move_a_unit_by_what_was_said_and_a_mask_says_where() -> None:
    basis = BASES["tied"]
    one = basis.dictionary
    assert one is not None
    x = _x(2, 5, D)
    mask = torch.zeros(2, 5, dtype=torch.bool)
    mask[0, 1] = mask[1, 4] = True
    units = torch.tensor([2, 9])
    added = UnitChange(basis, units, "add", torch.tensor([1.5, -2.0]), mask).apply(x)
    step = 1.5 * one.decoder[2] - 2.0 * one.decoder[9]
    torch.testing.assert_close(added, x + mask[..., None] * step, atol=1e-5, rtol=1e-5)
    clamped = UnitChange(basis, units, "clamp", torch.tensor([4.0, 0.0])).apply(x)
    codes = one.encode(x)[..., units]
    torch.testing.assert_close(clamped, x + (torch.tensor([4.0, 0.0]) - codes) @ one.decoder[units], atol=1e-5, rtol=1e-5)


def test_one_heads_dictionary_changes_that_head_only() -> None:
    site = Site("attn", 0)
    info = BasisInfo("d", "tiny", site, "sae", "relu", D, N, tied=True, head=1)
    basis = Basis(site, N, Dictionary(info, {name: BASES["tied"].dictionary.tensors[name] for name in ("encoder", "bias")}))  # type: ignore[union-attr]
    x = _x(2, 5, 3 * D)
    changed = UnitChange(basis, torch.tensor([1]), "add", torch.tensor([2.0])).apply(x)
    assert torch.equal(changed[..., :D], x[..., :D])
    assert torch.equal(changed[..., 2 * D :], x[..., 2 * D :])
    torch.testing.assert_close(changed[..., D : 2 * D] - x[..., D : 2 * D], (2.0 * _row(1)).expand(2, 5, D), atol=1e-5, rtol=1e-5)


def _row(unit: int) -> Tensor:
    one = BASES["tied"].dictionary
    assert one is not None
    return one.decoder[unit]


@pytest.mark.parametrize("variant", ["llama", "gpt2", "gemma2"])
def test_zeroing_a_neuron_is_zeroing_its_column_of_the_down_projection(variant: str, tmp_path: Path) -> None:
    subject = load_tiny_model(tmp_path, variant, 2)
    tokens = random_tokens(2, 9, 0)
    site, neuron = Site("mlp", 1), 5
    change = UnitChange(Basis(site, subject.info.widths["mlp"]), torch.tensor([neuron]), "zero")
    with subject.edit([change]):
        ablated = subject.logits(tokens)
    with subject.edit([Edit(site, "zero", units=torch.tensor([neuron]))]):
        torch.testing.assert_close(subject.logits(tokens), ablated, atol=0, rtol=0)
    block = subject.model.base_model.h[1].mlp.c_proj if variant == "gpt2" else subject.model.base_model.layers[1].mlp.down_proj
    column = block.weight[neuron] if variant == "gpt2" else block.weight[:, neuron]
    column.zero_()
    torch.testing.assert_close(subject.logits(tokens), ablated, atol=1e-6, rtol=1e-6)


def test_a_unit_that_is_not_there_a_transcoder_and_a_deaf_unit_are_refused() -> None:
    with pytest.raises(AtlasError, match="out of range"):
        UnitChange(BASES["tied"], torch.tensor([N]), "zero")
    tensors = {"encoder": torch.eye(4, 4), "bias": torch.zeros(4), "decoder": torch.ones(4, 6)}
    across = Dictionary(BasisInfo("t", "tiny", SITE, "transcoder", "relu", 4, 4, d_out=6), tensors)
    with pytest.raises(AtlasError, match="transcoder"):
        UnitChange(Basis(SITE, 4, across), torch.tensor([0]), "zero")
    deaf = {"encoder": torch.eye(4), "bias": torch.zeros(4), "decoder": torch.eye(4).roll(1, 0)}
    one = Dictionary(BasisInfo("u", "tiny", SITE, "sae", "relu", 4, 4), deaf)
    with pytest.raises(AtlasError, match="does not read what it writes"):
        UnitChange(Basis(SITE, 4, one), torch.tensor([0]), "minimal").apply(torch.ones(1, 1, 4))
