"""Interventions do to the model what changing its weights or activations by hand would do."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from core.errors import AtlasError
from core.subject.architectures import ARCHITECTURES
from core.subject.edits import Edit
from core.subject.load import load_subject
from core.subject.subject import Subject
from core.units import SITE_KINDS, Site, SiteKind
from core.workspace import Workspace
from tests.models import load_tiny_model, make_tiny_model, random_tokens

VARIANTS = ["gpt2", "opt", "bloom", "gemma2", "falcon", "llama"]  # Conv1D, flattened, residual inside, post-norm, tuple, plain


@pytest.fixture(scope="module", params=VARIANTS)
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return load_tiny_model(tmp_path_factory.mktemp("subject"), request.param, 3)


@pytest.fixture
def tokens() -> Tensor:
    return random_tokens(2, 12, seed=6)


def write_matrix(subject: Subject, site: Site) -> Tensor:
    """The stored matrix as [in, out], sharing the model's memory."""
    row = ARCHITECTURES[subject.info.architecture]
    block = subject.model.get_submodule(f"{row.blocks}.{site.layer}")
    module = block.get_submodule(row.mlp_write if site.kind == "mlp" else row.attn_write)
    return module.weight.data if type(module).__name__ == "Conv1D" else module.weight.data.T


@pytest.mark.parametrize("site", [Site("mlp", 1), Site("attn", 2)], ids=str)
def test_zeroing_a_unit_is_zeroing_its_column_of_the_projection(subject: Subject, tokens: Tensor, site: Site) -> None:
    plain = subject.logits(tokens)
    with subject.edit([Edit(site, "zero", units=torch.tensor([3, 7]))]):
        edited = subject.logits(tokens)
    matrix = write_matrix(subject, site)
    saved = matrix[[3, 7]].clone()
    matrix[[3, 7]] = 0
    by_hand = subject.logits(tokens)
    matrix[[3, 7]] = saved
    torch.testing.assert_close(edited, by_hand, rtol=1e-5, atol=1e-5)
    assert (edited - plain).abs().max() > 1e-3
    assert torch.equal(subject.logits(tokens), plain)  # the context is closed: nothing is left of it


@pytest.mark.parametrize("kind", SITE_KINDS)
def test_an_edited_site_is_captured_as_edited(subject: Subject, tokens: Tensor, kind: SiteKind) -> None:
    site = Site(kind, 1)
    before = subject.capture(tokens, [site])[site]
    positions, units = torch.tensor([2, 5, 11]), torch.tensor([0, 9])
    value = torch.arange(6.0).reshape(3, 2)
    with subject.edit([Edit(site, "add", value, units, positions)]):
        added = subject.capture(tokens, [site])[site]
    with subject.edit([Edit(site, "replace", value, units, positions)]):
        replaced = subject.capture(tokens, [site])[site]
    expected = before.clone()
    expected[:, positions[:, None], units] += value
    torch.testing.assert_close(added, expected, rtol=1e-6, atol=1e-6)
    expected[:, positions[:, None], units] = value.expand(2, 3, 2)
    assert torch.equal(replaced, expected)


def test_putting_back_what_was_there_changes_nothing(subject: Subject, tokens: Tensor) -> None:
    sites = [Site(kind, layer) for kind in SITE_KINDS for layer in range(3)]
    plain = subject.logits(tokens)
    with subject.edit([Edit(site, "replace", value) for site, value in subject.capture(tokens, sites).items()]):
        torch.testing.assert_close(subject.logits(tokens), plain, rtol=1e-5, atol=1e-5)


def test_a_patched_stream_carries_the_other_text(subject: Subject, tokens: Tensor) -> None:
    site = Site("resid", 0)
    other = tokens.flip(0)
    stream = subject.capture(other, [site])[site]
    with subject.edit([Edit(site, "replace", stream)]):
        patched = subject.logits(tokens)
    torch.testing.assert_close(patched, subject.logits(other), rtol=1e-5, atol=1e-5)


def test_an_edit_acts_only_from_its_position_on(subject: Subject, tokens: Tensor) -> None:
    plain = subject.logits(tokens)
    with subject.edit([Edit(Site("mlp", 0), "add", torch.tensor(3.0), positions=torch.tensor([6]))]):
        edited = subject.logits(tokens)
    torch.testing.assert_close(edited[:, :6], plain[:, :6], rtol=1e-5, atol=1e-5)
    assert (edited[:, 6] - plain[:, 6]).abs().max() > 1e-3


def test_edits_act_in_their_order(subject: Subject, tokens: Tensor) -> None:
    site = Site("mlp", 1)
    with subject.edit([Edit(site, "replace", torch.tensor(2.0)), Edit(site, "add", torch.tensor(1.0))]):
        assert torch.equal(subject.capture(tokens, [site])[site], torch.full((2, 12, subject.info.widths["mlp"]), 3.0))


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (Edit(Site("mlp", 0), "zero", units=torch.tensor([100_000])), "Unit 100000 is out of range"),
        (Edit(Site("mlp", 0), "zero", positions=torch.tensor([0, -1])), "Position -1 is out of range"),
        (Edit(Site("resid", 0), "add", torch.zeros(5)), "does not fit"),
        (Edit(Site("resid", 9), "zero"), r"resid\.9 is out of range"),
    ],
)
def test_an_edit_that_does_not_fit_is_refused(subject: Subject, tokens: Tensor, edit: Edit, sentence: str) -> None:
    with pytest.raises(AtlasError, match=sentence), subject.edit([edit]):
        subject.logits(tokens)


def test_an_edit_without_its_value_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="needs a value"):
        Edit(Site("mlp", 0), "add")


def test_bfloat16_takes_float32_values(tmp_path: Path, workspace: Workspace, tokens: Tensor) -> None:
    subject = load_subject(workspace, str(make_tiny_model(tmp_path / "tiny")), dtype="bfloat16", device="cpu")
    with subject.edit([Edit(Site("mlp", 0), "replace", torch.tensor(1.5))]):
        found = subject.capture(tokens, [Site("mlp", 0)])[Site("mlp", 0)]
    assert found.dtype == torch.bfloat16
    assert (found == 1.5).all()
