"""Small tables in the margin of a page: a name, a bar and a number a line; drawn in the browser, each with a CSV to save."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, cast

from core.ui.component import component, nothing


@dataclass(frozen=True)
class Line:
    """`share` is the bar's length in [0, 1]; hue: p amber (activation, raised), n blue (negative, lowered), m neutral.

    colour: of the bar instead of the hue's, where lines are the key of a figure.
    `unit` is what a click on the name reports and `address` where it leads in a new tab; compare: the address that sets it beside this one.
    """

    name: str
    value: str
    share: float
    hue: Literal["p", "n", "m"] = "p"
    count: str = ""
    hover: str = ""
    unit: str = ""
    address: str = ""
    colour: str = ""
    compare: str = ""


@dataclass(frozen=True)
class Table:
    """One heading with lines in one or two columns, or facts (name, value). csv: rows of cells, the first is the header."""

    title: str
    note: str = ""
    help: str = ""
    columns: Sequence[Sequence[Line]] = ()
    facts: Sequence[tuple[str, str]] = ()
    empty: str = ""
    csv: Sequence[Sequence[str | int | float | None]] = field(default_factory=tuple)
    file: str = "table.csv"


def pack_tables(tables: Sequence[Table]) -> bytes:
    """The component's data."""
    body = {
        "tables": [
            {
                **vars(table),  # not asdict(), which copies deeply and costs a millisecond
                "columns": [[vars(line) for line in column] for column in table.columns],
                "csv": [[_cell(value) for value in line] for line in table.csv],
            }
            for table in tables
        ]
    }
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def bar_tables(packed: bytes, *, key: str) -> str | None:
    """Show packed tables; returns the `unit` of the line whose link was just clicked."""
    result = component("bars", '<div class="bt">\n</div>')(key=key, data=packed, on_open_change=nothing)
    return cast(str | None, result.get("open"))


def _cell(value: str | int | float | None) -> str | int | float:
    """A cell of the CSV: what is undefined or unbounded is left empty."""
    return "" if value is None or (isinstance(value, float) and not math.isfinite(value)) else value
