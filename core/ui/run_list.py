"""The list of runs: state, progress, what can be done with each, and the end of its log. Redrawn every second while something runs."""

import html
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import streamlit as st

from core.bases.run_titles import KINDS as DICTIONARY_KINDS
from core.bases.run_titles import title as dictionary_title
from core.causal import run_titles as causal
from core.errors import AtlasError
from core.runs.processes import tail
from core.runs.registry import Registry, Run
from core.store.catalog import imported_runs
from core.ui import nav, state, words
from core.ui.explain_estimate import title as explained_title
from core.ui.prose import facts, quiet, sentence
from core.ui.server import Server

LIVE_SECONDS = 1.0
IDLE_SECONDS = 5.0
SHOWN = 30
LOG_LINES = 14
_SAID = "runs_said"
RESULTS = {"explain": "explain", "puzzles": "studies"} | dict.fromkeys(DICTIONARY_KINDS, "features")
VIEW = {"puzzles": {"view": "puzzles"}}
"""Where a run's results are shown, and how, by its kind."""
Action = Callable[[Server, str], None]


def run_list(server: Server) -> None:
    """Show all runs of the workspace, and one of them (`?run=`) with its parameters and log. Raises AtlasError for a wrong `run`."""
    wanted = state.raw("run")
    if wanted:
        server.registry.get(wanted)
    seconds = LIVE_SECONDS if server.registry.list(active=True) else IDLE_SECONDS
    st.fragment(_draw, run_every=seconds)(server, seconds == LIVE_SECONDS)
    if came := imported_runs(server.workspace):
        with st.expander(f"{words.count(len(came), 'run')} came in files of others"):
            quiet("To take one out again, delete its folder below runs/ of the workspace and run python -m core rebuild.")
            st.html("".join(f'<div class="na-small na-num">{html.escape(run)}</div>' for run in came))


def title(run: Run) -> str:
    """What a run is about, in a line: model, text, sites; of one that explains, who and how many; of dictionaries, which."""
    if run.kind != "index":
        return dictionary_title(run.kind, run.params) or causal.title(run.kind, run.params) or explained_title(run.params) or run.kind
    params = run.params
    corpus = params.get("corpus")
    source = corpus.get("source") if isinstance(corpus, dict) else corpus
    basis = params.get("basis")
    parts = [f"Index {basis}" if basis else None, params.get("model"), source, params.get("sites")]
    return " · ".join(str(part) for part in parts if part) or run.kind


def progress_line(run: Run, registry: Registry) -> str:
    """Where a run is: `1,024 of 4,096 contexts · 210 a second · 15 s left`."""
    if run.state == "queued":
        return f"waiting for the worker{_ahead(run, registry)}"
    parts = [run.stage or "starting: its libraries are being loaded"] if run.active else []
    if run.total:
        parts.append(f"{run.done:,} of {run.total:,} {run.unit}")
    if run.state == "running":
        if run.rate:
            parts.append(f"{run.rate:,.0f} a second" if run.rate >= 10 else f"{run.rate:.1f} a second")
        if run.seconds_left is not None and run.done < run.total:
            parts.append(f"{words.duration(run.seconds_left)} left")
        if run.cancel_requested:
            parts.append("stopping")
    elif run.started and run.finished:
        parts.append(f"took {words.duration(run.finished - run.started)}")
    if run.message and run.message != run.stage:
        parts.append(run.message)
    return " · ".join(parts)


def _ahead(run: Run, registry: Registry) -> str:
    """What the worker does before a queued run, and how to be sooner: a run of the batch lane may take an hour."""
    others = registry.list(active=True)
    now = next((one for one in others if one.lane == run.lane and one.state == "running"), None)
    if now is None:
        return ""
    left = "" if now.seconds_left is None or now.done >= now.total else f" ({words.duration(now.seconds_left)} left)"
    between = sum(one.lane == run.lane and one.state == "queued" and one.queued < run.queued for one in others)
    more = f" and {words.count(between, 'run')} after it" if between else ""
    sooner = "; to go before it, cancel that on Runs and resume it later" if run.lane == "batch" else ""
    return f", which first does “{title(now)}”{left}{more}{sooner}"


def progress_html(run: Run, registry: Registry) -> str:
    """Title, state, a thin bar and the line below it, as inert HTML."""
    done = min(1.0, run.done / run.total) if run.total else 0.0
    bar = f'<div class="na-bar"><i style="width:{100 * done:.1f}%"></i></div>' if run.active else ""
    error = f'<div class="na-alert">{html.escape(run.error)}</div>' if run.error else ""
    return (
        f'<div class="na-run"><div class="na-run-head"><b>{html.escape(title(run))}</b>'
        f'<span class="na-state {run.state}">{run.state}</span>'
        f'<span class="na-muted na-small">{html.escape(run.id)} · {words.when(run.created)}</span></div>{bar}'
        f'<div class="na-muted na-small na-num">{html.escape(progress_line(run, registry))}</div>{error}</div>'
    )


