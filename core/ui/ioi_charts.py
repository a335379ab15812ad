"""The curves of patching: KL against how many features are patched, and against how far the stream is moved. No Streamlit."""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import plotly.graph_objects as go

from core.store.ioi import Band
from core.ui import theme, words
from core.ui.dictionary_charts import Look

Scale = Literal["log", "linear"]
CLIP = 512
"""The paper's figure ends here, and the linear one here."""
_NONE = 0.5
"""Where no feature at all stands on a logarithmic axis."""
_HEIGHT = 330


@dataclass(frozen=True)
class Series:
    """One decomposition: its name, how it is drawn, and its band."""

    label: str
    look: Look
    band: Band


def patching_figure(series: Sequence[Series], along: Literal["features", "edit"], scale: Scale, ceiling: float) -> go.Figure:
    """A line for each decomposition with a band over seeds; each one's floor dotted, the ceiling dashed."""
    colours = theme.palette()
    data: list[dict[str, Any]] = []
    log = along == "features" and scale == "log"
    for one in series:
        x, band = np.maximum(one.band.x, _NONE) if log else one.band.x, one.band
        name = html.escape(one.label)
        if band.seeds > 1:
            data.append(
                {
                    "type": "scatter",
                    "mode": "lines",
                    "x": [*x, *x[::-1]],
                    "y": [*band.high, *band.low[::-1]],
                    "fill": "toself",
                    "fillcolor": f"rgba({_rgb(one.look.colour)},0.16)",
                    "line": {"width": 0},
                    "hoverinfo": "skip",
                    "name": name,
                }
            )
        hover = [
            _hover(name, along, place, mean, low, high, band.seeds)
            for place, mean, low, high in zip(band.x, band.mean, band.low, band.high, strict=True)
        ]
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "x": x,
                "y": band.mean,
                "line": {"color": one.look.colour, "width": 1.9, "dash": one.look.dash},
                "hovertext": hover,
                "hoverinfo": "text",
                "name": name,
            }
        )
    most = max((float(one.band.x[-1]) for one in series), default=1.0)
    end = most if along == "edit" else min(most, CLIP) if scale == "linear" else most
    begin = _NONE if log else 0.0
    top = max([ceiling, *(float(one.band.high.max()) for one in series)])
    for one in series:
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "x": [begin, end],
                "y": [one.band.mean[-1]] * 2,
                "hoverinfo": "text",
                "line": {"color": one.look.colour, "width": 1, "dash": "dot"},
                "opacity": 0.75,
                "name": f"{html.escape(one.label)}, floor",
                "hovertext": f"{html.escape(one.label)}<br>all patched: <b>{words.number(float(one.band.mean[-1]))}</b> nats",
            }
        )
    data.append(
        {
            "type": "scatter",
            "mode": "lines",
            "x": [begin, end],
            "y": [ceiling, ceiling],
            "hoverinfo": "text",
            "name": "none patched",
            "line": {"color": colours.muted, "width": 1.1, "dash": "dash"},
            "hovertext": f"none patched: <b>{words.number(ceiling)}</b> nats",
        }
    )
    layout = theme.figure_layout(
        _HEIGHT,
        margin={"l": 50, "r": 10, "t": 8, "b": 42},
        hovermode="closest",
        xaxis=_axis(along, log=log, begin=begin, end=end),
        yaxis={"title": _title("KL from the counterfactual, nats"), "range": [0, 1.06 * top], "nticks": 6, "zeroline": False},
    )
    return go.Figure(data=data, layout=layout)


def _axis(along: str, *, log: bool, begin: float, end: float) -> dict[str, Any]:
    if along == "edit":
        return {"title": _title("mean ‖x′ − x‖ over positions"), "range": [0, 1.03 * end], "showgrid": False, "zeroline": False}
    found: dict[str, Any] = {"title": _title("features patched"), "showgrid": False, "zeroline": False}
    if not log:
        return found | {"range": [0, 1.03 * end], "nticks": 7}
    places = [10.0**power for power in range(6) if 10.0**power <= end]
    return found | {
        "type": "log",
        "range": [np.log10(begin) - 0.06, np.log10(max(end, 2.0)) + 0.04],
        "tickvals": [_NONE, *places],
        "ticktext": ["0", *(f"{place:,.0f}" for place in places)],
    }


def _hover(name: str, along: str, place: float, mean: float, low: float, high: float, seeds: int) -> str:
    what = f"{place:,.0f} features" if along == "features" else f"edit {words.number(place)}"
    band = f"<br>{words.number(low)} to {words.number(high)} over {seeds} seeds" if seeds > 1 else ""
    return f"{name}<br>{what}: <b>{words.number(mean)}</b> nats{band}"


def _title(text: str) -> dict[str, Any]:
    return {"text": text, "standoff": 4, "font": {"color": theme.palette().muted, "size": 11}}


def _rgb(colour: str) -> str:
    return ",".join(str(int(colour[place : place + 2], 16)) for place in (1, 3, 5))
