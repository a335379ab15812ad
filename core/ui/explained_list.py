"""A list of explanations that is sorted and paged by the address; a row opens the unit's page at that explanation."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
import streamlit as st

from core.errors import AtlasError, shown
from core.ui import nav, state, words
from core.ui.prose import quiet
from core.ui.scored_rows import COLUMNS, Record, query, scored_rows, to_csv
from core.ui.server import Server
from core.ui.starred import HOW_TO_READ, has_numbers
from core.ui.unit_rows import Click, unit_rows

PAGE_ROWS = 30
MAX_CSV = 1_000_000
USUAL = "-rho"
_SORTS = {"rho": "rho", "lookup": "above lookup", "shuffled": "above shuffled", "coverage": "coverage", "layer": "layer", "new": "created"}
"""Words of the address, and keys of `explanation_queries.SORTS`."""
Ask = Callable[..., tuple[pd.DataFrame, int]]


def explained_list(server: Server, ask: Ask, *, key: str, file: str, none: str, snippets: bool = False) -> None:
    """Show a page of what `ask(sort, descending, limit, offset)` finds. none: said when it finds nothing. Raises AtlasError."""
    order = state.raw("sort") or USUAL
    word = order.removeprefix("-")
    if word not in _SORTS:
        raise AtlasError(f"“{shown(order)}” is not an order: sort by {', '.join(_SORTS)}, with - before it for the largest first.")
    page = state.whole("page", "a page", 1, 100_000, 1) or 1
    how: dict[str, Any] = {"sort": _SORTS[word], "descending": order.startswith("-")}
    frame, total = ask(**how, limit=PAGE_ROWS, offset=(page - 1) * PAGE_ROWS)
    if not total:
        quiet(none, small=False)
        return
    records = frame.to_dict("records")
    pages = -(-total // PAGE_ROWS)
    if page > pages:
        raise AtlasError(f"Page {page} is out of range: {words.there_are(pages, 'page')}.")
    span = f"{(page - 1) * PAGE_ROWS + 1:,}–{min(total, page * PAGE_ROWS):,} of"
    what = "explanation" if total == 1 else "explanations"
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.html(f'<p class="na-muted na-small na-num">{span} <b>{total:,}</b> {what}</p>', width="stretch")
        st.download_button(
            "Save as CSV", lambda: to_csv(ask(**how, limit=MAX_CSV, offset=0)[0]), file, "text/csv", key=f"{key}_csv", on_click="ignore",
            type="tertiary",
        )  # fmt: skip
        if pages > 1:
            _steps(page, pages, key)
    if any(has_numbers(str(record["text"])) for record in records):
        quiet(HOW_TO_READ)
    click = unit_rows(
        scored_rows(server.cache, records, snippets=snippets),
        key=key,
        columns=COLUMNS,
        sort="unit" if word == "layer" else _SORTS[word],
        descending=how["descending"],
        text_label="Explanation",
    )
    _follow(click, records, order)


def plain_list(server: Server, records: Sequence[Record], *, key: str) -> None:
    """A few explanations in the order given, each with a line of text where its unit is strongest."""
    columns = [replace(column, sortable=False) for column in COLUMNS]
    click = unit_rows(scored_rows(server.cache, records, snippets=True), key=key, columns=columns, text_label="Explanation")
    _follow(click, records, "")


def _follow(click: Click | None, records: Sequence[Record], order: str) -> None:
    if click is None:
        return
    if click.kind == "sort":
        word = "layer" if click.value == "unit" else next(word for word, sort in _SORTS.items() if sort == click.value)
        usual = word if word == "layer" else f"-{word}"
        flipped = usual.removeprefix("-") if order == f"-{word}" else f"-{word}"
        chosen = flipped if order.removeprefix("-") == word else usual
        state.write(sort=None if chosen == USUAL else chosen, page=None)
        st.rerun()
    opened = next((one for one in records if one["explanation"] == click.value), None)
    if opened is not None:
        nav.open_page("unit", query(opened))


def _steps(page: int, pages: int, key: str) -> None:
    def go(to: int) -> None:
        state.write(page=to if to > 1 else None)

    st.button("← Previous", key=f"{key}_back", on_click=go, args=(page - 1,), disabled=page == 1)
    st.button("Next →", key=f"{key}_next", on_click=go, args=(page + 1,), disabled=page == pages)