def _draw(server: Server, live: bool) -> None:
    runs = server.registry.list()
    if said := st.session_state.pop(_SAID, None):
        sentence(said)
    if not runs:
        start = "" if server.read_only else " Start an index above: its progress, log and result appear here."
        quiet(f"No run yet.{start}", small=False)
    opened = state.raw("run")
    for run in sorted(runs, key=lambda run: (not run.active, -run.created))[:SHOWN]:
        _entry(server, run, run.id == opened)
    if len(runs) > SHOWN:
        quiet(f"{words.count(len(runs) - SHOWN, 'older run')}: python -m core runs --all lists them.")
    if live != any(run.active for run in runs):
        st.rerun()


def _entry(server: Server, run: Run, opened: bool) -> None:
    with st.container(key=f"run_{run.id}", gap="small"):
        st.html(progress_html(run, server.registry))
        with st.container(horizontal=True, gap="small"):
            if run.active and not server.read_only:
                _button("Cancel", run, _cancel, server, disabled=run.cancel_requested)
            elif run.resumable and not server.read_only:
                _button("Resume" if kept(server.registry.folder(run.id)) else "Retry", run, _resume, server)
            if (
                run.kind == "index"
                and (server.registry.folder(run.id) / "manifest.json").exists()
                and st.button("Explore it", key=f"explore_{run.id}", type="tertiary")
            ):
                nav.open_page("explore", {"run": run.id})
            shown = causal.results(run.kind, run.id, run.params)
            if shown is not None and st.button("See results", key=f"results_{run.id}", type="tertiary"):
                nav.open_page(*shown)
            page = RESULTS.get(run.kind)
            if page is not None and st.button("See results", key=f"results_{run.id}", type="tertiary"):
                nav.open_page("studies" if run.params.get("study") else page, {"run": run.id} | VIEW.get(run.kind, {}))
            _button("Hide details" if opened else "Details", run, _toggle, server, quiet=True)
        if opened:
            _details(server, run)


def kept(folder: Path) -> bool:
    """Whether an attempt left anything finished. How far it counted does not tell: a later attempt counts from 0 while it prepares."""
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return any(str(path) not in ("params.json", "log.txt") and not any(part.startswith(".") for part in path.parts) for path in files)


def _button(label: str, run: Run, act: Action, server: Server, *, disabled: bool = False, quiet: bool = False) -> None:
    kind: Literal["tertiary", "secondary"] = "tertiary" if quiet else "secondary"
    st.button(label, key=f"{label.split()[0]}_{run.id}", on_click=act, args=(server, run.id), disabled=disabled, type=kind)


def _details(server: Server, run: Run) -> None:
    facts({"parameters": _params(run), "attempt": str(run.attempt), "folder": str(server.registry.folder(run.id))})
    log = "\n".join(tail(server.registry.folder(run.id) / "log.txt", LOG_LINES))
    if log:
        st.html(f'<pre class="na-log">{html.escape(log)}</pre>')
    else:
        quiet("The log is empty: the run has not begun.")
    if run.active or server.read_only:
        return
    if st.session_state.get("run_to_remove") != run.id:
        _button("Remove…", run, _ask_remove, server)
        return
    held = sum(path.stat().st_size for path in server.registry.folder(run.id).rglob("*") if path.is_file())
    sentence(f"Removing this run deletes its results ({words.size(held)}) for good.")
    with st.container(horizontal=True, gap="small"):
        _button("Delete for good", run, _remove, server)
        _button("Keep it", run, _keep, server)


def _params(run: Run) -> str:
    flat = {**run.params, **run.params["corpus"]} if isinstance(run.params.get("corpus"), dict) else dict(run.params)
    flat.pop("corpus", None)
    # Thousands of units, or a study's settings: as many as there are.
    flat = {name: f"{len(value):,}" if isinstance(value, list) else value for name, value in flat.items()}
    return " · ".join(f"{name} {value}" for name, value in flat.items() if value is not None)


def _toggle(server: Server, run: str) -> None:
    state.write(run=None if state.raw("run") == run else run)


def _cancel(server: Server, run: str) -> None:
    _say(lambda: server.registry.request_cancel(run))


def _resume(server: Server, run: str) -> None:
    def act() -> None:
        server.registry.resume(run)
        server.ensure_worker()

    _say(act)


def _ask_remove(server: Server, run: str) -> None:
    st.session_state["run_to_remove"] = run


def _keep(server: Server, run: str) -> None:
    st.session_state.pop("run_to_remove", None)


def _remove(server: Server, run: str) -> None:
    def act() -> None:
        server.registry.delete(run)
        server.cache.ingest()
        state.write(run=None)

    st.session_state.pop("run_to_remove", None)
    _say(act)


def _say(act: Callable[[], object]) -> None:
    try:
        act()
    except AtlasError as error:
        st.session_state[_SAID] = str(error)
