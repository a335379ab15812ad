"""Commands about the dashboard and its cache: `serve` and `rebuild`."""

import argparse
import os
import socket
import subprocess
import sys
import time
import urllib.request
import webbrowser

from core.commands.output import emit, note
from core.errors import AtlasError
from core.runs import processes
from core.runs.locks import FileLock, dashboard_lock
from core.runs.registry import Registry
from core.workspace import WORKSPACE_ENV, Workspace, write_atomic

BROWSER_SECONDS = 90.0


def rebuild(arguments: argparse.Namespace, workspace: Workspace) -> int:
    """Make the cache again from the runs, and the list of runs from their folders."""
    from core.store.cache import Cache

    cache = Cache.open(workspace)
    try:
        restored = Registry(workspace).restore()
        sentences = [*cache.notices, *cache.rebuild()]
        with cache.cursor() as cursor:
            found: list[tuple[str]] = cursor.execute("SELECT run FROM indexes ORDER BY run").fetchall()
            explained: list[tuple[str]] = cursor.execute("SELECT run FROM explain_runs ORDER BY run").fetchall()
    finally:
        cache.close()
    runs = [run for (run,) in found]
    also = f" and {len(explained)} run{'s' if len(explained) != 1 else ''} of explaining" if explained else ""
    lines = [
        f"rebuilt the cache from {len(runs)} index{'es' if len(runs) != 1 else ''}{also}",
        *(f"restored {run}" for run in restored),
        *sentences,
    ]
    emit(arguments, {"indexes": runs, "explained": [run for (run,) in explained], "restored": restored, "notices": sentences}, lines)
    return 0


def serve(arguments: argparse.Namespace, workspace: Workspace) -> int:
    """Start the dashboard in the place of this process: returns only where the system cannot do that (Windows)."""
    port: int = arguments.port
    if not 1 <= port <= 65535:
        raise AtlasError(f"{port} is not a port: choose one from 1024 to 65535 with --port.")
    with dashboard_lock(workspace) as lock:
        return _serve(workspace, port, lock, browser=not arguments.no_browser)


def _serve(workspace: Workspace, port: int, lock: FileLock, *, browser: bool) -> int:
    address = workspace.scratch / "dashboard.txt"
    if not lock.acquire():
        where = f" at {address.read_text('utf8')}" if address.exists() else ""
        raise AtlasError(
            f"A dashboard is already open on {workspace.path}{where}: use that one, or choose another workspace with --workspace."
        )
    _check_port(port)
    _check_cache(workspace)
    url = f"http://127.0.0.1:{port}"
    write_atomic(address, url.encode())
    note(f"Neuron Atlas opens at {url} (workspace {workspace.path}); Ctrl-C ends it.")
    if browser:
        processes.spawn(["-m", "core.commands.serving", url], workspace.scratch / "browser.log")
    command = [sys.executable, "dashboard.py", str(port)]
    os.environ[WORKSPACE_ENV] = str(workspace.path)
    os.chdir(processes.PROJECT)
    if sys.platform != "win32":
        # The lock goes along into the dashboard and is let go when that ends.
        lock.hand_down()
        sys.stdout.flush()
        sys.stderr.flush()
        os.execv(command[0], command)
    return subprocess.call(command)


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        if sys.platform != "win32":
            # As the server does: a port that was used a moment ago is not in use.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except PermissionError:
            raise AtlasError(f"Port {port} needs special rights: choose one from 1024 on with --port.") from None
        except OSError:
            raise AtlasError(
                f"Port {port} is in use by another program: choose another, such as --port {port + 1 if port < 65535 else 8502}."
            ) from None


def _check_cache(workspace: Workspace) -> None:
    """Say here, not on every page, that the cache belongs to another dashboard or a newer program. Raises AtlasError."""
    from core.store.cache import Cache

    cache = Cache.open(workspace)
    for notice in cache.notices:
        note(notice)
    cache.close()


def open_browser(url: str) -> None:
    """Wait until the dashboard answers, then show it, if this machine has a screen."""
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return
    end = time.monotonic() + BROWSER_SECONDS
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(f"{url}/_stcore/health", timeout=2):
                webbrowser.open(url)
                return
        except OSError:
            time.sleep(0.3)


if __name__ == "__main__":
    open_browser(sys.argv[1])
