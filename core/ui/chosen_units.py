"""The units that are changed together, each with its strength: fields whose values live in the address (`?units=…&strengths=…`)."""

import html
from dataclasses import dataclass

import streamlit as st

from core.causal.effect_request import MOST_UNITS
from core.causal.steer_request import MOST_STRENGTH
from core.errors import AtlasError, shown
from core.store.catalog import IndexInfo, find_unit
from core.ui import nav, state
from core.ui.prose import quiet
from core.ui.server import Server
from core.ui.unit_field import unit_field
from core.units import UnitName

USUAL_STRENGTH = 2.0


@dataclass(frozen=True)
class Chosen:
    """A unit that exists, with its strength."""

    name: UnitName
    strength: float


def read_units(server: Server) -> list[Chosen]:
    """The units of the address. Raises AtlasError for one that is not there, too many, or strengths that are none."""
    names = [part for part in state.raw("units").split(",") if part]
    given = [part for part in state.raw("strengths").split(",") if part]
    if len(names) > MOST_UNITS:
        raise AtlasError(f"{len(names):,} units are too many to change together: name at most {MOST_UNITS}.")
    if len(given) > len(names):
        raise AtlasError("The address has more strengths than units: give one for each.")
    found: list[Chosen] = []
    for place, text in enumerate(names):
        name = UnitName.parse(text)
        find_unit(server.workspace, name)
        if any(one.name == name for one in found):
            raise AtlasError(f"{name} was named twice: name each once.")
        if found and found[0].name.subject != name.subject:
            raise AtlasError(f"{name} is not a unit of {found[0].name.subject}, as the first one is: name units of one model.")
        found.append(Chosen(name, _strength(given[place]) if place < len(given) else USUAL_STRENGTH))
    return found


def unit_fields(server: Server, units: list[Chosen], index: IndexInfo) -> None:
    """A line for each unit, and a box to add one. index: what a name that is not whole is completed from."""
    for place, unit in enumerate(units):
        with st.container(horizontal=True, vertical_alignment="center", key=f"chosen-unit-{place}"):
            name = unit.name
            address = html.escape(nav.unit_address(name), quote=True)
            st.html(
                f'<a class="na-num" href="{address}" target="_self">{html.escape(f"{name.site} / {name.basis} / {name.index}")}</a>',
                width=240,
            )
            key = f"chosen-strength-{name}"
            st.session_state[key] = unit.strength
            st.number_input(
                f"Strength of {name}", -MOST_STRENGTH, MOST_STRENGTH, key=key, step=0.5, format="%g", width=130,
                label_visibility="collapsed", help="Times the unit's maximum over its own text. Ablating does not use it.",
                on_change=_changed, args=(units, place, key),
            )  # fmt: skip
            st.html('<span class="na-muted na-small" style="white-space:nowrap">× its maximum, to steer</span>', width="content")
            st.button("remove", key=f"chosen-remove-{name}", type="tertiary", on_click=_remove, args=(units, place))
    if not units:
        quiet(
            f"No unit yet. Name one of {index.slug}, choose “Steer with this unit” on its page, or begin with one that is rare and strong.",
            small=False,
        )

    def take(name: UnitName) -> None:
        if units and name.subject != units[0].name.subject:
            raise AtlasError(f"{name} is not a unit of {units[0].name.subject}: remove the others first.")
        if any(unit.name == name for unit in units):
            raise AtlasError(f"{name} is there already.")
        write_units([*units, Chosen(name, USUAL_STRENGTH)])

    names = [unit.name for unit in units]
    unit_field(server, index, names, take, key="chosen", full=len(units) >= MOST_UNITS, longest=200)


def write_units(units: list[Chosen]) -> None:
    """Put the units into the address, and take out what was picked in texts of others."""
    usual = all(unit.strength == USUAL_STRENGTH for unit in units)
    state.write(
        units=",".join(str(unit.name) for unit in units),
        strengths=None if usual else ",".join(exact(unit.strength) for unit in units),
        at=None,
        step=None,
    )


def exact(value: float) -> str:
    """The shortest text that is read back as this very number: a run is found by its parameters."""
    return repr(value).removesuffix(".0")


def _strength(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = float("nan")
    if not -MOST_STRENGTH <= found <= MOST_STRENGTH:
        raise AtlasError(f"“{shown(text)}” is not a strength: use a number from {-MOST_STRENGTH:g} to {MOST_STRENGTH:g}.")
    return found


def _changed(units: list[Chosen], place: int, key: str) -> None:
    value = st.session_state[key]
    strength = USUAL_STRENGTH if value is None else float(value)
    write_units([Chosen(unit.name, strength if at == place else unit.strength) for at, unit in enumerate(units)])


def _remove(units: list[Chosen], place: int) -> None:
    write_units([unit for at, unit in enumerate(units) if at != place])
