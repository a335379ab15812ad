"""Ways of explaining compared over the same units: mean scores with intervals, and paired differences."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
RESAMPLES = 1000
_AT_ONCE = 2_000_000
"""Numbers drawn at a time: bounds the memory, not the result."""


@dataclass(frozen=True)
class Mean:
    """A mean over `n` units with its 95 % interval; NaN where there is none. low, high: NaN for fewer than two units."""

    n: int
    value: float
    low: float
    high: float


def figure(value: float) -> str:
    """A correlation with two digits and a real minus; “–” where undefined."""
    return f"{value:.2f}".replace("-0.00", "0.00").replace("-", "−") if math.isfinite(value) else "–"


def spanned(one: Mean, *, sign: bool = False, between: tuple[str, str] = (" [", "]")) -> str:
    """`0.52 [0.45, 0.58]`, or a dash. sign: a plus stands before what is above zero. between: what the interval stands between."""
    if not math.isfinite(one.value):
        return "–"
    plus = "+" if sign and one.value > 0 else ""
    ends = f"{between[0]}{figure(one.low)}, {figure(one.high)}{between[1]}" if math.isfinite(one.low) else ""
    return f"{plus}{figure(one.value)}{ends}"


def means(values: npt.ArrayLike, seed: int = 0) -> list[Mean]:
    """The mean of each row of `values` [ways, units] with its percentile interval when whole units are drawn again (Efron 1979).

    All rows are over the same units, and every draw takes the same units for all of them. Nothing may be NaN.
    """
    rows = np.asarray(values, np.float64)
    n = rows.shape[1]
    if n == 0:
        return [Mean(0, float("nan"), float("nan"), float("nan"))] * len(rows)
    middle = rows.mean(axis=1)
    if n == 1:
        return [Mean(1, float(value), float("nan"), float("nan")) for value in middle]
    rng = np.random.default_rng(seed)
    step = max(1, _AT_ONCE // n)
    drawn = [rng.integers(0, n, (min(step, RESAMPLES - at), n)) for at in range(0, RESAMPLES, step)]
    ends = [np.percentile(np.concatenate([row[draws].mean(axis=1) for draws in drawn]), [2.5, 97.5]) for row in rows]
    return [Mean(n, float(value), float(low), float(high)) for value, (low, high) in zip(middle, ends, strict=True)]


def mean(values: npt.ArrayLike, seed: int = 0) -> Mean:
    """The mean of the defined values, with its interval as `means` gives it."""
    row = np.asarray(values, np.float64)
    return means(row[np.isfinite(row)][None, :], seed)[0]


def paired(values: Sequence[npt.ArrayLike]) -> npt.NDArray[np.bool_]:
    """Which units [units] have a number in every row of `values` [ways, units]."""
    rows = np.asarray(values, np.float64)
    return np.all(np.isfinite(rows), axis=0) if len(rows) else np.zeros(0, bool)
