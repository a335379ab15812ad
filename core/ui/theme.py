"""Colours and typography, one meaning per colour, in light and dark.

Amber is a true activation, blue a negative one, teal a simulated one, grey hatching what was not computed. Everything that draws takes
its colours from here: Plotly figures from `palette()`, HTML and components from the `--na-…` variables that `style()` puts on the page.
"""

from dataclasses import dataclass
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
    chip: str


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
    chip="#fbcf85",
)
DARK = Palette(
    text="#e7e9eb",
    muted="#9aa3ad",
    hairline="#30353b",
    background="#15171a",
    surface="#202429",
    accent="#f0a63a",
    activation="#d97706",
    mark="#92400e",
    negative="#5b8def",
    negative_mark="#1f4f9e",
    simulated="#2dd4bf",
    chip="#5f2f13",
)

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'Helvetica Neue', Arial, sans-serif"
MONO = "ui-monospace, 'SF Mono', Menlo, Consolas, 'Noto Sans Mono', 'DejaVu Sans Mono', monospace"


def is_dark() -> bool:
    """Whether the person's browser shows the dark theme."""
    return st.context.theme.type == "dark"


def palette() -> Palette:
    """The colours of the theme on screen."""
    return DARK if is_dark() else LIGHT


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
        "xaxis": axis,
        "yaxis": axis,
    }
    for key, value in more.items():
        layout[key] = {**layout[key], **value} if isinstance(value, dict) and isinstance(layout.get(key), dict) else value
    return layout


PLOTLY_CONFIG = {"displayModeBar": False, "scrollZoom": False, "doubleClick": False}


def style() -> None:
    """Put the page's style sheet and colour variables on the page. Called by `setup()` on every run."""
    st.html(f"<style>{_variables(palette())}{_SHEET}</style>")


def _variables(colours: Palette) -> str:
    names = ("text", "muted", "hairline", "background", "surface", "accent", "activation", "mark", "negative", "simulated", "chip")
    pairs = ";".join(f"--na-{name}:{getattr(colours, name)}" for name in names)
    return f":root{{{pairs};--na-negative-mark:{colours.negative_mark}}}"


_SHEET = """
[data-testid="stMainBlockContainer"] {padding: 2.1rem 2.4rem 4rem; max-width: 1560px}
[data-testid="stHeader"] {background: transparent; height: 2.4rem}
[data-testid="stSidebar"] {min-width: 0}
[data-testid="stSidebarHeader"] {height: auto; padding: 1rem .9rem .2rem; align-items: center}
[data-testid="stSidebarHeader"]::before {content: "Neuron Atlas"; font-weight: 650; font-size: 1.08rem; letter-spacing: -.01em; flex: 1}
[data-testid="stSidebarUserContent"] {padding: .4rem .9rem 2rem}
[data-testid="stNavSectionHeader"] {text-transform: uppercase; letter-spacing: .06em; font-size: .7rem; font-weight: 600; color: var(--na-muted)}
[data-testid="stSidebarNav"] a[aria-current="page"] {background: color-mix(in srgb, var(--na-accent) 16%, transparent)}
[data-testid="stSidebarHeader"]::before {margin-left: .5rem}
[data-testid="stMain"] h1 {font-size: 1.55rem; font-weight: 680; letter-spacing: -.015em; padding: 0 0 .5rem}
[data-testid="stMain"] [data-testid="stHeading"] {padding-bottom: .55rem}
[data-testid="stMain"] h2 {font-size: 1.06rem; font-weight: 650; padding: .9rem 0 .1rem}
[data-testid="stMain"] h3 {font-size: .98rem; font-weight: 650; padding: .5rem 0 0}
[data-testid="stMain"] [data-testid="stVerticalBlock"] {gap: .7rem}
[data-testid="stMain"] label p {font-size: .8rem; color: var(--na-muted)}
[data-testid="stHtml"] a {color: var(--na-accent); text-underline-offset: 2px}
.na-muted {color: var(--na-muted)}
.na-small {font-size: .84rem}
.na-lead {font-size: 1rem; line-height: 1.55; max-width: 62rem; margin: 0}
.na-h {display: flex; flex-wrap: wrap; gap: .15rem .6rem; align-items: baseline; border-bottom: 1px solid var(--na-hairline);
  padding: .9rem 0 .3rem}
.na-h b {font-weight: 650; font-size: 1.02rem}
.na-h span {color: var(--na-muted); font-size: .82rem}
.na-num {font-variant-numeric: tabular-nums; color: var(--na-muted)}
.na-chip {background: var(--na-chip); border-radius: 5px; padding: .05rem .45rem; font-weight: 600; white-space: pre}
.na-facts {display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1.2rem; font-size: .92rem; margin: 0; padding: 0}
.na-facts dt {color: var(--na-muted); margin: 0; padding: 0}
.na-facts dd {margin: 0; padding: 0; font-variant-numeric: tabular-nums; overflow-wrap: anywhere}
.na-log {font-family: ui-monospace, 'SF Mono', Menlo, Consolas, 'DejaVu Sans Mono', monospace; font-size: .78rem; line-height: 1.5;
  white-space: pre-wrap; overflow-wrap: anywhere; margin: 0; color: var(--na-muted); border-left: 2px solid var(--na-hairline); padding-left: .8rem}
.na-alert {border-left: 3px solid var(--na-accent); padding: .15rem 0 .15rem .8rem; margin: .2rem 0; overflow-wrap: anywhere; max-width: 62rem}
.na-run {border-top: 1px solid var(--na-hairline); padding-top: .55rem}
.na-run-head {display: flex; flex-wrap: wrap; gap: .1rem .8rem; align-items: baseline; overflow-wrap: anywhere}
.na-run-head b {font-weight: 650}
.na-state {font-size: .82rem; color: var(--na-muted)}
.na-state.running, .na-state.failed {color: var(--na-accent)}
.na-bar {height: 4px; border-radius: 2px; background: var(--na-hairline); margin: .45rem 0 .3rem; overflow: hidden}
.na-bar i {display: block; height: 100%; background: var(--na-accent); transition: width .4s}
.na-wait {display: flex; gap: .8rem; align-items: center; color: var(--na-muted); font-size: .9rem; padding: .6rem 0}
.na-wait i {width: 7rem; height: 4px; border-radius: 2px; overflow: hidden; background: linear-gradient(90deg, var(--na-hairline) 35%,
  var(--na-accent) 50%, var(--na-hairline) 65%) 0/300% 100%; animation: na-wait 1.6s linear infinite}
@keyframes na-wait {from {background-position: 150% 0} to {background-position: -150% 0}}
@media (max-width: 700px) {
  [data-testid="stMainBlockContainer"] {padding: 1.6rem 1rem 3rem}
  .na-facts {grid-template-columns: 1fr; gap: 0 0} .na-facts dd {margin-bottom: .45rem}
}
"""
