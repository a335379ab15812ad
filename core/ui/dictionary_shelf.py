"""The dictionaries of the workspace in a list."""

from collections.abc import Sequence

import streamlit as st

from core.bases.shelf import damaged
from core.ui import nav, state, words
from core.ui.dictionary_rows import Action, Click, Column, Row, dictionary_rows
from core.ui.dictionary_table import MEASURED, Entry, head, in_order, label_of, shown_metric, to_csv
from core.ui.dictionary_work import index, measure, under_way
from core.ui.prose import heading, quiet, sentence
from core.ui.server import Server

MAX_COMPARED = 6
MAKE = {"train": "Train a dictionary", "load": "Load a published one", "baselines": "Make baselines"}
_SAID = "dictionaries_said"


def shelf(server: Server, found: Sequence[Entry], chosen: Sequence[str]) -> None:
    """The list. chosen: keys of those that are compared. Raises AtlasError for a wrong order."""
    heading("Dictionaries", "of this workspace, with what was measured on held-out text")
    for text in (st.session_state.pop(_SAID, None), *damaged(server.workspace)):
        if text:
            sentence(text)
    if not found:
        if server.read_only:
            quiet("No dictionary is on the shelf.", small=False)
        else:
            _empty()
        return
    order = state.raw("sort")
    rows = in_order(found, order)
    measuring, indexing = under_way(server)
    lacking = [entry for entry in found if not (entry.measured or entry.key in measuring or server.read_only)]
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        many = words.count(len(found), "dictionary", "dictionaries")
        st.html(f'<p class="na-muted na-small na-num">{many}; those with a mark are compared below</p>', width="stretch")
        st.download_button(
            "Save as CSV", lambda: to_csv(rows), "dictionaries.csv", "text/csv", on_click="ignore", type="tertiary", key="shelf_csv"
        )
    names = [*(["subject"] if len({entry.info.subject for entry in found}) > 1 else []), "site", "name", "kind", "units", *MEASURED]
    columns = [Column(name, *head(name), number=name == "units" or name in MEASURED) for name in names]
    click = dictionary_rows(
        columns,
        [
            _row(entry, names, entry.key in chosen, server.read_only or entry.key in measuring, server.read_only or entry.key in indexing)
            for entry in rows
        ],
        key="dictionaries",
        opens="name",
        sort=order.removeprefix("-"),
        descending=order.startswith("-"),
    )
    if len(lacking) > 1 and st.button(f"Measure the {len(lacking)} that lack numbers", key="measure_all"):
        measure(server, lacking)
    _follow(server, click, found, chosen, order)


def tell(text: str) -> None:
    """Say something above the list when the page is drawn next."""
    st.session_state[_SAID] = text


def _empty() -> None:
    quiet(
        "No dictionary yet. Train one on a site of a model, load a published one, or make the baselines that dictionaries are held against:"
        " it appears here with its numbers.",
        small=False,
    )
    with st.container(horizontal=True, gap="small"):
        for way, label in MAKE.items():
            st.button(label, key=f"make_{way}", on_click=lambda way=way: state.write(make=way))


def _row(entry: Entry, names: Sequence[str], chosen: bool, measuring: bool, indexing: bool) -> Row:
    info = entry.info
    plain = {
        "subject": info.subject,
        "site": str(info.site) if info.head is None else f"{info.site} h{info.head}",
        "name": info.name,
        "kind": label_of(info),
        "units": f"{info.units:,}",
    }
    cells = [plain.get(name) or shown_metric(entry, name) for name in names]
    reasons = [entry.why(name) if name in MEASURED and entry.metric(name) is None else "" for name in names]
    actions: list[Action] = []
    if not entry.measured and not measuring:
        actions.append(Action("measure", "measure", "Measure it on held-out text, the model's output too"))
    if entry.index is not None:
        address = nav.address("explore", {"run": entry.index.run})
        actions.append(Action("explore", "explore", "Its features, indexed", address))
    elif not indexing:
        actions.append(Action("index", "index", "Index its features: what each responds to, in one pass over the text"))
    opened = state.raw("dictionary") == entry.key
    address = nav.address("features", {"dictionary": entry.key})
    return Row(entry.key, address, cells, reasons, chosen, opened, actions)


def _follow(server: Server, click: Click | None, found: Sequence[Entry], chosen: Sequence[str], order: str) -> None:
    if click is None:
        return
    entry = next((one for one in found if one.key == click.value), None)
    if click.kind == "sort":
        usual = f"-{click.value}" if click.value in MEASURED or click.value == "units" else click.value
        flipped = usual.removeprefix("-") if usual.startswith("-") else f"-{usual}"
        state.write(sort=flipped if order == usual else usual)
    elif entry is None:
        return  # it was taken off the shelf meanwhile
    elif click.kind == "open":
        state.write(dictionary=None if state.raw("dictionary") == entry.key else entry.key)
    elif click.kind == "choose":
        now = [key for key in chosen if key != entry.key] if entry.key in chosen else [*chosen, entry.key]
        if len(now) > MAX_COMPARED:
            tell(f"At most {MAX_COMPARED} dictionaries are compared: take a mark away first.")
        else:
            state.write(compare=",".join(now) or "none")
    elif click.action == "measure":
        measure(server, [entry])
    elif click.action == "index":
        index(server, entry)
    elif entry.index is not None:
        nav.open_page("explore", {"run": entry.index.run})
    st.rerun()
