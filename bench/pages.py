"""The real dashboard over a real index of the embedded model: what a view costs, and how long people wait.

    python -m bench.pages [--workspace DIR] [--quick] [--json]

Measures, one after another: the server's CPU time per view of the Unit page, after warm-up; from the key `j` to the next unit in
Chromium; twenty viewers with a pause of two seconds, first alone and then while an index runs in the batch lane; lookups in the store.
Without `--workspace` an index of 512 contexts is made first (minutes). With it, the workspace is copied and stays as it is.
Linux only: other systems do not tell another process's CPU time finely enough.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench import browser
from bench.dashboard import Dashboard, await_model_process, borrow, command, cpu_seconds, make_index, serving, settle
from bench.figures import spread, table, timed
from bench.machine import load, machine
from bench.viewer import Crowd, Viewer, crowd
from core.runs.registry import Registry, Run
from core.store.cache import Cache
from core.store.catalog import IndexInfo, indexes
from core.store.queries import explore
from core.store.units import load_unit
from core.units import UnitName
from core.workspace import Workspace

WARM_VIEWS = 10
PAUSE_SECONDS = 2.0
VIEWERS = 20
INDEX_CONTEXTS = 2048
READING = "reading the text"
"""The stage of an index that does the work."""
READING_SECONDS = 120.0
"""How long the second index may take to come to it."""
ALONE_SECONDS = 5.0


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    views: int = 40
    visits: int = 15
    steps: int = 24
    crowd_seconds: float = 40.0
    lookups: int = 200
    contexts: int = 512


QUICK = Size(views=15, visits=5, steps=8, crowd_seconds=12.0, lookups=50, contexts=64)


def measure(given: Path | None, size: Size) -> dict[str, Any]:
    """All figures. Times in milliseconds unless the name says otherwise."""
    with tempfile.TemporaryDirectory(prefix="bench-pages-") as folder:
        home = Path(folder) / "workspace"
        if given is None:
            make_index(home, size.contexts)
        else:
            borrow(given, home)
        workspace = Workspace.open(home)
        index = _complete(workspace)
        units = _units(index, 400, 1)
        found: dict[str, Any] = {"machine": machine(), "index": {"units": _count(index), "contexts": index.contexts_done}}
        log = Path(folder) / "serve.log"
        with serving(workspace, log) as dashboard:
            asyncio.run(_warm_up(dashboard, units))
            await_model_process(workspace)
            for name, ask in {
                "view": lambda: asyncio.run(_views(dashboard, units, size)),
                "next": lambda: _next(dashboard, index, size),
                "viewers": lambda: _crowd(dashboard, units, size),
                "viewers_during_index": lambda: _crowd_during_index(dashboard, units, size),
            }.items():
                found[name] = _with_load(ask)
            if found["viewers"]["errors"] or found["viewers_during_index"].get("errors"):
                found["server_log_end"] = log.read_text("utf8", errors="replace")[-2000:]
        found["lookups"] = _with_load(lambda: _lookups(workspace, index, size))
        return found


def _with_load(ask: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The figures, and how busy the machine was just before."""
    before = load()
    return {**ask(), "load_before": before}


def _complete(workspace: Workspace) -> IndexInfo:
    found = [index for index in indexes(workspace) if index.complete]
    if not found:
        raise SystemExit(f"{workspace.path} holds no complete index: make one, or leave --workspace out.")
    return found[0]


def _count(index: IndexInfo) -> int:
    return sum(index.units_at(site) for site in index.sites)


def _units(index: IndexInfo, count: int, seed: int) -> list[UnitName]:
    """Units by chance, over all sites."""
    choice = random.Random(seed)
    sites = [choice.choice(index.sites) for _ in range(count)]
    return [UnitName(index.slug, site, index.basis, choice.randrange(index.units_at(site))) for site in sites]


async def _warm_up(dashboard: Dashboard, units: list[UnitName]) -> None:
    async with Viewer(dashboard.port) as viewer:
        for unit in units[-WARM_VIEWS:]:
            await viewer.see(unit)


async def _views(dashboard: Dashboard, units: list[UnitName], size: Size) -> dict[str, Any]:
    """One viewer, different units. CPU is counted until the server rests: the page, what it reads ahead, Streamlit's tidying."""
    cpu: list[float] = []
    wall: list[float] = []
    bytes_: list[float] = []
    async with Viewer(dashboard.port) as viewer:
        await viewer.see(units[0])
        for unit in units[1 : size.views + 1]:
            before = settle(dashboard.pid)
            seen = await viewer.see(unit)
            cpu.append(1000 * (settle(dashboard.pid) - before))
            wall.append(1000 * seen.seconds)
            bytes_.append(seen.bytes)
    visits: list[float] = []
    for unit in units[-size.visits :]:
        before = settle(dashboard.pid)
        async with Viewer(dashboard.port) as viewer:
            await viewer.see(unit)
        visits.append(1000 * (settle(dashboard.pid) - before))
    before, begin = settle(dashboard.pid), time.perf_counter()
    await asyncio.sleep(4 * PAUSE_SECONDS)
    idle = (cpu_seconds(dashboard.pid) - before) / (time.perf_counter() - begin)
    return {
        "cpu_ms": spread(cpu),
        "until_finished_ms": spread(wall),
        "kilobytes_median": round(float(np.median(bytes_)) / 1000, 1),
        "fresh_visit_cpu_ms": spread(visits),
        "idle_cpu_ms_per_second": round(1000 * idle, 2),
    }


