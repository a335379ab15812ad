"""Runs of explaining or of puzzles below the form that starts them: progress, rate, time left, what was spent, and what can be done."""

import contextlib
import html
from collections.abc import Callable, Sequence

import streamlit as st

from core.errors import AtlasError
from core.runs.registry import Run
from core.store.explained import load_explained
from core.store.explanation_queries import generation
from core.store.puzzle_results import load_puzzle_results
from core.ui import state, words
from core.ui.explain_estimate import title
from core.ui.prose import quiet, sentence
from core.ui.run_list import kept, progress_line
from core.ui.server import Server

LIVE_SECONDS = 1.0
SHOWN = 5
_SAID = "explain_runs_said"
Wanted = Callable[[Run], bool]


def explain_runs(server: Server, wanted: Wanted, *, none: str) -> None:
    """Show active and recent runs. wanted: which. none: said when there is none. `?run=` is the one whose results the page shows."""
    active = any(run.active for run in _runs(server, wanted))
    st.fragment(_draw, run_every=LIVE_SECONDS if active else None)(server, wanted, none, active)


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
        run = max(_runs(server, wanted), key=lambda run: run.created, default=None)
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


def _runs(server: Server, wanted: Wanted) -> list[Run]:
    found = [run for run in server.registry.list() if wanted(run)]
    return sorted(found, key=lambda run: (not run.active, -run.created))


def _draw(server: Server, wanted: Wanted, none: str, active: bool) -> None:
    runs = _runs(server, wanted)
    newest = max(runs, key=lambda run: run.created).id if runs else ""
    if said := st.session_state.pop(_SAID, None):
        sentence(said)
    if not runs:
        quiet(none, small=False)
    for place, run in enumerate(_with(runs, state.raw("run"))):
        _entry(server, run, first=place == 0, shown=run.id == (state.raw("run") or newest))
    if len(runs) > SHOWN:
        quiet(f"{words.count(len(runs) - SHOWN, 'older run')} on the Runs page.")
    if active != any(run.active for run in runs):
        st.rerun()


def _with(runs: Sequence[Run], asked: str) -> list[Run]:
    """The first few, and the one that was asked for."""
    return [run for place, run in enumerate(runs) if place < SHOWN or run.id == asked]


def _entry(server: Server, run: Run, *, first: bool, shown: bool) -> None:
    """first: below a heading, which has a line already. shown: its results are on the page."""
    share = min(1.0, run.done / run.total) if run.total else 0.0
    bar = f'<div class="na-bar"><i style="width:{100 * share:.1f}%"></i></div>' if run.active else ""
    error = f'<div class="na-alert">{html.escape(run.error)}</div>' if run.error else ""
    line = " · ".join(part for part in (progress_line(run), spent(server, run)) if part)
    plain = ' style="border-top:0"' if first else ""
    with st.container(key=f"explained_{run.id}", gap="small"):
        st.html(
            f'<div class="na-run"{plain}><div class="na-run-head"><b>{html.escape(title(run.params) or run.kind)}</b>'
            f'<span class="na-state {run.state}">{run.state}</span>'
            f'<span class="na-muted na-small">{html.escape(run.id)} · {words.when(run.created)}</span></div>{bar}'
            f'<div class="na-muted na-small na-num">{html.escape(line)}</div>{error}</div>'
        )
        with st.container(horizontal=True, gap="small"):
            if run.active:
                st.button("Cancel", key=f"cancel_{run.id}", on_click=_cancel, args=(server, run.id), disabled=run.cancel_requested)
            elif run.resumable:
                st.button(
                    "Resume" if kept(server.registry.folder(run.id)) else "Retry",
                    key=f"resume_{run.id}",
                    on_click=_resume,
                    args=(server, run.id),
                )
            if not shown and st.button("Show results", key=f"show_{run.id}", type="tertiary"):
                state.write(run=run.id, page=None, sort=None)
                st.rerun()


def _cancel(server: Server, run: str) -> None:
    try:
        server.registry.request_cancel(run)
    except AtlasError as error:
        st.session_state[_SAID] = str(error)


def _resume(server: Server, run: str) -> None:
    try:
        server.registry.resume(run)
        server.ensure_worker()
    except AtlasError as error:
        st.session_state[_SAID] = str(error)
