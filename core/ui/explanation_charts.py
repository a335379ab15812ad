"""Simulated against true as figures: one record token by token with the residual, and all tokens as points."""

import html
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from core.autointerp.comparison import figure
from core.ui import theme
from core.ui.explanation_pairs import Pair

LABELLED = 7
"""Tokens named under the overlay: those with the largest activations, true or simulated."""
ODDS_FROM = 0.03
"""Probabilities below this are left out of a hover text."""


def overlay(pair: Pair, dark: bool) -> go.Figure:
    """One record: true (amber) and simulated (teal, dashed) on each token, and below them the residual, simulated − true."""
    colours = theme.DARK if dark else theme.LIGHT
    size = len(pair.true)
    at = list(range(size))
    pieces = [_token(pair, place) for place in at]
    hover = [_hover(pair, place) for place in at]
    shared: dict[str, Any] = {"x": at, "hovertext": hover, "hoverinfo": "text"}
    failed = bool(pair.view.failed)
    data: list[dict[str, Any]] = [
        {"type": "scatter", "mode": "lines", "y": pair.true, "name": "true", "line": {"color": colours.activation, "width": 1.6}, **shared}
    ]
    if not failed:
        data += [
            {
                "type": "scatter", "mode": "lines", "y": pair.simulated, "name": "simulated",
                "line": {"color": colours.simulated, "width": 1.6, "dash": "dash"}, **shared,
            },
            {"type": "bar", "y": pair.residual, "name": "residual", "yaxis": "y2", "marker": {"color": colours.muted}, **shared},
        ]  # fmt: skip
    largest = np.maximum(np.abs(pair.true), np.nan_to_num(np.abs(pair.simulated)))
    named = sorted(np.argsort(-largest, kind="stable")[: min(LABELLED, size)].tolist())
    layout = theme.figure_layout(
        252,
        margin={"l": 46, "r": 6, "t": 22, "b": 58},
        bargap=0.15,
        hovermode="closest",
        showlegend=True,
        legend={"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom", "font": {"size": 11, "color": colours.muted}, "itemclick": False,
                "itemdoubleclick": False, "bgcolor": "rgba(0,0,0,0)"},
        xaxis={"tickmode": "array", "tickvals": named, "ticktext": [pieces[place] for place in named], "tickangle": -40, "showgrid": False,
               "range": [-0.7, size - 0.3], "anchor": "y2"},
        yaxis={"domain": [0.4, 1], "title": _title("activation", colours), "nticks": 5, "zeroline": True},
    )  # fmt: skip
    layout["yaxis2"] = {**layout["yaxis"], "domain": [0, 0.3], "title": _title("residual", colours), "nticks": 3}
    made = go.Figure(data=data, layout=layout)
    if failed:
        made.add_annotation(
            text=html.escape(f"Not simulated: {pair.view.failed}"[:160]), x=0.5, y=0.5, xref="paper", yref="paper", showarrow=False,
            font={"color": colours.muted, "size": 12},
        )  # fmt: skip
    return made


def scatter(found: Sequence[Pair], rho: float, reason: str, dark: bool) -> go.Figure:
    """All tokens of all answered records: simulated over true. Round: strongest records; hollow: records drawn at random."""
    colours = theme.DARK if dark else theme.LIGHT
    data: list[dict[str, Any]] = []
    for origin, name, symbol in (("top", "strongest records", "circle"), ("random", "random records", "circle-open")):
        chosen = [pair for pair in found if pair.view.origin == origin and not pair.view.failed]
        if chosen:
            data.append(
                {
                    "type": "scatter", "mode": "markers", "name": name,
                    "x": np.concatenate([pair.true for pair in chosen]), "y": np.concatenate([pair.simulated for pair in chosen]),
                    "hovertext": [_hover(pair, at) for pair in chosen for at in range(len(pair.true))], "hoverinfo": "text",
                    "marker": {"color": colours.simulated, "size": 5, "opacity": 0.65, "symbol": symbol},
                }
            )  # fmt: skip
    said = f"ρ {figure(rho)}" if math.isfinite(rho) else f"ρ undefined: {reason}"
    layout = theme.figure_layout(
        252,
        margin={"l": 46, "r": 6, "t": 22, "b": 36},
        hovermode="closest",
        showlegend=True,
        legend={"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom", "font": {"size": 11, "color": colours.muted}, "itemclick": False,
                "itemdoubleclick": False, "bgcolor": "rgba(0,0,0,0)"},
        xaxis={"title": _title("true activation", colours), "zeroline": True},
        yaxis={"title": _title("simulated", colours), "zeroline": True},
    )  # fmt: skip
    made = go.Figure(data=data, layout=layout)
    made.add_annotation(
        text=html.escape(said[:120]), x=1, y=1.0, xref="paper", yref="paper", showarrow=False, xanchor="right", yanchor="bottom",
        font={"color": colours.text, "size": 12},
    )  # fmt: skip
    return made


def _hover(pair: Pair, at: int) -> str:
    """What stands beside the pointer: token, both activations, the difference, and the distribution where there is one."""
    lines = [f"<b>{_token(pair, at)}</b> · record {pair.place + 1}, position {at}", f"true {_short(pair.true[at])}"]
    if not pair.view.failed:
        lines += [f"simulated {_short(pair.simulated[at])}", f"residual {_short(pair.residual[at])}"]
    odds = pair.view.probabilities
    if odds is not None:
        likely = [(value, float(share)) for value, share in enumerate(odds[at]) if share >= ODDS_FROM]
        lines.append(" · ".join(f"{value}: {share:.0%}" for value, share in likely))
    return "<br>".join(lines)


def _short(value: float) -> str:
    return f"{value:.3g}".replace("-", "−")


def _token(pair: Pair, at: int) -> str:
    """A token for a chart: everything visible, nothing markup."""
    if not pair.view.pieces:
        return str(at)
    piece = "".join(c if c.isprintable() else "↵" if c == "\n" else f"⟨U+{ord(c):04X}⟩" for c in pair.view.pieces[at])
    return html.escape(piece if len(piece) <= 18 else f"{piece[:17]}…")


def _title(text: str, colours: theme.Palette) -> dict[str, Any]:
    return {"text": text, "standoff": 4, "font": {"color": colours.muted, "size": 11}}
