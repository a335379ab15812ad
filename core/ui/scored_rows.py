"""Explanations in a list: the sentence, its score with the interval, the controls beside it; as rows and as CSV. No Streamlit."""

import csv
import io
import math
from collections.abc import Sequence

import pandas as pd

from core.autointerp.comparison import figure
from core.autointerp.study_tables import Record, evident, number
from core.store.cache import Cache
from core.store.peaks import peaks
from core.ui import nav
from core.ui.explain_settings import COVERAGE, RHO
from core.ui.explanation_rows import ROLE_TIPS, interval
from core.ui.snippets import chip, one_line
from core.ui.spreadsheet import inert
from core.ui.starred import unstarred
from core.ui.unit_rows import Column, Row

COLUMNS = (
    Column("rho", "ρ", RHO),
    Column("interval", "95 %", "The 95 % interval of ρ, from drawing whole records again", sortable=False),
    Column("above lookup", "lookup", f"{ROLE_TIPS['lookup']} Sorts by how far ρ is above it."),
    Column("above shuffled", "shuffled", f"{ROLE_TIPS['shuffled']} Sorts by how far ρ is above it."),
    Column("coverage", "covered", COVERAGE),
)
CSV_COLUMNS = (
    *("explanation", "run", "study", "name", "layer", "setting", "step", "explainer", "author", "text", "failed", "kind", "split"),
    *("simulator", "calibration", "rho", "low", "high", "r2", "explained", "record_rho", "n_tokens", "n_records", "coverage", "reason"),
    *(f"{role}_{name}" for role in ("lookup", "shuffled", "paraphrase") for name in ("rho", "low", "high", "reason")),
    *("shuffled_said", "shuffled_said_of", "paraphrase_said", "evidence", "index_run", "created"),
)


def scored_rows(cache: Cache, records: Sequence[Record], *, snippets: bool) -> list[Row]:
    """Rows for `unit_rows`, named by the explanation. records: of `explanation_queries`. snippets: show where the unit is strongest."""
    places = [(str(one["index_run"]), str(one["site_kind"]), int(one["layer"]), int(one["unit"])) for one in records]
    known = {(str(row["run"]), str(row["name"])): row for row in peaks(cache, places).to_dict("records")} if places else {}
    return [_row(one, known.get((str(one["index_run"]), str(one["name"])), {}), snippets) for one in records]


def address(record: Record) -> str:
    """The unit's page, at this explanation."""
    return nav.address("unit", query(record))


def query(record: Record) -> dict[str, str]:
    """What the unit's page is asked for."""
    return {"unit": str(record["name"]), "explanation": str(record["explanation"])}


def to_csv(frame: pd.DataFrame) -> bytes:
    """Explanations as UTF-8 CSV, every text quoted. Undefined numbers are empty; a text that a spreadsheet would compute begins with '."""
    kept = frame.filter(items=list(CSV_COLUMNS))
    for name in kept.select_dtypes(include=["object", "string"]).columns:
        kept[name] = [inert(value) for value in kept[name].tolist()]
    return frame_csv(kept)


def frame_csv(frame: pd.DataFrame) -> bytes:
    """A frame of numbers and words of our own as UTF-8 CSV."""
    sink = io.StringIO()
    frame.to_csv(sink, index=False, quoting=csv.QUOTE_NONNUMERIC)
    return sink.getvalue().encode()


def has_number(record: Record, name: str) -> bool:
    """Whether a cell holds a number."""
    return math.isfinite(number(record[name]))


def _row(record: Record, peak: Record, snippets: bool) -> Row:
    label = peak.get("peak")
    remarks: list[str] = []
    failed, rho = str(record["failed"]), number(record["rho"])
    text = one_line(unstarred(str(record["text"]))) if not failed else f"not explained: {one_line(failed)}"
    if not failed and not math.isfinite(rho):
        remarks.append(f"undefined: {one_line(str(record['reason'])) if isinstance(record['reason'], str) else 'not scored'}")
    if evident(record) is False and math.isfinite(rho):
        remarks.append("no evidence: overlaps shuffled")
    if int(record["step"]):
        remarks.append(f"revision {int(record['step'])}")
    if str(record["setting"]):
        remarks.append(f"setting “{record['setting']}”")
    snippet = peak.get("snippet")
    if snippets and isinstance(snippet, str) and snippet:
        remarks.append(f"… {one_line(snippet).strip()} …")
    return Row(
        name=str(record["explanation"]),
        label=f"{record['site_kind']}.{record['layer']}/{record['unit']}",
        address=address(record),
        chip=chip(label) if isinstance(label, str) else "",
        snippet=(text, "", ""),
        cells=(
            figure(rho),
            interval(record["low"], record["high"]) if math.isfinite(rho) else "",
            *(figure(number(record[f"{role}_rho"])) for role in ("lookup", "shuffled")),
            _percent(number(record["coverage"])),
        ),
        reason=" · ".join(remarks),
    )


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %" if math.isfinite(value) else "–"
