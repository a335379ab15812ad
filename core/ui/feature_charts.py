"""The token histogram of a feature as a Plotly figure."""

import html
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import plotly.graph_objects as go

from core.store.token_histogram import TokenHistogram
from core.ui import theme

Counts = Literal["linear", "log", "share"]
TITLES: dict[Counts, str] = {"linear": "tokens", "log": "tokens, log scale", "share": "share of the bin"}
HEIGHT = 190
_HUES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9")
"""Okabe and Ito's (2008) as they are: darkened for text or lines, two of them become one to colour-blind eyes."""


def token_colours(tracked: int) -> list[str]:
    """One for each tracked token, and a quiet one for all others."""
    muted = theme.palette().muted
    grey = ",".join(str(int(muted[at : at + 2], 16)) for at in (1, 3, 5))
    return [*_HUES[:tracked], f"rgba({grey},0.32)"]


def token_figure(counted: TokenHistogram, names: Sequence[str], how: Counts) -> go.Figure:
    """Activation along, tokens up; in each bin one bar a token, the most frequent at the bottom and all others on top.

    names: of the tracked tokens, as text. how: `linear` and `log` show counts, `share` their part of the bin.
    """
    colours, hues = theme.palette(), token_colours(counted.tracked)
    totals, edges = counted.totals, counted.edges
    drawn = counted.stacked / np.maximum(totals, 1) if how == "share" else counted.stacked
    middle = (edges[:-1] + edges[1:]) / 2
    shown = [html.escape(name, quote=False) for name in names]
    shown.append(f"{len(counted.tokens) - counted.tracked:,} other tokens")
    bars: list[dict[str, Any]] = []
    for place, name in enumerate(shown):
        if not counted.stacked[place].any():
            continue
        hover = [
            f"<b>{name}</b><br>{count:,} of {total:,} tokens · {100 * count / max(1, total):.3g} %<br>{_short(low)} to {_short(high)}"
            for count, total, low, high in zip(counted.stacked[place].tolist(), totals.tolist(), edges, edges[1:], strict=False)
        ]
        bars.append(
            {
                "type": "bar", "x": middle.tolist(), "y": drawn[place].tolist(), "width": np.diff(edges).tolist(),
                "hovertext": hover, "hoverinfo": "text", "hoverlabel": {"font": {"color": colours.text}},
                "marker": {"color": hues[place], "line": {"color": colours.background, "width": 1}},
            }
        )  # fmt: skip
    muted = {"color": colours.muted, "size": 11}
    tick_places = edges[::2] if len(edges) > 6 else edges
    layout = theme.figure_layout(
        HEIGHT,
        margin={"l": 46, "r": 14, "t": 8, "b": 34},
        barmode="stack",
        bargap=0,
        xaxis={
            "title": {"text": "activation", "standoff": 4, "font": muted},
            "tickvals": tick_places.tolist(),
            "ticktext": [_short(edge) for edge in tick_places],
            "range": [edges[0], edges[-1]],
            "showgrid": False,
            "zeroline": False,
        },
        yaxis={"title": {"text": TITLES[how], "standoff": 4, "font": muted}, "zeroline": False, **_scale(totals, how)},
    )
    return go.Figure(data=bars, layout=layout)


def _scale(totals: Any, how: Counts) -> dict[str, Any]:
    if how == "share":
        return {"range": [0, 1], "tickformat": ".0%", "nticks": 5}
    if how == "linear":
        return {"rangemode": "tozero", "nticks": 5}
    top = float(np.log10(max(1, int(totals.max())))) + 0.15
    return {"type": "log", "range": [-0.3, max(top, 1.0)], "dtick": max(1, round(top / 3)), "exponentformat": "power"}


def _short(value: float) -> str:
    return f"{value:.3g}".replace("-", "−")
