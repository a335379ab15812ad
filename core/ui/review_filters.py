"""Which units are reviewed, and in which order: fields whose values live in the address, and the queue that they stand for."""

from dataclasses import dataclass
from typing import Any

import streamlit as st

from core.errors import AtlasError
from core.findings import review
from core.findings.findings import Findings
from core.findings.review import ORDERS, Queue
from core.remembered import Remembered
from core.store import explanation_queries
from core.store.catalog import IndexInfo
from core.ui import state
from core.ui.address_fields import AddressFields
from core.ui.explore_filters import MAX_TEXT, Filters
from core.ui.index_choice import generations
from core.ui.server import Server

MAX_SEED = 999_999_999
NAMES = ("collection", "only", "explained", "label", "order", "seed", "kind", "layer", "text", "token", "density", "kurtosis", "max")
_ORDER_NAMES = {"interesting": "interesting first", "random": "by chance"}
_EXPLAINED = {"": "with or without", "yes": "with one", "no": "without"}
_NARROW = ("text", "token", "density", "kurtosis", "max")
"""What Explore narrows its list by, and this queue too where its address says so."""

_Key = tuple[Any, ...]
_kept: Remembered[_Key, Queue] = Remembered(4)


@dataclass(frozen=True)
class Wanted:
    """What is reviewed. index: None where a collection is. key: the same as long as the queue is the same, whatever is done in it."""

    index: IndexInfo | None
    collection: str
    filters: Filters
    only_interesting: bool
    explained: bool | None
    label: str
    order: str
    seed: int

    @property
    def run(self) -> str:
        return "" if self.index is None else self.index.run

    @property
    def key(self) -> str:
        return repr((self.run, self.collection, self.filters, self.only_interesting, self.explained, self.label, self.order, self.seed))


def fields(known: Findings, index: IndexInfo) -> Wanted:
    """The fields as the address has them. Raises AtlasError for a wrong value, after all were drawn."""
    asked = AddressFields("review")
    collections = known.collections.titles()
    kinds = sorted({site.kind for site in index.published})
    only, explained, label, filters = "", "", "", Filters()
    wrong: AtlasError | None = None
    with st.container(horizontal=True, vertical_alignment="bottom", key="review-filters"):
        collection = ""
        if collections or state.raw("collection"):
            collection = asked.choice(
                "collection", "Collection", ["", *collections], "", names=lambda one: collections.get(one, "all units of the index")
            )
        if not collection:
            only = asked.choice("only", "Units", ["", "interesting"], "", names=lambda one: one or "all")
            if len(kinds) > 1 or state.raw("kind"):
                asked.choice("kind", "Site", ["", *kinds], "", names=lambda one: one or "all")
            asked.text("layer", "Layers", hint="0-5", help="One, or a range.")
            explained = asked.choice("explained", "Explanation", list(_EXPLAINED), "", names=lambda one: _EXPLAINED.get(one, one))
            labels = known.known_labels()
            if labels or state.raw("label"):
                label = asked.choice("label", "Label", ["", *labels], "", names=lambda one: one or "any or none", help="Given by anybody.")
        order = asked.choice("order", "Order", ORDERS, ORDERS[0], names=lambda one: _order_name(one, collection))
        seed = 0
        if order == "random":
            seed = asked.number("seed", "Seed", 0, MAX_SEED, 0, help="Two people with the same seed review in the same order.") or 0
        if not collection:
            try:
                given = {name: state.raw(name) for name in (*_NARROW, "kind", "layer")}
                filters = Filters.read(given, kinds=kinds, n_layers=index.n_layers)
            except AtlasError as error:
                wrong = error
    asked.check()
    if wrong is not None:
        raise wrong
    had = {"yes": True, "no": False}.get(explained)
    return Wanted(None if collection else index, collection, filters, only == "interesting", had, label, order, seed)


def narrowed() -> dict[str, str]:
    """What the address narrows the queue by and no field shows, such as a text searched on Explore."""
    return {name: state.raw(name)[:MAX_TEXT] for name in _NARROW if state.raw(name)}


def queue_of(server: Server, known: Findings, wanted: Wanted) -> Queue:
    """The queue that was asked for; made anew when what decides who is in it changed. Raises AtlasError."""
    if wanted.collection:
        units = known.collections.find(wanted.collection).units
        key: _Key = (str(server.workspace.path), wanted.key, tuple(units))
        return _kept.get(key, lambda: review.of_collection(units, order=wanted.order, seed=wanted.seed))
    index = wanted.index
    assert index is not None  # there is one unless a collection was chosen
    held = review.labelled(server.workspace, wanted.label) if wanted.label else None
    stamp = explanation_queries.stamp(server.cache) if wanted.explained is not None else None
    key = (str(server.workspace.path), generations(server).get(index.run), wanted.key, held, stamp)
    query = {name: value for name, value in wanted.filters.query().items() if name not in ("sort", "descending")}
    return _kept.get(
        key,
        lambda: review.of_index(
            server.cache, index.run, query, order=wanted.order, seed=wanted.seed, only_interesting=wanted.only_interesting,
            explained=wanted.explained, labelled=held,
        ),
    )  # fmt: skip


def forget() -> None:
    """Review every unit of the index again."""
    state.write(**dict.fromkeys(NAMES))


def _order_name(order: str, collection: str) -> str:
    return "as in the collection" if collection and order == "interesting" else _ORDER_NAMES.get(order, order)
