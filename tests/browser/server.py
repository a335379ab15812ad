"""A real dashboard for the tests: `bench.dashboard`'s, with the environment that tests run in."""

import contextlib
import os
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import dashboard
from core.workspace import Workspace

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Server:
    """A running dashboard: its address, its workspace, where its output goes, and its process."""

    url: str
    workspace: Path
    log: Path
    pid: int


def environment(workspace: Path) -> dict[str, str]:
    """What a dashboard or command of these tests runs with: this workspace, no hub, one thread for each library."""
    threads = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    return {**dashboard.offline(), "NEURON_ATLAS_WORKSPACE": str(workspace), **threads}


def command(workspace: Path, *arguments: str, timeout: float = 420) -> dict[str, Any]:
    """Run `python -m core … --json` to its end and return what it printed. Raises RuntimeError with its complaint."""
    return dashboard.command(workspace, *arguments, timeout=timeout, environment=environment(workspace))


@contextlib.contextmanager
def serving(
    workspace: Path, log: Path, *options: str, base: str = "", port: int = 0, before: Sequence[str] = (), borrowed: bool = False
) -> Generator[Server]:
    """Serve `workspace` until the block ends, then end all that was started for it. Raises RuntimeError when it does not come up.

    options: more of `serve`. base: where its pages are if they are below a path, such as `/atlas`. port: a free one if none is named.
    before: a command that starts it. borrowed: nothing is ended in the workspace afterwards, such as one that is only read.
    """
    with dashboard.serving(
        Workspace(workspace), log, environment(workspace), *options, base=base, port=port, before=before, borrowed=borrowed
    ) as running:
        yield Server(running.url, workspace, log, running.pid)
