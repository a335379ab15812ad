"""Findings: everything that people wrote, the newest first, and their collections."""

import streamlit as st

from core.errors import AtlasError
from core.ui.findings_author import SAID
from core.ui.findings_collection import collection_section, new_collection
from core.ui.findings_list import filters, findings_list, forget
from core.ui.findings_text import STYLE
from core.ui.import_section import import_section
from core.ui.prose import heading, lead, sentence
from core.ui.setup import setup
from core.ui.share_section import share_collection, share_listed

server = setup()
st.title("Findings")
st.html(STYLE)
lead("What people wrote on units. It is kept apart from all that can be computed again.")
if said := st.session_state.pop(SAID, None):
    sentence(said)
try:
    new_collection(server)
    import_section(server)
    wanted = filters(server)
    if wanted.collection:
        collection_section(server, wanted.collection)
        share_collection(server, wanted.collection)
        heading("Written on these units")
    findings_list(server, wanted)
    if not wanted.collection:
        share_listed(server, wanted)
except AtlasError as error:
    sentence(str(error))
    st.button("Show everything", on_click=forget)
