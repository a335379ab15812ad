"""Dictionaries on the command line, from end to end on a tiny model: fit, train, measure, list, compare, export, import, remove."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch

from core.bases import shelf
from core.bases.dictionary import load
from core.bases.train_request import TrainRequest
from core.cli import main
from core.commands.bases import contexts_for
from core.corpus.spec import MAX_CONTEXTS
from core.runs.locks import FileLock
from core.runs.registry import Registry
from core.workspace import Workspace
from tests.browser.server import ROOT, environment
from tests.job_text import write_text
from tests.models import D_MODEL, make_tiny_model

Capture = pytest.CaptureFixture[str]
NUMBERS = ("explained_variance", "l0", "dead", "loss_recovered", "mse")


def run(workspace: Workspace, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "core", *arguments, "--workspace", str(workspace.path)],
        cwd=ROOT, env=environment(workspace.path), capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip


def done(workspace: Workspace, *arguments: str) -> dict[str, Any]:
    """What a command that has to succeed printed as JSON."""
    finished = run(workspace, *arguments, "--json")
    assert finished.returncode == 0, finished.stderr[-2000:]
    return json.loads(finished.stdout)


def call(workspace: Workspace, capsys: Capture, *arguments: str) -> tuple[int, str, str]:
    status = main([*arguments, "--workspace", str(workspace.path)])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def read(workspace: Workspace, capsys: Capture, *arguments: str) -> Any:
    status, out, _ = call(workspace, capsys, *arguments, "--json")
    assert status == 0
    return json.loads(out)


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture(scope="module")
def text() -> list[str]:
    """How the tests cut their text."""
    return ["--contexts", "300", "--length", "16"]


@pytest.fixture(scope="module")
def shelved(tmp_path_factory: pytest.TempPathFactory, text: list[str]) -> tuple[Workspace, list[str], dict[str, Any]]:
    """A workspace with two baselines and a trained dictionary of a tiny model, the options that name them, and what training printed."""
    folder = tmp_path_factory.mktemp("cli")
    make_tiny_model(folder / "tiny", "llama", 2)
    write_text(folder / "text.jsonl", documents=60)
    workspace = Workspace.open(folder / "ws")
    where = ["--model", str(folder / "tiny"), "--corpus", str(folder / "text.jsonl"), *text]
    made = done(workspace, "basis", "fit", "pca", "random", "--site", "resid.0", *where)
    assert {one["key"] for one in made["dictionaries"]} == {"tiny/resid.0/pca", "tiny/resid.0/random"}
    options = ["--site", "resid.0", "--ratio", "2", "--alpha", "0.1", "--tokens", "20000", "--batch", "256", "--name", "small"]
    return workspace, where, done(workspace, "sae", "train", *options, *where)


def test_training_puts_the_dictionary_on_the_shelf(shelved: tuple[Workspace, list[str], dict[str, Any]]) -> None:
    workspace, _, trained = shelved
    assert [one["key"] for one in trained["dictionaries"]] == ["tiny/resid.0/small"]
    assert load(shelf.find_named(workspace, "small")).encoder.shape == (2 * D_MODEL, D_MODEL)


def test_metrics_are_measured_printed_and_kept(shelved: tuple[Workspace, list[str], dict[str, Any]], capsys: Capture) -> None:
    workspace, _, _ = shelved
    found = done(workspace, "sae", "metrics", "small", "--contexts", "8")
    assert all(name in found for name in NUMBERS)
    assert found["dictionary"] == "tiny/resid.0/small"
    assert found["contexts"] <= 8
    assert 0 < found["explained_variance"] < 1
    assert read(workspace, capsys, "sae", "metrics", "small", "--stored") == found
    kept = shelf.find_named(workspace, "small").info
    assert kept.metrics["mse"] == found["mse"]
    several = done(workspace, "sae", "metrics", "pca", "random", "--output-contexts", "0")
    assert [one["dictionary"] for one in several["dictionaries"]] == ["tiny/resid.0/pca", "tiny/resid.0/random"]
    assert all(one["explained_variance"] == pytest.approx(1, abs=1e-6) and one["kl"] is None for one in several["dictionaries"])
    _, out, _ = call(workspace, capsys, "sae", "metrics", "small", "--stored")
    assert "Explained variance" in out
    assert "BOS" in out


def test_list_shows_what_is_there_and_names_what_is_damaged(
    shelved: tuple[Workspace, list[str], dict[str, Any]], capsys: Capture, tmp_path: Path
) -> None:
    workspace, _, _ = shelved
    assert {one["name"] for one in read(workspace, capsys, "sae", "list")["dictionaries"]} >= {"pca", "random", "small"}
    status, out, _ = call(workspace, capsys, "sae", "list", "--subject", "tiny")
    assert status == 0
    assert "small" in out
    empty = Workspace.open(tmp_path / "empty")
    assert "No dictionaries yet" in call(empty, capsys, "sae", "list")[1]
    broken = empty.bases / "tiny" / "resid.0" / "bad"
    broken.mkdir(parents=True)
    (broken / "basis.json").write_text("{", "utf8")
    assert "is damaged" in call(empty, capsys, "sae", "list")[2]


def test_doctor_names_a_dictionary_whose_weights_are_not_its_own(
    shelved: tuple[Workspace, list[str], dict[str, Any]], capsys: Capture
) -> None:
    workspace, _, _ = shelved
    checks = {check["name"]: check for check in read(workspace, capsys, "doctor")["checks"]}
    assert checks["dictionaries"]["detail"].startswith("3 with")
    weights = shelf.find_named(workspace, "random").weights
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1])
    try:
        status, out, _ = call(workspace, capsys, "doctor", "--json")
        checks = {check["name"]: check for check in json.loads(out)["checks"]}
        assert status == 1
        assert not checks["dictionary tiny/resid.0/random"]["ok"]
        run = Registry(workspace).list()[-1]
        assert run.kind == "basis"
        assert "done" in call(workspace, capsys, "resume", run.id)[1]  # makes it again
        assert weights.read_bytes() == whole
    finally:
        weights.write_bytes(whole)


def test_compare_gives_both_ways(shelved: tuple[Workspace, list[str], dict[str, Any]], capsys: Capture) -> None:
    workspace, _, _ = shelved
    assert read(workspace, capsys, "sae", "compare", "pca", "pca")["forth"] == pytest.approx(1, abs=1e-6)
    found = read(workspace, capsys, "sae", "compare", "small", "random")
    assert 0 < found["forth"] < 1
    assert 0 < found["back"] < 1


def test_what_is_exported_comes_back_with_the_same_codes(shelved: tuple[Workspace, list[str], dict[str, Any]], tmp_path: Path) -> None:
    workspace, where, _ = shelved
    out = tmp_path / "out"
    exported = done(workspace, "sae", "export", "small", "--out", str(out))
    assert {"cfg.json", "sae_weights.safetensors"} <= set(exported["files"])
    options = ["--site", "resid.0", "--name", "again", "--any-model", *where[:4]]
    brought = done(workspace, "sae", "import", str(out), *options)
    assert [one["key"] for one in brought["dictionaries"]] == ["tiny/resid.0/again"]
    x = torch.randn(50, D_MODEL, generator=torch.Generator().manual_seed(0)) * 3
    codes = [load(shelf.find_named(workspace, name)).encode(x) for name in ("small", "again")]
    assert torch.allclose(codes[0], codes[1], atol=1e-4)
    assert bool((codes[0] > 0).any())
    assert done(workspace, "sae", "remove", "again") == {"removed": "tiny/resid.0/again"}
    assert not [one for one in shelf.shelved(workspace) if one.info.name == "again"]


def test_features_that_were_indexed_are_ordered_by_a_text(shelved: tuple[Workspace, list[str], dict[str, Any]]) -> None:
    workspace, where, _ = shelved
    done(workspace, "index", "--basis", "small", *where)
    found = done(workspace, "top", "--text", "the cat saw the old river", "--basis", "small", "--n", "5")
    assert found["basis"] == "small"
    assert 0 < len(found["units"]) <= 5
    assert all(one["unit"].startswith("tiny/resid.0/small/") for one in found["units"])
    assert all(one["ratio_to_max"] > 0 for one in found["units"])


def test_a_killed_fit_goes_on_and_keeps_what_was_made(shelved: tuple[Workspace, list[str], dict[str, Any]], tmp_path: Path) -> None:
    _, where, _ = shelved
    workspace = Workspace.open(tmp_path / "killed")
    options = ["basis", "fit", "random", "ica", "--sites", "resid.0-1,mlp.0-1", "--ica-iterations", "60", *where]
    started = done(workspace, *options, "--detach")["id"]
    until(lambda: len(shelf.shelved(workspace)) >= 2)
    pid = Registry(workspace).get(started).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until(lambda: Registry(workspace).get(started).state == "failed")
    before = {one.info.key: one.hash for one in shelf.shelved(workspace)}
    assert 2 <= len(before) < 8
    assert done(workspace, "resume", started)["id"] == started
    after = {one.info.key: one.hash for one in shelf.shelved(workspace)}
    assert len(after) == 8
    assert before.items() <= after.items()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sae", "metrics", "nothing"], "There is no dictionary “nothing”"),
        (["sae", "metrics", "pca", "--stored"], "has not been measured"),
        (["sae", "metrics", "pca", "--contexts", "0"], "held-out contexts"),
        (["sae", "metrics", "pca", "--corpus", "./not-there.txt"], "not-there"),
        (["sae", "export", "a/b", "--out", "x"], "There is no dictionary"),
        (["sae", "remove", "a/resid.0/b"], "has no dictionary “b”"),
        (["sae", "compare", "pca", "nothing"], "There is no dictionary “nothing”"),
        (["sae", "train", "--site", "nose.1"], "not a site"),
        (["sae", "train", "--site", "resid.0", "--alpha", "-1"], "Alpha"),
        (["sae", "train", "--site", "resid.0", "--tokens", "0"], "activation vectors"),
        (["sae", "train", "--site", "resid.0", "--bias-rate", "0"], "biases' multiple"),
        (["sae", "train", "--site", "resid.0", "--buffer", "100"], "too small to mix"),
        (["sae", "train", "--site", "resid.0", "--block", "0"], "contexts in a forward pass"),
        (["sae", "train", "--site", "resid.0", "--k-aux", "0"], "k_aux must be"),
        (["sae", "train", "--site", "resid.0", "--aux-coefficient", "-1"], "auxiliary term"),
        (["sae", "train", "--site", "resid.0", "--checkpoint-seconds", "-1"], "between two checkpoints"),
        (["sae", "train", "--site", "resid.0", "--evaluations", "-1"], "number of evaluations"),
        (["basis", "fit", "pca", "--site", "resid.0", "--head", "1"], "resid.0 has no heads"),
        (["sae", "train", "--site", "resid.0", "--model", "./not-there"], "There is nothing at"),
        (["sae", "import", "", "--site", "resid.0"], "No dictionary was named"),
        (["basis", "fit", "nmf", "--site", "resid.0"], "not a baseline"),
        (["basis", "fit", "pca", "ica", "--site", "resid.0", "--name", "x"], "cannot name 2"),
    ],
)
def test_what_is_wrong_is_one_sentence(workspace: Workspace, capsys: Capture, arguments: list[str], words: str) -> None:
    target = workspace.bases / "tiny" / "resid.0" / "pca"
    put_identity(workspace)
    assert target.is_dir()
    status, out, err = call(workspace, capsys, *arguments)
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert words in err


def put_identity(workspace: Workspace) -> None:
    from core.bases.dictionary import Dictionary
    from core.bases.info import BasisInfo
    from core.units import Site

    info = BasisInfo(name="pca", subject="tiny", site=Site("resid", 0), family="pca", rule="relu", d_in=4, units=4, tied=True)
    Dictionary(info, {"encoder": torch.eye(4), "bias": torch.zeros(4)}).save(workspace)


EVERY: dict[str, tuple[list[str], Any]] = {
    "site": (["--site", "attn.1"], "attn.1"),
    "head": (["--head", "2"], 2),
    "kind": (["--kind", "topk"], "topk"),
    "name": (["--name", "mine"], "mine"),
    "ratio": (["--ratio", "8"], 8.0),
    "alphas": (["--alpha", "2"], [2.0]),
    "mse_reduction": (["--mse", "mean"], "mean"),
    "centre": (["--centre", "per_token"], "per_token"),
    "scale": (["--scale", "0.5"], 0.5),
    "k": (["--k", "7"], 7),
    "k_aux": (["--k-aux", "11"], 11),
    "aux_coefficient": (["--aux-coefficient", "0.1"], 0.1),
    "dead_tokens": (["--dead-tokens", "500"], 500),
    "revive": (["--revive"], True),
    "tokens": (["--tokens", "5000"], 5000),
    "batch": (["--batch", "64"], 64),
    "lr": (["--lr", "0.002"], 0.002),
    "bias_rate": (["--bias-rate", "1"], 1.0),
    "warmup": (["--warmup", "0.1"], 0.1),
    "decay": (["--decay", "0.3"], 0.3),
    "seed": (["--seed", "4"], 4),
    "buffer": (["--buffer", "8192"], 8192),
    "block": (["--block", "16"], 16),
    "checkpoint_seconds": (["--checkpoint-seconds", "5"], 5.0),
    "evaluations": (["--evaluations", "3"], 3),
    "revision": (["--revision", "main"], "main"),
    "dtype": (["--dtype", "bfloat16"], "bfloat16"),
    "device": (["--device", "cpu"], "cpu"),
    "architecture": (["--architecture", "blocks=a,mlp=b,attn=c"], "blocks=a,mlp=b,attn=c"),
}


def test_every_parameter_of_a_training_can_be_given(workspace: Workspace, capsys: Capture) -> None:
    assert EVERY.keys() == {one.name for one in fields(TrainRequest)} - {"corpus", "model"}
    tied = ("kind", "k", "k_aux")
    with FileLock(workspace.scratch / "batch-lane.lock") as lock:  # the lane is busy: nothing starts
        assert lock.acquire()
        for left_out in (("revive",), tied):
            given = {name: one for name, one in EVERY.items() if name not in left_out}
            options = [word for words, _ in given.values() for word in words]
            params = read(workspace, capsys, "sae", "train", *options, "--corpus", "embedded", "--detach")["params"]
            assert {name: params[name] for name in given} == {name: value for name, (_, value) in given.items()}


def test_runs_are_listed_by_what_they_are_about(shelved: tuple[Workspace, list[str], dict[str, Any]], capsys: Capture) -> None:
    workspace, _, _ = shelved
    out = call(workspace, capsys, "runs", "--all")[1]
    assert "Fit pca, random · resid.0" in out
    assert "Train small · tied · resid.0" in out


def test_enough_text_is_asked_for_to_train_without_reading_it_twice() -> None:
    for tokens, length in ((1_000_000, 64), (5000, 16)):
        contexts = contexts_for(tokens, length)
        assert 1 <= contexts * (length - 1) * 0.95 / tokens < 1.05
    assert contexts_for(10**12, 64) == MAX_CONTEXTS
