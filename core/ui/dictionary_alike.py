"""How alike dictionaries are: MMCS of every two at one place, asked of the model process once and kept by the hashes of the weights."""

import csv
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import streamlit as st

from core.bases.metric_names import BY_NAME
from core.bases.page_limits import ALIKE_ABOVE, MAX_PRODUCTS, products
from core.errors import AtlasError
from core.remembered import Remembered
from core.runs.client import call
from core.ui import model_process, words
from core.ui.dictionary_table import Entry, place_of
from core.ui.model_process import Say
from core.ui.prose import heading, quiet, sentence
from core.ui.server import Server

SECONDS = 300.0
CSV_COLUMNS = (
    *("subject", "site", "one", "other", "mmcs", f"share_above_{ALIKE_ABOVE:g}", "units_one", "units_other", "weights_one"),
    "weights_other",
)
TIP = (
    "MMCS(D, D′) = 1/|D| Σ over d in D of max over d′ in D′ of cos(d, d′), with the decoders' directions (Sharkey et al. 2022). "
    "Row: D, whose directions are averaged over. Column: D′, where their nearest are looked for. It is not symmetric: a small dictionary "
    "can lie within a large one. Mark the random baseline to see how much is chance; of one seed, two dictionaries begin alike."
)
_STRONGEST = 34
"""Percent of the ink behind a cell at MMCS 1: its number stays readable."""
Pair = tuple[Entry, Entry]


@dataclass(frozen=True)
class Alike:
    """One way of one pair. mean: MMCS. above: the share of the directions with a partner above `ALIKE_ABOVE`."""

    mean: float
    above: float


_known: Remembered[tuple[str, str], Alike] = Remembered(8192)
"""By the hashes of the weights of the one and the other: they never change."""


def alike(server: Server, side: Sequence[Entry]) -> None:
    """The section below the comparison: a matrix for each place with two dictionaries or more."""
    found = groups(side)
    if len(side) < 2:
        return
    heading("How alike their directions are", "MMCS: the mean of the largest cosines, of those at the same site")
    if not found:
        quiet("Only dictionaries of one model at one site can be compared so: mark two of them.", small=False)
        return
    lacking = [pair for group in found for pair in missing(group)]
    many = words.count(len(lacking), "pair")
    if (
        lacking
        and not server.read_only
        and st.button(f"Compare the directions of {many}", key="alike", help="Computed by the model process.")
    ):
        try:
            model_process.ask(server, lambda say: _fetch(server, lacking, say), purpose="compare directions")
        except AtlasError as error:
            sentence(str(error))
    large = [pair for group in found for pair in too_large(group)]
    if large:
        one, other = large[0]
        quiet(f"Too large for this page: python -m core sae compare {one.key} {other.key}")
    shown = [group for group in found if any(value(one, other) is not None for one in group for other in group if one is not other)]
    for group in shown:
        if len(found) > 1:
            quiet(f"{group[0].info.subject}, {place_of(group[0].info)}")
        st.html(matrix_html(group))
    if shown:
        quiet("Row: whose directions are averaged over. Column: where the nearest of each is looked for.")
        st.download_button(
            "Save as CSV", lambda: to_csv(found), "alike.csv", "text/csv", on_click="ignore", type="tertiary", key="alike_csv"
        )


def groups(side: Sequence[Entry]) -> list[list[Entry]]:
    """Those whose directions lie in one space, where there are two or more: same model, site, head, and what is written to."""
    by_place: dict[tuple[object, ...], list[Entry]] = {}
    for entry in side:
        info = entry.info
        place = (info.subject, str(info.site), info.head, info.d_out or info.d_in, info.writes_to)
        by_place.setdefault(place, []).append(entry)
    return [group for group in by_place.values() if len(group) > 1]


def missing(group: Sequence[Entry]) -> list[Pair]:
    """The pairs that were not compared yet and are not too large."""
    return [(a, b) for a, b in combinations(group, 2) if value(a, b) is None and products(a.info, b.info) <= MAX_PRODUCTS]


