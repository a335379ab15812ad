"""A picture of the model by layer: how density, kurtosis and maximum are spread over each layer's units, as quantile bands."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from core.ui import theme, words

HEIGHT = 150
LONGEST = 7
"""Characters of a label beside the scale that there is room for."""


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

    def least(self, size: float) -> float:
        """The least margin above and below values of this size, so that a scale never shows less than some 4 % of what it measures."""
        return 0.01 if self.log else 0.02 * size or 0.5


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
    margin = max(0.06 * (high - low), measure.least(max(abs(low), abs(high))))
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
    """At least two labelled places between bottom and top: powers of ten, else 1, 2 and 5 times those, else even steps."""
    if not measure.log:
        return _even(bottom, top, measure)
    powers = range(int(bottom) - 2, int(top) + 2)
    steps = [power for power in powers if bottom <= power <= top]
    places: list[float] = [float(power) for power in steps]
    if len(places) < 2:
        places = [power + extra for power in powers for extra in (0.0, 0.30103, 0.69897) if bottom <= power + extra <= top]
    if len(places) < 2:
        return _even(bottom, top, measure)
    return {"tickvals": places, "ticktext": [measure.plain(place) for place in places]}


def _even(bottom: float, top: float, measure: Measure) -> dict[str, Any]:
    """Two to five places at equal steps of what the reader sees: of the numbers themselves, also where the axis is logarithmic."""
    factor = 100 if measure.percent else 1
    low, high = (factor * (10**edge if measure.log else edge) for edge in (bottom, top))
    power = 10.0 ** math.floor(math.log10((high - low) / 2))
    step = max(size * power for size in (1, 2, 5) if size * power <= (high - low) / 2)
    numbers = [place * step for place in range(math.ceil(low / step), math.floor(high / step) + 1)]
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    places = [math.log10(number / factor) if measure.log else number / factor for number in numbers]
    texts = [f"{number:,.{digits}f}{' %' if measure.percent else ''}".replace("-", "−") for number in numbers]
    short = [measure.plain(place) for place in places]
    return {"tickvals": places, "ticktext": short if max(map(len, texts)) > LONGEST and len(set(short)) == len(short) else texts}


def _rgb(colour: str) -> str:
    return ",".join(str(int(colour[at : at + 2], 16)) for at in (1, 3, 5))
