"""Pictures of scores: how they are spread over each layer beside their controls, and each against the token-lookup baseline."""

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from core.autointerp.comparison import figure
from core.ui import theme, words
from core.ui.starred import unstarred

ROLES = {"simulated": "score", "lookup": "lookup baseline", "shuffled": "shuffled control", "paraphrase": "paraphrase control"}
"""What a box is of, by role, as a legend says it."""
_LONGEST = 90


def role_colours(colours: theme.Palette) -> dict[str, str]:
    """Teal for what was simulated, greys for the baseline and the controls."""
    return {"simulated": colours.simulated, "lookup": colours.muted, "shuffled": colours.text, "paraphrase": colours.negative}


def layer_boxes(rows: Sequence[Mapping[Any, Any]], names: Mapping[str, str] = ROLES) -> go.Figure:
    """For each site a box a role: whiskers 5–95 %, box the middle half, line the median. rows: of `explanation_queries.by_layer`."""
    colours = theme.palette()
    sites = list(dict.fromkeys(_site(row) for row in rows))
    data: list[dict[str, Any]] = []
    for role, name in names.items():
        chosen = [row for row in rows if row["role"] == role and int(row["defined"]) > 0]
        if not chosen:
            continue
        colour = role_colours(colours)[role]
        spread = {key: [float(row[level]) for row in chosen] for key, level in _LEVELS.items()}
        data.append(
            {
                "type": "box", "name": name, "x": [_site(row) for row in chosen], **spread, "offsetgroup": role,
                "line": {"color": colour, "width": 1.4}, "fillcolor": f"rgba({_rgb(colour)},0.22)", "whiskerwidth": 0.35,
                "hoverinfo": "skip",
            }
        )  # fmt: skip
        data.append(
            {
                "type": "scatter", "mode": "markers", "x": [_site(row) for row in chosen], "y": spread["median"], "showlegend": False,
                "marker": {"color": "rgba(0,0,0,0)", "size": 14}, "hovertext": [_layer_hover(row, name) for row in chosen],
                "hoverinfo": "text", "offsetgroup": role,
            }
        )  # fmt: skip
    return go.Figure(data=data, layout=_layout(colours, 300, sites, "ρ", boxmode="group", scattermode="group"))


def against_lookup(records: Sequence[Mapping[Any, Any]]) -> go.Figure:
    """Each explanation's ρ over the lookup baseline's on the same records. Above the line the words say more than a list of tokens.

    records: rows of `explanation_queries.scored` in which both are defined. Hollow: no evidence against the shuffled control.
    """
    colours = theme.palette()
    evident = [bool(row["evidence"]) if str(row["evidence"]) in ("True", "False") else True for row in records]
    low = min([0.0, *(float(row[name]) for row in records for name in ("rho", "lookup_rho"))]) - 0.04
    layout = _layout(colours, 300, [], "ρ", hovermode="closest", showlegend=False)
    layout["xaxis"] = {**layout["xaxis"], "title": _title("ρ of the token lookup table", colours), "range": [low, 1.04], "zeroline": True}
    layout["yaxis"] = {**layout["yaxis"], "range": [low, 1.04], "zeroline": True}
    return go.Figure(
        data=[
            {
                "type": "scatter", "mode": "lines", "x": [low, 1.04], "y": [low, 1.04], "hoverinfo": "skip",
                "line": {"color": colours.muted, "width": 1, "dash": "dot"},
            },
            {
                "type": "scatter", "mode": "markers", "x": [float(row["lookup_rho"]) for row in records],
                "y": [float(row["rho"]) for row in records], "hovertext": [_point_hover(row) for row in records], "hoverinfo": "text",
                "marker": {
                    "color": colours.simulated, "size": 6, "opacity": 0.7,
                    "symbol": ["circle" if known else "circle-open" for known in evident],
                },
                "selected": {"marker": {"opacity": 0.7}}, "unselected": {"marker": {"opacity": 0.7}},
            },
        ],
        layout=layout,
    )  # fmt: skip


def clicked_point(event: Any) -> int | None:
    """The place among `against_lookup`'s records of the point that was just clicked, from what `st.plotly_chart` returns."""
    points = event.selection.points if event is not None else []
    return int(points[-1]["point_index"]) if points and points[-1]["curve_number"] == 1 else None


_LEVELS = {"lowerfence": "q5", "q1": "q25", "median": "q50", "q3": "q75", "upperfence": "q95"}


def _layout(colours: theme.Palette, height: int, categories: Sequence[str], axis: str, **more: Any) -> dict[str, Any]:
    placed = {"type": "category", "categoryarray": list(categories)} if categories else {}
    return theme.figure_layout(
        height,
        **{
            "margin": {"l": 46, "r": 6, "t": 26, "b": 40},
            "showlegend": True,
            "legend": {
                "orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom", "font": {"size": 11, "color": colours.muted},
                "itemclick": False, "itemdoubleclick": False, "bgcolor": "rgba(0,0,0,0)",
            },
            "xaxis": {"showgrid": False, "zeroline": False, **placed},
            "yaxis": {"title": _title(axis, colours), "zeroline": True, "nticks": 7},
            **more,
        },
    )  # fmt: skip


def _site(row: Mapping[Any, Any]) -> str:
    return f"{row['site_kind']}.{row['layer']}"


def _layer_hover(row: Mapping[Any, Any], name: str) -> str:
    q = {level: figure(float(row[level])) for level in ("q5", "q25", "q50", "q75", "q95")}
    undefined = int(row["n"]) - int(row["defined"])
    left_out = f"<br>{words.count(undefined, 'undefined score')} left out" if undefined else ""
    return (
        f"{_site(row)}, {name}: median <b>{q['q50']}</b> of {words.count(int(row['defined']), 'unit')}<br>"
        f"half {q['q25']} to {q['q75']}, nine in ten {q['q5']} to {q['q95']}{left_out}"
    )


def _point_hover(row: Mapping[Any, Any]) -> str:
    text = " ".join(unstarred(str(row["text"])).split())
    text = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
    shuffled = float(row["shuffled_rho"]) if row["shuffled_rho"] is not None and str(row["shuffled_rho"]) != "<NA>" else math.nan
    return (
        f"<b>{html.escape(_site(row))}/{row['unit']}</b> ρ {figure(float(row['rho']))} · lookup {figure(float(row['lookup_rho']))} · "
        f"shuffled {figure(shuffled)}<br>{html.escape(text)}"
    )


def _title(text: str, colours: theme.Palette) -> dict[str, Any]:
    return {"text": text, "standoff": 4, "font": {"color": colours.muted, "size": 11}}


def _rgb(colour: str) -> str:
    return ",".join(str(int(colour[at : at + 2], 16)) for at in (1, 3, 5))
