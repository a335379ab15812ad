"""The token histogram as it is drawn: nothing in a token is markup, every count is in a bar, and colour-blind people can read it."""

import html
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from core.store.token_histogram import token_histogram
from core.ui import feature_charts, theme
from core.ui.feature_charts import token_colours, token_figure

# Machado, Oliveira and Fernandes 2009, severity 1.0, on linear RGB.
BLINDNESS = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "none": [[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]],
}
TO_XYZ = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]])
WHITE = np.array([0.95047, 1.0, 1.08883])
APART = 15.0
"""CIE 1976 colour difference between two bars: 2.3 is just noticeable."""


def lab(colour: npt.NDArray[Any], blindness: str) -> npt.NDArray[Any]:
    """An sRGB colour [3] in 0..1, as somebody sees it, in CIE L*a*b*."""
    linear = np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
    xyz = TO_XYZ @ np.clip(np.array(BLINDNESS[blindness]) @ linear, 0, 1) / WHITE
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def rgb(colour: str, background: str) -> npt.NDArray[Any]:
    """`#rrggbb` or `rgba(r,g,b,a)` over the background, in 0..1."""
    if colour.startswith("#"):
        return np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    *parts, share = map(float, colour.removeprefix("rgba(").removesuffix(")").split(","))
    return float(share) * np.array(parts) / 255 + (1 - share) * rgb(background, background)


@pytest.mark.parametrize("blindness", list(BLINDNESS))
@pytest.mark.parametrize("dark", [False, True])
def test_any_two_bars_can_be_told_apart(monkeypatch: pytest.MonkeyPatch, dark: bool, blindness: str) -> None:
    monkeypatch.setattr(theme, "is_dark", lambda: dark)
    background = theme.palette().background
    seen = [lab(rgb(colour, background), blindness) for colour in [*token_colours(5), background]]
    closest = min(float(np.linalg.norm(a - b)) for place, a in enumerate(seen) for b in seen[:place])
    assert closest > APART


@pytest.mark.parametrize("how", ["linear", "log"])
def test_every_count_is_in_a_bar_and_no_token_is_markup(monkeypatch: pytest.MonkeyPatch, how: feature_charts.Counts) -> None:
    monkeypatch.setattr(theme, "is_dark", lambda: False)
    hostile = ["<b>bold</b>", "<a href='javascript:alert(1)'>x</a>", "%{y}", "&lt;", "‮abc"]
    tokens = [token for token in range(8) for _ in range(10 - token)]
    counted = token_histogram(tokens, np.linspace(0.1, 3, len(tokens)))
    bars: Any = token_figure(counted, hostile, how).to_dict()["data"]
    assert sum(sum(bar["y"]) for bar in bars) == len(tokens)
    for bar, name in zip(bars, hostile, strict=False):
        assert all(text.startswith(f"<b>{html.escape(name, quote=False)}</b><br>") for text in bar["hovertext"])
        assert "hovertemplate" not in bar
    assert bars[-1]["hovertext"][-1].startswith("<b>3 other tokens</b>")


def test_shares_of_a_bin_add_up_to_one_and_an_empty_bin_to_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(theme, "is_dark", lambda: False)
    counted = token_histogram([1, 1, 2, 3, 4, 5, 6, 7], [0.5, 9.9, 9.9, 9.9, 0.5, 0.5, 10, 10])
    heights: Any = sum(np.array(bar["y"]) for bar in token_figure(counted, list("abcde"), "share").to_dict()["data"])
    assert np.allclose(heights, counted.totals > 0)
