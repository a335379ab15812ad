"""A unit's records as bands of the token view: what is shown under which heading, and how it is said."""

import numpy as np
import streamlit as st

from core.store.catalog import IndexInfo
from core.store.texts import load_vocab
from core.store.units import Record, UnitView
from core.ui import nav, state
from core.ui.tokens import CHOICES, Band, Heading, Picked, Row, View, pack, token_view
from core.units import NEURONS
from core.workspace import Workspace

CSV = ("context", "document", "source", "start")

SAMPLED = {"q3": "99–99.9 %", "q2": "90–99 %", "q1": "50–90 %", "q0": "0–50 %"}


def shown_bands(view: UnitView) -> list[tuple[str, list[Record]]]:
    """The unit's bands in the order of the page. Of a unit that is never negative the top has only texts on which it is active."""
    signed = view.index.signed.get(str(view.name.site), True)
    order = ("top", *SAMPLED, "random", *(("bottom",) if signed else ()))
    bands = {band: view.bands.get(band, []) for band in order}
    if not signed:
        bands["top"] = [record for record in bands["top"] if record.value > 0]
    said = view.index.bands_said
    return [(name, records) for name, records in bands.items() if records or not said or name in ("top", "random")]


def record_list(view: UnitView) -> list[Record]:
    """All records in the order of the rows on the page."""
    return [record for _, records in shown_bands(view) for record in records]


def pack_records(workspace: Workspace, view: UnitView) -> bytes:
    """The unit's records as data of the token view."""
    bands = [_band(name, records, view.index) for name, records in shown_bands(view)]
    short = f"{view.name.site}-{view.name.basis}-{view.name.index}"
    return pack(
        bands,
        load_vocab(workspace, view.name.subject),
        key=f"{view.index.run}:{view.index.generation}:{view.name}",
        low=view.limits[0],
        high=view.limits[1],
        heading=Heading(
            title="What it responds to",
            try_address=try_address(workspace, view, _said_run(view)),
            csv=CSV,
            file=f"{short}-records.csv",
        ),
    )


def try_address(workspace: Workspace, view: UnitView, run: str) -> str:
    """Where a record's “try” leads, its text to be appended; nowhere where no model may be asked, or none is there."""
    if workspace.read_only or view.index.imported_from:
        return ""
    return nav.address("try_text", {"unit": str(view.name), "run": run}) + "&text="


def _said_run(view: UnitView) -> str:
    """The run of a feature: a page whose address names no run is about neurons where there are any."""
    return "" if view.name.basis == NEURONS else view.index.run


def records_view(packed: bytes) -> Picked | None:
    """The records, as a fragment's content: the switches are read from the address and written back to it."""
    view, _ = View.read(st.query_params.to_dict())
    return token_view(packed, view, key="unit-records", on_view=write_view)


def write_view(view: View) -> None:
    """Put the switches into the address; the usual ones are left out."""
    asked = view.query()
    state.write(**{name: asked.get(name) for name in CHOICES})


def row_of(record: Record) -> Row:
    """A record as a row. What lies before `record.first` (a BOS that was put there) is shown as not computed."""
    activations = np.array(record.activations, dtype=np.float32)
    activations[: record.first] = np.nan
    start = f"from token {record.start:,}" if record.start >= 0 else ""
    source = "" if record.document.startswith(record.source) else record.source
    where = " · ".join(filter(None, (source, record.document, f"context {record.context:,}", start)))
    if record.quantile is not None:
        where += f" · quantile {record.quantile:.4g}"
    cells = (record.context, record.document, record.source, record.start)
    return Row(record.tokens, activations, record.position, record.value, where, cells)


def _band(name: str, records: list[Record], index: IndexInfo) -> Band:
    rows = [row_of(record) for record in records]
    if name in index.bands_said:
        note = f"{len(rows)} in the file · {index.bands_said[name]}"
        return Band(SAMPLED.get(name, name.capitalize()), note, rows, "The file has none.", first=20)
    if name in SAMPLED:
        note = f"of all texts by their maximum · {len(rows)} sampled"
        return Band(SAMPLED[name], note, rows, "No text of the sample falls into this band.", first=5, spread=True)
    if name == "random":
        return Band("Random", f"{len(rows)} drawn uniformly", rows, "No text was drawn.", first=5)
    if name == "bottom":
        note = f"{len(rows)} kept, one per document · by the lowest activation"
        return Band("Most negative", note, rows, "No text.", first=8)
    return Band("Top", f"{len(rows)} kept, one per document", rows, "It is active on no text.", first=20)
