"""Explore: every unit of an index in one list that can be searched, narrowed, sorted and saved."""

import html

import streamlit as st

from core.errors import AtlasError
from core.store import queries
from core.ui import nav, state, words
from core.ui.explore_filters import MAX_TEXT, PAGE_ROWS, USUAL_SORT, Filters
from core.ui.index_choice import chosen_index, pick_index
from core.ui.prose import sentence
from core.ui.setup import setup
from core.ui.unit_frames import rows_from, to_csv
from core.ui.unit_rows import Column, unit_rows
from core.units import NEURONS

FIELDS = {
    "text": ("Text in top records or tokens", "any text", 2.6, "A piece of text, ignoring case."),
    "token": ("Top token", "a whole token", 1.3, "One of the unit's top tokens, ignoring case and spaces."),
    "layer": ("Layers", "0-5", 1.0, "One, or a range."),
    "density": ("Density %", "<1", 1.0, "Share of tokens on which the unit is clearly active: <1, >5, 0.1..2."),
    "kurtosis": ("Kurtosis", ">100", 1.0, "3 for a Gaussian, large for units that fire rarely and strongly."),
    "max": ("Maximum", "2..10", 1.0, "Largest activation over the text."),
}
COLUMNS = (
    Column("density", "density", "Share of tokens on which the unit is clearly active: above 5 % of its largest magnitude"),
    Column("kurtosis", "kurtosis", "Fourth standardised moment: 3 for a Gaussian, large for units that fire rarely and strongly"),
    Column("max", "max", "Largest activation over the text"),
)
NAMES = (*FIELDS, "kind", "sort", "page")

server = setup()
st.title("Explore")
index = chosen_index(server)
pick_index(server, index, forget=NAMES)
kinds = sorted({site.kind for site in index.published})


def changed(name: str) -> None:
    """A widget was changed: the address follows, and the list starts again at its first row."""
    state.write(**{name: st.session_state[f"explore_{name}"] or None, "page": None})


def forget() -> None:
    state.write(**dict.fromkeys(NAMES))


def fields() -> None:
    places = st.columns([*(width for *_, width, _ in FIELDS.values()), *([1.0] if len(kinds) > 1 else [])], vertical_alignment="bottom")
    for place, (name, (label, hint, _, tip)) in zip(places, FIELDS.items(), strict=False):
        st.session_state[f"explore_{name}"] = state.raw(name)[:MAX_TEXT]
        place.text_input(label, key=f"explore_{name}", placeholder=hint, help=tip, max_chars=MAX_TEXT, on_change=changed, args=(name,))
    if len(kinds) > 1:
        st.session_state["explore_kind"] = state.raw("kind") if state.raw("kind") in kinds else ""
        places[-1].selectbox(
            "Site", ["", *kinds], key="explore_kind", format_func=lambda kind: kind or "all", on_change=changed, args=("kind",)
        )


def whole_table(filters: Filters, total: int) -> bytes:
    return to_csv(queries.explore(server.cache, index.run, **filters.query(), limit=total)[0])


def listing(filters: Filters) -> None:
    asked = state.whole("page", "a page", 1, 1_000_000, 1) or 1
    frame, total = queries.explore(server.cache, index.run, **filters.query(), limit=PAGE_ROWS, offset=(asked - 1) * PAGE_ROWS)
    if not total:
        sentence("No unit fits. Widen a range, shorten the search, or show all units again.")
        st.button("Show all units", on_click=forget)
        return
    pages = -(-total // PAGE_ROWS)
    if asked > pages:
        raise AtlasError(f"Page {asked} is out of range: {words.there_are(pages, 'page')}.")
    first = (asked - 1) * PAGE_ROWS + 1
    last = min(total, asked * PAGE_ROWS)
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        one = "unit" if index.basis == NEURONS else f"{index.basis} feature"
        what = one if total == 1 else f"{one}s"
        of = what if filters.narrow else f"{what} of {index.slug}"
        if not index.complete:
            of += f", from {index.contexts_done:,} of {index.contexts_total:,} contexts so far"
        st.html(f'<p class="na-muted na-small na-num">{first:,}–{last:,} of <b>{total:,}</b> {html.escape(of)}</p>', width="stretch")
        if filters.narrow or state.raw("sort"):
            st.button("Show all", on_click=forget, type="tertiary")
        st.download_button(
            "Save as CSV",
            lambda: whole_table(filters, total),
            f"{index.slug}-{'units' if index.basis == NEURONS else index.basis}.csv",
            "text/csv",
            on_click="ignore",
            type="tertiary",
        )
        if not server.read_only and st.button("Review", key="explore_review", type="tertiary", help="One after another, rated by keys"):
            nav.open_page("review", {name: state.raw(name) for name in ("run", "kind", *FIELDS) if state.raw(name)})
        steps(asked, pages, "top")
    click = unit_rows(
        rows_from(frame, state.raw("run"), numbers=True),
        key="explore_rows",
        columns=COLUMNS,
        sort=filters.sort,
        descending=filters.descending,
    )
    if pages > 1:
        with st.container(horizontal=True, horizontal_alignment="right"):
            steps(asked, pages, "end")
    if click is not None and click.kind == "sort":
        state.write(sort=filters.flipped(click.value), page=None)
        st.rerun()
    elif click is not None:
        nav.open_unit(click.value, state.raw("run"))


def steps(asked: int, pages: int, place: str) -> None:
    def go(page: int) -> None:
        state.write(page=page if page > 1 else None)

    st.button("← Previous", key=f"back_{place}", on_click=go, args=(asked - 1,), disabled=asked == 1)
    st.button("Next →", key=f"next_{place}", on_click=go, args=(asked + 1,), disabled=asked == pages)


with st.container(key="filters"):
    fields()
try:
    given = {name: state.raw(name) for name in (*FIELDS, "kind", "sort")}
    listing(Filters.read(given, kinds=kinds, n_layers=index.n_layers))
except AtlasError as error:
    sentence(str(error))
    st.button("Show all units", on_click=forget)
if state.raw("sort") == USUAL_SORT:
    state.write(sort=None)
