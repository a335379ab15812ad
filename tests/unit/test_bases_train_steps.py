"""One step of training: losses, codes and gradients against plain autograd in float64, both ways to compute, both conventions of alpha."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from core.bases import kernels, passes
from core.bases.adam import Adam
from core.bases.dictionary import keep_largest
from core.bases.passes import ActivePass, Pass, dense_pass
from core.bases.tied import Tied
from core.bases.topk import TopK

D, UNITS, TOKENS, K = 48, 160, 200, 12
NOBODY = torch.empty(0, dtype=torch.int64)


def _x(seed: int = 0) -> Tensor:
    return 3 * torch.randn(TOKENS, D, generator=torch.Generator().manual_seed(seed)) + 0.5


def _near(found: Tensor, wanted: Tensor, error: float = 1e-6) -> None:
    assert float((found.double() - wanted).norm() / wanted.norm()) < error


def _tied_reference(tied: Tied, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Loss, codes, and gradients of M and b: c = ReLU(M̂x + b), x̂ = M̂ᵀc, mean ‖x − x̂‖² + α mean ‖c‖₁."""
    rows = tied.rows.value.detach().double().clone().requires_grad_()
    bias = tied.bias.value.double().clone().requires_grad_()
    unit = rows / rows.norm(dim=-1, keepdim=True)
    codes = torch.relu(x.double() @ unit.T + bias)
    loss = (codes @ unit - x.double()).square().sum(-1).mean() + tied.alpha * codes.abs().sum(-1).mean()
    to_rows, to_bias = torch.autograd.grad(loss, [rows, bias])
    return loss.detach(), codes.detach(), to_rows, to_bias


def _through_norm(tied: Tied, found: Pass) -> Tensor:
    unit = tied.rows.unit.double()
    gradient = found.encoder.double()
    return (gradient - (gradient * unit).sum(-1, keepdim=True) * unit) / tied.rows.value.double().norm(dim=-1, keepdim=True)


@pytest.mark.parametrize("how", ["dense", "active", "screened"])
@pytest.mark.parametrize("bias", [0.0, -4.0])
def test_the_tied_loss_and_gradients_are_those_of_autograd(how: str, bias: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "DENSE_SHARE", 1.0)
    tied = Tied(D, UNITS, 0.7, 0, None if how == "dense" else ActivePass(how == "screened"))
    tied.bias.value.uniform_(bias - 0.5, bias + 0.5, generator=torch.Generator().manual_seed(1))
    x = _x()
    loss, codes, to_rows, to_bias = _tied_reference(tied, x)
    found = tied.look(x)
    assert abs(tied.loss(found) / float(loss) - 1) < 1e-6
    assert found.l0 == float((codes > 0).sum()) / TOKENS
    assert torch.equal(found.fired, (codes > 0).sum(0))
    assert abs(found.l1 / float(codes.sum() / TOKENS) - 1) < 1e-6
    _near(_through_norm(tied, found), to_rows)
    _near(found.bias, to_bias)