def too_large(group: Sequence[Entry]) -> list[Pair]:
    """The pairs that a page does not ask for."""
    return [(a, b) for a, b in combinations(group, 2) if products(a.info, b.info) > MAX_PRODUCTS]


def value(one: Entry, other: Entry) -> Alike | None:
    """What is known of one way of a pair."""
    return _known.known((one.one.hash, other.one.hash))


def matrix_html(group: Sequence[Entry]) -> str:
    """The matrix as inert HTML: the number in every cell, and ink behind it."""
    names = [html.escape(entry.info.name) for entry in group]
    tip = html.escape(TIP, quote=True)
    heads = "".join(f'<th scope="col">{name}</th>' for name in names)
    lines = "".join(
        f'<tr><th scope="row">{name}</th>{"".join(_cell(one, other) for other in group)}</tr>'
        for name, one in zip(names, group, strict=True)
    )
    body = f'<thead><tr><th title="{tip}">{html.escape(BY_NAME["mmcs"].label)}</th>{heads}</tr></thead><tbody>{lines}</tbody>'
    return f'<div class="da"><table>{body}</table></div>{_STYLE}'


def to_csv(found: Sequence[Sequence[Entry]]) -> bytes:
    """Every known way of every pair, as UTF-8 CSV."""
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_NONNUMERIC)
    writer.writerow(CSV_COLUMNS)
    for group in found:
        for one in group:
            for other in group:
                known = None if one is other else value(one, other)
                if known is not None:
                    place = [one.info.subject, place_of(one.info), one.info.name, other.info.name]
                    sizes = [one.info.units, other.info.units]
                    writer.writerow([*place, known.mean, known.above, *sizes, one.one.hash, other.one.hash])
    return out.getvalue().encode()


def _fetch(server: Server, pairs: Sequence[Pair], say: Say) -> None:
    """Ask for one pair after the other, so that other questions get their turn. Raises AtlasError."""
    for place, (one, other) in enumerate(pairs):

        def told(doing: str, place: int = place) -> None:
            say(f"{doing} ({place + 1} of {len(pairs)})")

        found = call(server.workspace, "alike", SECONDS, on_progress=told, one=one.key, other=other.key)
        first, second = found["hashes"]
        for key, way in (((first, second), found["forth"]), ((second, first), found["back"])):
            _known.put(key, Alike(float(way["mean"]), float(way["above"])))


def _cell(one: Entry, other: Entry) -> str:
    if one is other:
        return '<td class="self">1</td>'
    known = value(one, other)
    if known is None:
        return '<td class="self" title="Not compared yet.">–</td>'
    tip = (
        f"{one.info.name} in {other.info.name}: MMCS {known.mean:.4f}; {words.share(known.above)} of its {one.info.units:,} directions"
        f" have one with a cosine above {ALIKE_ABOVE:g} among {other.info.units:,}"
    )
    ink = round(_STRONGEST * max(0.0, min(1.0, known.mean)))
    style = f"background:color-mix(in srgb, var(--na-muted) {ink}%, transparent)"
    return f'<td style="{style}" title="{html.escape(tip, quote=True)}">{known.mean:.2f}</td>'


_STYLE = """<style>
.da {overflow-x: auto} .da table {border-collapse: separate; border-spacing: 2px; font-size: .86rem; font-variant-numeric: tabular-nums}
.da th, .da td {border: 0; padding: .35rem .7rem; font-weight: 400; color: var(--na-text); background: none}
.da td {text-align: center; min-width: 4.2rem; border-radius: 3px; cursor: help}
.da td.self {color: var(--na-muted)}
.da thead th {text-align: center; color: var(--na-muted); overflow-wrap: anywhere}
.da th:first-child {text-align: left; color: var(--na-muted); position: sticky; left: 0; background: var(--na-background);
  white-space: nowrap}
.da th[title] {cursor: help}
</style>"""
