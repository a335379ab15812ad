"""Watching a run from the command line until it ends, and cancelling it with Ctrl-C."""

import signal
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from core.commands.output import duration, note
from core.errors import AtlasError
from core.runs import lanes, processes
from core.runs.registry import Registry, Run
from core.workspace import Workspace

POLL_SECONDS = 0.25
LINE_SECONDS = 10.0
"""How often a new progress line is written where lines cannot be overwritten (a file, a pipe)."""
STARTS = 3
INTERRUPTED = 130


class Interrupted(Exception):
    """Ctrl-C: the run has been cancelled and has stopped."""


def follow(workspace: Workspace, run: str) -> Run:
    """Show the run's progress on standard error until it is done. Raises AtlasError when it failed or was cancelled by somebody else.

    Ctrl-C cancels the run and waits until it has stopped (a second one does not wait), then raises Interrupted.
    """
    registry = Registry(workspace)
    line = _Line()
    asked = False
    starts = 0
    with _interrupts() as interrupts:
        while True:
            if interrupts:
                interrupts.clear()
                line.end()
                if asked:
                    raise Interrupted
                asked = True
                note(f"cancelling {run} (Ctrl-C again leaves without waiting)")
                _cancel(registry, run)
            found = registry.get(run)
            if not found.active:
                break
            if found.state == "queued" and lanes.ensure_workers(workspace):
                starts += 1
                if starts > STARTS:
                    written = workspace.scratch / lanes.log_name(found.lane)
                    last = next(iter(processes.tail(written, 1)), "it said nothing")
                    raise AtlasError(f"The worker did not start ({last[:200]}): see {written}.")
                time.sleep(1.0 if starts > 1 else 0)
            line.show(_waiting(registry, found) if found.state == "queued" else describe(found))
            time.sleep(POLL_SECONDS)
    line.end()
    if found.state == "failed":
        raise AtlasError(found.error or f"{run} failed.")
    if found.state == "cancelled":
        if asked:
            raise Interrupted
        raise AtlasError(f"{run} was cancelled: `python -m core resume {run}` goes on from the last finished part.")
    return found


@contextmanager
def _interrupts() -> Generator[list[int]]:
    """Collects Ctrl-C instead of raising it: an exception could come up anywhere, and be lost in a library's clean-up."""
    seen: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: seen.append(number))
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, before)


def describe(run: Run) -> str:
    """What a running run does, on one line: stage, share, rate and time left."""
    parts = [run.stage or "starting"]
    if run.total:
        parts.append(f"{run.done:,} of {run.total:,} {run.unit} ({run.done / run.total:.0%})")
    if run.rate:
        parts.append(f"{run.rate:,.1f} {run.unit}/s")
    if run.seconds_left is not None:
        parts.append(f"{duration(run.seconds_left)} left")
    if run.message:
        parts.append(run.message)
    return f"{run.id}: {', '.join(parts)}"


def as_document(run: Run) -> dict[str, Any]:
    """A run as JSON shows it."""
    hidden = ("fingerprint", "pid_start_ticks")
    return {**{key: value for key, value in vars(run).items() if key not in hidden}, "seconds_left": run.seconds_left}


def _waiting(registry: Registry, run: Run) -> str:
    before = next((other for other in registry.list(active=True) if other.state == "running" and other.lane == run.lane), None)
    return f"{run.id}: starting" if before is None else f"{run.id}: waiting for {describe(before)}"


def _cancel(registry: Registry, run: str) -> None:
    try:
        registry.request_cancel(run)
    except AtlasError as error:  # it ended at that very moment
        note(str(error))


class _Line:
    """One line on standard error, overwritten on a terminal, written now and then elsewhere."""

    def __init__(self) -> None:
        self._width = 0
        self._last = ""
        self._written = float("-inf")

    def show(self, text: str) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{text:<{self._width}}")
            sys.stderr.flush()
            self._width = len(text)
        elif text != self._last and time.monotonic() - self._written >= LINE_SECONDS:
            note(text)
            self._last, self._written = text, time.monotonic()

    def end(self) -> None:
        if self._width:
            note("")
            self._width = 0
