"""Labels, explanations and scores as one table, CSV or Parquet: a row for each thing that was said of a unit."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from core.errors import AtlasError, explain_os_error
from core.findings.exchange.openai import WrittenFolder
from core.findings.report.gathered import Gathered, gather
from core.units import UnitName
from core.workspace import Workspace, write_atomic

_F, _I, _T = pa.float64(), pa.int32(), pa.string()
SCHEMA = pa.schema(
    [
        *(("unit", _T), ("said", _T), ("text", _T), ("author", _T), ("created", _F), ("explanation", _T), ("index", _T)),
        *(("score", _T), ("records", _T), ("split", _T), ("simulator", _T), ("calibration", _T)),
        *((name, _F) for name in ("rho", "low", "high", "r2", "explained", "coverage")),
        *(("n_records", _I), ("n_tokens", _I), ("reason", _T)),
    ]
)
"""said: explanation (a run's), or the kind of a finding. An explanation has a row for each of its scores, one if it has none."""
NOT_CARRIED = ("records, histograms and effects", "simulations token by token", "the history of what people wrote")
_FIGURES = ("rho", "low", "high", "r2", "explained", "coverage", "n_records", "n_tokens", "reason")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write_table(workspace: Workspace, units: Sequence[UnitName], path: Path, *, run: str | None = None) -> WrittenFolder:
    """Write the table of some units; as CSV unless the name ends in `.parquet`. Undefined numbers are empty. Raises AtlasError."""
    if not units:
        raise AtlasError("There is nothing to export: name at least one unit, or a collection with units in it.")
    rows = [row for unit in dict.fromkeys(units) for row in said(gather(workspace, unit, run))]
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    try:
        if path.suffix == ".parquet":
            sink = pa.BufferOutputStream()
            pq.write_table(table, sink, compression="zstd")
            write_atomic(path, sink.getvalue().to_pybytes())
        else:
            text = io.StringIO()
            writer = csv.writer(text)
            writer.writerow(SCHEMA.names)
            writer.writerows([_cell(row.get(name)) for name in SCHEMA.names] for row in rows)
            write_atomic(path, text.getvalue().encode())
    except OSError as error:
        raise explain_os_error(error, f"writing {path}") from None
    return WrittenFolder(path, len(set(units)), sum(row["said"] == "explanation" for row in rows), NOT_CARRIED)


def said(found: Gathered) -> list[dict[str, Any]]:
    """The rows of one unit, with the columns of SCHEMA that each has."""
    name = str(found.view.name)
    rows: list[dict[str, Any]] = []
    for one in found.explanations:
        row = {"unit": name, "said": "explanation", "text": one.text, "author": one.author, "created": one.created}
        row |= {"explanation": one.identity, "index": one.index}
        scores = [
            {"score": score.role, "records": score.score.kind, "split": score.split, "simulator": score.simulator}
            | {"calibration": score.calibration, **{key: _known(getattr(score.score, key)) for key in _FIGURES}}
            for score in one.scores
        ]
        rows += [row | score for score in scores or [{}]]
    for entry in found.findings:
        for version in entry.alternatives:
            rows.append({"unit": name, "said": entry.kind, "text": version.text, "author": version.author, "created": version.created})
    return rows


def _known(value: Any) -> Any:
    return None if isinstance(value, float) and value != value else value


def _cell(value: Any) -> Any:
    """A text behind a quotation mark where a spreadsheet would take it for a formula."""
    if value is None:
        return ""
    return f"'{value}" if isinstance(value, str) and value[:1] in _FORMULA else value
