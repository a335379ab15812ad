"""What ties a unit to others: the units it looks like, and the collections it is in."""

import html
from collections.abc import Callable

import streamlit as st

from core.errors import AtlasError
from core.findings.entry import Entry
from core.store.catalog import find_unit
from core.ui import nav
from core.ui.findings_author import findings
from core.ui.findings_editor import act
from core.ui.findings_entries import remember
from core.ui.server import Server
from core.ui.unit_address import jump
from core.units import UnitName

_OTHER, _COLLECTION = "findings-other", "findings-collection"


def linked(server: Server, unit: UnitName, entries: list[Entry]) -> None:
    """The links, each with a button that takes it away where that may be done. Raises AtlasError."""
    alike = [entry for entry in entries if entry.kind == "alike"]
    for entry in alike:
        other = str(entry.current.body["unit"])
        by = html.escape(entry.current.by)
        beside = f'<a href="{_safe(nav.compare_address(unit, other))}" target="_self">compare</a>'
        link = f'<a href="{_safe(nav.unit_address(other))}" target="_self">{html.escape(other)}</a>'
        _line(server, f"looks like {link} · <bdi>{by}</bdi> · {beside}", entry.id,
              lambda entry=entry: remember(unit, findings(server).remove(entry.id, base=entry.base)))  # fmt: skip
    members = [entry for entry in entries if entry.kind == "member"]
    if not members:
        return
    titles = findings(server).collections.titles()
    for entry in members:
        identity = str(entry.current.body["collection"])
        if identity in titles:
            address = _safe(nav.address("findings", {"collection": identity}))
            text = f'in <a href="{address}" target="_self"><bdi>{html.escape(titles[identity])}</bdi></a>'
            _line(server, text, entry.id, lambda entry=entry: remember(unit, findings(server).remove(entry.id, base=entry.base)))


def alike_form(server: Server, unit: UnitName) -> None:
    """Names another unit of this workspace that looks like this one."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.text_input(
            "Looks like", key=_OTHER, placeholder="5/1352, or a whole name", max_chars=300, width=360,
            help="A unit's name, or a part of it: 1352 · 5/1352 · mlp.5/neurons/1352 · resid.9/a-dictionary/17",
        )  # fmt: skip
        st.button("Link", key="findings-link", on_click=_link, args=(server, unit))


def collect_form(server: Server, unit: UnitName) -> None:
    """Puts the unit at the end of a collection, a new one if there is none of the name. Raises AtlasError."""
    titles = findings(server).collections.titles()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.selectbox(
            "Collection", list(titles), index=None, key=_COLLECTION, format_func=lambda one: str(titles.get(one, one)), width=360,
            accept_new_options=True, placeholder="choose, or type the title of a new one",
        )  # fmt: skip
        st.button("Add", key="findings-collect", on_click=_collect, args=(server, unit, list(titles)))


def _line(server: Server, text: str, identity: str, remove: Callable[[], object]) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key=f"nf-acts-{identity}"):
        st.html(f'<p class="nf-line">{text}</p>', width="content")
        if not server.read_only:
            st.button("remove", key=f"nf-remove-{identity}", type="tertiary", on_click=_remove, args=(remove,))


def _remove(remove: Callable[[], object]) -> None:
    act(remove)


def _link(server: Server, unit: UnitName) -> None:
    def change() -> None:
        other = UnitName.parse(jump(unit, str(st.session_state[_OTHER])))
        find_unit(server.workspace, other)
        remember(unit, findings(server).alike(unit, other))
        st.session_state[_OTHER] = ""

    act(change)


def _collect(server: Server, unit: UnitName, known: list[str]) -> None:
    def change() -> None:
        chosen = str(st.session_state[_COLLECTION] or "").strip()
        if not chosen:
            raise AtlasError("Choose a collection, or type the title of a new one.")
        collections = findings(server).collections
        if chosen not in known:
            called = [one for one, title in collections.titles().items() if title.lower() == chosen.lower()]
            chosen = called[0] if called else collections.create(chosen).id
        collections.add(chosen, [unit])
        st.session_state[_COLLECTION] = None

    act(change)


def _safe(address: str) -> str:
    return html.escape(address, quote=True)
