"""Words in the order of their activations, parted into stretches of even steps: as few numbers as say them well."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from core.autointerp.sentence import STEPS, Stretch

Floats = npt.NDArray[np.float64]
_BETWEEN = len("*, *") - len("/") + len(" ")
"""Characters that another stretch takes besides its number: between its words and those before it."""


def stretches(words: Sequence[str], values: Floats, weights: Floats, price: float) -> list[Stretch]:
    """The stretches with the least weighted squared error, each character that they take counted as `price` more.

    values [words]: falling, all at least 0 or all at most 0, in steps. weights [words]: above 0.
    """
    size = len(words)
    sign = -1 if values[-1] < 0 else 1
    begins, ends = np.triu_indices(size)
    costs, first, last = _costs(sign * values, weights, begins, ends + 1, price)
    table, number = np.full((size, size), np.inf), np.zeros((size, size), np.int64)
    table[begins, ends], number[begins, ends] = costs + price * _BETWEEN * (begins > 0), np.arange(len(begins))
    least, come_from = np.zeros(size + 1), np.zeros(size + 1, np.int64)
    for end in range(1, size + 1):
        ways = least[:end] + table[:end, end - 1]
        come_from[end] = np.argmin(ways)
        least[end] = ways[come_from[end]]
    found: list[Stretch] = []
    end = size
    while end:
        begin = int(come_from[end])
        at = number[begin, end - 1]
        found.append(Stretch(words[begin:end], sign * int(first[at]), sign * int(last[at])))
        end = begin
    return found[::-1]


def _costs(
    values: Floats, weights: Floats, begins: npt.NDArray[np.int64], ends: npt.NDArray[np.int64], price: float
) -> tuple[Floats, Floats, Floats]:
    """For the words from each of `begins` to before the same of `ends`: the least error and the price of the numbers, and both numbers."""
    places = np.arange(len(values), dtype=np.float64)

    def sums(of: Floats) -> Floats:
        totals = np.concatenate([[0.0], np.cumsum(of)])
        return totals[ends] - totals[begins]

    w, wx, wxx = sums(weights), sums(weights * places), sums(weights * places**2)
    v, vx, vv = sums(weights * values), sums(weights * values * places), sums(weights * values**2)
    # On x from 0 at the first word to 1 at the last, the least squares' line and the error of any other.
    steps = np.maximum(ends - begins - 1, 1)
    wx, wxx, vx = (wx - begins * w) / steps, (wxx - 2 * begins * wx + begins**2 * w) / steps**2, (vx - begins * v) / steps
    spread = w * wxx - wx**2
    sloped = spread > 1e-9 * w**2
    slope = np.where(sloped, (w * vx - wx * v) / np.where(sloped, spread, 1.0), 0.0)
    start = (v - slope * wx) / w
    costs, firsts, lasts = np.full(len(w), np.inf), np.zeros(len(w)), np.zeros(len(w))
    for first in (np.floor(start), np.ceil(start)):
        for last in (np.floor(start + slope), np.ceil(start + slope)):
            a, b = first.clip(0, STEPS), np.where(ends - begins == 1, first, last).clip(0, STEPS)
            error = vv - 2 * a * v - 2 * (b - a) * vx + a**2 * w + 2 * a * (b - a) * wx + (b - a) ** 2 * wxx
            digits = 1 + (a == STEPS) + np.where(a == b, 0, 2 + (b == STEPS))
            better = error + price * digits < costs
            costs[better], firsts[better], lasts[better] = (error + price * digits)[better], a[better], b[better]
    return costs, firsts, lasts
