"""Fixed histogram bins, the same for every unit of every model, so that histograms merge by adding.

A value falls into a bin by its sign and the leading bits of its float32 pattern: eight bins an octave from 2⁻¹⁴ to 2¹⁴ on each side of
zero, one bin a side for what is smaller, one a side for what is larger, and one bin for exactly zero. Bins are numbered from the most
negative to the most positive, so that their order is the order of values.
"""

import numpy as np
import numpy.typing as npt

PER_OCTAVE_BITS = 3
MIN_EXPONENT = -14
MAX_EXPONENT = 14
OCTAVES = MAX_EXPONENT - MIN_EXPONENT
SIDE = (OCTAVES << PER_OCTAVE_BITS) + 2
"""Bins on one side of zero: too small, the octaves, too large."""
ZERO_BIN = SIDE
BINS = 2 * SIDE + 1

SHIFT = 23 - PER_OCTAVE_BITS
FIRST_PATTERN = (MIN_EXPONENT + 127) << PER_OCTAVE_BITS
"""The leading bits (exponent and mantissa) of 2⁻¹⁴: the first regular bin."""


def bin_of(values: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """The bin of each value. Shape and order are kept; NaN is not allowed."""
    array = np.asarray(values, dtype=np.float32)
    pattern = (array.view(np.int32) & 0x7FFFFFFF) >> SHIFT
    place = np.clip(pattern.astype(np.int64) - FIRST_PATTERN + 1, 0, SIDE - 1)
    return np.where(array == 0, ZERO_BIN, np.where(array > 0, ZERO_BIN + 1 + place, ZERO_BIN - 1 - place))


def _edges() -> npt.NDArray[np.float64]:
    steps = np.arange(OCTAVES << PER_OCTAVE_BITS)
    per_octave = 1 << PER_OCTAVE_BITS
    regular = np.ldexp(1 + (steps % per_octave) / per_octave, steps // per_octave + MIN_EXPONENT)
    side = np.concatenate([[0.0], regular, [np.ldexp(1.0, MAX_EXPONENT), np.inf]])
    return np.concatenate([-side[::-1], side])


EDGES = _edges()
"""`BINS + 1` edges from −∞ to +∞. Bin i holds values between EDGES[i] and EDGES[i + 1]; the zero bin has no width."""


def quantiles(counts: npt.NDArray[np.integer], shares: npt.ArrayLike, low: float, high: float) -> npt.NDArray[np.float64]:
    """Quantiles of one unit from its histogram, linear inside a bin, clipped to the exact minimum and maximum.

    counts: shape (BINS,). shares: quantiles in [0, 1]. The error is at most one bin's width (an eighth of an octave).
    Returns NaN for an empty histogram.
    """
    wanted = np.asarray(shares, dtype=np.float64)
    cumulative = np.concatenate([[0], np.cumsum(counts, dtype=np.float64)])
    total = cumulative[-1]
    if total == 0:
        return np.full(wanted.shape, np.nan)
    edges = np.clip(EDGES, low, high)
    at = np.clip(np.searchsorted(cumulative, wanted * total, side="left") - 1, 0, BINS - 1)
    inside = np.clip((wanted * total - cumulative[at]) / np.maximum(np.asarray(counts, dtype=np.float64)[at], 1), 0, 1)
    return edges[at] + inside * (edges[at + 1] - edges[at])
