"""Scores with their intervals as inline SVG: settings as rows, or bases as lines over the layers. Drawn here; colours are classes."""

import math
from collections.abc import Callable, Sequence

from core.autointerp.comparison import Mean, spanned
from core.autointerp.study_tables import Line, Series
from core.findings.report.text import escaped, number

WIDTH, LEFT, ROW, FOOT = 920, 230, 24, 40
HEIGHT = 300
Scale = Callable[[float], float]
"""From a number to its place in the drawing."""
MARKS = (
    "M-4 -4h8v8h-8z",
    "M0 -5l5 5l-5 5l-5 -5z",
    "M-5 4l5 -9l5 9z",
    "M-5 -4l5 9l5 -9z",
    "M-5 -1.5h3.5v-3.5h3v3.5h3.5v3h-3.5v3.5h-3v-3.5h-3.5z",
)
"""Shapes that tell series apart without colour, around the origin."""
ROLES = {
    "simulated": ("M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z", "explanation, with its 95 % interval"),
    "lookup": (MARKS[1], "table of its tokens"),
    "shuffled": ("M0 -5v10", "another unit's explanation"),
}
"""What stands in a row: its shape, and what it is."""
SERIES = 8
_LONGEST = 34


def rows(lines: Sequence[Line]) -> str:
    """A row a setting: its mean score with its interval, the lookup baseline (open diamond) and the shuffled control (tick) beside it."""
    found = [one for line in lines for one in (line.score, line.lookup, line.shuffled)]
    low, high = _range(found)

    def x(value: float) -> float:
        return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - 20)

    height = len(lines) * ROW
    parts = [_ticks(low, high, x, height)]
    for place, line in enumerate(lines):
        y = place * ROW + ROW / 2
        label = line.label if len(line.label) <= _LONGEST else f"{line.label[: _LONGEST - 1]}…"
        parts.append(f'<text x="{LEFT - 12}" y="{y + 4:.1f}" text-anchor="end" class="label">{escaped(label)}</text>')
        for kind, one, shift in (("shuffled", line.shuffled, 6.0), ("lookup", line.lookup, 3.0), ("simulated", line.score, -3.0)):
            parts.append(_row_mark(kind, one, x, y + shift, label))
    keys = "".join(_key(f'<path class="mark {kind}" transform="translate(8,8)" d="{d}"/>', said) for kind, (d, said) in ROLES.items())
    said = f"Mean scores of {len(lines)} settings with 95 % intervals, from {number(low)} to {number(high)}"
    drawn = f'<svg viewBox="0 0 {WIDTH} {height + FOOT}" role="img" aria-label="{escaped(said)}">{"".join(parts)}</svg>'
    return f'{drawn}<p class="keys quiet">{keys}</p>'


def curves(series: Sequence[Series]) -> str:
    """A line a basis, over the layers; a control's is dotted and open."""
    layers = sorted({cell.layer for one in series for cell in one.cells})
    low, high = _range([cell.score for one in series for cell in one.cells])
    first, step = layers[0], (WIDTH - 90) / max(1, layers[-1] - layers[0])

    def x(layer: float) -> float:
        return 66 + (layer - first) * step

    def y(value: float) -> float:
        return 10 + (high - value) / (high - low) * HEIGHT

    parts = [
        f'<path class="axis" d="M50 {y(value):.1f}H{WIDTH}"/><text x="44" y="{y(value) + 4:.1f}" text-anchor="end">{number(value)}</text>'
        for value in _steps(low, high)
    ]
    parts += [f'<text x="{x(layer):.1f}" y="{HEIGHT + 28}" text-anchor="middle">{layer}</text>' for layer in layers]
    parts.append(f'<text x="{WIDTH / 2:.1f}" y="{HEIGHT + 46}" text-anchor="middle">layer</text>')
    looks = list(dict.fromkeys((one.basis, one.beside) for one in series))
    apart = min(7.0, step * 0.3 / len(series))
    keys: list[str] = []
    for place, one in enumerate(series):
        look = looks.index((one.basis, one.beside))
        shift = (place - (len(series) - 1) / 2) * apart
        parts.append(_curve(one, look, lambda layer, shift=shift: x(layer) + shift, y))
        keys.append(_key(_mark(look, 8, 8, control=one.control), one.label[:_LONGEST]))
    said = f"Mean scores of {len(series)} bases by layer with 95 % intervals"
    drawn = f'<svg viewBox="0 0 {WIDTH} {HEIGHT + 54}" role="img" aria-label="{said}">{"".join(parts)}</svg>'
    return f'{drawn}<p class="keys quiet">{"".join(keys)}</p>'


