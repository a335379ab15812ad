"""Pictures of dictionaries: curves of a training, how often units fire, and sparsity against fidelity.

What is compared has a colour, and a dash or symbol of its own beside it, so that colour alone never says which is which.
"""

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from core.ui import theme, words

DASHES = ("solid", "dash", "dot", "dashdot")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "triangle-down", "star", "pentagon")
HEIGHT = 210
_LIKE_THE_FIRST = 5
"""The second blue of the series is left out: side by side every line needs a hue of its own."""
_PLACES = ("top left", "middle right", "middle left", "bottom right")
"""Of labels, by family: points of two families are often close together. Lines rise to the right, so the first and last miss them."""
_SETTLED = 0.05
"""The first points of a curve may lie far away: so large a share of them does not set the scale."""
DEAD_GAP = 1.5
"""Decades between the bar of dead units and the rarest frequency."""


@dataclass(frozen=True)
class Look:
    """How one of several is drawn."""

    colour: str
    dash: str
    symbol: str


@dataclass(frozen=True)
class Axis:
    """title: with its unit. log: a logarithmic scale. percent: shares, shown in %."""

    title: str
    log: bool = False
    percent: bool = False


@dataclass(frozen=True)
class Line:
    """One curve. x: tokens. y: None where there is no value."""

    label: str
    look: Look
    x: Sequence[float]
    y: Sequence[float | None]


@dataclass(frozen=True)
class Density:
    """How many units fire on which share of the tokens. edges: log10, one more than counts. dead: units that never fired."""

    label: str
    look: Look
    edges: Sequence[float]
    counts: Sequence[int]
    dead: int

    @property
    def units(self) -> int:
        return sum(self.counts) + self.dead


@dataclass(frozen=True)
class Point:
    """One dictionary between sparsity and fidelity. label: beside the point. family: points of one are joined. name: for the tooltip."""

    label: str
    name: str
    family: str
    x: float
    y: float


