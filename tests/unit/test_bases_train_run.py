"""A training run: the same weights however often it is killed, what stops it, what it leaves on the shelf, and how much it holds."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from core.bases import checkpoint, train_run
from core.bases.curves import load_curves
from core.bases.dictionary import load
from core.bases.prepare import load_job
from core.bases.shelf import find
from core.bases.stream import Stream
from core.bases.tied import Tied
from core.bases.train_request import TrainRequest
from core.bases.train_run import run_train, source_of
from core.errors import AtlasError
from core.runs.progress import Cancelled
from core.runs.registry import Registry
from core.subject.subject import Subject
from core.units import Site
from core.workspace import Workspace
from tests.models import D_MODEL, HEADS, make_tiny_model

ROOT = Path(__file__).parents[2]
SLUG = "tiny-llama"
Place = tuple[Workspace, dict[str, Any]]


class Quiet:
    """Progress that keeps what it is told, and cancels when it has been told so often."""

    def __init__(self, cancel_after: int | None = None) -> None:
        self.lines: list[str] = []
        self.most = 0
        self._left = cancel_after

    def update(self, done: int, total: int, message: str = "", unit: str = "contexts") -> None:
        if unit == "vectors" and done:
            self.most = max(self.most, done)
            if self._left is not None:
                self._left -= 1
                if self._left < 0:
                    raise Cancelled

    def stage(self, name: str) -> None:
        self.lines.append(name)

    def log(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A workspace, and the parameters of a run over a tiny model and a text of its own."""
    folder = tmp_path_factory.mktemp("train")
    make_tiny_model(folder / SLUG, n_layers=2)
    rng = random.Random(0)
    words = ["the", "cat", "and", "a", "dog", "of", "house", "on", "it", "is", "in", "re", "water", "no", "one", "all", "not", "fight"]
    (folder / "text").mkdir()
    for number in range(24):
        (folder / "text" / f"{number:02d}.txt").write_text(" ".join(rng.choices(words, k=160)), "utf8")
    params = {
        "corpus": {"source": str(folder / "text"), "contexts": 400, "length": 16},
        "model": str(folder / SLUG),
        "device": "cpu",
        "site": "resid.0",
        "tokens": 24_000,
        "batch": 128,
        "buffer": 1024,
        "block": 8,
        "evaluations": 2,
        "dead_tokens": 2000,
    }
    return Workspace.open(folder / "ws"), params


def _folder(workspace: Workspace, name: str) -> Path:
    folder = workspace.runs / name
    folder.mkdir()
    return folder


def _weights(workspace: Workspace, name: str, site: str = "resid.0") -> dict[str, torch.Tensor]:
    return load_file(find(workspace, SLUG, Site.parse(site), name).weights)


def _same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


TIED = {"kind": "tied", "alphas": [0.5, 2.0], "revive": True, "ratio": 4}
TOPK = {"kind": "topk", "k": 6, "k_aux": 12, "ratio": 6}


@pytest.mark.parametrize(("kind", "times"), [(TIED, 2), (TOPK, 1)], ids=["tied", "topk"])
def test_a_killed_run_ends_with_the_weights_and_curves_of_an_uncut_one(place: Place, kind: dict[str, Any], times: int) -> None:
    workspace, params = place
    base = str(kind["kind"])
    uncut = {**params, **kind, "name": f"uncut-{base}"}
    run_train(workspace, _folder(workspace, f"uncut-{base}"), uncut, Quiet())
    registry = Registry(workspace)
    run = registry.submit("sae", {**uncut, "name": f"killed-{base}", "checkpoint_seconds": 0})
    rng, kills = random.Random(2), 0
    home, log = registry.folder(run.id) / checkpoint.FOLDER, registry.folder(run.id) / "log.txt"
    command = [sys.executable, "-m", "core.runs.worker", "--workspace", str(workspace.path)]
    while kills < times:
        before = max((int(one.name) for one in home.glob("[0-9]*")), default=-1)
        worker = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())})
        deadline = time.monotonic() + 120
        wanted = before + rng.randint(5, 40)
        while worker.poll() is None and time.monotonic() < deadline:
            if max((int(one.name) for one in home.glob("[0-9]*")), default=-1) >= wanted:
                break
            time.sleep(0.002)
        assert worker.poll() is None, log.read_text("utf8")[-2000:]
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        kills += 1
        assert registry.get(run.id).state == "failed"
        registry.resume(run.id, repair=False)
    assert subprocess.run(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}).returncode == 0
    assert registry.get(run.id).state == "done", log.read_text("utf8")[-2000:]
    assert log.read_text("utf8").count("going on after") == times
    names = TrainRequest.from_params(uncut).names()
    for name in names:
        assert _same(_weights(workspace, name), _weights(workspace, name.replace("uncut", "killed")))
    curves = [
        [{key: value for key, value in line.items() if key != "name"} for line in load_curves(workspace.runs / one)]
        for one in (f"uncut-{base}", run.id)
    ]
    assert curves[0] == curves[1]
    assert not home.exists()


