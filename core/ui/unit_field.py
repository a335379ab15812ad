"""A box in which a unit is named, to be added to those of a page, and a start where there is none yet."""

from collections.abc import Callable

import streamlit as st

from core.errors import AtlasError
from core.store.catalog import IndexInfo, find_unit
from core.store.picks import random_interesting
from core.ui.prose import sentence
from core.ui.server import Server
from core.ui.unit_address import jump
from core.units import UnitName

_HELP = "A unit's name, or a part of it: 1352 · 5/1352 · mlp.5/neurons/1352 · resid.9/a-dictionary/17"
Take = Callable[[UnitName], None]
"""Adds a unit that is there. Raises AtlasError for one that the page cannot have."""


def unit_field(
    server: Server, index: IndexInfo, units: list[UnitName], take: Take, *, key: str, full: bool, run: str = "", longest: int = 300
) -> None:
    """The box. index: what a name that is not whole is completed from where there are no units yet. run: where units are looked for, else
    in every index. key: unique on the page. full: no more may be added. longest: characters.
    """
    here = units[-1] if units else UnitName(index.slug, index.published[0], index.basis, 0)
    with st.container(horizontal=True, vertical_alignment="bottom", key=f"{key}-add"):
        st.text_input(
            "Add a unit", key=_typed(key), placeholder=f"{here.site}/{here.basis}/0", help=_HELP, max_chars=longest, width=320,
            on_change=_add, args=(server, here, run, take, key), disabled=full,
        )  # fmt: skip
        if not units:
            st.button("Begin with an interesting unit", key=f"{key}-begin", on_click=_begin, args=(server, index, take))
    if refused := st.session_state.pop(_refused(key), None):
        sentence(refused)


def _typed(key: str) -> str:
    return f"{key}-typed"


def _refused(key: str) -> str:
    return f"{key}-refused"


def _add(server: Server, here: UnitName, run: str, take: Take, key: str) -> None:
    typed = str(st.session_state[_typed(key)]).strip()
    if not typed:
        return
    try:
        name = UnitName.parse(jump(here, typed))
        find_unit(server.workspace, name, run or None)
        take(name)
    except AtlasError as error:
        st.session_state[_refused(key)] = str(error)
    else:
        st.session_state[_typed(key)] = ""


def _begin(server: Server, index: IndexInfo, take: Take) -> None:
    try:
        name = random_interesting(server.cache, index.run, 0)
    except AtlasError:
        name = UnitName(index.slug, index.published[0], index.basis, index.units_of(index.published[0])[0])
    take(name)
