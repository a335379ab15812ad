"""Runs that ablate, steer and patch, killed in the middle of a write (SIGKILL): a second attempt makes only what was not finished."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.causal import effect_run, orders, steer
from core.causal.effect_request import EffectRequest
from core.index.indexer import run_index
from core.runs.registry import Lane, Registry, Run
from core.runs.worker import KINDS, work
from core.store.effects import load_effect
from core.store.ioi import load_ioi, points
from core.store.steered import load_steered
from core.subject.load import load_subject
from core.workspace import Workspace
from tests.models import make_tiny_model
from tests.patchable import put_dictionary
from tests.planted import FIGHT, QuietProgress, plant
from tests.steerable import steerable

ROOT = Path(__file__).parents[2]
CHILD = """
import functools, importlib, os, signal, sys

module, _, path = sys.argv[1].partition(":")
owner = functools.reduce(getattr, path.split(".")[:-1], importlib.import_module(module))
name, calls = path.split(".")[-1], int(sys.argv[2])
real = getattr(owner, name)

def counted(*given, **more):
    global calls
    calls -= 1
    if not calls:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*given, **more)

setattr(owner, name, counted)
from core.runs import worker
sys.exit(worker.main(sys.argv[3:]))
"""


def killed(workspace: Workspace, kind: str, params: dict[str, Any], lane: Lane, function: str, calls: int) -> tuple[Registry, Run]:
    """A run whose worker was killed when it called `function` (module:name) for the time `calls`. It is queued again."""
    registry = Registry(workspace)
    run = registry.submit(kind, params, lane=lane)
    command = [sys.executable, "-c", CHILD, function, str(calls), "--workspace", str(workspace.path), "--lane", lane]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=400, check=False)
    assert done.returncode == -signal.SIGKILL
    found = registry.get(run.id)
    assert (found.state, found.interrupted) == ("failed", True)
    registry.resume(run.id)
    return registry, run


def counting(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> list[Any]:
    """What `owner.name` returns from now on, call by call."""
    made: list[Any] = []
    real: Callable[..., Any] = getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda *given, **more: made.append(real(*given, **more)) or made[-1])
    return made


def test_a_killed_ablation_reads_only_the_batches_that_were_not_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = Workspace.open(tmp_path / "ws")
    params = plant(tmp_path)
    (workspace.runs / "index-planted").mkdir()
    run_index(workspace, workspace.runs / "index-planted", params, QuietProgress())
    request = EffectRequest((f"planted/mlp.0/neurons/{FIGHT}",), records=10).to_params()
    # Two tables a batch: it dies in the second batch, with one of its tables written.
    registry, run = killed(workspace, "effect", request, "model", "pyarrow.parquet:write_table", 4)
    folder = registry.folder(run.id)
    assert sorted(path.name for path in (folder / "parts").glob("[0-9]*")) == ["0000"]
    assert not (folder / "manifest.json").exists()
    measured = counting(monkeypatch, effect_run, "measure")
    work(workspace, KINDS, "model")
    assert registry.get(run.id).state == "done"
    assert [int(one.text.max()) + 1 for one in measured] == [effect_run.BATCH, 2]
    assert not (folder / "parts").exists()
    again = registry.submit("effect", request, lane="model")
    assert again.id != run.id
    work(workspace, KINDS, "model")
    cut, whole = load_effect(workspace, run.id), load_effect(workspace, again.id)
    np.testing.assert_allclose(cut.vocabulary["change"], whole.vocabulary["change"], atol=1e-6)
    np.testing.assert_allclose(cut.kl, whole.kl, atol=1e-6)


def test_killed_steering_goes_on_after_the_last_token_that_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace, _ = steerable(tmp_path)
    params: dict[str, Any] = {"units": ["tiny/mlp.1/neurons/3"], "strengths": [6.0], "text": "The old ships", "tokens": 12}
    params |= {"mode": "add", "where": "all", "temperature": 0.8, "top_p": 1.0, "seed": 5}
    registry, run = killed(workspace, "steer", params, "model", "core.causal.steer_files:Stream.add", 6)
    stream = registry.folder(run.id) / "stream.jsonl"
    lines = stream.read_text("utf8").splitlines()
    assert len(lines) == 1 + 5
    stream.write_text("\n".join(lines) + '\n{"original":{"tok', "utf8")  # the sixth, cut short
    passes = counting(monkeypatch, steer, "_next")
    work(workspace, KINDS, "model")
    assert registry.get(run.id).state == "done"
    assert len(passes) == 7
    manifest = json.loads((registry.folder(run.id) / "manifest.json").read_text("utf8"))
    assert manifest["steps"][:5] == [json.loads(line) for line in lines[1:]]
    again = registry.submit("steer", params, lane="model")
    work(workspace, KINDS, "model")
    cut, whole = load_steered(workspace, run.id), load_steered(workspace, again.id)
    assert cut is not None
    assert whole is not None
    assert [cut.side(side).tokens for side in ("original", "steered")] == [whole.side(side).tokens for side in ("original", "steered")]


def test_killed_patching_makes_only_the_curves_that_were_not_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = Workspace.open(tmp_path / "ws")
    put_dictionary(workspace, load_subject(workspace, str(make_tiny_model(tmp_path / "tiny", "llama", 2))))
    wording = {"templates": ["# {IO} and {S} . {S} #", "# {S} and {IO} . {S} #"], "names": ["t", "s", "w", "c", "f"]}
    params: dict[str, Any] = {"model": "tiny", "decompositions": ["resid.0/made"], "orders": ["single", "gradient", "acdc"]}
    params |= {"pairs": 4, "seeds": 1, "thresholds": 3, "wording": wording}
    # A table of sentences, then two a curve: it dies in the second curve, with one of its tables written.
    registry, run = killed(workspace, "ioi", params, "batch", "pyarrow.parquet:write_table", 5)
    first = registry.folder(run.id) / "pieces" / "0000" / "points.parquet"
    before = first.stat().st_mtime_ns
    assert len(list(first.parents[1].iterdir())) == 2  # with the half of the second
    assert [curve.order for curve in load_ioi(workspace, run.id).curves] == ["gradient"]
    made = {name: counting(monkeypatch, orders, name) for name in ("gradient", "single", "acdc")}
    work(workspace, KINDS, "batch")
    assert registry.get(run.id).state == "done"
    assert {name: len(calls) for name, calls in made.items()} == {"gradient": 0, "single": 1, "acdc": 1}
    assert first.stat().st_mtime_ns == before
    assert sorted(path.name for path in first.parents[1].iterdir()) == ["0000", "0001", "0002"]
    again = registry.submit("ioi", params)
    work(workspace, KINDS, "batch")
    cut, whole = (points(workspace, load_ioi(workspace, one)) for one in (run.id, again.id))
    np.testing.assert_allclose(cut["kl"], whole["kl"], atol=1e-6)
