"""A comparison as a report: two to four units side by side, and what they have in common."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from core.findings.report.gathered import Gathered, gather
from core.findings.report.page import Written, document, put
from core.findings.report.text import escaped, fitting, number, record, table, token
from core.findings.report.unit import (
    MOST_BYTES,
    ablation,
    effects,
    explanations,
    findings,
    histogram_section,
    provenance,
    read_over,
    records,
    statistics,
    top_tokens,
)
from core.store.compare.compared import LETTERS, Compared, Pair, compare, load_views
from core.store.compare.contexts import SharedContext
from core.store.compare.likeness import Overlap
from core.store.compare.together import Together
from core.units import UnitName
from core.workspace import Workspace

CONTEXTS = 12
EXPLANATIONS = 2
_SHARED = 50_000
"""Bytes of each unit's share that the shared contexts may take."""
_BANDS = (("top", "Strongest", 8), ("random", "By chance", 3))


def write_comparison(workspace: Workspace, names: Sequence[UnitName], path: Path, *, run: str | None = None) -> Written:
    """Write the report of a comparison. run: the index that all are read from; else as the page Compare chooses. Raises AtlasError."""
    compared = compare(workspace, load_views(workspace, names, run))
    return put(path, len(names), lambda: comparison_html(workspace, compared))


def comparison_html(workspace: Workspace, compared: Compared) -> str:
    """The whole page, at most 250 kB for each of its units. Raises AtlasError."""
    found = [gather(workspace, view.name, view.index.run) for view in compared.views]
    heading = " · ".join(f"{name.site}/{name.basis}/{name.index}" for name in (one.view.name for one in found))
    rows = [
        _row(found, lambda one: statistics(one)),
        _row(found, lambda one: explanations(one, EXPLANATIONS)),
        _row(found, lambda one: histogram_section(one.view)),
        common_html(compared),
        _contexts(found, compared),
        _row(found, lambda one: top_tokens(one.view)),
        _row(found, effects),
        _row(found, ablation),
        _row(found, findings),
    ]
    tail = [provenance(one.view.provenance, f"Provenance of {letter}") for letter, one in zip(LETTERS, found, strict=False)]
    each = MOST_BYTES - sum(len(part.encode()) for part in [*rows, *tail]) // len(found)
    strongest = _row(found, lambda one: records(one, each, _BANDS))
    return document(heading, _heads(found), ["<article>", *rows, strongest, *tail, "</article>"], wide=True)


def common_html(compared: Compared) -> str:
    """What every two of them have in common, as a table and the tokens that they share."""
    head = ("pair", "cosine", "strongest in common", "active together", "correlation", "over")
    lines = [line for pair in compared.pairs for line in _lines(pair)]
    apart = f'<p class="quiet">{escaped(compared.apart)}</p>' if compared.apart else ""
    note = (
        '<p class="quiet">Cosine: of what the two write. Strongest in common: token positions among the strongest of both, and how many '
        "chance would give. Active together: the Jaccard index; a feature is active where it is not zero, a neuron above 5 % "
        "of its largest.</p>"
    )
    tokens = "".join(_tokens(pair, what, one) for pair in compared.pairs for what, one in _overlaps(pair))
    return f'<h3>What they have in common</h3>{apart}<div class="scroll">{table(head, lines, (1, 2, 3, 4))}</div>{tokens}{note}'


def _heads(found: Sequence[Gathered]) -> str:
    def head(letter: str, one: Gathered) -> str:
        name = one.view.name
        return (
            f'<div><h2><span class="letter">{letter}</span> {escaped(f"{name.site} / {name.basis} / {name.index}")}</h2>'
            f'<p class="quiet">{read_over(one.view)}</p></div>'
        )

    return f'<div class="side side{len(found)}">{"".join(map(head, LETTERS, found))}</div>'


def _row(found: Sequence[Gathered], part: Callable[[Gathered], str]) -> str:
    """A part of every unit, side by side; nothing where no unit has it."""
    made = [part(one) for one in found]
    cells = (f'<div><span class="letter small">{letter}</span>{one}</div>' for letter, one in zip(LETTERS, made, strict=False))
    return f'<div class="side side{len(found)}">{"".join(cells)}</div>' if any(made) else ""


def _lines(pair: Pair) -> list[list[str]]:
    cosine, strong = pair.cosine, pair.strongest
    known = number(cosine.value) if math.isfinite(cosine.value) else f'<span title="{escaped(cosine.reason)}">not known</span>'
    common = "–" if strong is None else f"{strong.both:,} of {min(strong.counts):,}; by chance {number(strong.chance)}"
    found = [_activity(one) for one in pair.together] or [["–", "–", "they were read over different texts"]]
    first = [pair.called, known, common]
    return [[*(first if not place else ["", "", ""]), *cells] for place, cells in enumerate(found)]


def _activity(one: Together) -> list[str]:
    return [f"{number(one.jaccard)} ({one.both:,} of {one.active[0]:,} and {one.active[1]:,})", number(one.correlation), one.told]


def _overlaps(pair: Pair) -> list[tuple[str, Overlap]]:
    found = (("top tokens of both", pair.top), ("raised by both", pair.raised))
    return [(what, one) for what, one in found if one is not None and one.tokens]


def _tokens(pair: Pair, what: str, one: Overlap) -> str:
    chips = "".join(token(text) for _, text in one.tokens)
    return f'<p class="chips"><small class="quiet">{pair.called}, {what}</small> {chips}</p>'


def _contexts(found: Sequence[Gathered], compared: Compared) -> str:
    every = compared.shared
    if not every:
        return '<h3>Shared contexts</h3><p class="quiet">No context is among the records of two of them.</p>'
    shown = fitting((_context(found, compared, one) for one in every[:CONTEXTS]), _SHARED * len(found))
    note = f"{len(shown)} of {len(every):,} · each unit marked by its share of its own largest · hatched: not kept"
    return f"<h3>Shared contexts <small>{note}</small></h3>{''.join(shown)}"


def _context(found: Sequence[Gathered], compared: Compared, one: SharedContext) -> str:
    rows: list[str] = []
    for place, activations in zip(one.units, one.activations, strict=True):
        values = np.full(len(one.record.tokens), np.nan, np.float32) if activations is None else activations
        known = values[np.isfinite(values)]
        value = float(known[np.abs(known).argmax()]) if known.size else math.nan
        row = replace(one.record, activations=values, position=one.peak, value=value)
        rows.append(record(row, found[place].vocab, compared.units[place].largest, LETTERS[place]))
    where = escaped(f"{(one.record.document or 'a document that is not here')[:200]} · context {one.context:,}")
    return f'<h4><small>{where}</small></h4><div class="lettered">{"".join(rows)}</div>'
