"""Try text: which units fire strongly on a text of one's own, token by token, and one unit over the whole of it."""

import streamlit as st

from core.errors import AtlasError
from core.ui import nav, state
from core.ui.fire_grid import fire_grid
from core.ui.index_choice import chosen_index, pick_index
from core.ui.prose import heading, quiet, sentence
from core.ui.setup import only_to_write, refuse, setup
from core.ui.tried import MAX_CHARACTERS, SAMPLE, Tried, ask, ask_unit, strong_rows, unit_view
from core.ui.unit_rows import Column, unit_rows

COLUMNS = (
    Column("value", "activation", "The unit's activation on this token", sortable=False),
    Column("ratio", "against its max", "Against the largest activation it had over its own text; ×: so many times that", sortable=False),
    Column("band", "beyond", "The percentile of its own activations over its text that this exceeds", sortable=False),
)

server = setup()
st.title("Try text")
only_to_write(server)
index = chosen_index(server)
pick_index(server, index, forget=("unit", "token"))


def read_text() -> str:
    """The box and its button; the text that is in the address, or the sample."""
    text = state.phrase("text", "text", MAX_CHARACTERS, SAMPLE)
    with st.form("try", border=False):
        typed = st.text_area(
            "Text to read", text, height=92, key=f"typed_{hash(text)}", label_visibility="collapsed", placeholder="Type or paste text"
        )
        if st.form_submit_button("Read it"):
            if len(typed) > MAX_CHARACTERS:
                sentence(f"The text has {len(typed):,} characters; at most {MAX_CHARACTERS:,} are taken: shorten it.")
                st.stop()
            state.write(text=typed if typed.strip() and typed != SAMPLE else None, token=None)
            if not typed.strip():
                sentence("The text is empty: write or paste a few words.")
                st.stop()
            st.rerun()
    return text


def picture(tried: Tried) -> int:
    """The picture, and the token that is picked: the one in the address, else where units fire most."""
    last = len(tried.tokens) - 1
    token = state.whole("token", "a token of this text", 0, last, tried.busiest) or 0
    heading(
        "Where units fire strongly",
        "columns: tokens · rows: sites, the first layer at the bottom · amber: how many units exceed their own 99.9th percentile",
    )
    clicked = fire_grid(
        tried.tokens,
        tried.vocab,
        sites=tried.sites,
        fires=tried.fires,
        widths=tried.widths,
        strength=tried.strength,
        picked=token,
        key="fires",
    )
    if clicked is not None and clicked != token and 0 <= clicked <= last:
        state.write(token=clicked)
        st.rerun()
    return token


def units_of(tried: Tried, token: int) -> None:
    place = f"token {token + 1} of {len(tried.tokens)}"
    heading(f"On “{tried.vocab.label(tried.tokens[token])}”", f"{place} · by activation against the unit's own maximum{tried.so_far}")
    rows = strong_rows(server, tried, token, state.raw("run"))
    if not index.complete:
        quiet(
            f"The index has read {index.contexts_done:,} of {index.contexts_total:,} contexts: the maxima and percentiles are early, "
            "and a new text easily goes beyond them."
        )
    if not rows:
        quiet("No unit is active on this token in a direction it also takes over its own text.", small=False)
        return
    click = unit_rows(rows, key="strong", columns=COLUMNS, picked=state.raw("unit"), text_label="What it responds to elsewhere")
    if click is not None and click.kind == "open":
        nav.open_unit(click.value, state.raw("run"))
    elif click is not None and click.value != state.raw("unit"):
        state.write(unit=click.value)
        st.rerun()


def one_unit(tried: Tried) -> None:
    name = state.raw("unit")
    if not name:
        heading("One unit on this text")
        quiet("Pick a unit from the list to see it on every token.", small=False)
        return
    answer = ask_unit(server, tried, name)
    heading(name.partition("/")[2], "on this text", link=("open its page", nav.unit_address(name, state.raw("run"))))
    unit_view(tried, name, answer)


try:
    text = read_text()
    tried = ask(server, index, text)
    token = picture(tried)
    with st.container(key="tried"):
        left, right = st.columns([3, 2], gap="large")
    with left:
        units_of(tried, token)
    with right:
        one_unit(tried)
except AtlasError as error:
    refuse(str(error))
