"""A list of dictionaries: what each is and its numbers. A heading sorts, a box chooses for comparing, a name opens, a word acts.

Drawn in the browser with `textContent` only, so no name can become markup.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from core.ui.component import component, nothing


@dataclass(frozen=True)
class Column:
    """key: what a click on the heading reports. note: the heading's tooltip. number: stands to the right."""

    key: str
    label: str
    note: str
    number: bool


@dataclass(frozen=True)
class Action:
    """What can be done with one dictionary: a word that reports `key`, or a link when it has an address."""

    key: str
    label: str
    note: str
    address: str = ""


@dataclass(frozen=True)
class Row:
    """One dictionary. cells: under the columns in order. notes: their tooltips, empty for none. opened: its details are on the page."""

    key: str
    address: str
    cells: Sequence[str]
    notes: Sequence[str]
    chosen: bool
    opened: bool
    actions: Sequence[Action]


@dataclass(frozen=True)
class Click:
    """What a person did: chose a dictionary or let go of it, opened it, chose a heading, or asked for `action` of it."""

    kind: Literal["choose", "open", "sort", "act"]
    value: str
    action: str = ""


def dictionary_rows(columns: Sequence[Column], rows: Sequence[Row], *, key: str, opens: str, sort: str, descending: bool) -> Click | None:
    """Show the list; return the click that caused this run, if one did. key: unique on the page. opens: the column that is a link."""
    data = {
        "columns": [asdict(column) for column in columns],
        "rows": [asdict(row) for row in rows],
        "opens": opens,
        "sort": sort,
        "descending": descending,
    }
    result = component("dictionary_rows", '<div class="list">\n</div>')(
        key=key, data=data, on_choose_change=nothing, on_open_change=nothing, on_sort_change=nothing, on_act_change=nothing
    )
    if result.act:
        action, _, value = str(result.act).partition(" ")
        return Click("act", value, action)
    if result.choose:
        return Click("choose", str(result.choose))
    if result.open:
        return Click("open", str(result.open))
    return Click("sort", str(result.sort)) if result.sort else None
