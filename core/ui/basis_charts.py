"""The figure of the study “Interpretability by basis”, as in Cunningham et al. 2023 (figure 2): mean score by layer, a line a basis."""

import html
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import plotly.graph_objects as go

from core.autointerp.study_tables import Series
from core.ui import theme
from core.ui.study_table import span

SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "triangle-down", "star", "pentagon")
_SPREAD = 0.5
"""How far the points of one layer may lie apart, as a share of the smallest distance between layers."""


def basis_figure(series: Sequence[Series]) -> go.Figure:
    """Mean ρ by layer with 95 % intervals; the random-weights control is dotted. Each line has a colour and a symbol of its own."""
    colours, hues = theme.palette(), theme.series()
    layers = sorted({cell.layer for one in series for cell in one.cells})
    gap = min((b - a for a, b in pairwise(layers)), default=1)
    data: list[dict[str, Any]] = []
    for place, one in enumerate(series):
        shift = gap * _SPREAD * ((place + 0.5) / len(series) - 0.5)
        colour = hues[place % len(hues)]
        scores = [cell.score for cell in one.cells]
        hover = [
            f"{html.escape(one.label)}, {html.escape(cell.site)}<br>mean ρ {span(cell.score)} over {cell.score.n:,} units"
            f"<br>lookup table {span(cell.lookup)}, shuffled {span(cell.shuffled)}"
            for cell in one.cells
        ]
        data.append(
            {
                "type": "scatter", "mode": "lines+markers", "name": html.escape(one.label),
                "x": [cell.layer + shift for cell in one.cells],
                "y": [score.value if math.isfinite(score.value) else None for score in scores],
                "line": {"color": colour, "width": 1.4, "dash": "dot" if one.control else "solid"},
                "marker": {"color": colour, "size": 8, "symbol": SYMBOLS[place % len(SYMBOLS)] + ("-open" if one.control else "")},
                "error_y": {
                    "type": "data", "color": colour, "thickness": 1.3, "width": 4,
                    "array": [score.high - score.value if math.isfinite(score.high) else 0 for score in scores],
                    "arrayminus": [score.value - score.low if math.isfinite(score.low) else 0 for score in scores],
                },
                "hovertext": hover, "hoverinfo": "text",
            }
        )  # fmt: skip
    muted = {"color": colours.muted, "size": 11}
    layout = theme.figure_layout(
        380,
        margin={"l": 46, "r": 6, "t": 30, "b": 44},
        showlegend=True,
        legend={"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom", "font": muted, "bgcolor": "rgba(0,0,0,0)"},
        xaxis={"tickvals": layers, "showgrid": False, "title": {"text": "layer", "standoff": 6, "font": muted}},
        yaxis={"title": {"text": "mean ρ", "standoff": 4, "font": muted}, "zeroline": True, "nticks": 7},
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": colours.muted, "activecolor": colours.text},
    )
    return go.Figure(data=data, layout=layout)
