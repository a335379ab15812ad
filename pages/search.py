"""Search: units found by words, in explanations, in what people wrote, and in their top tokens."""

import streamlit as st

from core.errors import AtlasError
from core.findings.search.question import Question
from core.findings.search.search import Search
from core.ui import nav, search_rows, state, words
from core.ui.prose import heading, quiet, sentence
from core.ui.searching import NAMES, being_made, page_of, question_fields, search_of, what_there_is
from core.ui.setup import setup

ROWS = 25
MOST_IN_CSV = 10_000

server = setup()
st.title("Search")
search = search_of(server)


def forget() -> None:
    state.write(**dict.fromkeys(NAMES))


def go(page: int) -> None:
    state.write(page=page if page > 1 else None)


def results(search: Search, asked: Question) -> None:
    page = state.whole("page", "a page", 1, 1_000_000, 1) or 1
    found = search.find(asked, limit=ROWS, offset=(page - 1) * ROWS)
    # Where nothing can be started, no page leads there.
    fires = None if server.read_only else ("which units fire on this text?", nav.address("try_text", {"text": asked.text}))
    if not found.total:
        if search.progress is None:
            heading("Nothing fits", "fewer filters or other words may", link=fires)
        else:
            heading("Nothing yet", "some texts are still to be read", link=fires)
        st.button("Begin again", on_click=forget)
        return
    pages = page_of(found.total, ROWS, page)
    first = (page - 1) * ROWS
    span = f"{first + 1:,}–{first + len(found.hits):,} of {words.count(found.total, 'text')}, the best first"
    heading("What fits", span, link=fires)
    with st.container(horizontal=True, horizontal_alignment="right", vertical_alignment="center", gap="small"):
        st.download_button(
            "Save as CSV", lambda: search_rows.to_csv(search.find(asked, limit=MOST_IN_CSV).hits), "search.csv", "text/csv",
            key="search-csv", on_click="ignore", type="tertiary", help=f"The best {MOST_IN_CSV:,} at most.",
        )  # fmt: skip
        if pages > 1:
            st.button("← Previous", key="search-back", on_click=go, args=(page - 1,), disabled=page == 1)
            st.button("Next →", key="search-next", on_click=go, args=(page + 1,), disabled=page == pages)
    st.html(search_rows.STYLE)
    st.html(search_rows.rows_html(found))
    if search.failed:
        quiet("What cannot be read is not found.")


try:
    asked = question_fields(search)
    being_made(search)
    if asked.text:
        results(search, asked)
    else:
        what_there_is(search)
except AtlasError as error:
    sentence(str(error))
    st.button("Begin again", on_click=forget)
