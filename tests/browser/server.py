"""A real dashboard as a process of its own: started on a free port, ended by its process id."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from core.runs import client
from core.runs.registry import Registry
from core.workspace import Workspace

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 90
STOP_SECONDS = 20


@dataclass(frozen=True)
class Server:
    """A running dashboard: its address, its workspace and where its output goes."""

    url: str
    workspace: Path
    log: Path


def environment(workspace: Path) -> dict[str, str]:
    """What a dashboard or command of these tests runs with: this workspace, no hub, one thread for each library."""
    return {
        **os.environ,
        "NEURON_ATLAS_WORKSPACE": str(workspace),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
    }


def command(workspace: Path, *arguments: str, timeout: float = 420) -> str:
    """Run `python -m core ...` to its end and return what it printed. Raises AssertionError with its complaint."""
    done = subprocess.run(
        [sys.executable, "-m", "core", *arguments, "--workspace", str(workspace)],
        cwd=ROOT, env=environment(workspace), capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (
        f"python -m core {' '.join(arguments)} exited with {done.returncode}: {done.stdout[-2000:]}{done.stderr[-3000:]}"
    )
    return done.stdout


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(url: str) -> bool:
    """Whether the dashboard at `url` says that it is healthy."""
    try:
        with urllib.request.urlopen(f"{url}/_stcore/health", timeout=2) as response:
            return response.status == 200
    except (urllib.error.URLError, OSError):
        return False


@contextlib.contextmanager
def serving(workspace: Path, log: Path) -> Generator[Server]:
    """Serve `workspace` until the block ends, then end all that was started for it.

    Raises AssertionError with the dashboard's output when it does not come up.
    """
    port = free_port()
    server = Server(f"http://127.0.0.1:{port}", workspace, log)
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "core", "serve", "--port", str(port), "--no-browser", "--workspace", str(workspace)],
            cwd=ROOT, env=environment(workspace), stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + START_SECONDS
        while not answers(server.url):
            assert process.poll() is None, f"the dashboard ended with {process.returncode}: {log.read_text('utf8')[-3000:]}"
            assert time.monotonic() < deadline, f"the dashboard did not answer in {START_SECONDS} s: {log.read_text('utf8')[-3000:]}"
            time.sleep(0.1)
        yield server
    finally:
        end(process)
        leave(Workspace.open(workspace))


def leave(workspace: Workspace) -> None:
    """End the workers, which by design outlive the dashboard: ask for every run's cancel, and the warm one to go."""
    registry = Registry(workspace)
    for run in registry.list(active=True):
        registry.request_cancel(run.id)
    client.stop(workspace)
    deadline = time.monotonic() + STOP_SECONDS
    while registry.list(active=True) and time.monotonic() < deadline:
        time.sleep(0.1)


def end(process: "subprocess.Popen[bytes]") -> None:
    """Ask the process to stop as Ctrl-C would, and insist after ten seconds."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
