"""The Unit page's section “Findings”: what people wrote on the unit, and the fields to write with."""

import html

import streamlit as st

from core.errors import AtlasError
from core.findings.checks import HIGHEST, LOWEST
from core.findings.entry import Entry
from core.ui import nav
from core.ui.explain_unit import Target
from core.ui.findings_author import SAID, findings, name_field, unasked
from core.ui.findings_editor import act, begin, editing, editor
from core.ui.findings_entries import LAST, SCORE, remember, text_entries
from core.ui.findings_links import alike_form, collect_form, linked
from core.ui.findings_text import STYLE
from core.ui.prose import heading, quiet, sentence
from core.ui.server import Server
from core.units import UnitName

NOTE, EXPLANATION, ALIKE, COLLECT, NAME = "Write a note", "Write an explanation", "Looks like…", "Add to a collection", "Your name"
ACTION = "findings-action"
RATING_HELP = "From 1, it says nothing to me, to 5, clear and worth showing. Your own; pressing it again takes it back."


def findings_section(server: Server, target: Target) -> None:
    """The whole section, as a fragment: what is written does not redraw the rest of the page."""
    st.html(STYLE)
    st.fragment(_section)(server, target.unit)


def _section(server: Server, unit: UnitName) -> None:
    if st.session_state.pop(SCORE, False):
        st.rerun(scope="app")  # the form that scores stands above
    heading("Findings", "what people wrote", link=("everything written", nav.address("findings", {})))
    if said := st.session_state.pop(SAID, None):
        sentence(said)
    try:
        entries = findings(server).entries(unit=unit)
        _judged(server, unit, entries)
        text_entries(server, unit, [entry for entry in entries if entry.kind in ("note", "explanation")])
        linked(server, unit, entries)
        _actions(server, unit)
    except AtlasError as error:
        sentence(str(error))


def _judged(server: Server, unit: UnitName, entries: list[Entry]) -> None:
    """Rating and labels: one line of fields that write as soon as they change."""
    if server.read_only:
        _said(entries)
        return
    known = findings(server)
    me = known.author
    ratings = [entry.current for entry in entries if entry.kind == "rating"]
    mine = next((int(rating.body["rating"]) for rating in ratings if rating.author == me), None)
    labels = sorted({entry.current.text for entry in entries if entry.kind == "label"})
    stars, words = f"findings-rating-{unit}", f"findings-labels-{unit}"
    st.session_state[stars], st.session_state[words] = mine, labels
    with st.container(horizontal=True, vertical_alignment="bottom", key="findings-judged"):
        st.segmented_control(
            "Your rating", range(LOWEST, HIGHEST + 1), key=stars, help=RATING_HELP, on_change=_rated, args=(server, unit, stars)
        )
        offered = known.known_labels()
        st.multiselect(
            "Labels", offered, key=words, accept_new_options=True, placeholder="choose or type", width=420,
            on_change=_labelled, args=(server, unit, words, labels),
        )  # fmt: skip
        others = " · ".join(f"<bdi>{html.escape(one.by)}</bdi> {one.text}" for one in ratings if one.author != me)
        if others:
            st.html(f'<p class="nf-by nf-others">{others}</p>')
        last = st.session_state.get(LAST)
        if last is not None and last[0] == unit:
            st.button(
                "undo", key="findings-undo", type="tertiary", on_click=_undo, args=(server, unit), help="Takes back your last change here"
            )


def _said(entries: list[Entry]) -> None:
    """Ratings and labels where they can only be read."""
    labels = sorted({entry.current.text for entry in entries if entry.kind == "label"})
    told = [f"{name}: {', '.join(f'<bdi>{html.escape(one)}</bdi>' for one in found)}" for name, found in (("labels", labels),) if found]
    told += [f"<bdi>{html.escape(entry.current.by)}</bdi> rates it {entry.current.text}" for entry in entries if entry.kind == "rating"]
    if told:
        st.html(f'<p class="nf-line">{" · ".join(told)}</p>')
    elif not entries:
        quiet("Nobody has written anything on this unit.", small=False)


def _actions(server: Server, unit: UnitName) -> None:
    """What can be written; its fields appear when it is chosen."""
    if server.read_only:
        return
    now = editing(unit)
    action = st.segmented_control(
        "Write", [NOTE, EXPLANATION, ALIKE, COLLECT, NAME], key=ACTION, label_visibility="collapsed", on_change=_chosen, args=(unit,)
    )
    if now is not None and not now.entry:
        with st.container(key="findings-form", border=True):
            editor(server, now)
    elif action in (ALIKE, COLLECT, NAME):
        with st.container(key="findings-form", border=True):
            if action == NAME or unasked(server):
                name_field(server)
            if action == ALIKE:
                alike_form(server, unit)
            elif action == COLLECT:
                collect_form(server, unit)


def _chosen(unit: UnitName) -> None:
    action = st.session_state[ACTION]
    if action in (NOTE, EXPLANATION):
        begin(unit, "note" if action == NOTE else "explanation")
        st.session_state[ACTION] = None


def _rated(server: Server, unit: UnitName, key: str) -> None:
    value = st.session_state[key]
    act(lambda: remember(unit, findings(server).rate(unit, None if value is None else int(value))))


def _labelled(server: Server, unit: UnitName, key: str, before: list[str]) -> None:
    now: list[str] = st.session_state[key]

    def change() -> None:
        for label in now:
            if label not in before:
                remember(unit, findings(server).label(unit, label))
        for label in before:
            if label not in now:
                for entry in findings(server).unlabel(unit, label):
                    remember(unit, entry)

    act(change)


def _undo(server: Server, unit: UnitName) -> None:
    _, identity, base = st.session_state.pop(LAST)
    act(lambda: remember(unit, findings(server).undo(identity, base=base)))
