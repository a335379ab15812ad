"""Activations as the integers 0 to 10 that explainers read and simulators answer with (Bills et al. 2023, “Explaining”)."""

import math
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

TOP = 10
REPEAT_BELOW = 0.2
"""The non-zero activations are shown a second time when fewer than this share of all are non-zero."""


def largest(records: Sequence[npt.ArrayLike]) -> float:
    """max over all records of relu(activation). 0.0 when none is positive. Raises ValueError without a record."""
    if not len(records):
        raise ValueError("at least one record is needed")
    return max(float(np.maximum(np.asarray(record, np.float64), 0).max(initial=0.0)) for record in records)


def normalise(activations: npt.ArrayLike, top: float) -> list[int]:
    """min(10, ⌊10 · relu(x) / top⌋) for each activation; all zeros when `top` is not positive; NaN becomes 0.

    Raises OverflowError for an infinite activation.
    """
    if top <= 0:
        return [0 for _ in np.asarray(activations, np.float64)]
    return [min(TOP, _floor(TOP * max(float(x), 0.0) / top)) for x in np.asarray(activations, np.float64)]


def nonzero_share(records: Iterable[Sequence[int]]) -> float:
    """The share of normalised activations that are not 0, over all records. 0.0 when there is none."""
    values = [value for record in records for value in record]
    return sum(value != 0 for value in values) / len(values) if values else 0.0


def _floor(value: float) -> int:
    return 0 if math.isnan(value) else math.floor(value)
