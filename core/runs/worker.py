"""A lane's worker: a process that does queued runs one after another until none is left. Torch comes with the runs' functions."""

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from core.errors import AtlasError, explain_failure
from core.runs.locks import lane_lock
from core.runs.progress import Cancelled, Progress, RunProgress
from core.runs.registry import LANES, Lane, Registry, Run
from core.workspace import Workspace

RunFunction = Callable[[Workspace, Path, dict[str, Any], Progress], None]
"""Does the work described by the parameters, into the run's folder; resumes from what it finds there."""

KINDS: Mapping[str, str] = {
    "index": "core.index.indexer:run_index",
    "explain": "core.autointerp.run:run_explain",
    "puzzles": "core.autointerp.puzzle_run:run_puzzles",
    "sae": "core.bases.train_run:run_train",
    "dictionary": "core.bases.formats.bring_run:run_bring",
    "basis": "core.bases.fit_run:run_fit",
    "measure": "core.bases.measure_run:run_measure",
    "effect": "core.causal.effect_run:run_effect",
    "ioi": "core.causal.ioi_run:run_ioi",
    "steer": "core.causal.steer_run:run_steer",
}
"""Kind of run -> `module:function`, imported when the first run of the kind comes."""

NICENESS = 10
"""Lower priority than the dashboard, so that pages stay quick; not the lowest, so that a run beside other work still goes on."""


def work(workspace: Workspace, kinds: Mapping[str, str], lane: Lane = "batch") -> None:
    """Do queued runs of a lane until none is left, unless another worker is already at it."""
    registry = Registry(workspace)
    lock = lane_lock(workspace, lane)
    # After letting go, look once more: a run may have been queued while this worker still held the lock.
    while registry.waiting(lane) and lock.acquire():
        try:
            while (run := registry.claim_next(lane)) is not None:
                perform(workspace, registry, run, kinds)
        finally:
            lock.release()


def perform(workspace: Workspace, registry: Registry, run: Run, kinds: Mapping[str, str]) -> None:
    """Do one claimed run and record how it ended. Raises AtlasError only when the ending cannot be recorded."""
    progress = RunProgress(registry, run.id)
    sentence: str | None = None
    try:
        progress.log(f"attempt {run.attempt}, process {os.getpid()}")
        _function(run.kind, kinds)(workspace, registry.folder(run.id), run.params, progress)
    except Cancelled:
        registry.cancelled(run.id)
        _log(progress, "cancelled")
        return
    except Exception as error:  # noqa: BLE001 - becomes the run's recorded sentence
        sentence = explain_failure(error, f"working on {run.id}", lambda text: _log(progress, text), "log.txt")
    if sentence is None:
        registry.finish(run.id)
        _log(progress, "done")
    else:
        registry.fail(run.id, sentence)
        _log(progress, f"failed: {sentence}")


def main(argv: list[str] | None = None, *, kinds: Mapping[str, str] = KINDS) -> int:
    """`python -m core.runs.worker --workspace FOLDER [--lane LANE]`."""
    parser = argparse.ArgumentParser(prog="core.runs.worker", description="Do the queued runs of a workspace.")
    parser.add_argument("--workspace", required=True)
    parser.add_argument("--lane", choices=LANES, default="batch")
    arguments = parser.parse_args(argv)
    if hasattr(os, "nice") and arguments.lane == "batch":
        os.nice(NICENESS)
    try:
        work(Workspace.open(arguments.workspace), kinds, arguments.lane)
    except AtlasError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


def _function(kind: str, kinds: Mapping[str, str]) -> RunFunction:
    if kind not in kinds:
        raise AtlasError(f"This version cannot do runs of the kind “{kind}”: update the program.")
    module, _, name = kinds[kind].partition(":")
    return getattr(importlib.import_module(module), name)


def _log(progress: Progress, text: str) -> None:
    """A full disk may refuse the log's line; the registry has the sentence, and standard error (scratch/<lane>-lane.log) the rest."""
    try:
        progress.log(text)
    except OSError as error:
        sys.stderr.write(f"{text}\nlog.txt could not be written: {error}\n")


if __name__ == "__main__":
    sys.exit(main())
