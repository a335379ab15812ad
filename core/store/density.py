"""Density: how often a unit is clearly active."""

from typing import Any

import numpy as np
import numpy.typing as npt

from core.index.bins import EDGES

ACTIVE_SHARE = 0.05
"""A token counts as active when the activation's magnitude exceeds this share of the unit's largest magnitude."""


def density(
    bins: npt.NDArray[np.integer[Any]],
    counts: npt.NDArray[np.integer[Any]],
    occupied: npt.ArrayLike,
    lows: npt.ArrayLike,
    highs: npt.ArrayLike,
) -> npt.NDArray[np.float64]:
    """The share of tokens with |activation| > 5 % of the unit's largest |activation|, from the histogram.

    The share of tokens above zero says nothing about gated units (SwiGLU, GELU), which are hardly ever exactly zero; this reads the same
    for them and for rectified ones. Inside the bin that holds the threshold, values are taken as evenly spread, so the error is below
    that bin's share of the tokens. A dead unit has density 0, a unit without tokens NaN.
    A minimum that is not known (NaN) cuts nothing off; without a maximum there is no threshold, and the density is NaN.

    bins, counts: the occupied bins of all units end to end. occupied: bins of each unit, shape (units,). lows, highs: exact minimum and
    maximum, shape (units,). Returns shape (units,).
    """
    sizes = np.asarray(occupied, dtype=np.int64)
    low, high = np.asarray(lows, dtype=np.float64), np.asarray(highs, dtype=np.float64)
    low = np.where(np.isnan(low), np.minimum(high, 0), low)
    unit = np.repeat(np.arange(len(sizes)), sizes)
    largest = np.maximum(np.abs(low), np.abs(high))
    one, other = np.clip(EDGES[bins], low[unit], high[unit]), np.clip(EDGES[bins + 1], low[unit], high[unit])
    near, far = np.minimum(np.abs(one), np.abs(other)), np.maximum(np.abs(one), np.abs(other))
    threshold = ACTIVE_SHARE * largest[unit]
    width = far - near
    beyond = np.clip((far - threshold) / np.where(width > 0, width, 1), 0, 1)
    share = np.where(width > 0, beyond, far > threshold)
    active = np.bincount(unit, weights=share * counts, minlength=len(sizes))
    total = np.bincount(unit, weights=counts, minlength=len(sizes))
    return np.divide(active, total, out=np.full(len(sizes), np.nan), where=(total > 0) & ~np.isnan(largest))