def test_a_cancelled_run_goes_on_where_it_was(place: Place) -> None:
    workspace, params = place
    wanted = {**params, **TOPK, "name": "whole"}
    run_train(workspace, _folder(workspace, "whole"), wanted, Quiet())
    folder = _folder(workspace, "stopped")
    reached = 0
    for after in (3, 70, 20):
        progress = Quiet(after)
        with pytest.raises(Cancelled):
            run_train(workspace, folder, {**wanted, "name": "stopped"}, progress)
        assert progress.most >= reached
        reached = progress.most
    run_train(workspace, folder, {**wanted, "name": "stopped"}, Quiet())
    assert _same(_weights(workspace, "whole"), _weights(workspace, "stopped"))


def test_a_checkpoint_from_before_the_first_error_was_kept_goes_on(place: Place) -> None:
    workspace, params = place
    wanted = {**params, "tokens": 6000, "evaluations": 0}
    run_train(workspace, _folder(workspace, "newer"), {**wanted, "name": "newer"}, Quiet())
    folder = _folder(workspace, "older")
    with pytest.raises(Cancelled):
        run_train(workspace, folder, {**wanted, "name": "older"}, Quiet(60))
    saved = checkpoint.load(folder)
    assert saved is not None
    tensors, document = saved
    document = {name: value for name, value in document.items() if name not in ("schema", "tensors")}
    checkpoint.save(folder, tensors, {**document, "members": [[*sums[:3], sums[-1]] for sums in document["members"]]})
    run_train(workspace, folder, {**wanted, "name": "older"}, Quiet())
    assert _same(_weights(workspace, "newer"), _weights(workspace, "older"))


class StopsLooking(Quiet):
    """Progress that cancels the first time that the loss recovered is looked at."""

    def update(self, done: int, total: int, message: str = "", unit: str = "contexts") -> None:
        if message:
            raise Cancelled


def test_a_run_cancelled_while_it_looks_at_the_loss_recovered_has_every_point_of_its_curves(place: Place) -> None:
    workspace, params = place
    wanted = {**params, "evaluations": 1}
    run_train(workspace, _folder(workspace, "looked"), {**wanted, "name": "looked"}, Quiet())
    folder = _folder(workspace, "cut-looking")
    with pytest.raises(Cancelled):
        run_train(workspace, folder, {**wanted, "name": "cut-looking"}, StopsLooking())
    run_train(workspace, folder, {**wanted, "name": "cut-looking"}, Quiet())
    curves = [
        [{key: value for key, value in line.items() if key != "name"} for line in load_curves(workspace.runs / run)]
        for run in ("looked", "cut-looking")
    ]
    assert curves[0] == curves[1]


def test_a_training_does_not_go_on_over_another_text(place: Place) -> None:
    workspace, params = place
    folder = _folder(workspace, "text")
    with pytest.raises(Cancelled):
        run_train(workspace, folder, {**params, "name": "text"}, Quiet(40))
    other = {**params["corpus"], "contexts": params["corpus"]["contexts"] - 8}
    with pytest.raises(AtlasError, match="The text or the model has changed since this training was stopped"):
        run_train(workspace, folder, {**params, "name": "text", "corpus": other}, Quiet())


