"""From the store's frames of units to rows of a list and to CSV. No Streamlit."""

import csv
import io
from typing import Any

import pandas as pd

from core.ui import nav, words
from core.ui.snippets import chip, split_snippet
from core.ui.unit_rows import Row

CSV_COLUMNS = ("name", "kind", "layer", "unit", "density", "kurtosis", "max", "min", "mean", "variance", "skewness", "tokens", "nonzero")
_AFTER = ("peak_token", "peak", "snippet")


def rows_from(frame: pd.DataFrame, run: str, *, numbers: bool) -> list[Row]:
    """Rows for `unit_rows`. frame: the columns of `queries.explore`, and `why` if reasons are to be shown.

    numbers: show density, kurtosis and maximum.
    """
    return [_row(record, run, numbers) for record in frame.to_dict("records")]


def _row(record: dict[Any, Any], run: str, numbers: bool) -> Row:
    name = str(record["name"])
    label = chip(str(record["peak"])) if isinstance(record["peak"], str) else ""
    piece = record["peak_text"] if isinstance(record["peak_text"], str) else ""
    cells = (words.share(record["density"]), words.number(record["kurtosis"]), words.number(record["max"])) if numbers else ()
    return Row(
        name=name,
        label=f"{record['kind']}.{record['layer']}/{record['unit']}",
        address=nav.unit_address(name, run),
        chip=label,
        snippet=split_snippet(str(record["snippet"] or ""), piece),
        cells=cells,
        reason=str(record.get("why") or ""),
    )


def to_csv(frame: pd.DataFrame) -> bytes:
    """The whole frame as UTF-8 CSV, every text quoted. Undefined numbers are empty."""
    sink = io.StringIO()
    frame[[*CSV_COLUMNS, *_AFTER]].to_csv(sink, index=False, quoting=csv.QUOTE_NONNUMERIC)
    return sink.getvalue().encode()
