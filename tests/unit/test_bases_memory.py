"""What runs over dictionaries hold: a training no more than it said, alphas share what they can, and a measurement has a bound."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core.bases import losses, reconstruction
from core.bases.dictionary import Dictionary
from core.bases.info import BasisInfo
from core.bases.losses import Predictions
from core.bases.metrics import measure
from core.bases.train_request import Estimate, TrainRequest, estimate
from core.bases.train_run import run_train
from core.subject.info import subject_info
from core.units import Site
from core.workspace import Workspace
from tests.job_text import slice_of
from tests.live_bytes import LiveBytes
from tests.models import D_MODEL, load_tiny_model, make_tiny_model

Place = tuple[Workspace, dict[str, Any]]


class Quiet:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def update(self, done: int, total: int, message: str = "", unit: str = "contexts") -> None:
        pass

    def stage(self, name: str) -> None:
        pass

    def log(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("memory")
    make_tiny_model(folder / "tiny", n_layers=2)
    rng = random.Random(0)
    words = ["the", "cat", "and", "a", "dog", "of", "house", "on", "it", "is", "in", "no", "one", "all", "not", "fight"]
    (folder / "text.txt").write_text("\n\n".join(" ".join(rng.choices(words, k=60)) for _ in range(60)), "utf8")
    params = {
        "corpus": {"source": str(folder / "text.txt"), "contexts": 200, "length": 16},
        "model": str(folder / "tiny"),
        "device": "cpu",
        "tokens": 4000,
        "batch": 64,
        "buffer": 1024,
        "block": 8,
        "evaluations": 1,
        "dead_tokens": 500,
        "checkpoint_seconds": 0,
        "lr": 1e-2,
    }
    workspace = Workspace.open(folder / "ws")
    (workspace.runs / "first").mkdir()
    run_train(workspace, workspace.runs / "first", {**params, "name": "first"}, Quiet())  # what is tried once a process is tried here
    return workspace, params


def trained(place: Place, name: str, **changes: Any) -> tuple[Estimate, int]:
    """What a training said that it would need, and the bytes of tensors that it had at once."""
    workspace, params = place
    request = TrainRequest.from_params({**params, "name": name, **changes})
    folder = workspace.runs / name
    folder.mkdir()
    progress = Quiet()
    with LiveBytes() as held:
        run_train(workspace, folder, request.params(), progress)
    expected = estimate(request, D_MODEL, subject_info(workspace, "tiny"))
    assert any(line.startswith(f"memory: at most {expected.bytes / 1e6:,.0f} MB") for line in progress.lines)
    return expected, held.peak


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "tied", "ratio": 8, "alphas": [1.0]},
        {"kind": "tied", "ratio": 8, "alphas": [0.25, 0.5, 1.0, 2.0, 4.0]},
        {"kind": "tied", "ratio": 8, "alphas": [0.5 * i for i in range(1, 11)], "evaluations": 0},
        {"kind": "tied", "ratio": 2, "batch": 512, "buffer": 8192},
        {"kind": "topk", "ratio": 40, "k": 8},
    ],
    ids=["one alpha", "five alphas", "ten alphas", "a large buffer", "topk"],
)
def test_a_training_holds_no_more_than_it_said_and_not_much_less(place: Place, changes: dict[str, Any], request: Any) -> None:
    expected, peak = trained(place, request.node.callspec.id.replace(" ", "-"), **changes)
    assert peak <= expected.bytes <= 2 * peak


def test_each_further_alpha_costs_its_own_weights_and_moments_and_no_scratch(place: Place) -> None:
    both = [trained(place, f"{many}-alphas", ratio=8, alphas=[float(i + 1) for i in range(many)], evaluations=0) for many in (4, 8)]
    told, held = both[1][0].bytes - both[0][0].bytes, both[1][1] - both[0][1]
    matrix = 8 * D_MODEL * D_MODEL
    assert 4 * 16 * matrix < held <= told  # rows, their two moments, and as the loss sees them
    assert held < 4 * 20 * matrix, "gradients and products are shared"
    assert both[0][0].pass_bytes == both[1][0].pass_bytes


def test_predictions_hold_two_passes_of_logits_and_little_more(monkeypatch: pytest.MonkeyPatch) -> None:
    vocabulary, shape = 20_000, (4, 16)
    monkeypatch.setattr(losses, "WIDENED", 2 * vocabulary)
    generator = torch.Generator().manual_seed(0)
    tokens, counted = torch.randint(0, vocabulary, shape, generator=generator), torch.ones(shape, dtype=torch.bool)
    counted[:, 0] = counted[1, 9:] = False
    with LiveBytes() as held:
        predictions = Predictions(torch.randn(*shape, vocabulary, generator=generator), tokens, counted)
        clean = predictions.clean()
        loss, kl = predictions.edited(torch.randn(*shape, vocabulary, generator=generator), divergence=True)
    assert held.peak <= 2 * 4 * vocabulary * 64 + 5 * 8 * 2 * vocabulary + 10_000
    again = Predictions(torch.zeros(*shape, vocabulary), tokens, counted)
    assert again.clean() == pytest.approx(predictions.tokens * np.log(vocabulary))
    assert clean > again.clean() < loss
    assert kl > 0


def test_measuring_holds_no_more_for_more_contexts_or_dictionaries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = load_tiny_model(tmp_path, "llama", 2)
    piece = slice_of(Workspace.open(tmp_path / "ws"), subject, contexts=192, length=16, bos=True)
    monkeypatch.setattr(losses, "LOGITS", 8 * 16 * subject.info.vocab_size)
    monkeypatch.setattr(losses, "WIDENED", 16 * subject.info.vocab_size)
    monkeypatch.setattr(reconstruction, "CODES", 64 * 4096)
    units = 4096
    rows = torch.randn(units, D_MODEL, generator=torch.Generator().manual_seed(1))
    info = BasisInfo(
        name="a", subject=subject.info.slug, site=Site("resid", 0), family="sae", rule="relu", d_in=D_MODEL, units=units, tied=True
    )
    dictionary = Dictionary(info, {"encoder": rows, "bias": torch.zeros(units)})

    def peak(contexts: int, many: int) -> int:
        with LiveBytes() as held:
            measure(subject, [dictionary] * many, piece, np.arange(contexts), lambda *_: None)
        return held.peak

    few = peak(64, 1)
    assert peak(192, 1) <= 1.01 * few
    assert peak(64, 4) <= few + 4 * 10 * 8 * units  # counts of each unit
    pieces = 16 * reconstruction.CODES
    assert few < pieces + 8 * losses.LOGITS + 40 * losses.WIDENED + 32 * 16 * 100 * D_MODEL
