"""Commands about the dashboard and its cache: `serve` and `rebuild`."""

import argparse
import errno
import importlib.util
import ipaddress
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
import webbrowser
from dataclasses import dataclass
from pathlib import Path

from core.access import LOGIN_ENV, Access, login_files, read_access
from core.commands.output import emit, note
from core.errors import AtlasError, shown
from core.runs import processes
from core.runs.locks import FileLock, dashboard_lock
from core.runs.registry import Registry
from core.workspace import READ_ONLY_ENV, WORKSPACE_ENV, Workspace, write_atomic

BROWSER_SECONDS = 90.0
HERE = "127.0.0.1"
_BASE_PATH = re.compile(r"[A-Za-z0-9._~-]+(/[A-Za-z0-9._~-]+)*")


@dataclass(frozen=True)
class Place:
    """Where a dashboard is to be found: the address and port it listens at, and the path below which its pages are (empty, or `a/b`)."""

    host: str
    port: int
    base: str

    @property
    def url(self) -> str:
        """The address on this machine, or on the network where it listens to that."""
        host = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname(), "localhost": HERE}.get(self.host, self.host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}" + (f"/{self.base}" if self.base else "")

    @property
    def local(self) -> bool:
        """Whether nobody outside this machine can reach it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


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
    place = _place(arguments)
    login = _login(arguments.login)
    if not (place.local or workspace.read_only or login):
        raise AtlasError(f"Whoever reaches {place.host} could change this workspace: add --read-only, or a login (docs/serving.md).")
    with dashboard_lock(workspace) as lock:
        return _serve(workspace, place, lock, browser=not arguments.no_browser)


def _place(arguments: argparse.Namespace) -> Place:
    port: int = arguments.port
    if not 1 <= port <= 65535:
        raise AtlasError(f"{port} is not a port: choose one from 1024 to 65535 with --port.")
    base = str(arguments.base_path or "").strip("/")
    if base and (not _BASE_PATH.fullmatch(base) or {".", ".."} & set(base.split("/"))):
        raise AtlasError(f"“{shown(base)}” is not a path to serve under: write letters, digits and - . _ ~ with / between, such as atlas.")
    return Place(str(arguments.host or HERE), port, base)


def _login(asked: str | None) -> Access | None:
    """Who may come in, None where everybody may who reaches the port. Raises AtlasError when a login is asked for that cannot work."""
    if asked is not None:
        if not Path(asked).is_file():
            raise AtlasError(f"There is no file {asked}: --login names the one that says who may come in (docs/serving.md).")
        os.environ[LOGIN_ENV] = str(Path(asked).absolute())
    access = read_access(login_files())
    if asked is not None and access is None:
        raise AtlasError(f"{asked} says nothing of a login: write [auth] and [access] into it, as docs/serving.md shows.")
    if access is not None and None in map(importlib.util.find_spec, ("authlib", "httpx")):
        raise AtlasError("A login needs packages that are not installed: pip install -r requirements-login.txt.")
    return access


def _serve(workspace: Workspace, place: Place, lock: FileLock, *, browser: bool) -> int:
    address = workspace.scratch / "dashboard.txt"
    if not lock.acquire():
        where = f" at {address.read_text('utf8')}" if address.exists() else ""
        raise AtlasError(
            f"A dashboard is already open on {workspace.path}{where}: use that one, or choose another workspace with --workspace."
        )
    _check_port(place)
    _check_cache(workspace)
    url = place.url
    write_atomic(address, url.encode())
    how = ", read-only" if workspace.read_only else ""
    note(f"Neuron Atlas opens at {url} (workspace {workspace.path}{how}); Ctrl-C ends it.")
    if browser:
        processes.spawn(["-m", "core.commands.serving", url], workspace.scratch / "browser.log")
    command = [sys.executable, "dashboard.py", str(place.port), place.host, place.base]
    os.environ[WORKSPACE_ENV] = str(workspace.path)
    if workspace.own is not None:
        os.environ[READ_ONLY_ENV] = str(workspace.own)
    os.chdir(processes.PROJECT)
    if sys.platform != "win32":
        # The lock goes along into the dashboard and is let go when that ends.
        lock.hand_down()
        sys.stdout.flush()
        sys.stderr.flush()
        os.execv(command[0], command)
    return subprocess.call(command)


def _check_port(place: Place) -> None:
    port = place.port
    try:
        family, _, _, _, address = socket.getaddrinfo(place.host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except OSError:
        raise AtlasError(f"“{shown(place.host)}” is not an address of this machine: choose one with --host, such as 0.0.0.0.") from None
    with socket.socket(family) as probe:
        if sys.platform != "win32":
            # As the server does: a port that was used a moment ago is not in use.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except PermissionError:
            raise AtlasError(f"Port {port} needs special rights: choose one from 1024 on with --port.") from None
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                raise AtlasError(f"“{shown(place.host)}” is not an address of this machine: choose another with --host.") from None
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
