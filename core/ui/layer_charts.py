"""A picture of the model by layer: how density, kurtosis and maximum are spread over each layer's units, as quantile bands."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from core.ui import theme, words

HEIGHT = 150


@dataclass(frozen=True)
class Measure:
    """One picture. key: the measure's name in `queries.layers`. log: its values are base-10 logarithms. percent: shares to show in %."""

    key: str
    title: str
    note: str
    log: bool = False
    percent: bool = False

    def plain(self, value: float) -> str:
        """A quantile as a person reads it."""
        number = 10**value if self.log else value
        return words.share(number) if self.percent else words.number(number)


MEASURES = (
    Measure("log10 density", "Density", "share of tokens with clear activity, log scale", log=True, percent=True),
    Measure("log10 kurtosis", "Kurtosis", "3 is Gaussian, log scale", log=True),
    Measure("max", "Maximum", "largest activation over the text"),
)


def measured(spread: pd.DataFrame, kind: str, measure: Measure) -> list[dict[Any, Any]]:
    """The rows of `queries.layers` for one kind of site and one measure, where it is defined for any unit, layer by layer."""
    rows = [row for row in spread.to_dict("records") if row["kind"] == kind and row["measure"] == measure.key and row["units"] > 0]
    return sorted(rows, key=lambda row: row["layer"])


def layer_figure(rows: Sequence[Mapping[Any, Any]], measure: Measure) -> go.Figure:
    """One measure over the layers: 5–95 % and 25–75 % bands, the median as a line.

    rows: one a layer, as `measured` gives them. An invisible bar over each layer takes hover and clicks; a click selects the bar, whose
    x is the layer.
    """
    colours = theme.palette()
    layers = [int(row["layer"]) for row in rows]
    level = {name: [float(row[name]) for row in rows] for name in ("q5", "q25", "q50", "q75", "q95")}
    low, high = min(level["q5"]), max(level["q95"])
    margin = 0.06 * (high - low) or 0.5
    bottom, top = low - margin, high + margin
    hover = [_hover(row, measure) for row in rows]
    band = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "x": layers}
    grey = _rgb(colours.muted)
    figure = go.Figure(
        [
            go.Scatter(y=level["q5"], **band),
            go.Scatter(y=level["q95"], fill="tonexty", fillcolor=f"rgba({grey},0.18)", **band),
            go.Scatter(y=level["q25"], **band),
            go.Scatter(y=level["q75"], fill="tonexty", fillcolor=f"rgba({grey},0.34)", **band),
            go.Scatter(
                x=layers, y=level["q50"], mode="lines+markers", line={"color": colours.text, "width": 1.6}, marker={"size": 3.5},
                hoverinfo="skip",
            ),
            go.Bar(
                x=layers, y=[top - bottom] * len(layers), base=bottom, width=1, hovertext=hover, hoverinfo="text",
                marker={"color": "rgba(0,0,0,0)"},
                selected={"marker": {"opacity": 1}}, unselected={"marker": {"opacity": 1}},
            ),
        ]
    )  # fmt: skip
    ticks = _ticks(bottom, top, measure)
    figure.update_layout(
        theme.figure_layout(
            HEIGHT,
            margin={"l": 50, "r": 4, "t": 4, "b": 22},
            bargap=0,
            xaxis={
                "showgrid": False,
                "zeroline": False,
                "dtick": 5 if len(layers) > 12 else 1,
                "range": [min(layers) - 0.5, max(layers) + 0.5],
            },
            yaxis={"range": [bottom, top], "zeroline": False, **ticks},
        )
    )
    return figure


def clicked_layer(event: Any) -> int | None:
    """The layer of the bar that was just clicked, from what `st.plotly_chart` returns."""
    points = event.selection.points if event is not None else []
    return int(points[-1]["x"]) if points else None


def _hover(row: Mapping[Any, Any], measure: Measure) -> str:
    median, quarter, three, low, high = (measure.plain(row[name]) for name in ("q50", "q25", "q75", "q5", "q95"))
    return f"layer {row['layer']}: median <b>{median}</b><br>half of its units {quarter} to {three}<br>nine in ten {low} to {high}"


def _ticks(bottom: float, top: float, measure: Measure) -> dict[str, Any]:
    if not measure.log:
        return {"nticks": 4}
    powers = range(int(bottom) - 2, int(top) + 2)
    steps = [power for power in powers if bottom <= power <= top]
    places: list[float] = [float(power) for power in steps]
    if len(places) < 2:
        places = [power + extra for power in powers for extra in (0.0, 0.30103, 0.69897) if bottom <= power + extra <= top]
    return {"tickvals": places, "ticktext": [measure.plain(place) for place in places]}


def _rgb(colour: str) -> str:
    return ",".join(str(int(colour[at : at + 2], 16)) for at in (1, 3, 5))
