"""Runs of explaining or of puzzles below the form that starts them: progress, rate, time left, what was spent, and what can be done."""

import contextlib

from core.errors import AtlasError
from core.runs.registry import Run
from core.store.explained import load_explained
from core.store.explanation_queries import generation
from core.store.puzzle_results import load_puzzle_results
from core.ui import state, words
from core.ui.live_runs import LiveRuns, Wanted, runs_of
from core.ui.server import Server


def explain_runs(server: Server, wanted: Wanted, *, none: str) -> None:
    """Show active and recent runs. wanted: which. none: said when there is none. `?run=` is the one whose results the page shows."""
    LiveRuns(wanted, none, beside=spent).draw(server)


def shown_run(server: Server, wanted: Wanted, accepted: Wanted | None = None) -> Run | None:
    """The run whose results the page shows: the one in the address, else the newest. Raises AtlasError for a wrong `run`.

    accepted: which the address may name, when there are more of them than the list shows.
    """
    asked = state.raw("run")
    if asked:
        run = server.registry.get(asked)
        if not (accepted or wanted)(run):
            raise AtlasError(f"The run {run.id} has no results for this page: choose one of the list.")
    else:
        run = max(runs_of(server, wanted), key=lambda run: run.created, default=None)
    if run is not None and run.kind == "explain" and not run.active:
        _take_in(server, run)
    return run


def _take_in(server: Server, run: Run) -> None:
    """The last part of a run that has just ended, before it is drawn: what has ended is not drawn again by itself."""
    with contextlib.suppress(AtlasError):  # it published nothing
        if load_explained(server.workspace, run.id).generation != generation(server.cache, run.id):
            server.ingest()


def spent(server: Server, run: Run) -> str:
    """What the run has spent so far, in words; empty when it asked no language model."""
    try:
        if run.kind == "puzzles":
            results = load_puzzle_results(server.workspace, run.id)
            spend = None if results is None else results.spend
        else:
            spend = load_explained(server.workspace, run.id).spend
    except AtlasError:
        return ""  # nothing was published yet, or what was is damaged: the results say so
    if not spend or not (spend.get("calls") or spend.get("cached")):
        return ""
    tokens = int(spend.get("tokens_in") or 0) + int(spend.get("tokens_out") or 0)
    parts = [words.count(int(spend.get("calls") or 0), "call"), words.count(tokens, "token")]
    if spend.get("money"):
        parts.append(f"price {float(spend['money']):,.4g}")
    if spend.get("cached"):
        parts.append(f"{words.count(int(spend['cached']), 'answer')} kept from before")
    return "spent " + ", ".join(parts)
