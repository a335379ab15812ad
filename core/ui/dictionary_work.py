"""What can be asked for of dictionaries on the shelf: measuring them, and indexing their features. Each is a run."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import streamlit as st

from core.bases.measure_request import MeasureRequest, text_for
from core.corpus.spec import CorpusSpec
from core.errors import AtlasError
from core.index.request import DTYPES, IndexRequest
from core.runs.registry import Run
from core.store.catalog import indexes
from core.ui.dictionary_table import Entry
from core.ui.server import Server
from core.units import NEURONS

MAX_CONTEXTS = 4096
"""Of an index of features, where no other index of the model says how much text to read."""


def wanted(run: Run) -> bool:
    """Runs that make, measure or index dictionaries."""
    return run.kind in ("sae", "dictionary", "basis", "measure") or (run.kind == "index" and run.params.get("basis", NEURONS) != NEURONS)


def measure_requests(found: Sequence[Entry]) -> list[MeasureRequest]:
    """One request for all dictionaries of a model and a text. Raises AtlasError."""
    groups: dict[str, tuple[dict[str, Any], list[str]]] = {}
    for entry in found:
        corpus = text_for(entry.info)
        groups.setdefault(f"{entry.info.subject} {sorted(corpus.items(), key=str)}", (corpus, []))[1].append(entry.key)
    return [MeasureRequest.from_params({"dictionaries": keys, "corpus": corpus}) for corpus, keys in groups.values()]


def one_text(found: Sequence[Entry]) -> MeasureRequest | None:
    """Measure all on the longest of their texts; None when these differ in more than how much of them is read, or the models do.

    A document is held out by its content, so what one dictionary did not see in a short piece is held out in a longer one, too.
    """
    specs = [CorpusSpec.from_json(text_for(entry.info)) for entry in found]
    same = {replace(spec, contexts=1) for spec in specs}
    if len(same) != 1 or len({entry.info.subject for entry in found}) != 1:
        return None
    longest = max(specs, key=lambda spec: spec.contexts)
    return MeasureRequest.from_params({"dictionaries": [entry.key for entry in found], "corpus": longest.to_json()})


def index_request(server: Server, entry: Entry) -> IndexRequest:
    """Index a dictionary's units over the text of the model's largest index, else over that of its training. Raises AtlasError."""
    info = entry.info
    largest = next((index for index in indexes(server.workspace) if index.slug == info.subject and index.basis == NEURONS), None)
    spec = None if largest is None else largest.slice.get("spec")
    if not isinstance(spec, dict):
        spec = {**text_for(info)}
        spec["contexts"] = min(int(spec.get("contexts") or MAX_CONTEXTS), MAX_CONTEXTS)
    model = info.recipe.get("model")
    dtype = str(model.get("dtype")) if isinstance(model, dict) else ""
    return IndexRequest(
        CorpusSpec.from_json(spec),
        model=info.subject,
        sites=str(info.site),
        basis=info.name,
        dtype=dtype if dtype in DTYPES else DTYPES[0],
    )


def measure(server: Server, found: Sequence[Entry]) -> None:
    """Queue the runs that measure these, and draw the page again. Raises AtlasError."""
    submit(server, measure_requests(found))


def submit(server: Server, requests: Sequence[MeasureRequest]) -> None:
    """Queue the runs, and draw the page again. Raises AtlasError."""
    for request in requests:
        server.registry.submit("measure", request.params())
    server.ensure_worker()
    st.rerun()


def index(server: Server, entry: Entry) -> None:
    """Queue the run that indexes a dictionary's units, and draw the page again. Raises AtlasError."""
    server.registry.submit("index", index_request(server, entry).params())
    server.ensure_worker()
    st.rerun()


def under_way(server: Server) -> tuple[set[str], set[str]]:
    """Keys of the dictionaries that are being measured, and of those that are being indexed."""
    measured: set[str] = set()
    indexed: set[str] = set()
    for run in server.registry.list(active=True):
        if run.kind == "measure":
            measured.update(map(str, run.params.get("dictionaries") or ()))
        elif run.kind == "index":
            indexed.add(f"{run.params.get('model')}/{run.params.get('sites')}/{run.params.get('basis', NEURONS)}")
    return measured, indexed


def why_not(server: Server, entry: Entry) -> str:
    """Why a dictionary's features cannot be indexed; empty when they can."""
    try:
        index_request(server, entry).check_here(None)
    except AtlasError as error:
        return str(error)
    return ""
