"""Rating by hand: which explanation comes next, the figure of ratings against scores, and the ratings as CSV. No Streamlit."""

import csv
import io
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go

from core.autointerp.comparison import figure
from core.findings.correlation import spearman
from core.findings.ratings import HIGHEST, LOWEST, Rating
from core.ui import theme
from core.ui.spreadsheet import inert

BINS = 10
"""Spans of the score range from which explanations are drawn in turn."""
SPREAD = 0.28
"""How far points of one rating are moved apart sideways, at most."""
CSV = ("explanation", "unit", "rating", "seconds", "created", "rho", "low", "high", "kind", "split", "simulator", "author", "text")


@dataclass(frozen=True)
class Rated:
    """A rating beside the explanation's score. row: of `explanation_queries.of_identities`, None when the explanation is gone."""

    rating: Rating
    row: Mapping[str, Any] | None

    @property
    def rho(self) -> float:
        return math.nan if self.row is None or self.row["rho"] is None else float(self.row["rho"])


def queue(identities: Sequence[str], rhos: Sequence[float], seen: Collection[str], seed: int, limit: int = 200) -> list[str]:
    """At most `limit` explanations to rate, those not rated yet before the others, evenly over the score range.

    The range from the lowest to the highest ρ is cut into BINS spans of equal width; the spans take turns in an order drawn with the seed,
    and so do the explanations within a span.
    """
    rng = np.random.default_rng(abs(seed))
    known = set(seen)
    low, high = min(rhos, default=0.0), max(rhos, default=0.0)
    width = (high - low) / BINS or 1.0
    shuffled = [int(place) for place in rng.permutation(len(identities))]
    order: list[str] = []
    for fresh in (True, False):
        bins: dict[int, list[str]] = {}
        for place in shuffled:
            if (identities[place] not in known) == fresh:
                bins.setdefault(min(BINS - 1, int((rhos[place] - low) / width)), []).append(identities[place])
        turns = [bins[int(which)] for which in rng.permutation(BINS) if int(which) in bins]
        while turns:
            order += [bin.pop() for bin in turns]
            turns = [bin for bin in turns if bin]
    return order[:limit]


def agreement(rated: Sequence[Rated]) -> tuple[float, int]:
    """Spearman's rank correlation of ratings and scores, and over how many explanations it is."""
    kept = [one for one in rated if math.isfinite(one.rho)]
    return spearman([one.rating.rating for one in kept], [one.rho for one in kept]), len(kept)


def counts(rated: Sequence[Rated]) -> dict[int, int]:
    """How many explanations have each rating."""
    return {value: sum(one.rating.rating == value for one in rated) for value in range(LOWEST, HIGHEST + 1)}


def chart(rated: Sequence[Rated], dark: bool) -> go.Figure:
    """Score over rating, one point an explanation, with the mean score of each rating as a bar and the counts below."""
    colours = theme.DARK if dark else theme.LIGHT
    kept = [one for one in rated if math.isfinite(one.rho)]
    found = counts(rated)
    data: list[dict[str, Any]] = []
    if kept:
        data.append(
            {
                "type": "scatter", "mode": "markers",
                "x": [one.rating.rating + _aside(one.rating.id) for one in kept], "y": [one.rho for one in kept],
                "hovertext": [f"{one.rating.unit}<br>rated {one.rating.rating} · ρ {figure(one.rho)}" for one in kept], "hoverinfo": "text",
                "marker": {"color": colours.simulated, "size": 6, "opacity": 0.7},
            }
        )  # fmt: skip
        means = {value: [one.rho for one in kept if one.rating.rating == value] for value in found}
        data += [
            {
                "type": "scatter", "mode": "lines", "x": [value - 0.36, value + 0.36], "y": [float(np.mean(rhos))] * 2, "hoverinfo": "text",
                "hovertext": f"mean ρ {figure(float(np.mean(rhos)))} of {len(rhos)}", "line": {"color": colours.text, "width": 2},
            }
            for value, rhos in means.items()
            if rhos
        ]  # fmt: skip
    layout = theme.figure_layout(
        260,
        margin={"l": 46, "r": 6, "t": 8, "b": 48},
        hovermode="closest",
        xaxis={"tickmode": "array", "tickvals": list(found), "ticktext": [f"{value}<br>{count:,}" for value, count in found.items()],
               "range": [0.4, 5.6], "showgrid": False, "title": _title("rating, and how many", colours)},
        yaxis={"title": _title("score ρ", colours), "zeroline": True, "nticks": 6},
    )  # fmt: skip
    return go.Figure(data=data, layout=layout)


def to_csv(rated: Sequence[Rated]) -> str:
    """Every rating with the explanation's score; empty cells where the explanation is gone or has no number."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(CSV)
    for one in rated:
        own = [one.rating.explanation, str(one.rating.unit), one.rating.rating, round(one.rating.seconds, 1), round(one.rating.created, 3)]
        writer.writerow([*own, *("" if one.row is None else _cell(one.row[name]) for name in CSV[len(own) :])])
    return out.getvalue()


def _aside(identity: int) -> float:
    """The same small step sideways for the same rating, every time."""
    return SPREAD * (2 * ((identity * 0.618033988749895) % 1) - 1)


def _cell(value: Any) -> Any:
    return "" if value is None or value != value else inert(value)


def _title(text: str, colours: theme.Palette) -> dict[str, Any]:
    return {"text": text, "standoff": 4, "font": {"color": colours.muted, "size": 11}}
