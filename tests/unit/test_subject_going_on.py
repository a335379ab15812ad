"""Passes that begin above a site, logits at chosen positions, and direct effects, on a tiny model of every architecture."""

from pathlib import Path

import pytest
import torch

from core.errors import AtlasError
from core.subject.edits import Added
from core.units import Site
from tests.models import load_tiny_model, random_tokens, tiny_variants

MODELS = tiny_variants()


@pytest.mark.parametrize("variant", MODELS)
def test_going_on_from_a_residual_stream_gives_the_whole_models_logits(variant: str, tmp_path: Path) -> None:
    subject = load_tiny_model(tmp_path, variant, 3)
    tokens = random_tokens(3, 11, 0)
    whole = subject.logits(tokens)
    for layer in range(subject.info.n_layers):
        residual = subject.capture(tokens, [Site("resid", layer)])[Site("resid", layer)]
        with subject.going_on_from(layer, residual):
            again = subject.logits(torch.zeros_like(tokens))  # the tokens' values no longer matter
        torch.testing.assert_close(again, whole, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(subject.logits(tokens), whole, atol=0, rtol=0)  # nothing is left behind


@pytest.mark.parametrize("variant", MODELS)
def test_logits_at_chosen_positions_are_those_of_the_whole_output(variant: str, tmp_path: Path) -> None:
    subject = load_tiny_model(tmp_path, variant, 3)
    tokens = random_tokens(3, 9, 0)
    at = torch.tensor([[8, 0], [3, 4], [5, 5]])
    chosen = subject.logits(tokens, at)
    torch.testing.assert_close(chosen, subject.logits(tokens)[torch.arange(3)[:, None], at], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("variant", MODELS)
def test_a_gradient_at_the_stream_predicts_a_small_change_of_the_output(variant: str, tmp_path: Path) -> None:
    subject = load_tiny_model(tmp_path, variant, 3)
    tokens = random_tokens(2, 7, 0)
    last = torch.full((2, 1), 6)
    layer = 0
    residual = subject.capture(tokens, [Site("resid", layer)])[Site("resid", layer)].clone()
    direction = torch.randn(residual.shape, generator=torch.Generator().manual_seed(1))

    def total(change: torch.Tensor) -> torch.Tensor:
        with subject.edit([Added(Site("resid", layer), change)]), subject.going_on_from(layer, residual):
            return subject.logits(tokens, last, gradient=True)[..., 5].double().sum()

    change = torch.zeros_like(residual, requires_grad=True)
    (gradient,) = torch.autograd.grad(total(change), change)
    step = 1e-2
    slope = float(total(step * direction) - total(-step * direction)) / (2 * step)
    assert slope == pytest.approx(float((gradient * direction).sum()), rel=0.02, abs=2e-3)


def test_a_change_of_the_last_residual_stream_reaches_the_output_through_norm_and_unembedding_only(tmp_path: Path) -> None:
    subject = load_tiny_model(tmp_path, "llama", 3)
    tokens = random_tokens(2, 5, 0)
    last = Site("resid", subject.info.n_layers - 1)
    change = torch.randn(2, 5, subject.info.d_model)
    stream = subject.capture(tokens, [last])[last] + change
    by_hand = subject.model.lm_head(subject.model.model.norm(stream))
    with subject.edit([Added(last, change)]):
        found = subject.logits(tokens)
    torch.testing.assert_close(found, by_hand, atol=1e-5, rtol=1e-5)


def test_going_on_from_a_layer_that_is_not_there_is_refused(tmp_path: Path) -> None:
    subject = load_tiny_model(tmp_path, "llama", 3)
    with pytest.raises(AtlasError, match="out of range"), subject.going_on_from(9, torch.zeros(1, 1, subject.info.d_model)):
        raise AssertionError("never reached")