def test_alphas_beside_the_sum_and_the_mean_give_identical_training_when_converted(place: Place) -> None:
    """α_sum = d · α_mean; the loss in the curves is in the convention that was asked for, by a factor d."""
    workspace, params = place
    short = {**params, "kind": "tied", "tokens": 6000, "evaluations": 0}
    run_train(workspace, _folder(workspace, "sum"), {**short, "name": "sum", "alphas": [1.6], "mse_reduction": "sum"}, Quiet())
    mean = {**short, "name": "mean", "alphas": [1.6 / D_MODEL], "mse_reduction": "mean"}
    run_train(workspace, _folder(workspace, "mean"), mean, Quiet())
    assert _same(_weights(workspace, "sum"), _weights(workspace, "mean"))
    one, other = load_curves(workspace.runs / "sum"), load_curves(workspace.runs / "mean")
    assert [line["loss"] for line in one] == pytest.approx([D_MODEL * line["loss"] for line in other])
    recipe = find(workspace, SLUG, Site.parse("resid.0"), "mean").info.recipe
    assert recipe["alpha_sum"] == pytest.approx(1.6)
    assert recipe["alpha_mean"] == pytest.approx(1.6 / D_MODEL)


def test_several_alphas_side_by_side_are_what_each_is_alone(place: Place) -> None:
    workspace, params = place
    short = {**params, "kind": "tied", "tokens": 6000, "evaluations": 0}
    run_train(workspace, _folder(workspace, "both"), {**short, "name": "both", "alphas": [0.5, 2.0]}, Quiet())
    run_train(workspace, _folder(workspace, "alone"), {**short, "name": "alone", "alphas": [2.0]}, Quiet())
    assert _same(_weights(workspace, "both-a2"), _weights(workspace, "alone"))
    last = {line["name"]: line for line in load_curves(workspace.runs / "both")}
    assert last["both-a0.5"]["l0"] > last["both-a2"]["l0"]


