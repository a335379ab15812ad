"""“Recompute this record”: one stored context through the model again, and the difference."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import streamlit as st

from core.errors import AtlasError
from core.runs.client import call
from core.store.texts import load_vocab
from core.store.units import Record, UnitView
from core.ui.records import SAMPLED, record_list, row_of
from core.ui.setup import sentence
from core.ui.tokens import Band, Heading, Row, View, digits, pack, token_view
from core.ui.unit_tables import number, token_name
from core.workspace import Workspace

_SHOWN = {"top": "top", "bottom": "most negative", **SAMPLED, "random": "random"}


@dataclass(frozen=True)
class Compared:
    """A record as stored and as computed again. difference: the largest |stored − fresh| over the tokens that were computed."""

    stored: Row
    fresh: Row
    difference: float


def compare(record: Record, answer: dict[str, Any]) -> Compared:
    """Set an answer of the operation `recompute` beside the stored record. Raises AtlasError when it is about other tokens."""
    stored = row_of(record)
    if list(answer["tokens"]) != record.tokens.tolist():
        raise AtlasError(f"Context {record.context} has other tokens now: the text changed since it was indexed, so index it again.")
    fresh: npt.NDArray[np.float32] = np.array([np.nan if v is None else v for v in answer["activations"]], dtype=np.float32)
    both = np.isfinite(stored.activations) & np.isfinite(fresh)
    difference = float(np.abs(stored.activations[both] - fresh[both]).max(initial=0))
    again = Row(record.tokens, fresh, record.position, float(fresh[record.position]), stored.where, stored.cells)
    return Compared(stored, again, difference)


def recompute(workspace: Workspace, view: UnitView, picked: int) -> None:
    """The choice of a record, the button, and the two rows, in a fragment. picked: the record whose token was clicked last.

    Nothing where no model may be asked.
    """
    records = record_list(view)
    if not records or workspace.read_only or view.index.imported_from:
        return
    vocab = load_vocab(workspace, view.name.subject)
    scale = max(map(abs, view.limits))

    def shown(place: int) -> str:
        record = records[place]
        token = token_name(vocab.pieces([int(record.tokens[record.position])])[0])
        return f"{_SHOWN[record.band]} {record.place + 1} · {number(record.value, scale)} · {token} · context {record.context}"

    with st.container(horizontal=True, vertical_alignment="bottom"):
        place = st.selectbox("Record", range(len(records)), index=min(picked, len(records) - 1), format_func=shown)
        asked = st.button("recompute this record")
    if not asked:
        return
    record = records[place]
    try:
        with st.spinner("Reading this context through the model again; loading the model takes a few seconds the first time…"):
            answer = call(workspace, "recompute", unit=str(view.name), run=view.index.run, context=record.context)
        compared = compare(record, answer)
    except AtlasError as error:
        sentence(str(error))
        return
    st.html(
        f'<p class="na-small" style="margin:0">Largest difference <b>{compared.difference:.3g}</b> on {len(record.tokens)} tokens. '
        f"Stored activations are 16-bit: steps of {float(np.nanmax(np.abs(compared.stored.activations), initial=0)) / 32767:.2g}.</p>"
    )
    bands = [Band("Stored", "as indexed", [compared.stored]), Band("Fresh", "computed now", [compared.fresh])]
    packed = pack(
        bands,
        vocab,
        key=f"{view.index.run}:{view.name}:{record.context}:{digits(compared.difference)}",
        low=view.limits[0],
        high=view.limits[1],
        heading=Heading("Stored and fresh", file="recomputed.csv"),
    )
    token_view(packed, View(window="all"), key="unit-recomputed", on_view=_ignore)


def _ignore(_: View) -> None:
    """The switches over the two rows stay in the browser."""
