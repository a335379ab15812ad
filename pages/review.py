"""Review: one unit after another of a list, rated, noted and labelled by keys."""

import streamlit as st

from core.errors import AtlasError
from core.ui.findings_author import findings, name_field, unasked
from core.ui.index_choice import chosen_index, pick_index
from core.ui.prose import lead, quiet, sentence
from core.ui.review_filters import NAMES, fields, forget, narrowed, queue_of
from core.ui.review_view import queue_view
from core.ui.setup import only_to_write, setup

server = setup()
st.title("Review")
only_to_write(server)
lead("One unit after another: 1 to 5 rates and goes on, n notes, l labels, u takes back, ? shows all keys.")
index = chosen_index(server)
pick_index(server, index, forget=NAMES)
try:
    known = findings(server)
    if unasked(server):
        name_field(server)
    wanted = fields(known, index)
    if further := narrowed():
        quiet("Also narrowed by the address: " + ", ".join(f"{name} {value}" for name, value in further.items()) + ".")
    if queue_of(server, known, wanted).names:
        queue_view(server, wanted)
    else:
        sentence("No unit fits. Widen a range, choose another list, or review all units.")
        st.button("Review all units", on_click=forget)
except AtlasError as error:
    sentence(str(error))
    st.button("Review all units", on_click=forget)
