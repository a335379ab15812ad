"""A list of units as text: peak-token chip, snippet with the peak marked, a few numbers. A row opens its unit, a heading sorts.

Drawn in the browser with `textContent` only, so no token can become markup. Each row is a real link: open it in a new tab, or click to
stay in the session.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from core.ui.component import component, nothing


@dataclass(frozen=True)
class Column:
    """One number column. `key` is what a click on the heading reports; `note` is the heading's tooltip."""

    key: str
    label: str
    note: str = ""
    sortable: bool = True


@dataclass(frozen=True)
class Row:
    """One unit. `snippet` is text before the peak, the peak token and text after it; `cells` stand under the columns in order."""

    name: str
    label: str
    address: str
    chip: str
    snippet: tuple[str, str, str]
    cells: Sequence[str] = ()
    reason: str = ""


@dataclass(frozen=True)
class Click:
    """What a person did: opened or picked a unit (its name), or chose a heading (its key)."""

    kind: Literal["open", "pick", "sort"]
    value: str


def unit_rows(
    rows: Sequence[Row],
    *,
    key: str,
    columns: Sequence[Column] = (),
    sort: str = "",
    descending: bool = True,
    text_label: str = "Where it is strongest",
    picked: str | None = None,
) -> Click | None:
    """Show the list; return the click that caused this run, if one did.

    key: unique on the page. sort: the column's key that rows are in order of; `unit` is the first column. picked: None when a row opens
    its unit; else rows are picked from, this one is marked, and only the unit's name opens it.
    """
    data: dict[str, Any] = {
        "columns": [asdict(column) for column in columns],
        "rows": [asdict(row) for row in rows],
        "sort": sort,
        "descending": descending,
        "text_label": text_label,
        "pick": picked is not None,
        "picked": picked or "",
    }
    result = component("unit_rows", '<div class="list">\n</div>')(
        key=key, data=data, on_open_change=nothing, on_pick_change=nothing, on_sort_change=nothing
    )
    if result.open:
        return Click("open", str(result.open))
    if result.pick:
        return Click("pick", str(result.pick))
    return Click("sort", str(result.sort)) if result.sort else None
