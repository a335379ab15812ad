"""How every Plotly figure is put on a page, and the activation histogram as one."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go
import streamlit as st

from core.ui import theme
from core.ui.component import component

BARS = 90
"""About how many bars span the range between the minimum and the maximum."""

_CONFIG: dict[str, Any] = {"displaylogo": False, "scrollZoom": False, "doubleClick": False, "modeBarButtons": [["toImage"]]}


def show(figure: go.Figure, *, key: str, file: str, alt: str, clicks: bool = False) -> Any:
    """Put a figure on the page. In its corner it can be saved as PNG, SVG and CSV (figure_buttons.js), under the name `file`.

    alt: what it shows, for those who cannot see it. clicks: whether a click on a point runs the page. Returns what Streamlit does.
    """
    config = {**_CONFIG, "toImageButtonOptions": {"format": "png", "scale": 2, "filename": file}}
    if clicks:
        return st.plotly_chart(figure, theme=None, key=key, config=config, alt=alt, on_select="rerun", selection_mode="points")
    return st.plotly_chart(figure, theme=None, key=key, config=config, alt=alt)


def save_buttons() -> None:
    """What gives every figure of a page its buttons. Call it once, before the page itself, which may end early."""
    with st.container(key="figure-buttons"):
        component("figure_buttons", "<div></div>")(key="figure-buttons-mount", data={}, width="content")


@dataclass(frozen=True)
class Bars:
    """A histogram to draw. left, right, counts: shape (bars,), in the order of values; no bar crosses zero. zeros: exact zeros."""

    left: npt.NDArray[np.float64]
    right: npt.NDArray[np.float64]
    counts: npt.NDArray[np.int64]
    zeros: int

    @property
    def total(self) -> int:
        return int(self.counts.sum()) + self.zeros

    @property
    def density(self) -> npt.NDArray[np.float64]:
        """Tokens per 1 of activation: bars have different widths, so their height must not be their count."""
        return self.counts / (self.right - self.left)


def bars(lows: npt.ArrayLike, highs: npt.ArrayLike, counts: npt.ArrayLike, low: float, high: float) -> Bars:
    """Draw the occupied bins (in the order of values, a bin of no width at zero) between the exact minimum and maximum.

    Neighbouring bins are joined while they are narrower than a `BARS`-th of the range: near zero the stored bins are far narrower than a
    pixel. Where the stored bins are wider than that, they stay as they are. Every token is in exactly one bar or in `zeros`.
    """
    left, right = np.asarray(lows, dtype=np.float64), np.asarray(highs, dtype=np.float64)
    number = np.asarray(counts, dtype=np.int64)
    zero = (left == 0) & (right == 0)
    width = (max(high, 0.0) - min(low, 0.0)) / BARS
    joined: list[list[float]] = []
    edges = zip(np.clip(left, low, high)[~zero].tolist(), np.clip(right, low, high)[~zero].tolist(), number[~zero].tolist(), strict=True)
    for begin, end, held in edges:
        last = joined[-1] if joined else None
        if last is not None and end - last[0] <= width and (last[0] < 0) == (begin < 0):
            last[1], last[2] = end, last[2] + held
        else:
            joined.append([begin, end, held])
    for bar in joined:
        if bar[0] == bar[1]:  # all its values are one number, the minimum or the maximum itself
            bar[0], bar[1] = bar[0] - width / 4, bar[1] + width / 4
    table = np.array(joined, dtype=np.float64).reshape(-1, 3)
    return Bars(table[:, 0], table[:, 1], table[:, 2].astype(np.int64), int(number[zero].sum()))


def histogram(shown: Bars, dark: bool) -> go.Figure:
    """The figure: activation along, tokens per 1 of activation up (log), amber right of zero and blue left of it."""
    colours = theme.DARK if dark else theme.LIGHT
    middle = (shown.left + shown.right) / 2
    share = shown.counts / max(1, shown.total)
    hover = [
        f"{_short(a)} to {_short(b)}<br><b>{n:,}</b> tokens · {100 * part:.3g} %"
        for a, b, n, part in zip(shown.left, shown.right, shown.counts.tolist(), share, strict=True)
    ]
    density = shown.density
    edge = 0.02 * float(np.ptp([0.0, *shown.left, *shown.right]))  # zero is always on the axis, also where there is a single bar
    span = [min(0.0, float(shown.left.min())) - edge, max(0.0, float(shown.right.max())) + edge]
    floor, top = np.log10(density.min()) - 0.25, np.log10(density.max()) + 0.1
    bar: dict[str, Any] = {  # a plain dict is checked once, a go.Bar twice
        "type": "bar",
        "x": middle,
        "y": density,
        "width": shown.right - shown.left,
        "marker": {"color": np.where(middle < 0, colours.negative, colours.activation).tolist(), "line": {"width": 0}},
        "hovertext": hover,
        "hoverinfo": "text",
    }
    layout = theme.figure_layout(
        168,
        margin={"l": 46, "r": 4, "t": 6, "b": 34},
        bargap=0,
        xaxis={"title": _axis_title("activation", colours), "range": span, "zeroline": True, "showgrid": False, "nticks": 9},
        yaxis={
            "title": _axis_title("density of tokens", colours),
            "type": "log",
            "range": [floor, max(top, floor + 0.5)],
            "dtick": max(1, round((top - floor) / 3)),
            "exponentformat": "power",
            "zeroline": False,
        },
    )
    return go.Figure(data=[bar], layout=layout)


def _axis_title(text: str, colours: theme.Palette) -> dict[str, Any]:
    return {"text": text, "standoff": 4, "font": {"color": colours.muted, "size": 11}}


def _short(value: float) -> str:
    return f"{value:.3g}".replace("-", "−")
