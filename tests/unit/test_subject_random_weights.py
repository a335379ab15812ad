"""The random-weights control is a model of the same shape with other weights, the same ones every time."""

from pathlib import Path

import torch

from core.subject.load import load_subject
from core.workspace import Workspace
from tests.models import make_tiny_model


def test_random_weights_have_the_models_shape_and_vocabulary_and_none_of_its_weights(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "tiny", "llama")
    workspace = Workspace.open(tmp_path / "ws")
    trained = load_subject(workspace, str(folder))
    untrained = load_subject(workspace, f"random:{folder}")
    assert untrained.info.slug == f"{trained.info.slug}-random"
    assert untrained.info.widths == trained.info.widths
    assert untrained.info.tokenizer_hash == trained.info.tokenizer_hash
    assert untrained.info.weights_hash != trained.info.weights_hash
    again = load_subject(Workspace.open(tmp_path / "other"), f"random:{folder}")
    assert again.info.weights_hash == untrained.info.weights_hash
    by_slug = load_subject(workspace, untrained.info.slug)
    tokens = torch.arange(8)[None]
    assert torch.equal(by_slug.logits(tokens), untrained.logits(tokens))
