"""The Unit page's section “Explanations”: best first, each with its score and controls; one of them opened; and what can be asked for."""

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from core.errors import AtlasError
from core.store import explanation_queries
from core.store.explanation_view import ExplanationView, load_explanation
from core.ui import explain_unit, state
from core.ui.explain_unit import ACTION, AGAIN, ELSEWHERE, MINE, REVISE, Target
from core.ui.explanation_open import STATE, open_view
from core.ui.explanation_rows import STYLE, entry_html
from core.ui.prose import heading, quiet, sentence
from core.ui.server import Server
from core.ui.starred import HOW_TO_READ, has_numbers, plain, starred
from core.units import UnitName

FIRST = 3
"""Explanations shown before the person asks for all."""
REFRESH_SECONDS = 1.0
_ALL = "explanations-all"


def explanations(server: Server, target: Target) -> None:
    """The whole section, as fragments: what is asked for and how it goes does not redraw the rest of the page."""
    st.html(STYLE)
    busy = _watch(server, target)
    st.fragment(_section)(server, target, busy)


def _watch(server: Server, target: Target) -> bool:
    """Runs for this unit while they go on; the page is drawn anew when one has ended. Returns whether any goes on."""
    explain_unit.take_in_finished(server, target.unit)
    runs = explain_unit.runs_of(server, target.unit)
    if not runs:
        return False
    active = {run.id for run in runs if run.active}

    def draw() -> None:
        now = explain_unit.runs_of(server, target.unit)
        if {run.id for run in now if run.active} != active:
            server.ingest()
            st.rerun(scope="app")
        for run in now:
            explain_unit.run_row(server, run, target.unit)

    st.fragment(draw, run_every=REFRESH_SECONDS if active else None)()
    return bool(active)


def _section(server: Server, target: Target, busy: bool) -> None:
    explain_unit.follow_new()
    rows: Sequence[Mapping[str, Any]] = explanation_queries.rows_of_unit(server.cache, target.unit)
    opened = _opened(server, target.unit)
    scored = sum(not row["failed"] for row in rows)
    heading("Explanations", f"{scored} · best score first" if scored > 1 else "")
    explain_unit.said()
    if not rows:
        _nothing_yet(server, target, busy)
    shown = list(rows if st.session_state.get(_ALL) == str(target.unit) else rows[:FIRST])
    if opened is not None:
        shown += [row for row in rows if row["explanation"] == opened.identity and row not in shown]
    for place, row in enumerate(shown):
        _entry(server, row, opened, best=place == 0 and not row["failed"] and len(rows) > 0)
    if len(shown) < len(rows):
        st.button(f"show all {len(rows)}", key="explanations-more", type="tertiary", on_click=_show_all, args=(target.unit,))
    _actions(server, target, opened, first=not rows)
    if opened is not None:
        with st.container(key="explanation-opened"):
            st.html(f'<p class="na-lead">{starred(opened.text)}</p>')
            if has_numbers(opened.text):
                quiet(HOW_TO_READ)
            open_view(server, opened)
            _own(server, opened)


def _entry(server: Server, row: Mapping[str, Any], opened: ExplanationView | None, *, best: bool) -> None:
    identity = str(row["explanation"])
    is_open = opened is not None and opened.identity == identity
    with st.container(horizontal=True, vertical_alignment="center", key=f"nx-row-{_slug(identity)}"):
        st.html(entry_html(row, best=best))
        if not row["failed"]:
            st.button(
                "close" if is_open else "compare", key=f"open-{identity}", on_click=_toggle, args=(identity, is_open),
                help=None if is_open else f"Simulated against true, record by record: {plain(str(row['text']), 60)}",
            )  # fmt: skip


def _own(server: Server, opened: ExplanationView) -> None:
    """Taking back what one wrote oneself."""
    if server.read_only:
        return
    try:
        total = len(explanation_queries.study(server.cache, opened.run))
    except AtlasError as error:
        sentence(str(error))
        return
    if not explain_unit.deletable(server, opened, total):
        return
    if st.session_state.get("explanation-doomed") != opened.identity:
        st.button("delete mine…", key="explanation-delete", type="tertiary", on_click=_doom, args=(opened.identity,))
        return
    sentence("This deletes your sentence and its scores for good.")
    with st.container(horizontal=True):
        st.button("Delete for good", key="explanation-delete-now", on_click=explain_unit.delete, args=(server, opened))
        st.button("Keep it", key="explanation-keep", on_click=_doom, args=("",))


def _nothing_yet(server: Server, target: Target, busy: bool) -> None:
    if busy:
        quiet("The first explanation is being made.", small=False)
        return
    if server.read_only or target.index.imported_from:
        quiet("This unit has no explanation.", small=False)
        return
    quiet(
        "This unit has no explanation yet. The pattern explainer needs no language model: it writes a sentence from the tokens that the "
        "unit fires on, predicts its activations from them on text held out for this, and scores the prediction, in a few seconds.",
        small=False,
    )
    explain_unit.quick_button(server, target)


def _actions(server: Server, target: Target, opened: ExplanationView | None, *, first: bool) -> None:
    """What can be asked for; its fields appear when one is chosen. Nothing of a unit that only another program's files speak of.

    first: there is no explanation yet that another one would be made after.
    """
    if server.read_only or target.index.imported_from:
        return
    offered = [AGAIN, MINE, *([REVISE, ELSEWHERE] if opened is not None and not opened.failed else [])]
    if st.session_state.get(ACTION) not in offered:
        st.session_state[ACTION] = None
    names = {name: name for name in offered} | ({AGAIN: "Choose how to explain"} if first else {})
    action = st.segmented_control("More explanations", offered, key=ACTION, format_func=names.__getitem__, label_visibility="collapsed")
    if action is not None:
        with st.container(key="explain-form", border=True):
            explain_unit.ask_form(server, target, action, opened)


def _opened(server: Server, unit: UnitName) -> ExplanationView | None:
    """The explanation that the address names; a sentence when it is none of this unit's."""
    identity = state.raw("explanation")
    if not identity:
        return None
    try:
        view = load_explanation(server.workspace, identity)
    except AtlasError as error:
        sentence(str(error))
        return None
    if view.unit != unit:
        state.write(**dict.fromkeys(STATE))  # the address kept it from another unit
        return None
    return view


def _toggle(identity: str, is_open: bool) -> None:
    state.write(**(dict.fromkeys(STATE) | {"explanation": None if is_open else identity}))


def _show_all(unit: UnitName) -> None:
    st.session_state[_ALL] = str(unit)


def _doom(identity: str) -> None:
    st.session_state["explanation-doomed"] = identity


def _slug(identity: str) -> str:
    return identity.replace(".", "-")
