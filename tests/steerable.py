"""A workspace in which a tiny model can be steered: its weights, and an index of made-up activations of its neurons."""

import json
import shutil
from pathlib import Path

from core.subject.load import load_subject
from core.subject.subject import Subject
from core.workspace import Workspace, write_json
from tests.models import MLP_WIDTH, make_tiny_model
from tests.synthetic import write_synthetic_index

LAYERS = 2
SLUG = "tiny"


def steerable(folder: Path) -> tuple[Workspace, Subject]:
    """The index is called index-test; strengths are measured by the maxima that it made up."""
    make_tiny_model(folder / SLUG, "llama", LAYERS)
    workspace = Workspace.open(folder / "ws")
    subject = load_subject(workspace, str(folder / SLUG), device="cpu")
    shutil.copytree(workspace.subjects / SLUG, folder / "kept")
    run = write_synthetic_index(workspace, slug=SLUG, n_layers=LAYERS, width=MLP_WIDTH, contexts=24)
    shutil.copytree(folder / "kept", workspace.subjects / SLUG, dirs_exist_ok=True)
    path = workspace.runs / run / "manifest.json"
    write_json(path, {**json.loads(path.read_text("utf8")), "subject": subject.info.to_json()})
    return workspace, subject
