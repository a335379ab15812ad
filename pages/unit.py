"""Unit: what one unit responds to, what it does to the output, and where the numbers come from."""

import streamlit as st

from core.errors import AtlasError
from core.store.catalog import indexes
from core.ui import state, unit_explanations, unit_sections, unit_steps
from core.ui.effect_section import effect
from core.ui.explain_unit import Target
from core.ui.findings_author import findings
from core.ui.findings_section import findings_section
from core.ui.index_choice import waiting
from core.ui.records import records_view
from core.ui.setup import sentence, setup
from core.ui.share_files import Choice
from core.ui.share_section import share
from core.ui.tokens import View
from core.ui.turns import turn
from core.ui.unit_address import Asked, WrongAddress, near, resolve
from core.ui.unit_data import UnitData, unit_data
from core.ui.unit_recompute import recompute
from core.units import UnitName

PROVENANCE = "Provenance: where these numbers come from"
PICKED = "unit-picked"
"""The record whose token was clicked last: its unit, and its row."""

server = setup()
found = [index for index in indexes(server.workspace) if index.published]
st.html(unit_sections.STYLE)


@st.fragment
def records(unit: UnitName, packed: bytes) -> None:
    picked = records_view(packed)
    if picked is not None:
        st.session_state[PICKED] = (unit, picked.row)
        if st.session_state.get("unit-provenance"):  # the record is offered there
            st.rerun()


@st.fragment
def provenance(data: UnitData) -> None:
    section = st.expander(
        PROVENANCE if server.read_only or data.view.index.imported_from else f"{PROVENANCE}, and one record computed again",
        key="unit-provenance",
        on_change="rerun",
    )
    if not section.open:  # what nobody looks at is not made
        return
    with section:
        unit, row = st.session_state.get(PICKED, (None, 0))
        recompute(server.workspace, data.view, row if unit == data.view.name else 0)
        unit_sections.provenance(data)


def show(asked: Asked, data: UnitData) -> None:
    head, buttons = st.columns([7, 6], vertical_alignment="center")
    with head:
        unit_sections.title(data.view, read_only=server.read_only)
    with buttons:
        place = unit_steps.row()
    refused = unit_steps.refused()
    for said in [*([refused] if refused else []), *View.read(st.query_params.to_dict())[1]]:
        sentence(said)
    unit_sections.progress(server.workspace, asked.index)
    unit_sections.statistics(data)
    target = Target(asked.name, asked.index, state.raw("run"))
    unit_explanations.explanations(server, target)
    with st.container(key="unit-body"):
        text, side = st.columns([3, 2], gap="large")
        with text:
            records(asked.name, data.records)
        with side:
            clicked = unit_sections.margin(data)
    if clicked:
        unit_steps.go(clicked)
        st.rerun()
    if not asked.index.imported_from:  # there is no model to ablate it in
        effect(server, target, data.view)
    findings_section(server, target)
    share(server, Choice((asked.name,), findings(server), state.raw("run")), key="unit", what="this unit")
    provenance(data)
    unit_steps.steps(place, server, found, asked)


def unshown(error: AtlasError) -> None:
    """Why there is no unit to show, and the ways on: units near the one asked for, and the jump box."""
    offered = near(found, state.raw("unit"))
    head, box = st.columns([7, 6], vertical_alignment="center")
    head.title("Unit")
    with box:
        unit_steps.only_jump(server, found, offered[0])
    if refused := unit_steps.refused():
        sentence(refused)
    unit_sections.wrong(str(error), offered if isinstance(error, WrongAddress) else [])


if not found:
    st.title("Unit")
    waiting(server)
    st.stop()
if not state.raw("unit"):
    unit_steps.go(unit_steps.start(server, found[0]))

with turn():
    try:
        asked = resolve(server.workspace, found, state.raw("unit"), state.raw("run") or None)
        data = unit_data(server.workspace, asked.index, asked.name)
    except AtlasError as error:
        unshown(error)
    else:
        unit_steps.pickers(found, asked)
        show(asked, data)
