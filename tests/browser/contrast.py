"""The contrast between text and what is really behind it, measured in the browser.

Ratio of relative luminances as in WCAG 2.1 (success criterion 1.4.3): (L1 + 0.05) / (L2 + 0.05), from 1 to 21.
"""

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
