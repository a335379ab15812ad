"""What one dashboard process keeps open for one workspace: its cache, its registry, and the thread that looks for new results.

No Streamlit here. Nothing in this file may wait for a worker: pages are served while the first run goes on.
"""

import atexit
import contextlib
import gc
import importlib
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from core.errors import AtlasError
from core.runs import client, lanes
from core.runs.registry import Registry
from core.store.cache import Cache
from core.store.catalog import indexes
from core.ui import first_run
from core.workspace import Workspace

BACKGROUND_ENV = "NEURON_ATLAS_BACKGROUND"
"""`off`: this dashboard starts no worker and no thread. It shows what is there and queues what is asked."""
POLL_SECONDS = 2.0
WARM_SECONDS = 300.0
PATIENCE_SECONDS = 2.0
"""The first page waits at most this long for what runs have written; a large index is taken in behind the pages."""
_HEAVY = ("pandas", "plotly.graph_objects", "pyarrow.parquet", "numpy")
"""Imported while the server starts, so that no page waits for them."""

_frozen = threading.Lock()


@dataclass
class Server:
    """The open workspace. `notices` are sentences about what went wrong behind the pages, by what was being done."""

    workspace: Workspace
    cache: Cache
    registry: Registry
    background: bool
    notices: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    _stop: threading.Event = field(default_factory=threading.Event)
    _taken_in: threading.Event = field(default_factory=threading.Event)

    @property
    def read_only(self) -> bool:
        """Whether this dashboard only shows: whatever would write or start something is then absent from its pages, and refused below."""
        return self.workspace.read_only

    @classmethod
    def start(cls, path: str | Path | None = None) -> "Server":
        """Open the workspace, take in what runs have written, begin the first run if it is due. Raises AtlasError.

        A read-only one does no more than take in, into a cache of its own.
        """
        workspace = Workspace.open(path)
        registry = Registry(workspace)
        server = cls(workspace, Cache.open(workspace), registry, os.environ.get(BACKGROUND_ENV, "").lower() != "off")
        if server.background:
            if not server.read_only:
                server._attempt("workers", server._start_work)
            threading.Thread(target=server._watch, name="ingest", daemon=True).start()
        else:
            server.ingest()
        _import_what_pages_need()
        server._taken_in.wait(PATIENCE_SECONDS)
        freeze_once()
        atexit.register(server.leave)
        return server

    def close(self) -> None:
        """Stop the thread and let go of the cache."""
        self._stop.set()
        self.cache.close()

    def leave(self) -> None:
        """End with the dashboard's process: the warm model process goes too, a run under way goes on and is named."""
        if self.background and not self.read_only:
            with contextlib.suppress(AtlasError):
                client.stop(self.workspace)
                for run in self.registry.list(active=True):
                    sys.stderr.write(f"{run.id} goes on by itself; python -m core cancel {run.id} stops it.\n")
        self.close()
        # What is frozen is not collected while Python ends, and DuckDB would report each such object as a leak, in forty lines.
        gc.unfreeze()
        gc.collect()

    def ingest(self) -> None:
        """Take in what runs have published since. What is wrong with one run becomes a notice, not an exception."""
        self._attempt("ingest", lambda: [*self.cache.notices, *self.cache.ingest()])
        self._taken_in.set()

    def ensure_worker(self) -> None:
        """Start the batch worker if a run waits for one. Raises AtlasError."""
        if self.background or self.read_only:  # which is refused there
            lanes.ensure_workers(self.workspace)

    def _start_work(self) -> list[str]:
        first_run.begin(self.workspace, self.registry)
        lanes.resume_interrupted(self.workspace)
        return []

    def _watch(self) -> None:
        self.ingest()
        warmed = False
        while not self._stop.wait(POLL_SECONDS):
            self.ingest()
            if not warmed and not self.read_only and (found := indexes(self.workspace)):
                warmed = True
                threading.Thread(target=self._warm, args=(found[0].slug,), name="warm", daemon=True).start()

    def _warm(self, slug: str) -> None:
        """Start the model process and load the largest index's model, so that the first text is answered at once."""
        with contextlib.suppress(AtlasError):  # Try text asks again and says what is wrong
            client.call(self.workspace, "warm", WARM_SECONDS, subject=slug)

    def _attempt(self, what: str, act: Callable[[], list[str]]) -> None:
        """Do something that returns sentences to show, or raises one."""
        try:
            self.notices[what] = act()
        except AtlasError as error:
            self.notices[what] = [str(error)]
        except Exception as error:  # noqa: BLE001 - becomes the notice on every page; the thread must go on
            first = next(iter(str(error).splitlines()), "")[:300]
            self.notices[what] = [f"Internal error in {what}: {type(error).__name__}: {first}."]


def freeze_once() -> None:
    """Take everything loaded so far out of the collector's sight: a full collection would go through all that was imported."""
    if _frozen.acquire(blocking=False):
        gc.collect()
        gc.freeze()


def _import_what_pages_need() -> None:
    for module in _HEAVY:
        importlib.import_module(module)
