"""The form that loads a published dictionary: from where, for which model and site, and the button."""

from typing import Any

import streamlit as st

from core.bases.formats.bring_request import CONTEXTS, BringRequest
from core.errors import AtlasError
from core.ui.address_fields import AddressFields
from core.ui.dictionary_job import job_fields, model_field, start_button
from core.ui.explain_form import attempt, told
from core.ui.prose import quiet
from core.ui.server import Server
from core.units import Site

START = "Load it"


def bring_form(server: Server, fields: AddressFields) -> None:
    """Draw the form and queue what it asks for."""
    first, second = st.columns([3, 2], vertical_alignment="bottom")
    with first:
        source = fields.text("source", "Folder, file, or hub id", hint="/path/to/sae or owner/name", limit=1000)
    with second:
        model = attempt(lambda: model_field(server, fields))
    columns = st.columns([2, 1.2, 1, 1.6], vertical_alignment="bottom")
    with columns[0]:
        file = fields.text(
            "file", "Which one there", hint="layer_9/width_16k/…", limit=1000, help="A folder or file in it, where it holds several."
        )
    with columns[1]:
        revision = fields.text("srev", "Its revision", hint="main", help="A branch, tag or commit of the hub's repository.")
    with columns[2]:
        site = fields.text("site", "Site", hint="as it says", help="Such as resid.9; only for files that do not say where they read.")
    with columns[3]:
        name = fields.text("name", "Name", hint="made from the source", limit=80)
    any_model = fields.flag("any", "Also if its files name another model", help="Shapes are checked all the same.")
    quiet(
        "SAELens (standard, gated, TopK, JumpReLU, transcoder), dictionary_learning, sparsify and Gemma Scope .npz. Nothing in a file is "
        "executed: weights are read as numbers only, and a pickle that asks for more is refused.",
        small=False,
    )
    with st.expander("Text to measure it on, and more"):
        job = job_fields(fields, contexts=CONTEXTS, why="Of the text, to measure explained variance and L0 on.")

    def prepare() -> tuple[dict[str, Any], str]:
        chosen = told(model)
        typed = {"source": source, "file": file, "source_revision": revision, "site": site, "name": name}
        request = BringRequest.from_params({**typed, **job, "any_model": any_model, "model": chosen.name})
        request.check_here()
        if site and chosen.layers is not None and Site.parse(site).layer >= chosen.layers:
            raise AtlasError(f"{site} is out of range: the layers of {chosen.name} are 0 to {chosen.layers - 1}.")
        tokens = request.corpus.contexts * request.corpus.length
        return request.params(), (
            f"Shapes, model, site and hook are checked, then explained variance and L0 are measured on at most {tokens:,} tokens and held "
            "against what the file says: a minute or so, most of it for loading the model."
        )

    start_button(server, fields, START, "dictionary", prepare)
