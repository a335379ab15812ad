"""The figure of the study “Interpretability by basis”, as in Cunningham et al. 2023 (figure 2): mean score by layer, a line a basis."""

import html
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import plotly.graph_objects as go

from core.autointerp.comparison import spanned
from core.autointerp.study_tables import Cell, Series
from core.ui import theme
from core.ui.dictionary_charts import Look, looks

_SPREAD = 0.3
"""How far the points of one layer may lie apart, as a share of the smallest distance between layers."""


def basis_figure(series: Sequence[Series]) -> go.Figure:
    """Mean ρ by layer with 95 % intervals, each basis in a colour and a symbol of its own.

    The random-weights control of a basis has its colour and symbol, dotted and open.
    """
    layers = sorted({cell.layer for one in series for cell in one.cells})
    gap = min((b - a for a, b in pairwise(layers)), default=1)
    drawn = looks_of(series)
    data = [_line(one, drawn[_basis(one)], shift=gap * _SPREAD * ((place + 0.5) / len(series) - 0.5)) for place, one in enumerate(series)]
    return go.Figure(data=data, layout=_layout(layers))


def looks_of(series: Sequence[Series]) -> Mapping[tuple[str, str], Look]:
    """A look for each basis; that of the trained and of the random weights is the same."""
    bases = list(dict.fromkeys(map(_basis, series)))
    return dict(zip(bases, looks(len(bases)), strict=True))


def _basis(one: Series) -> tuple[str, str]:
    return one.basis, one.beside


def _line(one: Series, look: Look, *, shift: float) -> dict[str, Any]:
    """One trace. shift: in layers, so that the intervals of several bases do not cover each other."""
    scores = [cell.score for cell in one.cells]
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": html.escape(one.label),
        "x": [cell.layer + shift for cell in one.cells],
        "y": [score.value if math.isfinite(score.value) else None for score in scores],
        "line": {"color": look.colour, "width": 1.4, "dash": "dot" if one.control else "solid"},
        "marker": {"color": look.colour, "size": 8, "symbol": f"{look.symbol}-open" if one.control else look.symbol},
        "error_y": {
            "type": "data",
            "color": look.colour,
            "thickness": 1.3,
            "width": 4,
            "array": [score.high - score.value if math.isfinite(score.high) else 0 for score in scores],
            "arrayminus": [score.value - score.low if math.isfinite(score.low) else 0 for score in scores],
        },
        "hovertext": [_hover(one, cell) for cell in one.cells],
        "hoverinfo": "text",
    }


def _hover(one: Series, cell: Cell) -> str:
    return (
        f"{html.escape(one.label)}, {html.escape(cell.site)}<br>mean ρ {spanned(cell.score)} over {cell.score.n:,} units"
        f"<br>lookup table {spanned(cell.lookup)}, shuffled {spanned(cell.shuffled)}"
    )


def _layout(layers: Sequence[int]) -> dict[str, Any]:
    colours = theme.palette()
    muted = {"color": colours.muted, "size": 11}
    clear = "rgba(0,0,0,0)"
    return theme.figure_layout(
        380,
        margin={"l": 46, "r": 6, "t": 30, "b": 44},
        showlegend=True,
        legend={"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom", "font": muted, "bgcolor": clear},
        xaxis={"tickvals": layers, "showgrid": False, "title": {"text": "layer", "standoff": 6, "font": muted}},
        yaxis={"title": {"text": "mean ρ (correlation)", "standoff": 4, "font": muted}, "zeroline": True, "nticks": 7},
    )
