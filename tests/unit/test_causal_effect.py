"""What changing units does to the output: against a reference that reads one position at a time, and on a planted unit."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from core.bases.basis import Basis
from core.bases.dictionary import Dictionary
from core.bases.info import BasisInfo
from core.causal.ablation_score import divergences, jensen_shannon
from core.causal.effect import Measured, Passes, Read, measure
from core.causal.effect_units import ChosenUnit, changes
from core.errors import AtlasError
from core.subject.edits import Added
from core.subject.subject import Subject
from core.units import Site, UnitName
from tests.models import D_MODEL, load_tiny_model, random_tokens

UNIT, TOKEN = 5, 77
TEXTS = [Read((0, *random_tokens(1, 8, 1)[0].tolist()), 1), Read((0, *random_tokens(1, 5, 2)[0].tolist()), 1)]
"""Of different length, each with a BOS that is not of the text."""


def chosen(subject: Subject, site: Site, index: int = UNIT, *, basis: Basis | None = None, mean: float | None = None) -> ChosenUnit:
    name = UnitName(subject.info.slug, site, "neurons", index)
    return ChosenUnit(name, basis or Basis(site, subject.info.widths[site.kind]), None, mean, 0.0, "")


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return load_tiny_model(tmp_path_factory.mktemp("effect"), "llama", 3)


def _with_last_stream(subject: Subject, tokens: Tensor, change: Tensor) -> Tensor:
    """The logits if `change` is added to the residual stream after the last block."""
    with subject.edit([Added(Site("resid", subject.info.n_layers - 1), change)]):
        return subject.logits(tokens)


@contextmanager
def without(subject: Subject, layer: int, unit: int) -> Generator[None]:
    """The slow way: the neuron's column of the down-projection is zero."""
    column = subject.model.model.layers[layer].mlp.down_proj.weight[:, unit]
    before = column.clone()
    with torch.no_grad():
        column.zero_()
        yield
        column.copy_(before)


