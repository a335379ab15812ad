"""A study's figure: the mean score of each setting with its interval, the baseline and the control beside it."""

import html
import math
from typing import Any

import plotly.graph_objects as go

from core.autointerp.comparison import Mean, spanned
from core.autointerp.study_tables import Table
from core.ui import theme
from core.ui.score_charts import ROLES, role_colours


def study_figure(table: Table, axis: str, *, joined: bool) -> go.Figure:
    """Mean ρ of each setting with its interval (teal), the lookup baseline and the shuffled control beside it. joined: by a line."""
    colours = theme.palette()
    labels = [line.label for line in table.lines]
    data: list[dict[str, Any]] = []
    for role, symbol in (("simulated", "circle"), ("lookup", "diamond-open"), ("shuffled", "line-ew-open")):
        found = [line.score if role == "simulated" else line.lookup if role == "lookup" else line.shuffled for line in table.lines]
        if not any(math.isfinite(one.value) for one in found):
            continue
        colour, own = role_colours(colours)[role], role == "simulated"
        hover = [
            f"{html.escape(label)}, {ROLES[role]}<br>{spanned(one)} over {one.n:,} units" for label, one in zip(labels, found, strict=True)
        ]
        data.append(
            {
                "type": "scatter", "mode": "lines+markers" if joined else "markers", "name": ROLES[role], "x": labels,
                "y": [one.value for one in found], "line": {"color": colour, "width": 1.2, "dash": "solid" if own else "dot"},
                "marker": {"color": colour, "size": 9 if own else 8, "symbol": symbol, "line": {"color": colour, "width": 1.6}},
                "error_y": {
                    "type": "data", "array": [_above(one) for one in found], "arrayminus": [_below(one) for one in found],
                    "color": colour, "thickness": 1.4, "width": 4,
                },
                "offsetgroup": role, "hovertext": hover, "hoverinfo": "text",
            }
        )  # fmt: skip
    muted = {"color": colours.muted, "size": 11}
    layout = theme.figure_layout(
        320,
        margin={"l": 46, "r": 6, "t": 26, "b": 48},
        showlegend=True,
        scattermode="group",
        legend={"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom", "font": muted, "itemclick": False, "itemdoubleclick": False,
                "bgcolor": "rgba(0,0,0,0)"},
        xaxis={"type": "category", "categoryarray": labels, "showgrid": False, "title": {"text": axis, "standoff": 6, "font": muted}},
        yaxis={"title": {"text": "mean ρ", "standoff": 4, "font": muted}, "zeroline": True, "nticks": 7},
    )  # fmt: skip
    return go.Figure(data=data, layout=layout)


def _above(one: Mean) -> float:
    return one.high - one.value if math.isfinite(one.high) else 0.0


def _below(one: Mean) -> float:
    return one.value - one.low if math.isfinite(one.low) else 0.0