def _next(dashboard: Dashboard, index: IndexInfo, size: Size) -> dict[str, Any]:
    reason = browser.missing()
    if reason is not None:
        return {"skipped": reason}
    first = UnitName(index.slug, index.sites[len(index.sites) // 2], index.basis, 300)
    seen = browser.next_to_visible(dashboard.url, dashboard.workspace, first, size.steps)
    return {"visible_ms": spread([value for value in seen if value is not None]), "never": seen.count(None)}


def _crowd(dashboard: Dashboard, units: list[UnitName], size: Size) -> dict[str, Any]:
    before = cpu_seconds(dashboard.pid)
    own = time.process_time()
    found = asyncio.run(crowd(dashboard.port, units, VIEWERS, PAUSE_SECONDS, size.crowd_seconds, seed=2))
    server = cpu_seconds(dashboard.pid) - before
    return {
        "viewers": VIEWERS,
        **_said(found),
        "server_cores": round(server / found.lasted, 2),
        "server_cpu_ms_a_view": round(1000 * server / max(1, len(found.seconds)), 1),
        "viewers_cores": round((time.process_time() - own) / found.lasted, 2),
    }


def _crowd_during_index(dashboard: Dashboard, units: list[UnitName], size: Size) -> dict[str, Any]:
    """The same while an index of the same model over more text runs. It must be at its text all the time."""
    registry = Registry(dashboard.workspace)
    run = command(
        dashboard.workspace.path, "index", "--model", "default", "--corpus", "embedded", "--contexts", str(INDEX_CONTEXTS),
        "--sites", "mlp.all", "--detach",
    )["id"]  # fmt: skip
    end = time.monotonic() + READING_SECONDS
    while not _reads(now := registry.get(run)) and time.monotonic() < end:
        time.sleep(0.2)
    if not _reads(now) or now.pid is None:
        return {"skipped": f"the index did not come to its text within {READING_SECONDS:g} s: {now.state}, {now.error or now.stage}"}
    alone = _cores(now.pid, lambda: time.sleep(ALONE_SECONDS))
    result: dict[str, Any] = {}
    begin = time.perf_counter()
    beside = _cores(now.pid, lambda: result.update(_crowd(dashboard, units, size)))
    after = registry.get(run)
    rate = (after.done - now.done) / (time.perf_counter() - begin + ALONE_SECONDS)
    registry.request_cancel(run)
    return {
        **result,
        "index_niceness": _niceness(now.pid),
        "index_cores_alone": round(alone, 2),
        "index_cores_beside_viewers": round(beside, 2),
        "index_contexts_per_second": round(rate, 2),
        "index_ran_all_the_time": _reads(after),
    }


def _reads(run: Run) -> bool:
    return run.state == "running" and run.stage == READING and run.done > 0


def _cores(pid: int, act: Callable[[], object]) -> float:
    """CPU seconds a second of a process while something is done."""
    before, begin = cpu_seconds(pid), time.perf_counter()
    act()
    return (cpu_seconds(pid) - before) / (time.perf_counter() - begin)


def _niceness(pid: int) -> int | None:
    try:
        return os.getpriority(os.PRIO_PROCESS, pid)
    except ProcessLookupError:
        return None


def _said(found: Crowd) -> dict[str, Any]:
    slow = [value for value in found.seconds if value >= 0.4]
    return {
        "views": len(found.seconds),
        "views_per_second": round(len(found.seconds) / found.lasted, 2),
        "until_finished_ms": spread([1000 * value for value in found.seconds]),
        "share_under_400_ms": round(1 - len(slow) / max(1, len(found.seconds)), 4),
        "errors": len(found.errors),
        "first_errors": found.errors[:3],
    }


def _lookups(workspace: Workspace, index: IndexInfo, size: Size) -> dict[str, Any]:
    """The dashboard is closed now: the cache has one owner."""
    cache = Cache.open(workspace)
    try:
        cache.ingest()
        asked: dict[str, Callable[[], object]] = {
            "explore_first_page_ms": lambda: explore(cache, index.run),
            "explore_ranges_ms": lambda: explore(cache, index.run, density=(0.001, 0.05), kurtosis=(10, None), maximum=(2, 20)),
            "explore_text_rare_ms": lambda: explore(cache, index.run, text="Shakespeare"),
            "explore_text_common_ms": lambda: explore(cache, index.run, text="the"),
            "explore_top_token_ms": lambda: explore(cache, index.run, token="because"),
        }
        found: dict[str, Any] = {name: spread([timed(ask) for _ in range(10)]) for name, ask in asked.items()}
    finally:
        cache.close()
    units = _units(index, size.lookups + 1, 3)
    load_unit(workspace, units[0])
    used = time.process_time()
    found["load_unit_ms"] = spread([timed(lambda unit=unit: load_unit(workspace, unit)) for unit in units[1:]])
    found["load_unit_cpu_ms"] = round(1000 * (time.process_time() - used) / size.lookups, 2)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workspace", type=Path, help="an existing workspace with an index to measure on; it is copied")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions and a small index")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended from outside"))  # the dashboard and its workers must not stay behind
    found = measure(options.workspace, QUICK if options.quick else Size())
    sys.stdout.write(json.dumps(found, indent=1) + "\n" if options.json else table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