def log_p(subject: Subject, tokens: list[int], direct: Tensor | None = None) -> npt.NDArray[np.float64]:
    """log p of the token after a text, from a pass of its own. direct: what is added to the stream before the final norm, at the end."""

    def added(_: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        changed = inputs[0].clone()
        changed[0, -1] += direct
        return (changed, *inputs[1:])

    handle = None if direct is None else subject.model.model.norm.register_forward_pre_hook(added)
    with torch.no_grad():
        logits = subject.model(torch.tensor([tokens])).logits[0, -1].double().numpy()
    if handle is not None:
        handle.remove()
    return logits - np.log(np.exp(logits - logits.max()).sum()) - logits.max()


def test_every_number_is_that_of_a_reference_that_reads_one_position_at_a_time(llama: Subject) -> None:
    layer = 1
    found = measure(llama, [chosen(llama, Site("mlp", layer))], "zero", TEXTS, None, 4)
    column = llama.model.model.layers[layer].mlp.down_proj.weight[:, UNIT].detach().clone()
    row = 0
    total, direct = (np.zeros(llama.info.vocab_size) for _ in range(2))
    for place, text in enumerate(TEXTS):
        for position in range(len(text.tokens) - 1):
            tokens = list(text.tokens[: position + 2])  # with the BOS, up to and with this token
            activation = float(llama.capture(torch.tensor([tokens]), [Site("mlp", layer)])[Site("mlp", layer)][0, -1, UNIT])
            p = log_p(llama, tokens)
            q = _without_but_at_bos(llama, layer, tokens)
            assert [int(found.text[row]), int(found.position[row]), int(found.token[row])] == [place, position, tokens[-1]]
            assert float(found.activations[row, 0]) == pytest.approx(activation, abs=1e-5)
            assert bool(found.fires[row]) == (activation > 0)
            assert float(found.kl[row]) == pytest.approx(float((np.exp(p) * (p - q)).sum()), abs=1e-5)
            rest = text.tokens[position + 2 :]
            assert int(found.following[row]) == (rest[0] if rest else -1)
            if rest:
                assert float(found.log_p[row]) == pytest.approx(p[rest[0]], abs=1e-5)
                assert float(found.change[row]) == pytest.approx(q[rest[0]] - p[rest[0]], abs=1e-5)
            else:
                assert np.isnan(found.change[row])
                assert np.isnan(found.log_p[row])
            for listed, order in ((found.raised, q - p), (found.lowered, p - q), (found.before, p), (found.after, q)):
                ids = listed[row, 0].int().numpy()
                np.testing.assert_allclose(np.sort(order)[::-1][:4], order[ids], atol=1e-5)
                np.testing.assert_allclose(listed[row, 1:].numpy(), [p[ids], q[ids]], atol=1e-5)
            if activation > 0:
                total += q - p
                direct += log_p(llama, tokens, -activation * column) - p
            row += 1
    assert row == len(found.kl) == 13
    assert 0 < int(found.fires.sum()) < row
    np.testing.assert_allclose(found.total.numpy(), total, atol=1e-5 * row)
    np.testing.assert_allclose(found.direct.numpy(), direct, atol=1e-5 * row)


def _without_but_at_bos(subject: Subject, layer: int, tokens: list[int]) -> npt.NDArray[np.float64]:
    """log q of the token after a text in which the neuron is zero on all tokens but the first, which is the BOS."""

    def zeroed(_: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        changed = inputs[0].clone()
        changed[0, 1:, UNIT] = 0
        return (changed, *inputs[1:])

    handle = subject.model.model.layers[layer].mlp.down_proj.register_forward_pre_hook(zeroed)
    try:
        return log_p(subject, tokens)
    finally:
        handle.remove()


def test_zeroing_a_neuron_equals_zeroing_its_column_of_the_down_projection(llama: Subject) -> None:
    texts = [Read(text.tokens, 0) for text in TEXTS]
    found = measure(llama, [chosen(llama, Site("mlp", 1))], "zero", texts, None, 3)
    rows = [(text, end) for text in texts for end in range(len(text.tokens))]
    before = [log_p(llama, list(text.tokens[: end + 1])) for text, end in rows]
    with without(llama, 1, UNIT):
        after = [log_p(llama, list(text.tokens[: end + 1])) for text, end in rows]
    kl = [float((np.exp(p) * (p - q)).sum()) for p, q in zip(before, after, strict=True)]
    assert max(kl) > 1e-4
    np.testing.assert_allclose(found.kl.numpy(), kl, atol=1e-5)


@pytest.mark.parametrize("variant", ["gpt2", "gemma2", "falcon", "opt-350m"])
@pytest.mark.parametrize("kind", ["mlp", "attn", "resid"])
def test_what_lies_below_the_change_is_spared_and_nothing_differs(variant: str, kind: str, tmp_path: Path) -> None:
    """The pass that goes on from kept residuals is the whole one; the direct effect is that of adding to the last stream."""
    subject = load_tiny_model(tmp_path, variant, 3)
    site = Site(kind, 1)  # type: ignore[arg-type]
    texts = [Read(text.tokens[1:], 0) for text in TEXTS]
    passes = Passes(subject, texts, [site])
    unit = int(passes.at(site)[passes.ours].abs().sum(0).argmax())  # of some models most are silent
    edits = changes([chosen(subject, site, unit)], "zero")
    with subject.edit(edits):
        whole = subject.logits(passes.tokens).log_softmax(-1)
        stream = subject.capture(passes.tokens, [Site("resid", 1)])[Site("resid", 1)]
    moved = stream - passes.at(Site("resid", 1))
    assert float((whole - passes.original)[passes.ours].abs().max()) > 1e-3
    torch.testing.assert_close(passes.changed(edits)[passes.ours], whole[passes.ours], atol=1e-5, rtol=0)
    if kind == "attn":
        moved = -passes.at(site)[..., unit : unit + 1] * subject.write_directions(site)[unit]
    direct = _with_last_stream(subject, passes.tokens, moved).log_softmax(-1)
    torch.testing.assert_close(passes.direct(edits, passes.ours), direct[passes.ours], atol=1e-5, rtol=0)


def test_ablating_twice_is_ablating_once(llama: Subject) -> None:
    for rule in ("zero", "minimal"):
        unit = chosen(llama, Site("resid", 0), 2, basis=_dictionary())
        passes = Passes(llama, TEXTS, [unit.name.site])
        edits = changes([unit], rule, passes.ours)  # type: ignore[arg-type]
        once = passes.changed(edits)
        assert float((once - passes.original).abs().max()) > 1e-3
        torch.testing.assert_close(passes.changed([*edits, *edits]), once, atol=1e-5, rtol=0)


def _dictionary() -> Basis:
    """Tied and orthonormal, so that what one unit adds is nothing to the others."""
    rows = torch.linalg.qr(torch.randn(D_MODEL, D_MODEL, generator=torch.Generator().manual_seed(0))).Q
    info = BasisInfo("d", "tiny", Site("resid", 0), "sae", "relu", D_MODEL, D_MODEL, tied=True)
    return Basis(Site("resid", 0), D_MODEL, Dictionary(info, {"encoder": rows.contiguous(), "bias": torch.zeros(D_MODEL)}))


def test_a_unit_of_the_last_stream_has_no_other_effect_than_the_direct_one(llama: Subject) -> None:
    site = Site("resid", 2)
    found = measure(llama, [chosen(llama, site, 3)], "zero", TEXTS, None, 3)
    assert float(found.total.abs().max()) > 1e-2
    torch.testing.assert_close(found.total, found.direct, atol=1e-5, rtol=0)


def test_chosen_positions_are_the_only_ones_changed_and_what_stands_before_hears_nothing(llama: Subject) -> None:
    unit = chosen(llama, Site("mlp", 0))
    everywhere = measure(llama, [unit], "zero", TEXTS, None, 3)
    some = measure(llama, [unit], "zero", TEXTS, [2], 3)
    first, second = some.position < 2, some.position == 2
    assert some.kl[first].tolist() == [0.0] * 4
    assert (some.kl[second] > 1e-6).all()
    assert bool((some.kl != everywhere.kl).any())
    assert not bool(some.fires[~second].any())
    assert int(some.fires.sum()) == int((some.activations[second] > 0).sum())


def test_nothing_that_is_unchanged_has_a_negative_zero_for_its_effect(llama: Subject) -> None:
    some = measure(llama, [chosen(llama, Site("mlp", 0))], "zero", TEXTS, [2], 3)
    assert not bool(torch.signbit(some.kl).any())


def test_an_output_that_is_no_number_any_more_is_a_sentence(llama: Subject) -> None:
    site = Site("resid", 0)
    tensors = {"encoder": torch.eye(2, D_MODEL), "bias": torch.full((2,), 10.0), "decoder": torch.full((2, D_MODEL), 3e38)}
    huge = Basis(site, 2, Dictionary(BasisInfo("huge", "tiny", site, "sae", "relu", D_MODEL, 2), tensors))
    with pytest.raises(AtlasError, match="not a number any more"):
        measure(llama, [chosen(llama, site, 0, basis=huge)], "zero", TEXTS, None, 3)


def test_units_at_two_sites_are_ablated_together_and_their_direct_effects_add_up_in_the_stream(llama: Subject) -> None:
    low, high = chosen(llama, Site("mlp", 0)), chosen(llama, Site("resid", 1), 7)
    passes = Passes(llama, TEXTS, [low.name.site, high.name.site])
    edits = changes([high, low], "zero")
    assert [edit.site for edit in edits] == [low.name.site, high.name.site]
    with llama.edit(edits):
        torch.testing.assert_close(passes.changed(edits), llama.logits(passes.tokens).log_softmax(-1), atol=1e-5, rtol=0)
    column = llama.model.model.layers[0].mlp.down_proj.weight[:, UNIT].detach()
    moved = -passes.at(low.name.site)[..., UNIT : UNIT + 1] * column
    moved[..., 7] -= passes.at(high.name.site)[..., 7]
    expected = _with_last_stream(llama, passes.tokens, moved).log_softmax(-1)
    torch.testing.assert_close(passes.direct(edits, passes.ours), expected[passes.ours], atol=1e-5, rtol=0)


class TestPlanted:
    """A unit of mlp.0 writes the unembedding direction of one token, which no other part of the model reads or writes."""

    @pytest.fixture
    def subject(self, tmp_path: Path) -> Subject:
        subject = load_tiny_model(tmp_path, "llama", 2)
        model = subject.model.model
        axis = torch.zeros(D_MODEL)
        axis[0] = 1.0
        with torch.no_grad():
            model.norm.weight.fill_(1.0)
            for block in model.layers:
                for norm in (block.input_layernorm, block.post_attention_layernorm):
                    norm.weight.fill_(1.0)
                attention, mlp = block.self_attn, block.mlp
                for reads in (attention.q_proj, attention.k_proj, attention.v_proj, mlp.gate_proj, mlp.up_proj):
                    reads.weight[:, 0] = 0
                for writes in (attention.o_proj, mlp.down_proj):
                    writes.weight[0] = 0
            model.embed_tokens.weight[:, 0] = 0
            subject.model.lm_head.weight[:, 0] = 0
            subject.model.lm_head.weight[TOKEN] = 4 * axis
            model.layers[0].mlp.down_proj.weight[:, UNIT] = axis
            # Nothing else changes with the unit: the last block adds nothing.
            model.layers[1].self_attn.o_proj.weight.zero_()
            model.layers[1].mlp.down_proj.weight.zero_()
        return subject

    def effect(self, subject: Subject) -> Measured:
        found = measure(subject, [chosen(subject, Site("mlp", 0))], "zero", TEXTS, None, 3)
        assert int(found.fires.sum()) >= 3
        return found

    def test_that_token_and_only_that_is_lowered_and_directly_as_much_as_in_all(self, subject: Subject) -> None:
        found = self.effect(subject)
        mean = found.total / found.fires.sum()
        assert int(mean.argmin()) == TOKEN
        others = torch.cat([mean[:TOKEN], mean[TOKEN + 1 :]])
        assert float(mean[TOKEN]) < -0.1
        assert float(others.abs().max()) < 0.2 * abs(float(mean[TOKEN]))
        torch.testing.assert_close(found.direct, found.total, atol=1e-5, rtol=0)
        strongest = int(found.activations[:, 0].argmax())
        assert int(found.lowered[strongest, 0, 0]) == TOKEN

    def test_a_later_unit_that_cancels_it_leaves_the_direct_effect_and_takes_the_total_one(self, subject: Subject) -> None:
        plain = self.effect(subject)
        firing = int(plain.activations[:, 0].argmax())
        place = int(plain.position[firing]) + 1
        text = TEXTS[int(plain.text[firing])]
        mlp = subject.model.model.layers[1].mlp
        with torch.no_grad():
            mlp.gate_proj.weight[9].zero_()
            mlp.up_proj.weight[9].zero_()
            mlp.gate_proj.weight[9, 0] = mlp.up_proj.weight[9, 0] = 4.0
            site = Site("mlp", 1)
            reads = float(subject.capture(torch.tensor([text.tokens]), [site])[site][0, place, 9])
            assert reads > 0
            mlp.down_proj.weight[0, 9] = -float(plain.activations[firing, 0]) / reads
        found = measure(subject, [chosen(subject, Site("mlp", 0))], "zero", [text], [place - 1], 3)
        total, direct = float(found.total[TOKEN]), float(found.direct[TOKEN])
        assert direct < -0.1
        assert abs(total) < 0.05 * abs(direct)


def test_a_simulation_that_is_right_diverges_by_nothing_and_one_that_is_the_mean_as_much_as_the_mean(llama: Subject) -> None:
    unit = chosen(llama, Site("mlp", 1), mean=0.4)
    true = [row.double().numpy() for row in _activations(llama)]
    right, mean = divergences(llama, unit, TEXTS, true)
    assert len(mean) == 13
    assert float(mean.max()) > 1e-4
    np.testing.assert_allclose(right, 0, atol=1e-6)
    again, mean = divergences(llama, unit, TEXTS, [np.full(len(row), 0.4) for row in true])
    np.testing.assert_allclose(again, mean, atol=1e-9)


def _activations(subject: Subject) -> list[Tensor]:
    found = measure(subject, [chosen(subject, Site("mlp", 1))], "zero", TEXTS, None, 1)
    return [found.activations[found.text == place, 0] for place in range(len(TEXTS))]


def test_divergence_is_the_mean_of_two_kl_to_the_middle() -> None:
    p, q = (torch.randn(6, 11, generator=torch.Generator().manual_seed(seed)).log_softmax(-1) for seed in (1, 2))
    middle = (p.exp() + q.exp()).log() - np.log(2)
    slow = ((p.exp() * (p - middle)).sum(-1) + (q.exp() * (q - middle)).sum(-1)) / 2
    torch.testing.assert_close(jensen_shannon(p, q).float(), slow, atol=1e-6, rtol=0)
    apart = torch.tensor([[0.0, -200.0]]), torch.tensor([[-200.0, 0.0]])
    assert float(jensen_shannon(*apart)) == pytest.approx(np.log(2))
