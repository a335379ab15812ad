"""The run that does exactly what a page's fields ask for (`Registry.newest`): started, stopped, and its state in a line."""

import html
from typing import Any

import streamlit as st

from core.errors import AtlasError
from core.runs.registry import Run
from core.ui.prose import sentence
from core.ui.run_list import progress_line, title
from core.ui.server import BACKGROUND_ENV, Server

LIVE_SECONDS = 0.5
_SAID = "asked-run-said"


def others_at_work(server: Server, kind: str, run: Run | None) -> list[Run]:
    """Active runs of the kind that the fields do not ask for."""
    return [one for one in server.registry.list(active=True) if one.kind == kind and (run is None or one.id != run.id)]


def start(server: Server, kind: str, params: dict[str, Any]) -> None:
    """A button's callback: queue the run, or go on with one that was stopped, in the lane of the warm model process."""
    try:
        server.registry.submit(kind, params, lane="model")
        server.ensure_worker()
    except AtlasError as error:
        st.session_state[_SAID] = str(error)


def stop(server: Server, run: str) -> None:
    """A button's callback."""
    try:
        server.registry.request_cancel(run)
    except AtlasError as error:
        st.session_state[_SAID] = str(error)


def said() -> None:
    """Why the last button did nothing, said once."""
    if text := st.session_state.pop(_SAID, None):
        sentence(text)


def status(server: Server, run: Run, *, stopped: str, stoppable: str, name: bool = False) -> None:
    """Where a run is, why it failed, and its stop button. stopped: said of one that was stopped. stoppable: what the button says."""
    if run.state == "done":
        return
    share = min(1.0, run.done / run.total) if run.total else 0.0
    bar = f'<div class="na-bar"><i style="width:{100 * share:.1f}%"></i></div>' if run.active else ""
    told = f"<b>{html.escape(title(run))}</b>" if name else ""
    state = "stopped" if run.state == "cancelled" else run.state
    with st.container(horizontal=True, vertical_alignment="center", key=f"asked-{run.id}"):
        st.html(
            f'<div class="na-run" role="status" style="border-top:0"><div class="na-run-head">{told}'
            f'<span class="na-state {run.state}">{state}</span>'
            f'<span class="na-muted na-small na-num">{html.escape(progress_line(run, server.registry))}</span></div>{bar}</div>'
        )
        if run.active and not server.read_only:
            st.button(stoppable, key=f"stop-{run.id}", on_click=stop, args=(server, run.id), disabled=run.cancel_requested)
    if run.state == "queued" and not server.background:
        sentence(f"No worker does it: this dashboard was started with {BACKGROUND_ENV}=off.")
    if run.state == "cancelled":
        st.html(f'<p class="na-muted na-small">{html.escape(stopped)}</p>')
    if run.error:
        sentence(run.error)
