"""Runs: start an index, watch it, stop it, take it up again."""

import streamlit as st

from core.errors import AtlasError
from core.ui import state
from core.ui.index_form import index_form
from core.ui.run_list import run_list
from core.ui.setup import refuse, setup

server = setup()
st.title("Runs")
try:
    if not server.read_only:
        nothing_yet = not server.registry.list(limit=1)
        with st.expander("Start an index", expanded=nothing_yet or state.raw("new") == "1"):
            started = index_form(server)
        if started is not None:
            state.write(run=started.id, new=None)
    run_list(server)
except AtlasError as error:
    refuse(str(error))
