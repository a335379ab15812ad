"""The real dashboard and command line as processes of their own: started on a free port, ended by process id.

The browser tests use them too.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.runs import client, frames
from core.runs.processes import PROJECT
from core.runs.registry import Registry
from core.workspace import Workspace

START_SECONDS = 120.0
STOP_SECONDS = 30.0
INDEX_SECONDS = 1800.0
QUIET_SECONDS = 0.1
"""A process is at rest when it used next to no CPU for so long."""
_SHARED = {".parquet", ".safetensors"}
"""Never changed in place by the program, so a copy of a workspace may share them."""


@dataclass(frozen=True)
class Dashboard:
    """A running dashboard: where it listens, its process and its workspace."""

    port: int
    pid: int
    workspace: Workspace
    base: str = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.base}"


def cpu_seconds(pid: int) -> float:
    """CPU time of a process with all its threads, those that have ended included: Linux's clock of that process, in nanoseconds' steps.

    (`utime + stime` in /proc/PID/stat is the same sum in steps of 10 ms, too coarse for one view.) Raises OSError when it is gone.
    """
    return time.clock_gettime((~pid << 3) | 2)


def settle(pid: int, limit: float = 5.0) -> float:
    """Wait until the process is at rest, or for `limit` seconds; its CPU time then."""
    end = time.monotonic() + limit
    used = cpu_seconds(pid)
    while time.monotonic() < end:
        time.sleep(QUIET_SECONDS)
        before, used = used, cpu_seconds(pid)
        if used - before < 0.02 * QUIET_SECONDS:
            break
    return used


def offline() -> dict[str, str]:
    """This process's environment, without the hub."""
    return {**os.environ, "HF_HUB_OFFLINE": "1"}


def command(workspace: Path, *arguments: str, timeout: float = 120.0, environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Run `python -m core … --json` to its end, in `offline()` if nothing else; what it printed. Raises RuntimeError with its complaint."""
    done = subprocess.run(
        [sys.executable, "-m", "core", *arguments, "--json", "--workspace", str(workspace)],
        cwd=PROJECT, env=environment or offline(), capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"python -m core {' '.join(arguments)} ended with {done.returncode}: {done.stderr.strip()[-3000:]}")
    return json.loads(done.stdout)


def make_index(workspace: Path, contexts: int) -> dict[str, Any]:
    """All MLP neurons of the embedded model over `contexts` contexts of the embedded text."""
    return command(
        workspace, "index", "--model", "default", "--corpus", "embedded", "--contexts", str(contexts), "--sites", "mlp.all",
        timeout=INDEX_SECONDS,
    )  # fmt: skip


def borrow(source: Path, target: Path) -> None:
    """A workspace like `source` at `target`, sharing the large files on disk where that is possible: `source` stays as it is."""
    shutil.copytree(source, target, copy_function=_share, ignore=shutil.ignore_patterns("scratch", ".*.tmp", "cache.duckdb*"))


@contextlib.contextmanager
def serving(
    workspace: Workspace,
    log: Path,
    environment: Mapping[str, str] | None = None,
    *options: str,
    base: str = "",
    port: int = 0,
    before: Sequence[str] = (),
    borrowed: bool = False,
) -> Generator[Dashboard]:
    """Serve until the block ends, in `offline()` if nothing else, then end the dashboard and the workers that were started for it.

    options: more of `serve`. base: where its pages are if they are below a path, such as `/atlas`. port: a free one if none is named.
    before: a command that starts it, such as one that takes rights away. borrowed: the workspace is left alone at the end, too.
    Raises RuntimeError with the end of its output, which goes to `log`, when it does not come up.
    """
    port = port or free_port()
    with log.open("ab") as output:
        process = subprocess.Popen(
            [
                *before, sys.executable, "-m", "core", "serve", "--no-browser", "--port", str(port), "--workspace", str(workspace.path),
                *options,
            ],
            cwd=PROJECT, env=environment or offline(), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
    try:
        dashboard = Dashboard(port, process.pid, workspace, base)
        end = time.monotonic() + START_SECONDS
        while not _answers(dashboard.url):
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"The dashboard did not come up: {log.read_text('utf8', errors='replace')[-2000:]}")
            time.sleep(0.1)
        yield dashboard
    finally:
        _end(process)
        if not borrowed:
            _end_workers(workspace)


def await_model_process(workspace: Workspace, seconds: float = 90.0) -> None:
    """Wait until the model process, which the dashboard starts by itself, has loaded its model: that is not what is measured."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        address = frames.read_address(workspace)
        if address is not None and address.usable and cpu_seconds(address.pid) > 2:
            settle(address.pid, end - time.monotonic())
            return
        time.sleep(0.2)


def _share(source: str, target: str) -> None:
    if Path(source).suffix in _SHARED:
        with contextlib.suppress(OSError):  # another disk, or one without links
            os.link(source, target)
            return
    shutil.copy2(source, target)


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/_stcore/health", timeout=2) as response:
            return response.status == 200
    except OSError:
        return False


def _end(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def _end_workers(workspace: Workspace) -> None:
    """The workers outlive a dashboard by design: cancel every run, and ask the model process to leave."""
    registry = Registry(workspace)
    for run in registry.list(active=True):
        registry.request_cancel(run.id)
    client.stop(workspace)
    end = time.monotonic() + STOP_SECONDS
    while registry.list(active=True) and time.monotonic() < end:
        time.sleep(0.1)