def _curve(one: Series, look: int, x: Scale, y: Scale) -> str:
    """The points of a basis with their intervals, joined."""
    cells = [cell for cell in one.cells if math.isfinite(cell.score.value)]
    parts: list[str] = []
    for cell in cells:
        at, score = x(cell.layer), cell.score
        if math.isfinite(score.low):
            parts.append(f'<path class="line s{look % SERIES}" d="M{at:.1f} {y(score.low):.1f}V{y(score.high):.1f}"/>')
        told = f"{one.label[:_LONGEST]}, {cell.site}: {spanned(score)} over {score.n:,} units"
        parts.append(_mark(look, at, y(score.value), control=one.control, told=told))
    if len(cells) > 1:
        along = "L".join(f"{x(cell.layer):.1f} {y(cell.score.value):.1f}" for cell in cells)
        parts.append(f'<path class="line s{look % SERIES}{" dotted" if one.control else ""}" d="M{along}"/>')
    return "".join(parts)


def _mark(look: int, x: float, y: float, *, control: bool, told: str = "") -> str:
    kind = f"mark s{look % SERIES}{' open' if control else ''}"
    title = f"<title>{escaped(told)}</title>" if told else ""
    return f'<path class="{kind}" transform="translate({x:.1f},{y:.1f})" d="{MARKS[look % len(MARKS)]}">{title}</path>'


def _key(mark: str, said: str) -> str:
    return f'<span><svg class="key" viewBox="0 0 16 16">{mark}</svg> {escaped(said)}</span>'


def _row_mark(kind: str, one: Mean, x: Scale, y: float, label: str) -> str:
    if not math.isfinite(one.value):
        return ""
    ends = f'<path class="line {kind}" d="M{x(one.low):.1f} {y:.1f}H{x(one.high):.1f}"/>' if math.isfinite(one.low) else ""
    told = f"<title>{escaped(f'{label}: {spanned(one)} over {one.n:,} units')}</title>"
    return f'{ends}<path class="mark {kind}" transform="translate({x(one.value):.1f},{y:.1f})" d="{ROLES[kind][0]}">{told}</path>'


def _ticks(low: float, high: float, x: Scale, height: float) -> str:
    lines = [
        f'<path class="axis" d="M{x(value):.1f} 0V{height}"/>'
        f'<text x="{x(value):.1f}" y="{height + 16}" text-anchor="middle">{number(value)}</text>'
        for value in _steps(low, high)
    ]
    return "".join(lines) + f'<text x="{(LEFT + WIDTH - 20) / 2:.1f}" y="{height + 34}" text-anchor="middle">mean ρ</text>'


def _range(found: Sequence[Mean]) -> tuple[float, float]:
    """The least and the greatest number that is drawn, rounded outwards to a fifth; zero is always inside.

    A score from elsewhere that no correlation can have is beyond the drawing: ticks up to it might have no end.
    """
    known = [min(max(value, -1.0), 1.0) for one in found for value in (one.value, one.low, one.high) if math.isfinite(value)]
    low, high = math.floor(5 * min([0.0, *known])) / 5, math.ceil(5 * max([0.0, *known])) / 5
    return low, high if high > low else low + 1.0


def _steps(low: float, high: float) -> list[float]:
    return [round(low + 0.2 * place, 1) for place in range(round((high - low) / 0.2) + 1)]
