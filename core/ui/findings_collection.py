"""One collection on the Findings page: title, description, its units in their order, and what can be changed; and making a new one."""

import streamlit as st

from core.errors import AtlasError
from core.findings.checks import LONGEST
from core.findings.collections import Collection
from core.findings.entry import Conflict, Entry
from core.ui import nav, state, words
from core.ui.findings_author import SAID, findings, name_field, unasked
from core.ui.findings_editor import act
from core.ui.findings_entries import history
from core.ui.findings_list import unit_link
from core.ui.findings_text import by_line, prose, was
from core.ui.prose import heading, quiet, sentence
from core.ui.server import Server
from core.units import UnitName

SHOWN = 200
_EDITING, _TITLE, _DESCRIPTION, _THEIRS = "collection-editing", "collection-title", "collection-description", "collection-theirs"


def new_collection(server: Server) -> None:
    """The fields of a new collection, folded away; nothing where none can be made."""
    if server.read_only:
        return
    section = st.expander("New collection", key="collection-new", on_change="rerun")
    if not section.open:
        return
    with section:
        if unasked(server):
            name_field(server)
        _fields()
        st.button("Make it", key="collection-make", type="primary", on_click=_make, args=(server,))


def collection_section(server: Server, identity: str) -> None:
    """The collection of an id, as a fragment. Raises AtlasError when there is none."""
    findings(server).collections.find(identity)
    st.fragment(_section)(server, identity)


def _section(server: Server, identity: str) -> None:
    if said := st.session_state.pop(SAID, None):
        sentence(said)
    try:
        shown = findings(server).collections.find(identity)
    except AtlasError:
        st.rerun(scope="app")  # it was removed: the page says so
    review = None if server.read_only or not shown.members else ("review them", nav.address("review", {"collection": shown.id}))
    heading(shown.title, words.count(len(shown.members), "unit"), link=review)
    now: Entry | None = st.session_state.get(_EDITING)
    if now is not None and now.id == shown.id:
        _editor(server, now)
    else:
        for place, version in enumerate(shown.entry.alternatives):
            if len(shown.entry.alternatives) > 1:
                st.html(was(version.text))
            if description := str(version.body["description"]):
                prose(description, f"{shown.id}-{place}")
            st.html(by_line(version))
        _acts(server, shown)
    if st.session_state.get("collection-history") == shown.id:
        history(findings(server).history(shown.id))
    _members(server, shown)


def _acts(server: Server, shown: Collection) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="nf-acts-collection"):
        if not server.read_only:
            st.button("edit", key="collection-edit", type="tertiary", on_click=_edit, args=(shown.entry,))
        st.button("history", key="collection-history-toggle", type="tertiary", on_click=_toggle_history, args=(shown.id,))
        if server.read_only:
            return
        if shown.entry.current.parents and len(shown.entry.alternatives) == 1:
            st.button("undo change", key="collection-undo", type="tertiary", on_click=_undo, args=(server, shown.entry))
        st.button(
            "remove", key="collection-remove", type="tertiary", on_click=_remove, args=(server, shown.entry),
            help="The units and what was written on them stay. “findings undo” on the command line brings it back.",
        )  # fmt: skip


def _members(server: Server, shown: Collection) -> None:
    """The units in their order, each with buttons."""
    if not shown.members:
        quiet("No unit is in it yet: “Add to a collection” on a unit's page puts one here.", small=False)
    last = len(shown.members) - 1
    for place, member in enumerate(shown.members[:SHOWN]):
        unit = member.unit
        assert unit is not None  # a member always belongs to one
        with st.container(horizontal=True, vertical_alignment="center", gap="small", key=f"nf-acts-{member.id}"):
            st.html(f'<p class="nf-line na-num">{place + 1}. {unit_link(unit)}</p>', width="content")
            if server.read_only:
                continue
            st.button("↑", key=f"up-{member.id}", type="tertiary", disabled=place == 0, help="Earlier", on_click=_move,
                      args=(server, shown.id, unit, place - 1))  # fmt: skip
            st.button("↓", key=f"down-{member.id}", type="tertiary", disabled=place == last, help="Later", on_click=_move,
                      args=(server, shown.id, unit, place + 1))  # fmt: skip
            st.button("take out", key=f"out-{member.id}", type="tertiary", on_click=_take_out, args=(server, shown.id, unit))
    if len(shown.members) > SHOWN:
        quiet(f"{words.count(len(shown.members) - SHOWN, 'more unit')}: the list as CSV has them all.")


def _editor(server: Server, now: Entry) -> None:
    theirs: Entry | None = st.session_state.get(_THEIRS)
    if theirs is not None:
        sentence(f"{theirs.tips[0].by} saved this meanwhile. Nothing was overwritten: below are both texts, to be made one.")
        for version in theirs.tips:
            st.html(by_line(version) + was(f"{version.body['title']}\n\n{version.body['description']}"))
    _fields()
    with st.container(horizontal=True, gap="small"):
        st.button("Save", key="collection-save", type="primary", on_click=_save, args=(server, now))
        st.button("cancel", key="collection-cancel", type="tertiary", on_click=_close)


def _fields() -> None:
    st.text_input("Title", key=_TITLE, max_chars=LONGEST["title"])
    st.text_area("Description", key=_DESCRIPTION, max_chars=LONGEST["description"], height=96, help="Markdown; may be empty.")


def _edit(entry: Entry) -> None:
    st.session_state[_EDITING] = entry
    st.session_state[_TITLE] = entry.current.body["title"]
    st.session_state[_DESCRIPTION] = entry.current.body["description"]


def _close() -> None:
    for key in (_EDITING, _THEIRS, _TITLE, _DESCRIPTION):
        st.session_state.pop(key, None)


def _make(server: Server) -> None:
    def make() -> None:
        made = findings(server).collections.create(str(st.session_state[_TITLE]), str(st.session_state[_DESCRIPTION]))
        _close()
        state.write(collection=made.id, page=None)

    act(make)


def _save(server: Server, now: Entry) -> None:
    def save() -> None:
        title, description = str(st.session_state[_TITLE]), str(st.session_state[_DESCRIPTION])
        try:
            findings(server).collections.describe(now.id, title, description, base=now.base)
        except Conflict as conflict:
            st.session_state[_EDITING] = st.session_state[_THEIRS] = conflict.entry
        else:
            _close()

    act(save)


def _toggle_history(identity: str) -> None:
    st.session_state["collection-history"] = None if st.session_state.get("collection-history") == identity else identity


def _undo(server: Server, entry: Entry) -> None:
    act(lambda: findings(server).undo(entry.id, base=entry.base))


def _remove(server: Server, entry: Entry) -> None:
    if act(lambda: findings(server).remove(entry.id, base=entry.base)):
        state.write(collection=None, page=None)


def _move(server: Server, identity: str, unit: UnitName, to: int) -> None:
    act(lambda: findings(server).collections.move(identity, unit, to))


def _take_out(server: Server, identity: str, unit: UnitName) -> None:
    act(lambda: findings(server).collections.take_out(identity, unit))
