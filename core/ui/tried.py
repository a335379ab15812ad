"""A text a person tried: what the warm model process answered, and how it is listed and shown."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import streamlit as st

from core.errors import AtlasError
from core.runs.client import call
from core.store import queries
from core.store.catalog import IndexInfo
from core.store.texts import load_vocab
from core.ui import model_process, nav, words
from core.ui.prose import facts, quiet
from core.ui.server import Server
from core.ui.snippets import chip, split_snippet
from core.ui.tokens import Band, Heading, Row, View, pack, token_view
from core.ui.unit_rows import Row as ListRow
from core.units import Site, UnitName
from core.vocab import Vocab

SAMPLE = (
    "When Mary and John went to the store, John gave a drink to Mary. "
    "It might rain in Paris on Tuesday, she said, but nobody could be sure."
)
MAX_CHARACTERS = 2000
SECONDS = 180.0
BEYOND = {"low": "–", "p50": "50th", "p90": "90th", "p99": "99th", "p999": "99.9th", "max": "its maximum"}
"""The percentile that an activation exceeds, by the band's name in the answer."""
_KEPT = "tried"
_VIEW = "tried_view"


@dataclass
class Tried:
    """The answer about one text. fires: shape (sites, tokens). strongest: for each token, what `try_text` returned."""

    index: IndexInfo
    text: str
    vocab: Vocab
    tokens: list[int]
    sites: list[str]
    fires: list[list[int]]
    strongest: list[list[dict[str, Any]]]
    units: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    """Answers about single units on this text, by the unit's name."""

    @property
    def widths(self) -> list[int]:
        return [self.index.units_at(Site.parse(site)) for site in self.sites]

    @property
    def strength(self) -> list[float]:
        """How many units fire on each token, against the token where most do."""
        total = self._firing()
        return [value / max(total, default=1) if value else 0.0 for value in total]

    @property
    def so_far(self) -> str:
        """What must stand after “maximum” while the index is being made: its statistics are those of a part of the text."""
        return "" if self.index.complete else " so far"

    @property
    def busiest(self) -> int:
        """The token where most units fire, the first of equals; the first token only if there is no other."""
        total = self._firing()
        return max(range(1, len(total)), key=lambda at: (total[at], -at)) if len(total) > 1 else 0

    def _firing(self) -> list[int]:
        """For each token, how many units fire strongly on it."""
        return [sum(row[at] for row in self.fires) for at in range(len(self.tokens))]


def ask(server: Server, index: IndexInfo, text: str) -> Tried:
    """What the model process says about a text, asked once per session, text and generation. Raises AtlasError."""
    key = (index.run, index.generation, text)
    kept = st.session_state.get(_KEPT)
    if kept is not None and kept[0] == key:
        return kept[1]
    answer = model_process.ask(
        server,
        lambda say: call(server.workspace, "try_text", SECONDS, on_progress=say, subject=index.slug, run=index.run, text=text),
        purpose="try texts",
    )
    tried = Tried(
        index, text, load_vocab(server.workspace, index.slug), answer["tokens"], answer["sites"], answer["fires"], answer["strongest"]
    )
    st.session_state[_KEPT] = (key, tried)
    return tried


def ask_unit(server: Server, tried: Tried, unit: str) -> dict[str, Any]:
    """One unit on every token of the text: `tokens`, `activations`, `thresholds`. Raises AtlasError for a unit that does not exist."""
    name = UnitName.parse(unit)
    if name.subject != tried.index.slug:
        raise AtlasError(f"{unit} is not a unit of {tried.index.slug}, the model that read this text.")
    if unit not in tried.units:
        tried.units[unit] = model_process.ask(
            server,
            lambda say: call(server.workspace, "unit_on_text", SECONDS, on_progress=say, unit=unit, run=tried.index.run, text=tried.text),
            purpose="try texts",
        )
    return tried.units[unit]


def strong_rows(server: Server, tried: Tried, token: int, run: str) -> list[ListRow]:
    """The units that are strongest on a token, against their own maximum, with what they respond to elsewhere."""
    found = tried.strongest[token]
    frame = queries.rows_of(server.cache, tried.index.run, _ordinals(tried.index, [(each["site"], each["unit"]) for each in found]))
    known = {str(record["name"]): record for record in frame.to_dict("records")}
    rows: list[ListRow] = []
    for each in found:
        name = f"{tried.index.slug}/{each['site']}/{tried.index.basis}/{each['unit']}"
        record = known.get(name, {})
        piece = record.get("peak_text") if isinstance(record.get("peak_text"), str) else ""
        rows.append(
            ListRow(
                name=name,
                label=f"{each['site']}/{each['unit']}",
                address=nav.unit_address(name, run),
                chip=chip(str(record["peak"])) if isinstance(record.get("peak"), str) else "",
                snippet=split_snippet(str(record.get("snippet") or ""), str(piece)),
                cells=(
                    words.number(each["value"]),
                    words.against_maximum(each["ratio_to_max"]),
                    _beyond(each["percentile_band"], tried.so_far),
                ),
            )
        )
    return rows


def _beyond(band: str, so_far: str) -> str:
    return BEYOND["max"] + so_far if band == "max" else BEYOND.get(band, "–")


def unit_view(tried: Tried, unit: str, answer: dict[str, Any]) -> None:
    """One unit's activations on the text in the token view, on the scale of its maximum over its own text, and its percentiles."""
    values = np.array(answer["activations"], dtype=np.float32)
    steps: dict[str, float] = answer["thresholds"]
    peak = int(values.argmax())
    row = Row(np.array(answer["tokens"], dtype=np.int32), values, peak, float(values[peak]), "this text")
    packed = pack(
        [Band("", "", [row])],
        tried.vocab,
        key=f"{tried.index.run}:{unit}:{hash(tried.text)}",
        low=min(0.0, float(values.min())),
        high=max(float(steps["max"]), float(values[peak])),
        heading=Heading(title=""),
    )
    token_view(packed, st.session_state.get(_VIEW, View(window="all")), key="tried_unit", on_view=_keep_view)
    named = ("p50", "p90", "p99", "p999", "max")
    quiet(f"Over its own text{tried.so_far}:")
    facts({"maximum" if step == "max" else f"{BEYOND[step]} percentile": words.number(steps[step]) for step in named})


def _keep_view(view: View) -> None:
    """The switches over a single row are kept in the session, not in the address."""
    st.session_state[_VIEW] = view


def _ordinals(index: IndexInfo, units: list[tuple[str, int]]) -> list[int]:
    """The cache's numbers of units that it has: they are numbered layer by layer."""
    first: dict[str, int] = {}
    at = 0
    for site in index.published:
        first[str(site)] = at
        at += len(index.units_of(site))
    held = {site: index.units_of(Site.parse(site)) for site in first}
    return [first[site] + held[site].index(unit) for site, unit in units if unit in held[site]]
