"""The histogram of a unit as inline SVG: tokens per 1 of activation, on a logarithmic scale, zero apart."""

import math

import numpy as np

from core.findings.report.text import number
from core.store.units import UnitView

WIDTH, HEIGHT, FOOT = 460, 150, 18
BARS = 96


def histogram(view: UnitView) -> str:
    """Neighbouring bins are joined while they are narrower than a 96th of the range. Every token is in one bar, or told below as zero."""
    low, high = view.limits
    shown = view.histogram
    zero = (shown.lows == 0) & (shown.highs == 0)
    zeros = int(shown.counts[zero].sum())
    said = f'<p class="quiet">{zeros:,} tokens are exactly zero.</p>' if zeros else ""
    if not math.isfinite(low) or not math.isfinite(high) or not (~zero).any():
        return said
    first, last = min(low, 0.0), max(high, 0.0)
    span = (last - first) or 1.0
    joined: list[list[float]] = []
    lows, highs = np.clip(shown.lows, low, high)[~zero], np.clip(shown.highs, low, high)[~zero]
    for begin, end, count in zip(lows.tolist(), highs.tolist(), shown.counts[~zero].tolist(), strict=True):
        before = joined[-1] if joined else None
        if before is not None and end - before[0] <= span / BARS and (before[0] < 0) == (begin < 0):
            before[1], before[2] = end, before[2] + count
        else:
            joined.append([begin, end, count])
    heights = [math.log10(count / max(end - begin, span / BARS / 2)) for begin, end, count in joined]
    floor, top = min(heights) - 0.25, max(heights) + 0.1
    bars: list[str] = []
    for (begin, end, count), height in zip(joined, heights, strict=True):
        x, w = (begin - first) / span * WIDTH, max(1.0, (end - begin) / span * WIDTH)
        h = (height - floor) / (top - floor) * HEIGHT
        minus = " minus" if begin < 0 else ""
        title = f"{number(begin)} to {number(end)}: {int(count):,} tokens"
        bars.append(
            f'<rect class="bar{minus}" x="{x:.1f}" y="{HEIGHT - h:.1f}" width="{w:.1f}" height="{h:.1f}"><title>{title}</title></rect>'
        )
    at_zero = -first / span * WIDTH
    ends = (
        f'<text x="0" y="{HEIGHT + 14}">{number(first)}</text><text x="{WIDTH}" y="{HEIGHT + 14}" text-anchor="end">{number(last)}</text>'
    )
    if 30 < at_zero < WIDTH - 30:
        ends += f'<text x="{at_zero:.1f}" y="{HEIGHT + 14}" text-anchor="middle">0</text>'
    axis = f'<path class="axis" d="M0 {HEIGHT}.5H{WIDTH}M{at_zero:.1f} 0V{HEIGHT}"/>'
    label = f"Histogram of {int(view.stats['tokens']):,} activations from {number(low)} to {number(high)}, logarithmic"
    drawing = f'<svg viewBox="0 0 {WIDTH} {HEIGHT + FOOT}" role="img" aria-label="{label}">{"".join(bars)}{axis}{ends}</svg>'
    return drawing + said
