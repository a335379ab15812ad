"""Fixed histogram bins, the same for every unit of every model, so that histograms merge by adding.

A value falls into a bin by its sign and the leading bits of its float32 pattern: eight bins an octave from 2⁻¹⁴ to 2¹⁴ on each side of
zero, one bin a side for what is smaller, one a side for what is larger, and one bin for zero (and for what is below 2⁻¹²⁹). Bins are
numbered from the most negative to the most positive, so that their order is the order of values.
"""

from collections.abc import Sequence

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


def _bin_of_pattern() -> npt.NDArray[np.int16]:
    pattern = np.arange(1 << 12)
    magnitude = pattern & 0x7FF
    place = np.clip(magnitude - FIRST_PATTERN + 1, 0, SIDE - 1)
    signed = np.where(pattern < 0x800, ZERO_BIN + 1 + place, ZERO_BIN - 1 - place)
    return np.where(magnitude == 0, ZERO_BIN, signed).astype(np.int16)


BIN_OF_PATTERN = _bin_of_pattern()
"""The bin of each value of the twelve leading bits: sign, exponent and three bits of mantissa."""


def bin_of(values: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """The bin of each value. Shape and order are kept; NaN is not allowed."""
    array = np.asarray(values, dtype=np.float32)
    return BIN_OF_PATTERN[(array.view(np.int32) >> SHIFT) & 0xFFF].astype(np.int64)


def _edges() -> npt.NDArray[np.float64]:
    steps = np.arange(OCTAVES << PER_OCTAVE_BITS)
    per_octave = 1 << PER_OCTAVE_BITS
    regular = np.ldexp(1 + (steps % per_octave) / per_octave, steps // per_octave + MIN_EXPONENT)
    side = np.concatenate([[0.0], regular, [np.ldexp(1.0, MAX_EXPONENT), np.inf]])
    return np.concatenate([-side[::-1], side])


EDGES = _edges()
"""`BINS + 1` edges from −∞ to +∞. Bin i holds values between EDGES[i] and EDGES[i + 1]; the zero bin has no width."""


def quantiles(counts: npt.NDArray[np.integer], shares: Sequence[float], low: npt.ArrayLike, high: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Quantiles from histograms, linear inside a bin, clipped to the exact minimum and maximum.

    counts: [..., BINS]. low, high: [...]. shares: quantiles in [0, 1]. Returns [..., len(shares)]; the error is at most one bin's width (an
    eighth of an octave). NaN for an empty histogram.
    """
    cumulative = np.cumsum(counts, axis=-1, dtype=np.float64)
    total = cumulative[..., -1:]
    low = np.asarray(low, np.float64)[..., None]
    high = np.asarray(high, np.float64)[..., None]
    found: list[npt.NDArray[np.float64]] = []
    for share in shares:
        wanted = share * total
        at = np.minimum((cumulative < wanted).sum(axis=-1, keepdims=True), BINS - 1)
        inside = np.take_along_axis(counts, at, -1)
        before = np.take_along_axis(cumulative, at, -1) - inside
        left, right = np.clip(EDGES[at], low, high), np.clip(EDGES[at + 1], low, high)
        found.append(left + np.clip((wanted - before) / np.maximum(inside, 1), 0, 1) * (right - left))
    return np.where(total > 0, np.concatenate(found, axis=-1), np.nan)
