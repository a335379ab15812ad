"""What a site follows from: the activations of some units, made from the kept input of their site alone."""

from pathlib import Path

import pytest
import torch

from core.subject.site_input import input_of, reader_of
from core.units import Site
from tests.models import load_tiny_model, random_tokens, tiny_variants

UNITS = (3, 0, 7)
ALONE = {"opt", "bloom"}
"""Families whose down-projection stands in the block itself, or whose MLP takes the residual stream along."""


@pytest.mark.parametrize("variant", tiny_variants())
def test_activations_follow_from_the_input_of_their_site(variant: str, tmp_path: Path) -> None:
    subject = load_tiny_model(tmp_path, variant, 2)
    tokens = random_tokens(3, 9, seed=5)
    for site in (Site("mlp", 1), Site("attn", 0), Site("resid", 1)):
        given = input_of(subject, site)
        assert given.of == ("mlp" if site.kind == "mlp" and subject.model.config.model_type not in ALONE else "site")
        kept: list[torch.Tensor] = []
        with given.watched(subject, lambda stands, kept=kept: kept.append(stands.clone())):
            true = subject.capture(tokens, [site])[site]
        stands = kept[0].reshape(-1, kept[0].shape[-1])
        assert stands.shape == (3 * 9, given.width)
        flat = true.reshape(-1, true.shape[-1])
        torch.testing.assert_close(reader_of(subject, given)(stands), flat, rtol=0, atol=1e-5 * float(flat.abs().max()))
        torch.testing.assert_close(
            reader_of(subject, given, UNITS)(stands), flat[:, list(UNITS)], rtol=0, atol=1e-5 * float(flat.abs().max())
        )


def test_the_activations_themselves_are_kept_of_an_mlp_that_looks_at_other_tokens(tmp_path: Path) -> None:
    subject = load_tiny_model(tmp_path, "llama", 2)
    mlp, _ = subject.mlp_at(Site("mlp", 1)) or (None, None)
    assert mlp is not None
    own = mlp.forward
    mlp.forward = lambda stands: own(stands + 0.1 * stands.roll(1, dims=1))
    assert input_of(subject, Site("mlp", 1)).of == "site"
    assert input_of(subject, Site("mlp", 0)).of == "mlp"


def test_of_an_mlp_only_the_rows_of_the_units_asked_for_are_computed(tmp_path: Path) -> None:
    for variant in ("llama", "gpt2"):
        subject = load_tiny_model(tmp_path, variant, 2)
        given = input_of(subject, Site("mlp", 1))
        widths: list[int] = []
        reader = reader_of(subject, given, UNITS)

        def note(_: object, __: object, output: torch.Tensor, widths: list[int] = widths) -> None:
            widths.append(output.shape[-1])

        handle = torch.nn.modules.module.register_module_forward_hook(note)
        try:
            reader(torch.zeros(4, given.width))
        finally:
            handle.remove()
        assert set(widths) == {len(UNITS)}
