"""Going from unit to unit: previous, next, one by chance, a jump box, and the pickers in the sidebar. They only write the address."""

import secrets

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from core.errors import AtlasError
from core.store.catalog import IndexInfo
from core.store.picks import random_interesting
from core.ui import state
from core.ui.server import Server
from core.ui.stepper import stepper
from core.ui.unit_address import Asked, describe, holders, indexed_sites, jump, nearest, resolve, step
from core.units import Site, UnitName

_REFUSED = "unit-refused"
_JUMP_HELP = "A unit's name, or a part of it: 1352 · 5/1352 · mlp.5/neurons/1352 · resid.9/a-dictionary/17"


def go(unit: UnitName | str, *, run: str | None = None) -> None:
    """Put a unit into the address. The run is left out unless it was chosen."""
    st.session_state.pop(_REFUSED, None)
    state.write(unit=str(unit), **({} if run is None else {"run": run}))


def start(server: Server, index: IndexInfo) -> UnitName:
    """The unit shown when the address names none: an interesting one, the same every time; the index's first if it has none yet."""
    try:
        return random_interesting(server.cache, index.run, 0)
    except AtlasError:
        return _first(index, index.published[0])


def _first(index: IndexInfo, site: Site) -> UnitName:
    return UnitName(index.slug, site, index.basis, index.units_of(site)[0])


def row() -> DeltaGenerator:
    """The place of the buttons and the jump box."""
    return st.container(key="unit-steps", horizontal=True, horizontal_alignment="right", vertical_alignment="center", gap="small")


def steps(place: DeltaGenerator, server: Server, found: list[IndexInfo], asked: Asked) -> None:
    """Buttons and jump box, last of all on the page. Keys: j next, k previous, i an interesting one. place: what `row` returned."""

    def stepped(name: str, by: int) -> None:
        try:
            unit = step(resolve(server.workspace, found, name, state.raw("run") or None), by)
        except AtlasError as error:
            st.session_state[_REFUSED] = str(error)
            return
        st.session_state.pop(_REFUSED, None)
        # Always sent: of two quick steps the second may be told with the address from before the first.
        st.query_params["unit"] = str(unit)

    def chance() -> None:
        try:
            go(random_interesting(server.cache, asked.index.run, secrets.randbits(31)))
        except AtlasError as error:
            st.session_state[_REFUSED] = str(error)

    with place:
        stepper(str(asked.name), key="unit-stepper", address=("unit", state.raw("unit")), on_step=stepped)
        st.button("interesting", key="unit-chance", shortcut="i", on_click=chance, help="A unit by chance among the interesting ones")
        _jump_box(server, found, asked.name)


def only_jump(server: Server, found: list[IndexInfo], near: UnitName) -> None:
    """The jump box alone, where the address names no unit. near: what a name's missing parts are taken from."""
    with row():
        _jump_box(server, found, near)


def _jump_box(server: Server, found: list[IndexInfo], here: UnitName) -> None:
    def typed() -> None:
        text = str(st.session_state["unit-jump"])
        st.session_state["unit-jump"] = ""
        if not text.strip():
            return
        try:
            name = jump(here, text)
            # The run in the address stays chosen for the units of its model and basis.
            to = UnitName.parse(name)
            mine = any(index.run == state.raw("run") and (index.slug, index.basis) == (to.subject, to.basis) for index in found)
            run = state.raw("run") if mine else ""
            go(resolve(server.workspace, found, name, run or None).name, run=run)
        except AtlasError as error:
            st.session_state[_REFUSED] = str(error)

    st.text_input(
        "Jump to a unit",
        key="unit-jump",
        placeholder="jump: 5/1352",
        label_visibility="collapsed",
        on_change=typed,
        help=_JUMP_HELP,
        width=140,
    )


def refused() -> str | None:
    """Why the last jump led nowhere, said once."""
    return st.session_state.pop(_REFUSED, None)


def pickers(found: list[IndexInfo], asked: Asked) -> None:
    """Model, basis, site, number and text in the sidebar. They show what the address says and write what is chosen into it."""
    name = asked.name
    models = sorted({index.slug for index in found if index.published})
    of_model = [index for index in found if index.slug == name.subject and index.published]
    bases = list(dict.fromkeys(index.basis for index in of_model))
    sites = indexed_sites(index for index in of_model if index.basis == name.basis)
    runs = holders(found, name)
    last = asked.index.units_at(name.site)
    st.session_state.update({"unit-model": name.subject, "unit-basis": name.basis, "unit-site": name.site, "unit-number": name.index})
    st.session_state["unit-run"] = asked.index.run

    def model_chosen() -> None:
        index = next(index for index in found if index.slug == st.session_state["unit-model"] and index.published)
        state.write(run=None)
        go(_first(index, index.published[0]))

    def basis_chosen() -> None:
        mine = [index for index in of_model if index.basis == st.session_state["unit-basis"]]
        index = next((index for index in mine if name.site in index.published), mine[0])
        state.write(run=None)
        go(_first(index, name.site if name.site in index.published else index.published[0]))

    def site_chosen() -> None:
        site: Site = st.session_state["unit-site"]
        index = asked.index
        if site not in index.published:
            index = next(other for other in of_model if other.basis == name.basis and site in other.published)
            state.write(run=None)
        go(UnitName(name.subject, site, name.basis, nearest(index, site, name.index)))

    def number_chosen() -> None:
        go(UnitName(name.subject, name.site, name.basis, int(st.session_state["unit-number"])))

    def run_chosen() -> None:
        go(name, run=str(st.session_state["unit-run"]))

    with st.sidebar:
        if len(models) > 1:
            st.selectbox("Model", models, key="unit-model", on_change=model_chosen)
        if len(bases) > 1:
            st.selectbox("Basis", bases, key="unit-basis", on_change=basis_chosen)
        st.selectbox("Site", sites, key="unit-site", format_func=lambda site: f"{site} · {name.basis}", on_change=site_chosen)
        if asked.index.excerpt:
            units = list(asked.index.units_of(name.site))
            st.selectbox(f"Unit, {len(units):,} of {last:,}", units, key="unit-number", on_change=number_chosen)
        else:
            st.number_input(f"Unit, 0 to {last - 1:,}", 0, last - 1, key="unit-number", step=1, on_change=number_chosen)
        if len(runs) > 1:
            shown = {index.run: describe(index) for index in runs}
            st.selectbox("Text", list(shown), key="unit-run", format_func=shown.__getitem__, on_change=run_chosen)