def looks(number: int) -> list[Look]:
    """Colours first, then dashes: no two of up to 28 are the same."""
    hues = [hue for place, hue in enumerate(theme.series()) if place != _LIKE_THE_FIRST]
    return [Look(hues[i % len(hues)], DASHES[i // len(hues) % len(DASHES)], SYMBOLS[i % len(SYMBOLS)]) for i in range(number)]


def legend(entries: Sequence[tuple[str, Look]]) -> str:
    """A legend for several figures side by side, as inert HTML."""
    styles = {"solid": "solid", "dash": "dashed", "dot": "dotted", "dashdot": "dashed"}
    items = "".join(
        f'<span><i style="border-top:2.5px {styles[look.dash]} {look.colour}"></i>{html.escape(label)}</span>' for label, look in entries
    )
    return f'<div class="dl">{items}</div>{_LEGEND}'


def curve_figure(lines: Sequence[Line], axis: Axis) -> go.Figure:
    """One measure over the tokens of a training, a line for each dictionary; with its points where they are few."""
    data: list[dict[str, Any]] = []
    for line in lines:
        pairs = [(x, y) for x, y in zip(line.x, line.y, strict=True) if y is not None and math.isfinite(y) and (y > 0 or not axis.log)]
        hover = [f"{html.escape(line.label)}<br><b>{_plain(y, axis)}</b> at {x:,.0f} tokens" for x, y in pairs]
        data.append(
            {
                "type": "scatter", "mode": "lines" if len(pairs) > 12 else "lines+markers", "x": [x for x, _ in pairs],
                "y": [y for _, y in pairs], "line": {"color": line.look.colour, "width": 1.6, "dash": line.look.dash},
                "marker": {"size": 5, "symbol": line.look.symbol}, "hovertext": hover, "hoverinfo": "text", "name": html.escape(line.label),
            }
        )  # fmt: skip
    settled = [
        y
        for line in lines
        for y in list(line.y)[math.ceil(_SETTLED * len(line.y)) :]
        if y is not None and math.isfinite(y) and (y > 0 or not axis.log)
    ]
    layout = _layout(HEIGHT, x={"title": _title("tokens"), "rangemode": "tozero", "nticks": 5}, y=_y(axis, settled))
    return go.Figure(data=data, layout=layout)


def density_figure(found: Sequence[Density]) -> go.Figure:
    """Share of the units in each bin of firing frequency as steps, one line a dictionary; dead units as bars of their own on the left."""
    filled = [edge for one in found for edge, count in zip(one.edges, one.counts, strict=False) if count]
    low, high = (math.floor(min(filled)), 0) if filled else (-6, 0)
    dead_at, width = low - DEAD_GAP / 2, 0.9 / max(1, len(found))
    data: list[dict[str, Any]] = []
    for place, one in enumerate(found):
        kept = [(edge, count) for edge, count in zip(one.edges, one.counts, strict=False) if edge >= low]
        total, step = max(1, one.units), one.edges[1] - one.edges[0]
        hover = [
            f"{html.escape(one.label)}<br><b>{count:,}</b> units ({words.share(count / total)}) fire on"
            f" {words.share(10**edge)} to {words.share(10 ** (edge + step))} of the tokens"
            for edge, count in kept
        ]
        data.append(
            {
                "type": "scatter", "mode": "lines", "x": [edge + step / 2 for edge, _ in kept], "y": [count / total for _, count in kept],
                "line": {"shape": "hvh", "color": one.look.colour, "width": 1.6, "dash": one.look.dash}, "hovertext": hover,
                "hoverinfo": "text", "name": html.escape(one.label),
            }
        )  # fmt: skip
        data.append(
            {
                "type": "bar", "x": [dead_at + (place + 0.5) * width - 0.45], "y": [one.dead / total], "width": width * 0.86,
                "marker": {"color": one.look.colour}, "hoverinfo": "text", "name": f"{html.escape(one.label)}, dead",
                "hovertext": f"{html.escape(one.label)}<br><b>{one.dead:,}</b> dead units ({words.share(one.dead / total)})",
            }
        )  # fmt: skip
    powers = list(range(low, high + 1))
    ticks = {"tickvals": [dead_at, *powers], "ticktext": ["dead", *(words.share(10.0**power) for power in powers)]}
    axis = {"title": _title("share of the tokens on which a unit fires"), "range": [low - DEAD_GAP, 0.1], "showgrid": False, **ticks}
    y = {"title": _title("share of the units"), "rangemode": "tozero", "tickformat": ".0%", "nticks": 6}
    return go.Figure(data=data, layout=_layout(460, x=axis, y=y, bargap=0))


def frontier_figure(points: Sequence[Point], y: Axis, families: Mapping[str, Look]) -> go.Figure:
    """L0 along (log), fidelity up. Up and to the left is better. Points of a family are joined in the order of L0."""
    data: list[dict[str, Any]] = []
    colours = theme.palette()
    for family, look in families.items():
        chosen = sorted((point for point in points if point.family == family and point.x > 0), key=lambda point: point.x)
        if not chosen:
            continue
        hover = [f"{html.escape(point.name)}<br>L0 {words.number(point.x)}<br>{y.title} <b>{_plain(point.y, y)}</b>" for point in chosen]
        data.append(
            {
                "type": "scatter", "mode": "lines+markers+text", "x": [point.x for point in chosen], "y": [point.y for point in chosen],
                "text": [html.escape(point.label) for point in chosen], "textposition": _PLACES[len(data) % len(_PLACES)],
                "textfont": {"size": 10, "color": colours.muted}, "line": {"color": look.colour, "width": 1.3, "dash": look.dash},
                "marker": {"color": look.colour, "size": 9, "symbol": look.symbol}, "hovertext": hover, "hoverinfo": "text",
                "name": html.escape(family), "cliponaxis": False,
            }
        )  # fmt: skip
    sizes = [math.log10(point.x) for point in points if point.x > 0]
    values = [point.y for point in points]
    span = [min(sizes) - 0.15, max(sizes) + 0.15] if sizes else [0, 2]
    axis = {"title": _title("L0, units a token (log)"), "type": "log", "range": span, "showgrid": False, **_log_ticks(span)}
    margin = 0.12 * (max(values) - min(values)) or 0.05
    up = {"title": _title(y.title), "nticks": 6, "zeroline": False, "range": [min(values) - margin, max(values) + 2 * margin]}
    return go.Figure(data=data, layout=_layout(236, x=axis, y=up))


def _y(axis: Axis, values: Sequence[float]) -> dict[str, Any]:
    found: dict[str, Any] = {"title": _title(axis.title), "nticks": 5, "zeroline": False}
    if axis.percent:
        found["tickformat"] = ".0%" if not values or max(values) > 0.05 else ".1%"
    if not values:
        return found | ({"type": "log"} if axis.log else {})
    if axis.log:
        span = [math.log10(min(values)) - 0.08, math.log10(max(values)) + 0.08]
        return found | {"type": "log", "range": span, **_log_ticks(span)}
    low, high = min(values), max(values)
    margin = 0.06 * (high - low) or 0.02 * abs(high) or 0.01
    return found | {"range": [min(0.0, low) if axis.percent else low - margin, high + margin]}


def _log_ticks(span: Sequence[float]) -> dict[str, Any]:
    """1, 2 and 5 times powers of ten, where the axis is short; more where it is shorter still, powers alone where it is long."""
    length = span[1] - span[0]
    steps = (1,) if length > 2.2 else (1, 2, 5) if length > 0.8 else (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8)
    places = [step * 10.0**power for power in range(math.floor(span[0]), math.ceil(span[1]) + 1) for step in steps]
    return {"tickvals": places, "ticktext": [words.number(place) for place in places]}


def _plain(value: float, axis: Axis) -> str:
    return words.share(value) if axis.percent else words.number(value)


def _layout(height: int, *, x: dict[str, Any], y: dict[str, Any], **more: Any) -> dict[str, Any]:
    return theme.figure_layout(
        height,
        margin={"l": 54, "r": 8, "t": 8, "b": 40},
        xaxis=x,
        yaxis=y,
        hovermode="closest",
        **more,
    )


def _title(text: str) -> dict[str, Any]:
    return {"text": text, "standoff": 4, "font": {"color": theme.palette().muted, "size": 11}}


_LEGEND = """<style>
.dl {display: flex; flex-wrap: wrap; gap: .15rem 1.1rem; font-size: .84rem}
.dl span {display: inline-flex; align-items: center; gap: .45rem; overflow-wrap: anywhere}
.dl i {display: inline-block; width: 1.9rem; height: 0; flex: none}
</style>"""
