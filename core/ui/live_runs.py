"""Runs of some kinds below the form that starts them: progress, rate, time left, what can be done. Live while one is at work."""

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import streamlit as st

from core.errors import AtlasError
from core.runs.registry import Run
from core.ui import state, words
from core.ui.prose import quiet, sentence
from core.ui.run_list import kept, progress_line, title
from core.ui.server import Server

LIVE_SECONDS = 1.0
SHOWN = 5
NOTHING_KEPT = "There is nothing of this kind here."
"""Said instead of what would start it, where nothing can be started."""
_SAID = "live_runs_said"
Wanted = Callable[[Run], bool]


def _nothing(server: Server, run: Run) -> str:
    return ""


def _always(run: Run) -> bool:
    return True


@dataclass(frozen=True)
class LiveRuns:
    """Which runs a page shows, and how.

    none: said when there is none. beside: what else a run's line says. has_results, results: which runs have results on this page (`?run=`
    names the one shown), and what the button to them says. forgets: what the address loses when other results are shown.
    """

    wanted: Wanted
    none: str
    beside: Callable[[Server, Run], str] = _nothing
    has_results: Wanted = _always
    results: str = "Show results"
    forgets: tuple[str, ...] = ("page", "sort")

    def found(self, server: Server) -> list[Run]:
        """Active runs first, then the newest."""
        return runs_of(server, self.wanted)

    def newest(self, server: Server) -> Run | None:
        """The run whose results are shown when the address names none."""
        return max((run for run in self.found(server) if self.has_results(run)), key=lambda run: run.created, default=None)

    def draw(self, server: Server) -> None:
        """Show active and recent runs. When one of them begins or ends, the whole page is drawn again."""
        active = _active(self.found(server))
        st.fragment(_draw, run_every=LIVE_SECONDS if active else None)(server, self, active)


def runs_of(server: Server, wanted: Wanted) -> list[Run]:
    found = [run for run in server.registry.list() if wanted(run)]
    return sorted(found, key=lambda run: (not run.active, -run.created))


def _active(runs: Sequence[Run]) -> frozenset[str]:
    return frozenset(run.id for run in runs if run.active)


def _draw(server: Server, view: LiveRuns, active: frozenset[str]) -> None:
    runs = view.found(server)
    newest = view.newest(server)
    opened = state.raw("run") or (newest.id if newest is not None else "")
    if said := st.session_state.pop(_SAID, None):
        sentence(said)
    if not runs:
        quiet(NOTHING_KEPT if server.read_only else view.none, small=False)
    for place, run in enumerate(_with(runs, state.raw("run"))):
        _entry(server, view, run, first=place == 0, shown=run.id == opened)
    if len(runs) > SHOWN:
        quiet(f"{words.count(len(runs) - SHOWN, 'older run')} on the Runs page.")
    if active != _active(runs):
        st.rerun()


def _with(runs: Sequence[Run], asked: str) -> list[Run]:
    """The first few, and the one that was asked for."""
    return [run for place, run in enumerate(runs) if place < SHOWN or run.id == asked]


def _entry(server: Server, view: LiveRuns, run: Run, *, first: bool, shown: bool) -> None:
    """first: below a heading, which has a line already. shown: its results are on the page."""
    share = min(1.0, run.done / run.total) if run.total else 0.0
    bar = f'<div class="na-bar"><i style="width:{100 * share:.1f}%"></i></div>' if run.active else ""
    error = f'<div class="na-alert">{html.escape(run.error)}</div>' if run.error else ""
    line = " · ".join(part for part in (progress_line(run, server.registry), view.beside(server, run)) if part)
    plain = ' style="border-top:0"' if first else ""
    with st.container(key=f"live_{run.id}", gap="small"):
        st.html(
            f'<div class="na-run"{plain}><div class="na-run-head"><b>{html.escape(title(run))}</b>'
            f'<span class="na-state {run.state}">{run.state}</span>'
            f'<span class="na-muted na-small">{html.escape(run.id)} · {words.when(run.created)}</span></div>{bar}'
            f'<div class="na-muted na-small na-num">{html.escape(line)}</div>{error}</div>'
        )
        with st.container(horizontal=True, gap="small"):
            if run.active and not server.read_only:
                st.button("Cancel", key=f"cancel_{run.id}", on_click=_cancel, args=(server, run.id), disabled=run.cancel_requested)
            elif run.resumable and not server.read_only:
                label = "Resume" if kept(server.registry.folder(run.id)) else "Retry"
                st.button(label, key=f"resume_{run.id}", on_click=_resume, args=(server, run.id))
            if not shown and view.has_results(run) and st.button(view.results, key=f"show_{run.id}", type="tertiary"):
                state.write(run=run.id, **dict.fromkeys(view.forgets))
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
