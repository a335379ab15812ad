"""What ablating a unit did to the vocabulary, as figures: how the changes are spread, and the direct effect beside the total one."""

import html
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from core.ui import theme

BINS = 81
NAMED = 3
"""Tokens named at each end of the histogram."""
HEIGHT = 214

Named = tuple[int, str]
"""A token and how it is called."""


def change_histogram(change: npt.NDArray[Any], lowered: Sequence[Named], raised: Sequence[Named]) -> go.Figure:
    """All tokens of the vocabulary by their mean change (Cunningham et al. 2023, figure 4), with the strongest of both ends named.

    change: of every token. lowered, raised: those listed, the strongest first. Counts are on a log scale; no bar crosses zero.
    """
    colours = theme.palette()
    edges = _edges(change)
    counts, _ = np.histogram(change, edges)
    kept = counts > 0
    middle, width = (edges[:-1] + edges[1:])[kept] / 2, np.diff(edges)[kept]
    hover = [
        f"{_signed(low)} to {_signed(high)}<br><b>{count:,}</b> tokens"
        for low, high, count in zip(edges[:-1][kept], edges[1:][kept], counts[kept].tolist(), strict=True)
    ]
    data: list[dict[str, Any]] = [
        {
            "type": "bar", "x": middle.tolist(), "y": counts[kept].tolist(), "width": width.tolist(), "hovertext": hover,
            "hoverinfo": "text",
            "marker": {"color": [colours.lowered if x < 0 else colours.raised for x in middle], "line": {"width": 0}},
        }
    ]  # fmt: skip
    halo = ", ".join([f"0 0 2px {colours.background}"] * 4)  # a name over the bars stays legible
    top = max(1.6, float(np.log10(counts.max())))
    for tokens, colour, place in ((lowered, colours.lowered, "right"), (raised, colours.raised, "left")):
        few = tokens[:NAMED]
        heights = [10 ** (0.75 + 0.22 * top * step) for step in range(len(few))]
        data.append(
            {
                "type": "scatter", "mode": "markers+text", "x": [float(change[token]) for token, _ in few], "y": heights,
                "text": [_inert(name) for _, name in few], "textposition": f"middle {place}", "cliponaxis": False,
                "textfont": {"color": colours.text, "size": 11, "shadow": halo}, "hoverinfo": "text",
                "hovertext": [f"<b>{_inert(name)}</b><br>{_signed(float(change[token]))}" for token, name in few],
                "marker": {"color": colour, "size": 5, "symbol": "triangle-down" if place == "right" else "triangle-up"},
            }
        )  # fmt: skip
    low, high = float(change.min()), float(change.max())
    margin = 0.04 * (high - low) or 0.01
    layout = theme.figure_layout(
        HEIGHT,
        margin={"l": 46, "r": 10, "t": 8, "b": 36},
        bargap=0,
        xaxis={"title": _title("mean change of the log-probability"), "zeroline": True, "showgrid": False, "nticks": 8,
               "range": [low - margin, high + margin]},
        yaxis={"title": _title("tokens, log scale"), "type": "log", "range": [-0.15, top + 0.25], "dtick": 1, "exponentformat": "power"},
    )  # fmt: skip
    return go.Figure(data=data, layout=layout)


def direct_and_total(tokens: Sequence[Named], direct: npt.NDArray[Any], total: npt.NDArray[Any]) -> go.Figure:
    """Listed tokens as points, direct along and total up; on the dashed line later layers add nothing. direct, total: of every token."""
    colours = theme.palette()
    ids = [token for token, _ in tokens]
    x, y = direct[ids].astype(float), total[ids].astype(float)
    ends = [min(0.0, float(min(x.min(), y.min()))), max(0.0, float(max(x.max(), y.max())))]
    margin = 0.06 * (ends[1] - ends[0]) or 0.01
    span = [ends[0] - margin, ends[1] + margin]
    line = {"type": "scatter", "mode": "lines", "x": span, "y": span, "hoverinfo": "skip"}
    data: list[dict[str, Any]] = [{**line, "line": {"color": colours.muted, "width": 1, "dash": "dash"}}]
    for sign, colour, symbol in ((-1, colours.lowered, "triangle-down"), (1, colours.raised, "triangle-up")):
        chosen = [place for place in range(len(ids)) if (y[place] >= 0) == (sign > 0)]
        data.append(
            {
                "type": "scatter", "mode": "markers", "x": x[chosen].tolist(), "y": y[chosen].tolist(), "hoverinfo": "text",
                "hovertext": [
                    f"<b>{_inert(tokens[place][1])}</b><br>total {_signed(y[place])}<br>direct {_signed(x[place])}" for place in chosen
                ],
                "marker": {"color": colour, "size": 8, "symbol": symbol, "opacity": 0.8},
            }
        )  # fmt: skip
    layout = theme.figure_layout(
        HEIGHT,
        margin={"l": 46, "r": 10, "t": 8, "b": 36},
        hovermode="closest",
        xaxis={"title": _title("direct effect"), "zeroline": True, "nticks": 6, "range": span},
        yaxis={"title": _title("total effect"), "zeroline": True, "nticks": 6, "range": span},
    )
    return go.Figure(data=data, layout=layout)


def _edges(change: npt.NDArray[Any]) -> npt.NDArray[np.floating[Any]]:
    """Equal bins, of which zero is an edge."""
    low, high = min(0.0, float(change.min())), max(0.0, float(change.max()))
    width = (high - low) / BINS or 1.0
    below, above = int(np.ceil(-low / width)), max(1, int(np.ceil(high / width)))
    return width * np.arange(-below, above + 1)


def _title(text: str) -> dict[str, Any]:
    return {"text": text, "standoff": 4, "font": {"color": theme.palette().muted, "size": 11}}


def _signed(value: float) -> str:
    return f"{value:+.3g}".replace("-", "−")


def _inert(name: str) -> str:
    return html.escape(name if len(name) <= 18 else f"{name[:17]}…", quote=False)
