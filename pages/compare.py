"""Compare: two to four units side by side, neurons and features alike, and what they have in common."""

import streamlit as st

from core.errors import AtlasError
from core.store.catalog import indexes
from core.store.compare.compared import LEAST, MOST
from core.ui import compare_columns, compare_common, compare_contexts, compare_units, state
from core.ui.compare_data import CompareData, compare_data, offered, single
from core.ui.index_choice import ready, waiting
from core.ui.prose import heading, quiet, sentence
from core.ui.server import Server
from core.ui.setup import refuse, setup
from core.ui.tokens import View


def show(server: Server, data: CompareData) -> None:
    """The comparison of units that are all there."""
    for said in View.read(st.query_params.to_dict())[1]:
        sentence(said)
    compare_columns.heads(server, data)
    compare_columns.explanations(server, data)
    compare_columns.statistics(data)
    compare_columns.histograms(data)
    heading("What they have in common", f"{len(data.compared.pairs)} pairs" if len(data.compared.pairs) > 1 else "")
    if data.compared.apart:
        quiet(data.compared.apart, small=False)
    compare_common.pairs(data)
    st.fragment(compare_contexts.contexts)(server.workspace, data)
    compare_columns.tokens(data)
    compare_columns.ablations(server, data)
    compare_columns.findings(server, data)
    st.fragment(compare_columns.records)(server, data)
    compare_columns.save(server, data)
    compare_columns.provenance(data)


def fewer(server: Server, units: list[compare_units.UnitName]) -> None:
    """Why there is nothing to compare yet, and what could be."""
    said = "One unit alone is nothing to compare" if units else "No unit is named yet"
    quiet(f"{said}: name {LEAST} to {MOST}, neurons or features of any site.", small=False)
    if units:
        data = single(server.workspace, units[0], state.raw("run") or None)
        compare_columns.heads(server, data)
        compare_units.offer(units, data.units[0].view, offered(server, data))


server = setup()
st.title("Compare")
st.html(compare_columns.STYLE)
if not [index for index in indexes(server.workspace) if index.published] or not ready(server):
    waiting(server)
    st.stop()
try:
    units = compare_units.read_units(server)
except compare_units.WrongUnits as error:
    sentence(str(error))
    if error.rest:
        compare_units.without(error.rest)
    st.stop()
compare_units.add_field(server, units)
try:
    if len(units) < LEAST:
        fewer(server, units)
    else:
        show(server, compare_data(server.workspace, units, state.raw("run") or None))
except AtlasError as error:
    refuse(str(error))
