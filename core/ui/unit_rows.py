"""A list of units as text: peak-token chip, snippet with the peak marked, a few numbers. A row opens its unit, a heading sorts.

Drawn in the browser with `textContent` only, so no token can become markup. Each row is a real link: open it in a new tab, or click to
stay in the session.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import streamlit as st


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
    negative: bool = False


@dataclass(frozen=True)
class Click:
    """What a person did: opened a unit (its name) or chose a heading (its key)."""

    kind: Literal["open", "sort"]
    value: str


def unit_rows(
    rows: Sequence[Row],
    *,
    key: str,
    columns: Sequence[Column] = (),
    sort: str = "",
    descending: bool = True,
    reasons: bool = False,
    on_sort: Callable[[], None] | None = None,
) -> Click | None:
    """Show the list; return the click that caused this run, if one did. `key` is unique on the page."""
    data: dict[str, Any] = {
        "columns": [asdict(column) for column in columns],
        "rows": [asdict(row) for row in rows],
        "sort": sort,
        "descending": descending,
        "reasons": reasons,
    }
    result = _component()(key=key, data=data, on_open_change=_nothing, on_sort_change=on_sort or _nothing)
    if result.open:
        return Click("open", str(result.open))
    return Click("sort", str(result.sort)) if result.sort else None


def _nothing() -> None:
    """Makes the browser's event run the page; the page reads the event itself."""


@st.cache_resource(show_spinner=False)
def _component() -> Callable[..., Any]:
    return st.components.v2.component("neuron_atlas_unit_rows", html="<div class='list'></div>", css=_CSS, js=_JS)


_CSS = """
.list {font-family: var(--st-font); font-size: .92rem; color: var(--na-text); line-height: 1.45}
table {border-collapse: collapse; width: 100%; table-layout: auto}
th {text-align: left; font-weight: 500; font-size: .8rem; color: var(--na-muted); padding: .2rem .6rem .3rem 0; white-space: nowrap;
  border-bottom: 1px solid var(--na-hairline)}
th.number, td.number {text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap}
td.number {color: var(--na-muted)}
th button {all: unset; cursor: pointer} th button:hover, th.on button {color: var(--na-text)}
th button:focus-visible, a:focus-visible {outline: 2px solid var(--na-accent); outline-offset: 2px; border-radius: 3px}
td {padding: .34rem .6rem .34rem 0; border-bottom: 1px solid var(--na-hairline); vertical-align: top}
tr.row {cursor: pointer} tr.row:hover td {background: color-mix(in srgb, var(--na-chip) 14%, transparent)}
td.unit {white-space: nowrap} td.unit a {color: inherit; text-decoration: none; font-variant-numeric: tabular-nums}
tr.row:hover td.unit a {color: var(--st-link-color); text-decoration: underline; text-underline-offset: 2px}
td.peak {white-space: nowrap; max-width: 11rem}
.chip {display: inline-block; max-width: 10.5rem; overflow: hidden; text-overflow: ellipsis; vertical-align: bottom; white-space: pre;
  background: var(--na-chip); border-radius: 5px; padding: 0 .42rem; font-weight: 600; unicode-bidi: isolate}
.chip.negative {background: var(--na-negative-mark)}
td.text {width: 99%; overflow-wrap: anywhere; unicode-bidi: isolate}
mark {background: var(--na-chip); color: inherit; border-radius: 3px; padding: 0 .08em; white-space: pre-wrap}
mark.negative {background: var(--na-negative-mark)}
.reason {display: block; color: var(--na-muted); font-size: .84rem}
@media (max-width: 760px) {
  table, tbody, tr.row {display: block} thead tr {display: flex; flex-wrap: wrap; gap: 0 .9rem; border-bottom: 1px solid var(--na-hairline)}
  thead {display: block} thead th {border: 0; padding-right: 0} th.plain {display: none}
  tr.row {display: flex; flex-wrap: wrap; gap: .1rem .8rem; padding: .45rem 0; border-bottom: 1px solid var(--na-hairline)}
  tr.row td {border: 0; padding: 0} td.text {width: 100%; order: 9} td.number {font-size: .82rem}
  td.number::before {content: attr(data-label) " "; opacity: .8}
}
"""

_JS = """
export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector('.list');
  root.replaceChildren();
  const make = (tag, cls, text) => {
    const node = document.createElement(tag);
    if (cls) node.className = cls;
    if (text !== undefined) node.textContent = text;
    return node;
  };
  const table = make('table');
  if (data.columns.length) {
    const line = make('tr');
    line.append(make('th', 'plain', 'Unit'), make('th', 'plain', 'Peak'));
    const heads = data.columns.map((column) => {
      const head = make('th', 'number' + (column.key === data.sort ? ' on' : ''));
      const arrow = column.key === data.sort ? (data.descending ? ' \\u2193' : ' \\u2191') : '';
      if (column.sortable) {
        const button = make('button', '', column.label + arrow);
        button.type = 'button';
        button.title = column.note || ('Sort by ' + column.label);
        button.onclick = () => setTriggerValue('sort', column.key);
        head.append(button);
        if (column.key === data.sort) head.setAttribute('aria-sort', data.descending ? 'descending' : 'ascending');
      } else {
        head.textContent = column.label;
        head.title = column.note;
      }
      return head;
    });
    line.append(...heads, make('th', 'plain', 'Where it is strongest'));
    const top = make('thead');
    top.append(line);
    table.append(top);
  }
  const body = make('tbody');
  for (const row of data.rows) {
    const line = make('tr', 'row');
    const unit = make('td', 'unit');
    const link = make('a', '', row.label);
    link.href = row.address;
    unit.append(link);
    const peak = make('td', 'peak');
    if (row.chip) {
      const chip = make('span', 'chip' + (row.negative ? ' negative' : ''), row.chip);
      chip.title = row.chip;
      peak.append(chip);
    }
    const numbers = row.cells.map((cell, i) => {
      const node = make('td', 'number', cell);
      node.dataset.label = data.columns[i] ? data.columns[i].label : '';
      return node;
    });
    const text = make('td', 'text');
    const [before, mark, after] = row.snippet;
    text.append(before);
    if (mark) text.append(make('mark', row.negative ? 'negative' : '', mark));
    text.append(after);
    if (data.reasons && row.reason) text.append(make('span', 'reason', row.reason));
    line.append(unit, peak, ...numbers, text);
    line.onclick = (event) => {
      if (event.metaKey || event.ctrlKey || event.shiftKey || event.button) return;
      if (document.getSelection() && String(document.getSelection())) return;
      event.preventDefault();
      setTriggerValue('open', row.name);
    };
    body.append(line);
  }
  table.append(body);
  root.append(table);
}
"""
