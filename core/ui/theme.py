"""Colours and typography, one meaning per colour, in light and dark.

Amber is a true activation, blue a negative one, teal a simulated one, grey hatching what was not computed. Effects on the output are green
where something becomes likelier and purple where it becomes less likely, as underlines dashed and solid. Everything that draws takes
its colours from here: Plotly figures from `palette()`, HTML and components from the `--na-…` variables that `style()` puts on the page.
"""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import streamlit as st


@dataclass(frozen=True)
class Palette:
    """The colours of one theme, as CSS hex strings."""

    text: str
    muted: str
    hairline: str
    background: str
    surface: str
    accent: str
    activation: str
    """Bars and lines of true activation."""
    mark: str
    """The strongest background behind a token. Text keeps its colour over it (at least 4.5:1)."""
    negative: str
    negative_mark: str
    simulated: str
    simulated_mark: str
    """The strongest background behind a token of a simulated row."""
    raised: str
    """An output token that becomes likelier."""
    lowered: str
    chip: str
    weak: float
    """The share of a mark that is behind the chip of a unit that is hardly active: enough to be seen as one."""
    lift: float
    """Exponent of a token's share of the scale before it is mixed. Below 1, weak activations are easier to see; more so near black."""


LIGHT = Palette(
    text="#1d2125",
    muted="#5f6872",
    hairline="#e2e3e5",
    background="#ffffff",
    surface="#f6f5f2",
    accent="#b45309",
    activation="#d97706",
    mark="#f59e0b",
    negative="#3b82f6",
    negative_mark="#7fb0fb",
    simulated="#0f766e",
    simulated_mark="#3fbfae",
    raised="#1b7837",
    lowered="#762a83",
    chip="#fbcf85",
    weak=0.2,
    lift=0.9,
)
DARK = Palette(
    text="#e7e9eb",
    muted="#9aa3ad",
    hairline="#30353b",
    background="#15171a",
    surface="#202429",
    accent="#f0a63a",
    activation="#d97706",
    mark="#a3480f",
    negative="#5b8def",
    negative_mark="#2a5db8",
    simulated="#2dd4bf",
    simulated_mark="#0b655c",
    raised="#7fcf8a",
    lowered="#cfa3e0",
    chip="#5f2f13",
    weak=0.34,
    lift=0.8,
)

SERIES_LIGHT = ("#0072b2", "#b84e00", "#00795a", "#a8497f", "#806600", "#2a7fb8", "#5f6872", "#6a51a3")
SERIES_DARK = ("#56b4e9", "#e8853a", "#2fc39a", "#e08bbd", "#d9c13c", "#8fd0f5", "#a9b2bb", "#b3a2e0")
"""Lines and bars that are compared: Okabe and Ito's hues (2008), which colour-blind people tell apart, darkened or lightened to be
seen on the page's background."""

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'Helvetica Neue', Arial, sans-serif"


def is_dark() -> bool:
    """Whether the person's browser shows the dark theme."""
    return st.context.theme.type == "dark"


def palette() -> Palette:
    """The colours of the theme on screen."""
    return DARK if is_dark() else LIGHT


def series() -> tuple[str, ...]:
    """Colours for what is compared, in order; give each a symbol or pattern of its own as well."""
    return SERIES_DARK if is_dark() else SERIES_LIGHT


def figure_layout(height: int, **more: Any) -> dict[str, Any]:
    """Plotly layout shared by all figures: transparent, small text, hairline grid, no toolbar space. `height` in pixels."""
    colours = palette()
    axis = {
        "gridcolor": colours.hairline,
        "linecolor": colours.hairline,
        "zerolinecolor": colours.hairline,
        "tickfont": {"color": colours.muted, "size": 11},
        "title": {"font": {"color": colours.muted, "size": 11}},
        "fixedrange": True,
    }
    layout: dict[str, Any] = {
        "height": height,
        "margin": {"l": 44, "r": 8, "t": 8, "b": 34},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": FONT, "size": 12, "color": colours.text},
        "hoverlabel": {"font": {"family": FONT, "size": 12}, "bgcolor": colours.surface, "bordercolor": colours.hairline},
        "showlegend": False,
        "dragmode": False,
        "modebar": {"bgcolor": "rgba(0,0,0,0)"},
        "xaxis": axis,
        "yaxis": axis,
    }
    for key, value in more.items():
        layout[key] = {**layout[key], **value} if isinstance(value, dict) and isinstance(layout.get(key), dict) else value
    return layout


def style() -> None:
    """Put the page's style sheet and colour variables on the page. Called by `setup()` on every run."""
    st.html(f"<style>{_variables(palette())}{_SHEET}</style>")


def _variables(colours: Palette) -> str:
    pairs = ";".join(f"--na-{field.name.replace('_', '-')}:{getattr(colours, field.name)}" for field in fields(colours))
    return f":root{{{pairs}}}"


_SHEET = (Path(__file__).parent / "theme.css").read_text("utf8")
