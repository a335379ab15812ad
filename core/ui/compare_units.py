"""The units that are compared: two to four names in the address (`compare?units=…`), and the fields that add, move and remove them."""

import html

import streamlit as st

from core.errors import AtlasError
from core.store.catalog import find_unit
from core.store.compare.compared import MOST
from core.store.units import UnitView
from core.ui import nav, state
from core.ui.index_choice import ready
from core.ui.prose import quiet
from core.ui.server import Server
from core.ui.unit_field import unit_field
from core.units import UnitName

_OFFERED = 5


class WrongUnits(AtlasError):
    """The address names what cannot be compared. rest: those of it that can."""

    def __init__(self, text: str, rest: list[UnitName]) -> None:
        super().__init__(text)
        self.rest = rest


def read_units(server: Server) -> list[UnitName]:
    """The units of the address, at most four. Raises WrongUnits for one that is not there or named twice, and for too many."""
    names = [part for part in state.raw("units").split(",") if part.strip()]
    found: list[UnitName] = []
    wrong = ""
    for text in names[: 4 * MOST]:
        try:
            name = UnitName.parse(text.strip())
            find_unit(server.workspace, name, state.raw("run") or None)
            if name in found:
                raise AtlasError(f"{name} was named twice: name each unit once.")
            found.append(name)
        except AtlasError as error:
            wrong = wrong or str(error)
    if not wrong and len(names) > MOST:
        wrong = f"Two to four units are compared at a time, not {len(names):,}: take some out of the address."
    if wrong:
        raise WrongUnits(wrong, found[:MOST])
    return found


def write_units(units: list[UnitName]) -> None:
    """Put the units into the address."""
    state.write(units=",".join(map(str, units)))


def buttons(units: list[UnitName], place: int) -> None:
    """What moves one of the units to the left, and takes it out."""
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key=f"nc-acts-{place}"):
        if place:
            st.button("← move", key=f"compare-move-{units[place]}", type="tertiary", on_click=_move, args=(units, place))
        st.button("remove", key=f"compare-remove-{units[place]}", type="tertiary", on_click=_remove, args=(units, place))


def add_field(server: Server, units: list[UnitName]) -> None:
    """A box to add a unit; a start where there is none."""

    def take(name: UnitName) -> None:
        if name in units:
            raise AtlasError(f"{name} is there already.")
        write_units([*units, name])

    unit_field(server, ready(server)[0], units, take, key="compare", full=len(units) >= MOST, run=state.raw("run"))


def offer(units: list[UnitName], view: UnitView, others: dict[str, list[UnitName]]) -> None:
    """What to set beside the only unit that is named: links by what they are. others: beyond the units that write alike."""
    alike = [similar.name for similar in view.effects.similar] if view.effects is not None else []
    lines: list[str] = []
    for title, names in {"writes in a similar direction": alike, **others}.items():
        links = " · ".join(
            f'<a href="{html.escape(nav.compare_address(*units, name), quote=True)}" target="_self">'
            f"{html.escape(f'{name.site} / {name.basis} / {name.index}')}</a>"
            for name in names[:_OFFERED]
        )
        if links:
            lines.append(f'<p class="na-lead">{html.escape(title)}: {links}</p>')
    if lines:
        st.html("".join(lines))
    else:
        quiet("Nothing is known yet that this unit is like: name another one above.", small=False)


def without(rest: list[UnitName]) -> None:
    """A way on from an address that names what cannot be compared."""
    address = html.escape(nav.compare_address(*rest), quote=True)
    st.html(f'<p class="na-lead"><a href="{address}" target="_self">Go on without it</a></p>')


def _move(units: list[UnitName], place: int) -> None:
    write_units([*units[: place - 1], units[place], units[place - 1], *units[place + 1 :]])


def _remove(units: list[UnitName], place: int) -> None:
    write_units([unit for at, unit in enumerate(units) if at != place])
