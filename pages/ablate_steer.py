"""Ablate and steer: a text of one's own with some units silenced, and what the model writes when they are driven."""

import streamlit as st

from core.causal.effect_request import check_text
from core.errors import AtlasError, shown
from core.store.catalog import load_index
from core.ui import state
from core.ui.ablate_section import ablate_section
from core.ui.address_fields import AddressFields
from core.ui.chosen_units import read_units, unit_fields
from core.ui.index_choice import ready, waiting
from core.ui.prose import heading, quiet, sentence
from core.ui.run_address import open_run
from core.ui.setup import refuse, setup
from core.ui.steer_section import steer_section

SAMPLE = "When I opened the door this morning, I saw"
MAX_CHARACTERS = 2000


def read_text() -> str:
    """The box. A text that was taken out is a blank in the address: without any there stands the sample."""
    given = st.query_params.get("text", SAMPLE)[:MAX_CHARACTERS]
    st.session_state["causal_text"] = given
    st.text_area(
        "Text", key="causal_text", height=92, max_chars=MAX_CHARACTERS, on_change=_typed,
        help="It is read with the units silenced, and gone on with while they are driven.",
    )  # fmt: skip
    return given


def _typed() -> None:
    typed = str(st.session_state["causal_text"])
    state.write(text=None if typed == SAMPLE else typed or " ", at=None, step=None)


def index_note() -> None:
    """Which index is asked, where the address names one (the command `--run`)."""
    if asked := state.raw("index"):
        with st.container(horizontal=True, vertical_alignment="center", key="causal-index"):
            quiet(f"Means and maxima of the units are those of {shown(asked)}.")
            st.button(
                "use each unit's largest index", key="causal-index-largest", type="tertiary", on_click=state.write, kwargs={"index": None}
            )


server = setup()
st.title("Ablate and steer")
indexes = ready(server)
if not indexes:
    waiting(server)
    st.stop()
try:
    open_run(server)
    units = read_units(server)
    if units:
        model = units[0].name.subject
    else:
        models = list(dict.fromkeys(one.slug for one in indexes))
        fields = AddressFields("causal")
        model = fields.choice("model", "Model", models, models[0]) if len(models) > 1 else models[0]
        fields.check()
    index = next((one for one in indexes if one.slug == model), indexes[0])
    state.phrase("text", "text", MAX_CHARACTERS)
    if state.raw("index"):
        load_index(server.workspace, state.raw("index"))
except AtlasError as error:
    refuse(str(error))
heading("Units", f"of {index.slug}")
unit_fields(server, units, index)
index_note()
text = read_text()
try:
    check_text(text)
except AtlasError as error:
    sentence(str(error))
    st.stop()
ablate_section(server, units, text)
steer_section(server, units, text)
