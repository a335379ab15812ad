"""Spearman's rank correlation, with ties."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def ranks(values: npt.ArrayLike) -> Floats:
    """1 for the smallest; equal values share the mean of their ranks. Shape as given, one dimension."""
    array = np.asarray(values, np.float64)
    _, inverse, counts = np.unique(array, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]


def spearman(x: npt.ArrayLike, y: npt.ArrayLike) -> float:
    """Pearson's correlation of the ranks (Spearman 1904); NaN for fewer than two pairs, or when either side is constant."""
    a, b = ranks(x), ranks(y)
    if a.size != b.size:
        raise ValueError("as many x as y are needed")
    if a.size < 2:
        return float("nan")
    a, b = a - a.mean(), b - b.mean()
    spread = float(np.sqrt((a @ a) * (b @ b)))
    return float(np.clip((a @ b) / spread, -1, 1)) if spread > 0 else float("nan")