def test_what_is_on_the_shelf_encodes_as_it_was_trained_and_says_how(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace, params = place
    # A random model need not get worse when its site is zeroed; the measure has tests of its own.
    monkeypatch.setattr(train_run, "measure", lambda _subject, made, *_: [{"loss_recovered": 0.5} for _ in made])
    for kind in (TIED | {"alphas": [0.5], "centre": "per_token"}, TOPK):
        name = f"shelf-{kind['kind']}"
        run_train(workspace, _folder(workspace, name), {**params, **kind, "name": name}, Quiet())
        one = find(workspace, SLUG, Site.parse("resid.0"), name)
        line = load_curves(workspace.runs / name)[-1]
        assert line["tokens"] == 24_064
        assert [point["loss_recovered"] for point in load_curves(workspace.runs / name) if point["loss_recovered"]] == [0.5, 0.5]
        assert line["loss_recovered"] == 0.5
        assert one.info.recipe["tokens"] == 24_064
        dictionary = load(one)
        job = load_job(workspace, TrainRequest.from_params({**params, **kind}), Quiet())
        x = source_of(job, TrainRequest.from_params({**params, **kind})).read(job.train)
        codes, written = dictionary.reconstruct(x)
        explained = 1 - float((x - written).square().sum() / (x - x.mean(0)).square().sum())
        assert explained == pytest.approx(line["explained_variance"], abs=0.05)
        assert float((codes > 0).sum(-1).float().mean()) == pytest.approx(line["l0"], rel=0.1)
        assert torch.allclose(dictionary.decoder.norm(dim=-1), torch.ones(dictionary.info.units))
        manifest = json.loads((workspace.runs / name / "manifest.json").read_text("utf8"))
        assert manifest["state"] == "complete"
        assert [found["key"] for found in manifest["dictionaries"]] == [one.info.key]


def _nothing_to_predict(*_: Any) -> Any:
    raise AtlasError("No context of the held-out text has two counted tokens in a row: choose longer contexts.")


def _no_memory(*_: Any) -> Any:
    raise RuntimeError("DefaultCPUAllocator: can't allocate memory\nand a stack")


@pytest.mark.parametrize(
    ("raised", "said"),
    [(_nothing_to_predict, "No context of the held-out text"), (_no_memory, "DefaultCPUAllocator: can't allocate memory")],
)
def test_a_look_at_the_loss_that_fails_is_a_reason_in_the_curves_and_not_the_end(
    place: Place, monkeypatch: pytest.MonkeyPatch, raised: Any, said: str
) -> None:
    workspace, params = place
    name = f"looks{raised.__name__}".replace("_", "-")
    short = {**params, "alphas": [0.5, 2.0], "tokens": 6000, "name": name, "evaluations": 2}
    monkeypatch.setattr(train_run, "measure", raised)
    progress = Quiet()
    run_train(workspace, _folder(workspace, name), short, progress)
    monkeypatch.undo()
    told = [line for line in load_curves(workspace.runs / name) if "undefined" in line]
    assert len(told) == 4  # two looks, two dictionaries
    assert all(line["loss_recovered"] is None and line["undefined"]["loss_recovered"].startswith(said) for line in told)
    assert sum("could not be looked at" in line and said in line for line in progress.lines) == 2
    run_train(workspace, _folder(workspace, f"{name}-again"), {**short, "name": f"{name}-again"}, Quiet())
    assert _same(_weights(workspace, f"{name}-a2"), _weights(workspace, f"{name}-again-a2"))


def test_a_model_without_finite_output_is_the_reason_that_no_loss_is_recovered(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace, params = place
    monkeypatch.setattr(Subject, "logits", lambda self, tokens: torch.full((*tokens.shape, self.info.vocab_size), float("nan")))
    run_train(workspace, _folder(workspace, "no-output"), {**params, "tokens": 3000, "name": "no-output", "evaluations": 1}, Quiet())
    last = load_curves(workspace.runs / "no-output")[-1]
    assert (last["loss_recovered"], last["undefined"]) == (None, {"loss_recovered": "The model's output is not finite."})


def test_one_head_of_an_attn_site_is_its_part_of_it(place: Place) -> None:
    workspace, params = place
    request = TrainRequest.from_params({**params, "site": "attn.1", "head": 2, "name": "head", "tokens": 3000, "evaluations": 1})
    job = load_job(workspace, request, Quiet())
    source, whole = source_of(job, request), source_of(job, TrainRequest.from_params({**params, "site": "attn.1"}))
    width = whole.width // HEADS
    assert torch.equal(source.read(job.train[:4]), whole.read(job.train[:4])[:, 2 * width : 3 * width])
    run_train(workspace, _folder(workspace, "head"), request.params(), Quiet())
    info = find(workspace, SLUG, Site.parse("attn.1"), "head").info
    assert (info.head, info.d_in, info.units) == (2, width, 4 * width)
    with pytest.raises(AtlasError, match=r"Head 9 is out of range: the heads of attn.1 are 0 to 3"):
        source_of(job, TrainRequest.from_params({**params, "site": "attn.1", "head": 9}))


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_good_checkpoint(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace, params = place
    folder = _folder(workspace, "nan")
    step, calls = Tied.step, 0

    def poisoned(self: Tied, x: torch.Tensor, lr: float, dead: torch.Tensor) -> Any:
        nonlocal calls
        calls += 1
        if calls == 40:
            x = x.clone()
            x[3, 2] = float("nan")
        return step(self, x, lr, dead)

    monkeypatch.setattr(Tied, "step", poisoned)
    wanted = {**params, "kind": "tied", "name": "nan", "checkpoint_seconds": 0}
    with pytest.raises(AtlasError, match=r"stopped being a number at 4,992 vectors.*last good checkpoint is kept"):
        run_train(workspace, folder, wanted, Quiet())
    saved = checkpoint.load(folder)
    assert saved is not None
    assert saved[1]["step"] == 39
    assert all(bool(torch.isfinite(tensor).all()) for tensor in saved[0].values() if tensor.is_floating_point())
    run_train(workspace, folder, wanted, Quiet())  # what was wrong is gone
    with pytest.raises(AtlasError):
        find(workspace, SLUG, Site.parse("resid.0"), "nothing")
    assert _weights(workspace, "nan")


def test_a_diverging_loss_stops_the_run(place: Place) -> None:
    workspace, params = place
    folder = _folder(workspace, "wild")
    with pytest.raises(AtlasError, match=r"(diverges: its error stays above|stopped being a number)"):
        run_train(workspace, folder, {**params, **TOPK, "name": "wild", "lr": 10.0, "warmup": 0, "checkpoint_seconds": 0}, Quiet())
    saved = checkpoint.load(folder)
    assert saved is not None
    assert all(bad == 0 for *_, bad in saved[1]["members"])


def test_a_short_training_of_many_units_whose_error_begins_large_and_falls_does_not_diverge(place: Place) -> None:
    workspace, params = place
    folder = _folder(workspace, "wide")
    run_train(workspace, folder, {**params, "ratio": 24, "tokens": 8000, "evaluations": 0, "name": "wide"}, Quiet())
    errors = [line["mse"] for line in load_curves(folder)]
    assert errors[-1] < 0.2 * errors[0]
    assert errors[0] * D_MODEL > 4 * D_MODEL  # of activations whose squared norm is about D_MODEL


def test_the_buffer_never_holds_more_than_it_was_given_and_every_vector_comes_once_a_pass(place: Place) -> None:
    workspace, params = place
    request = TrainRequest.from_params(params)
    job = load_job(workspace, request, Quiet())
    source = source_of(job, request)
    every = source.read(job.train)
    stream = Stream(source, batch=64, buffer=512, block=4, seed=3)
    seen: list[torch.Tensor] = []
    while sum(map(len, seen)) < len(every) - 512:
        while stream.filling:
            stream.fill()
            assert len(stream.first()) <= 512
            assert stream._rows.shape == (512, source.width)
        seen.append(stream.next())
    drawn = [row.tobytes() for row in torch.cat(seen).numpy()]
    assert Counter(drawn) <= Counter(row.tobytes() for row in every.numpy())
    place_of = {row.tobytes(): i for i, row in enumerate(every.numpy())}
    order = np.array([place_of[row] for row in drawn[:128]])
    assert np.abs(np.diff(order)).mean() > len(every) / 8  # neighbours in a batch are not neighbours in the text


def test_a_stream_goes_on_from_any_state(place: Place) -> None:
    workspace, params = place
    request = TrainRequest.from_params(params)
    source = source_of(load_job(workspace, request, Quiet()), request)

    def fresh() -> Stream:
        return Stream(source, batch=64, buffer=512, block=4, seed=3)

    def go(stream: Stream, moves: int) -> list[torch.Tensor]:
        given: list[torch.Tensor] = []
        for _ in range(moves):
            if stream.filling:
                stream.fill()
            else:
                given.append(stream.next())
        return given

    uncut = torch.cat(go(fresh(), 120))
    for cut in range(1, 60, 3):
        stream = fresh()
        before = go(stream, cut)
        rows, counters = stream.state()
        other = fresh()
        other.load(rows.clone(), json.loads(json.dumps(counters)))
        assert torch.equal(torch.cat(before + go(other, 120 - cut)), uncut)


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path: Path) -> None:
    first = checkpoint.save(tmp_path, {"a": torch.zeros(3)}, {"step": 1})
    shutil.copytree(first, tmp_path / "kept")
    newest = checkpoint.save(tmp_path, {"a": torch.ones(3)}, {"step": 2})
    assert not first.exists()
    shutil.copytree(tmp_path / "kept", first)  # a kill came before the older one was removed
    (newest / "state.safetensors").write_bytes(b"half")
    found = checkpoint.load(tmp_path)
    assert found is not None
    assert found[1]["step"] == 1


def test_another_runs_dictionary_is_not_replaced(place: Place) -> None:
    workspace, params = place
    short = {**params, "name": "mine", "tokens": 2000, "evaluations": 0}
    run_train(workspace, _folder(workspace, "mine"), short, Quiet())
    with pytest.raises(AtlasError, match=r"There is a dictionary “mine” at resid.0 of tiny-llama already"):
        run_train(workspace, _folder(workspace, "mine-again"), short, Quiet())


def test_a_checkpoint_of_other_parameters_is_refused_in_a_sentence(place: Place) -> None:
    workspace, params = place
    folder = _folder(workspace, "other")
    with pytest.raises(Cancelled):
        run_train(workspace, folder, {**params, "name": "other"}, Quiet(5))
    with pytest.raises(AtlasError, match="does not fit this run's parameters"):
        run_train(workspace, folder, {**params, "name": "other", "ratio": 8}, Quiet())