def _topk_reference(topk: TopK, x: Tensor, dead: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Loss with the auxiliary term, and gradients of E, D, b and b_dec."""
    held = [topk.encoder.value, topk.decoder.value, topk.bias.value, topk.decoder_bias.value]
    encoder, decoder, bias, decoder_bias = parameters = [one.detach().double().clone().requires_grad_() for one in held]
    before = torch.relu((x.double() - decoder_bias) @ encoder.T + bias)
    codes = keep_largest(before, topk.k)
    error = x.double() - codes @ decoder - decoder_bias
    loss = error.square().sum(-1).mean()
    if len(dead):
        aid = keep_largest(before[:, dead], min(topk.k_aux, len(dead)))
        missed = error.detach() - aid @ decoder[dead]
        loss = loss + topk.coefficient * min(1, len(dead) / topk.k_aux) * missed.square().sum(-1).mean()
    return loss.detach(), list(torch.autograd.grad(loss, parameters))


@pytest.mark.parametrize("how", ["dense", "active", "screened"])
@pytest.mark.parametrize("dead", [0, 9, 40])
def test_the_topk_loss_and_gradients_are_those_of_autograd_with_dead_units_too(how: str, dead: int) -> None:
    x = _x()
    topk = TopK(D, UNITS, K, 20, 1 / 32, 0, None if how == "dense" else ActivePass(how == "screened"), x.mean(0))
    generator = torch.Generator().manual_seed(2)
    topk.encoder.value += 0.1 * torch.randn(UNITS, D, generator=generator)
    topk.bias.value.uniform_(-0.5, 0.5, generator=generator)
    topk._changed()
    chosen = torch.randperm(UNITS, generator=generator)[:dead].sort().values
    loss, wanted = _topk_reference(topk, x, chosen)
    found, to_decoder_bias = topk.gradients(x, chosen)
    if not dead:
        assert abs(topk.loss(found) / float(loss) - 1) < 1e-6
    assert found.decoder is not None
    for gradient, reference in zip((found.encoder, found.decoder, found.bias, to_decoder_bias), wanted, strict=True):
        _near(gradient, reference)
    assert found.l0 == K


def test_codes_that_are_tied_at_the_cut_are_kept_k_to_a_token() -> None:
    x = torch.ones(5, D)
    topk = TopK(D, UNITS, K, 20, 0, 0, ActivePass(False), torch.zeros(D))
    topk.encoder.value[:] = 0.25
    topk.decoder.value[:] = topk.decoder.value[0]
    assert topk.look(x).l0 == K


def test_fewer_positive_codes_than_k_are_all_kept_and_no_more() -> None:
    x = _x()
    topk = TopK(D, UNITS, K, 20, 0, 0, ActivePass(True), x.mean(0))
    topk.bias.value.fill_(-6.0)
    found, wanted = topk.look(x), dense_pass(x - topk.decoder_bias.value, topk.encoder.value, topk.decoder.value, topk.bias.value, 0.0, K)
    assert found.l0 == wanted.l0 < K


def test_a_bfloat16_screen_never_loses_an_active_unit() -> None:
    """Products that round to the wrong side of zero are let through and computed again."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(400, D, generator=generator) * 10 ** torch.empty(400, 1).uniform_(-3, 3, generator=generator)
    tied = Tied(D, UNITS, 0.1, 0, ActivePass(True))
    tied.bias.value.copy_(-x[:UNITS].norm(dim=-1) * 0.05)
    exact = torch.relu(x.double() @ tied.rows.unit.double().T + tied.bias.value.double())
    rounded = torch.relu((x.bfloat16() @ tied.rows.unit.bfloat16().T).double() + tied.bias.value.double())
    assert int(((rounded > 0) != (exact > 0)).sum()) > 20  # so there is something to lose
    passes_share, passes.DENSE_SHARE = passes.DENSE_SHARE, 1.0
    try:
        found = tied.look(x)
    finally:
        passes.DENSE_SHARE = passes_share
    # What float32 itself cannot tell from zero may fall either way.
    sure = exact > 1e-6 * x.double().norm(dim=-1, keepdim=True)
    assert bool((found.fired >= sure.sum(0)).all())
    assert int(found.fired.sum()) <= int((exact > -1e-6 * x.double().norm(dim=-1, keepdim=True)).sum())


@pytest.mark.parametrize("norm", ["free", "inside", "unit"])
def test_adam_is_torchs_and_keeps_the_norm_as_it_should(norm: Any) -> None:
    generator = torch.Generator().manual_seed(4)
    first = torch.randn(20, D, generator=generator)
    plain, fast = Adam(first.clone(), norm), Adam(first.clone(), norm, ActivePass(False))
    reference = torch.nn.Parameter((plain.value if norm == "unit" else first).double().clone())
    torchs = torch.optim.Adam([reference], lr=1e-2)
    for _ in range(5):
        gradient = torch.randn(20, D, generator=generator)
        unit = reference.data / reference.data.norm(dim=-1, keepdim=True)
        wanted = gradient.double()
        if norm != "free":
            wanted = wanted - (wanted * unit).sum(-1, keepdim=True) * unit
        if norm == "inside":
            wanted = wanted / reference.data.norm(dim=-1, keepdim=True)
        reference.grad = wanted
        torchs.step()
        if norm == "unit":
            reference.data /= reference.data.norm(dim=-1, keepdim=True)
        plain.step(gradient, 1e-2)
        fast.step(gradient, 1e-2)
    for mine in (plain, fast):
        _near(mine.value, reference.data)
        if norm != "free":
            assert torch.allclose(mine.unit.norm(dim=-1), torch.ones(20))


def test_codes_and_training_are_the_same_with_and_without_a_screen() -> None:
    found: list[TopK] = []
    x = _x()
    for screen in (False, True):
        topk = TopK(D, UNITS, K, 20, 1 / 32, 0, ActivePass(screen), x.mean(0))
        topk.encoder.value *= 20  # rows of any norm
        topk._changed()
        for seed in range(4):
            topk.step(_x(seed), 1e-2, NOBODY)
        found.append(topk)
    assert torch.equal(found[0].encoder.value, found[1].encoder.value)
    assert torch.equal(found[0].decoder.value, found[1].decoder.value)


def test_a_tied_dictionary_that_gets_sparse_is_computed_over_active_units(monkeypatch: pytest.MonkeyPatch) -> None:
    dense: list[int] = []
    monkeypatch.setattr(passes, "dense_pass", lambda *given: dense.append(1) or dense_pass(*given))
    tied = Tied(D, UNITS, 0.7, 0, ActivePass(False))
    tied.step(_x(), 1e-3, NOBODY)
    assert len(dense) == 1
    tied.bias.value.fill_(-6)
    tied.step(_x(), 1e-3, NOBODY)  # what the step before saw decides
    tied.step(_x(), 1e-3, NOBODY)
    assert len(dense) == 2
    tied.bias.value.fill_(0)
    tied.step(_x(), 1e-3, NOBODY)  # nobody could know
    assert len(dense) == 3


def test_threads_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every sum is within one token or one unit, so it does not matter who does it."""
    found: list[Tied] = []
    for threads in (1, 2, 5):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        tied = Tied(D, UNITS, 0.7, 0, ActivePass(True))
        tied.bias.value.fill_(-5)
        for seed in range(4):
            tied.step(_x(seed), 1e-2, NOBODY)
        found.append(tied)
    assert all(torch.equal(one.rows.value, found[0].rows.value) and torch.equal(one.bias.value, found[0].bias.value) for one in found)


def test_revived_units_point_at_what_is_missed_and_begin_anew() -> None:
    tied = Tied(D, UNITS, 0.7, 0, ActivePass(False))
    x = _x()
    found = tied.step(x, 1e-2, NOBODY)
    missed = -found.residual / found.residual.norm(dim=-1, keepdim=True)
    some = torch.tensor([3, 70, 159])
    kept = tied.rows.value[4].clone()
    tied.revive(some, x, found, torch.Generator().manual_seed(0))
    assert float((tied.rows.unit[some] @ missed.T).max(dim=-1).values.min()) > 0.9999
    assert not tied.rows.mean[some].any()
    assert not tied.bias.value[some].any()
    assert torch.equal(tied.rows.value[4], kept)


def test_the_kth_largest_is_found_whatever_the_order() -> None:
    generator = np.random.default_rng(0)
    for n, k in ((1, 1), (40, 3), (500, 32), (500, 500)):
        for values in (
            np.sort(generator.normal(size=n)),
            np.sort(generator.normal(size=n))[::-1].copy(),
            generator.integers(0, 4, n) * 1.0,
        ):
            values = values.astype(np.float32)
            assert kernels._kth_largest(values, n, k, np.empty(k, np.float32)) == np.sort(values)[n - k]
