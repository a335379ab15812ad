"""The contrast between text and what is really behind it, measured in the browser.

Ratio of relative luminances as in WCAG 2.1 (success criterion 1.4.3): (L1 + 0.05) / (L2 + 0.05), from 1 to 21.
"""

import math
import re
from dataclasses import dataclass

from playwright.sync_api import Locator


@dataclass(frozen=True)
class Contrast:
    """One element's text against its background."""

    ratio: float
    text: str
    colour: str
    background: str


def measure(elements: Locator) -> list[Contrast]:
    """The contrast of every element found. Backgrounds are stacked up to the page's own, through shadow roots, with their opacity."""
    return [Contrast(**found) for found in elements.evaluate_all(_MEASURE)]


def difference(one: str, other: str) -> float:
    """How different two colours `rgb(r g b)` look: their distance in OKLab (B. Ottosson, 2020). About 0.02 is just noticeable."""
    first, second = (_oklab([int(part) / 255 for part in re.findall(r"\d+", colour)]) for colour in (one, other))
    return math.dist(first, second)


def _oklab(colour: list[float]) -> list[float]:
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour]
    cones = [_times(row, linear) ** (1 / 3) for row in _TO_CONES]
    return [_times(row, cones) for row in _TO_LAB]


def _times(row: tuple[float, float, float], column: list[float]) -> float:
    return sum(a * b for a, b in zip(row, column, strict=True))


_TO_CONES = (
    (0.4122214708, 0.5363325363, 0.0514459929),
    (0.2119034982, 0.6806995451, 0.1073969566),
    (0.0883024619, 0.2817188376, 0.6299787005),
)
_TO_LAB = (
    (0.2104542553, 0.7936177850, -0.0040720468),
    (1.9779984951, -2.4285922050, 0.4505937099),
    (0.0259040371, 0.7827717662, -0.8086757660),
)

_MEASURE = r"""
(elements) => {
  const context = Object.assign(document.createElement('canvas'), {width: 1, height: 1}).getContext('2d', {willReadFrequently: true});
  const known = new Map();
  // A canvas turns any way of writing a colour, color-mix() and oklab() too, into red, green, blue and alpha.
  const read = (colour) => {
    if (!known.has(colour)) {
      context.clearRect(0, 0, 1, 1);
      context.fillStyle = colour;
      context.fillRect(0, 0, 1, 1);
      const [r, g, b, a] = context.getImageData(0, 0, 1, 1).data;
      known.set(colour, [r, g, b, a / 255]);
    }
    return known.get(colour);
  };
  const parent = (node) => node.parentElement ?? (node.getRootNode() instanceof ShadowRoot ? node.getRootNode().host : null);
  const over = (above, below) => [0, 1, 2].map((i) => above[i] * above[3] + below[i] * (1 - above[3]));
  const luminance = (colour) => {
    const [r, g, b] = colour.map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  return elements.map((element) => {
    const layers = [];
    let opacity = 1;
    for (let node = element; node; node = parent(node)) {
      const style = getComputedStyle(node);
      opacity *= Number(style.opacity);
      layers.unshift(read(style.backgroundColor));
    }
    const background = layers.reduce((below, layer) => over(layer, below), [255, 255, 255]);
    const [r, g, b, a] = read(getComputedStyle(element).color);
    const text = over([r, g, b, a * opacity], background);
    const [high, low] = [luminance(text), luminance(background)].sort((x, y) => y - x);
    const show = (colour) => 'rgb(' + colour.map(Math.round).join(' ') + ')';
    return {ratio: (high + 0.05) / (low + 0.05), text: element.textContent, colour: show(text), background: show(background)};
  });
}
"""
