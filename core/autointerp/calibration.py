"""From simulated values to the unit's own scale: none, linear, or by percentiles (Bills et al. 2023; scored on held-out records)."""

from collections.abc import Callable
from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Calibration = Literal["none", "linear", "percentile"]
CALIBRATIONS: tuple[Calibration, ...] = ("none", "linear", "percentile")
Map = Callable[[npt.ArrayLike], Floats]


def calibrate(method: Calibration, simulated: npt.ArrayLike, true: npt.ArrayLike) -> Map:
    """A map from simulated to true values, learned from the calibration records [tokens], [tokens].

    linear: least squares true ≈ a · simulated + b; a constant when `simulated` is constant. percentile: both sorted, then interpolated
    linearly and held at the ends; of equal simulated values the last decides. Raises ValueError without a value to learn from.
    """
    x, y = np.asarray(simulated, np.float64), np.asarray(true, np.float64)
    if method == "none":
        return lambda values: np.asarray(values, np.float64)
    if not len(x):
        raise ValueError("there is nothing to calibrate with")
    if method == "percentile":
        x, y = np.sort(x), np.sort(y)
        return lambda values: np.interp(np.asarray(values, np.float64), x, y)
    slope, level = linear_fit(x, y)
    return lambda values: slope * np.asarray(values, np.float64) + level


def linear_fit(x: Floats, y: Floats) -> tuple[float, float]:
    """Slope and level of the least-squares line; slope 0 when x is constant."""
    spread = x - x.mean()
    squares = float(spread @ spread)
    slope = float(spread @ (y - y.mean())) / squares if squares > 0 else 0.0
    return slope, float(y.mean()) - slope * float(x.mean())
