"""The contexts that compared units share: each once, with a row for every unit, on one scale or on each unit's own."""

from collections.abc import Sequence

import numpy as np
import streamlit as st

from core.errors import AtlasError
from core.store.compare.compared import LETTERS
from core.store.compare.contexts import SharedContext
from core.ui import state, words
from core.ui.address_fields import AddressFields
from core.ui.compare_data import CompareData, marked
from core.ui.prose import heading, quiet, sentence
from core.ui.records import write_view
from core.ui.tokens import Band, Heading, Row, View, pack, token_view
from core.workspace import Workspace

FIRST, MOST = 8, 60
SCALES = {"own": "each unit's own largest activation", "one": "the largest of all"}
_CSV = ("unit", "context", "document", "source", "start")


def contexts(workspace: Workspace, data: CompareData) -> None:
    """The section, as a fragment's content."""
    every = data.compared.shared
    heading("Shared contexts", f"{words.count(len(every), 'context')} that two or more of them have" if every else "")
    if not every:
        quiet("No context is among the records of two of them.", small=False)
        return
    fields = AddressFields("compare")
    with st.container(horizontal=True, vertical_alignment="bottom", key="compare-scale"):
        scale = fields.choice("colours", "The strongest colour is", list(SCALES), "own", names=SCALES.__getitem__, segmented=True)
    try:
        fields.check()
        most = state.choice("contexts", "how many contexts are shown", ["", "all"], "") == "all"
    except AtlasError as error:
        sentence(str(error))
        most = False
    view, _ = View.read(st.query_params.to_dict())
    texts = by_text(every)
    for units, found in texts.items():
        packed = pack_contexts(data, found[: MOST if most else FIRST], common=scale == "one", told=len(texts) > 1)
        token_view(packed, view, key=f"compare-contexts-{units[0]}", on_view=write_view)
    quiet(
        "A neuron has a context that is among its records; a feature whose every activation is kept has any on which it is active. First "
        "come those on which a second unit is nearest to its maximum. Numbers: each unit's largest in the context. Hatched: not kept."
    )
    longest = max(map(len, texts.values()))
    if longest > FIRST:
        label = "show fewer" if most else f"show all {len(every)}" if longest <= MOST else f"show {MOST} of {len(every)}"
        st.button(label, key="compare-contexts-more", type="tertiary", on_click=state.write, kwargs={"contexts": None if most else "all"})


def by_text(every: Sequence[SharedContext]) -> dict[tuple[int, ...], list[SharedContext]]:
    """The contexts of each text by the places of the units that were read over it: other texts have other tokens."""
    found: dict[tuple[int, ...], list[SharedContext]] = {}
    for one in every:
        found.setdefault(one.units, []).append(one)
    return found


def pack_contexts(data: CompareData, chosen: Sequence[SharedContext], *, common: bool, told: bool = False) -> bytes:
    """Contexts of one text, each as a band with a row for every unit that was read over it; at least one.

    common: the strongest colour is the largest activation of all units. told: say whose contexts they are.
    """
    places = chosen[0].units
    units = [data.compared.units[place] for place in places]
    largest = max(unit.largest for unit in units)
    bands = [_band(data, one, largest if common else None) for one in chosen]
    signed = any(unit.view.limits[0] < 0 for unit in units)
    whose, ends = ("one common", None) if common else ("each unit's own", ("− its largest", "its largest"))
    of = f" of {' and '.join(LETTERS[place] for place in places)}" if told else ""
    return pack(
        bands,
        data.vocab(places[0]),
        key=f"{data.key}:{common}:{len(bands)}",
        low=-largest if signed else 0.0,
        high=largest,
        heading=Heading(f"Context by context{of}", csv=_CSV, file="shared-contexts.csv", whose=whose, ends=ends),
    )


def _band(data: CompareData, one: SharedContext, limit: float | None) -> Band:
    record = one.record
    among = " and ".join(LETTERS[place] for place in one.among)
    rows: list[Row] = []
    for place, activations in zip(one.units, one.activations, strict=True):
        unit = data.compared.units[place]
        values = np.full(len(record.tokens), np.nan, np.float32) if activations is None else activations
        known = values[np.isfinite(values)]
        value = float(known[np.abs(known).argmax()]) if known.size else float("nan")
        cells = (str(unit.view.name), record.context, record.document, record.source, record.start)
        where = f"{record.document} · context {record.context:,} · from token {record.start:,}"
        limit_of = unit.largest if limit is None else limit
        rows.append(Row(record.tokens, values, one.peak, value, where, cells, label=marked(unit.view, place), limit=limit_of))
    return Band(record.document or f"Context {record.context:,}", f"context {record.context:,} · had by {among}", rows)
