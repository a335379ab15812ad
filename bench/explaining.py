"""A run of explaining against an endpoint with a limit: `python -m bench.explaining [--units 2000] [--rate 60] [--json]`.

The units are of a synthetic index; the endpoint, on loopback in this process, knows them and lets so many calls a second through. The
worker is a process of its own. It is cancelled after a third of the calls and killed after two thirds; each time the run is resumed.
Calls a second are counted while it works, between a tenth of the calls and the cancel. Then the same units by the pattern explainer, one
after another.
"""

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.machine import machine
from core.autointerp.evidence import Library
from core.autointerp.explainers import pattern_explanation
from core.autointerp.judging import Control, judge
from core.autointerp.request import ExplainerChoice, ExplainRequest, Setting, SimulatorChoice
from core.autointerp.simulators import PatternSimulator
from core.llm.endpoint import Endpoint
from core.runs.registry import Registry
from core.store.explained import load_explained
from core.store.parts import read_columns
from core.units import UnitName
from core.workspace import Workspace
from tests.llm_endpoint import LlmEndpoint
from tests.oracle_index import KnowingOracle
from tests.synthetic import Recipe

ROOT = Path(__file__).resolve().parent.parent
LAYERS = 4
CALLS = 3
"""For each unit: one explanation, two records to simulate."""
PATTERNS = 100
PATIENCE = 1800.0


def measure(units: int, rate: float, concurrency: int) -> dict[str, Any]:
    """Both parts in a workspace of their own."""
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace.open(folder)
        begin = time.perf_counter()
        oracle = KnowingOracle(workspace, Recipe(n_layers=LAYERS, width=-(-units // LAYERS), contexts=256, length=24, signed=False))
        made = time.perf_counter() - begin
        names = [UnitName.parse(f"tiny/mlp.{n % LAYERS}/neurons/{n // LAYERS}") for n in range(units)]
        return {
            "machine": machine(),
            "units": units,
            "rate": rate,
            "concurrency": concurrency,
            "index_seconds": made,
            **over_http(workspace, oracle, names, rate, concurrency),
            "bare_calls_per_second": bare(workspace, oracle, names[: max(40, units // 10)], concurrency),
            "pattern": patterns(workspace, names),
        }


def over_http(workspace: Workspace, oracle: KnowingOracle, names: list[UnitName], rate: float, concurrency: int) -> dict[str, Any]:
    """The run that is cancelled, killed and resumed."""
    calls = CALLS * len(names)
    registry = Registry(workspace)
    with LlmEndpoint(answer=oracle.answer, rate=rate, over="wait", latency=0.1) as server:
        run = registry.submit("explain", request(server, names, concurrency).to_params())
        begin = time.perf_counter()
        first = worker(workspace)
        wait(lambda: server.answered >= calls // 10)
        at, answered = time.perf_counter(), server.answered
        wait(lambda: server.answered >= calls // 3)
        speed = (server.answered - answered) / (time.perf_counter() - at)
        asked = time.perf_counter()
        registry.request_cancel(run.id)
        first.wait(PATIENCE)
        cancelled = time.perf_counter() - asked
        before = server.requests
        registry.resume(run.id)
        second = worker(workspace)
        wait(lambda: server.answered >= 2 * calls // 3)
        after_cancel = again(server)
        os.kill(second.pid, signal.SIGKILL)
        second.wait()
        registry.resume(run.id)
        worker(workspace).wait(PATIENCE)
        seconds = time.perf_counter() - begin
        after_kill = again(server) - after_cancel
        requests, peak = server.requests, server.peak
    found = load_explained(workspace, run.id)
    tables = [read_columns(found.path(part, "explanations"), ["explanation", "failed"]) for part in found.parts]
    made = Counter(name for table in tables for name in table.column("explanation").to_pylist())
    return {
        "state": registry.get(run.id).state,
        "failed_units": sum(bool(reason) for table in tables for reason in table.column("failed").to_pylist()),
        "lost": len(names) - len(made),
        "made_twice": sum(made.values()) - len(made),
        "requests": requests,
        "requests_before_cancel": before,
        "peak_in_flight": peak,
        "asked_again_after_cancel": after_cancel,
        "asked_again_after_kill": after_kill,
        "asked_again_beyond_flight": max(0, after_kill - concurrency),
        "cancel_seconds": cancelled,
        "seconds": seconds,
        "calls_per_second": speed,
        "limit_to_calls": rate / speed,
    }


def bare(workspace: Workspace, oracle: KnowingOracle, names: list[UnitName], concurrency: int) -> float:
    """Calls a second of the same work when the endpoint has no limit: what this program and the endpoint's own process can do here."""
    with LlmEndpoint(answer=oracle.answer) as server:
        Registry(workspace).submit("explain", request(server, names, concurrency).to_params())
        process = worker(workspace)
        wait(lambda: server.answered > 0)
        begin, answered = time.perf_counter(), server.answered
        process.wait(PATIENCE)
        return (server.answered - answered) / (time.perf_counter() - begin)


def patterns(workspace: Workspace, names: list[UnitName]) -> dict[str, Any]:
    """Milliseconds a unit: reading it and fitting its pattern and sentence; simulating and scoring it, both controls included."""
    library, setting = Library(workspace), Setting()
    spent: dict[str, list[float]] = {"fit_ms": [], "score_ms": [], "whole_ms": []}
    other = pattern_explanation(library.evidence(names[-1], setting))
    for name in names[:PATTERNS]:
        begin = time.perf_counter()
        evidence = library.evidence(name, setting)
        explanation = pattern_explanation(evidence)
        fitted = time.perf_counter()
        asyncio.run(judge(evidence, explanation, setting, PatternSimulator(), "validation", [Control("shuffled", other)], 0))
        scored = time.perf_counter()
        for what, seconds in (("fit_ms", fitted - begin), ("score_ms", scored - fitted), ("whole_ms", scored - begin)):
            spent[what].append(1000 * seconds)
    return {what: {"median": statistics.median(times), "max": max(times)} for what, times in spent.items()}


def request(server: LlmEndpoint, names: list[UnitName], concurrency: int) -> ExplainRequest:
    endpoint = Endpoint(server.base_url, "tiny", concurrency=concurrency)
    setting = Setting(
        explainer=ExplainerChoice("token-activation", endpoint),
        simulator=SimulatorChoice("completions", endpoint),
        each=1,
        controls=("lookup",),
    )
    return ExplainRequest(tuple(names), (setting,))


def worker(workspace: Workspace) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "core.runs.worker", "--workspace", str(workspace.path)], cwd=ROOT)


def wait(condition: Callable[[], bool]) -> None:
    """Raises TimeoutError."""
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("the run has not come so far in half an hour")
        time.sleep(0.01)


def again(server: LlmEndpoint) -> int:
    """Requests that had been made before."""
    with server.lock:
        bodies = Counter(json.dumps(body, sort_keys=True) for body in server.bodies)
    return sum(bodies.values()) - len(bodies)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--units", type=int, default=2000)
    parser.add_argument("--rate", type=float, default=60.0, help="calls a second that the endpoint lets through")
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(options.units, options.rate, options.concurrency)
    if options.json:
        sys.stdout.write(json.dumps(found, indent=1) + "\n")
    else:
        for name, value in found.items():
            sys.stdout.write(f"{name}: {value}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
