"""Text in a report: everything that came from a model, a corpus or a person is escaped here and nowhere else."""

import html
import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from core.store.units import Record
from core.vocab import Vocab, visible

LEFT, RIGHT = 56, 20
"""Tokens shown before and after a record's peak: what stands before it matters more, since a model reads forwards."""
LEVELS = 16
_LONGEST = 120
_LISTED = 40
"""Characters of a token in a record, and of one in a list."""
_KEPT = {" ", "\n"}


def escaped(text: str) -> str:
    """Text for an element or an attribute. What no eye could see, or what would reorder the line, is shown by its number."""
    return html.escape("".join(c if c in _KEPT or c.isprintable() else visible(c) for c in text), quote=True)


def token(text: str) -> str:
    """A token by itself: its spaces and line breaks are seen."""
    return f'<span class="token">{escaped("".join(map(visible, text[:_LISTED])))}{"…" if len(text) > _LISTED else ""}</span>'


def number(value: float, digits: int = 3) -> str:
    """A number; – where it is undefined."""
    if not math.isfinite(value):
        return "–"
    return f"{value:.{digits}g}".replace("-", "−") if abs(value) < 10_000 else f"{value:,.0f}".replace("-", "−")


def table(head: Iterable[str], rows: Iterable[Iterable[str]], right: Iterable[int] = ()) -> str:
    """A table of cells that are HTML already."""
    aligned = set(right)
    side = {True: ' class="r"', False: ""}
    titles = "".join(f"<th{side[i in aligned]}>{cell}</th>" for i, cell in enumerate(head))
    lines = ["".join(f"<td{side[i in aligned]}>{cell}</td>" for i, cell in enumerate(row)) for row in rows]
    return f"<table><tr>{titles}</tr>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def record(one: Record, vocab: Vocab, limit: float, label: str = "") -> str:
    """A record around its peak, as a row: its value, and tokens marked by their share of `limit`; each says its activation on hover.

    label: stands before the value. Activations that are not known are NaN, and hatched.
    """
    start = max(one.first, one.position - LEFT)
    end = min(len(one.tokens), one.position + RIGHT + 1)
    pieces = vocab.pieces(one.tokens[start:end].tolist())
    marks = levels(one.activations[start:end], limit)
    cells: list[str] = ["⋯ "] if start > one.first else []
    for at, (piece, mark, value) in enumerate(zip(pieces, marks, one.activations[start:end].tolist(), strict=True)):
        names = [mark] if mark else ["x"] if value != value else []
        names += ["k"] if at + start == one.position else []
        kind = f' class="{" ".join(names)}"' if names else ""
        cells.append(f'<i{kind} title="{number(value)}">{escaped(_short(piece).replace(chr(10), "↵").replace(chr(9), "⇥"))}</i>')
    if end < len(one.tokens):
        cells.append(" ⋯")
    where = escaped(f"{(one.document or 'a document that is not here')[:200]} · context {one.context:,}")
    before = f'<span class="letter">{escaped(label)}</span> ' if label else ""
    return f'<div class="row"><b title="{where}">{before}{number(one.value)}</b><span class="tokens">{"".join(cells)}</span></div>'


def levels(values: npt.NDArray[np.float32], limit: float) -> list[str]:
    """The class of each token's mark, p0 to p15 and n0 to n15; empty for a token that is hardly active. Logarithmic, as pages have it."""
    known = np.nan_to_num(np.abs(values))
    shares = np.minimum(1.0, known / limit) if limit > 0 else np.zeros(len(values))
    steps = np.floor(np.log10(1 + 9 * shares) * LEVELS).astype(int).clip(0, LEVELS - 1)
    return [f"{'p' if value > 0 else 'n'}{step}" if share > 0.02 else "" for value, step, share in zip(values, steps, shares, strict=True)]


def level_styles() -> str:
    """The backgrounds of those classes."""
    lines: list[str] = []
    for name, mark in (("p", "--mark"), ("n", "--below")):
        for step in range(LEVELS):
            share = round(100 * (step + 1) / LEVELS)
            lines.append(f".{name}{step}{{background:color-mix(in srgb,var({mark}) {share}%,transparent)}}")
    return "".join(lines)


def fitting(parts: Iterable[str], room: int) -> list[str]:
    """The first of some parts, as many as have room in so many bytes."""
    found: list[str] = []
    for part in parts:
        room -= len(part.encode())
        if room < 0:
            break
        found.append(part)
    return found


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
