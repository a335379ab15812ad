"""How well simulated activations match true ones, with an interval, coverage, and a reason where there is no number."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Kind = Literal["top-and-random", "random-only", "top-only"]
KINDS: tuple[Kind, ...] = ("top-and-random", "random-only", "top-only")
RESAMPLES = 1000
CONSTANT = 1e-12
"""Spread, relative to the largest magnitude, below which values count as equal."""


@dataclass(frozen=True)
class Score:
    """Simulated against true activations over some records.

    rho: Pearson's correlation over all tokens of all records together (Bills et al. 2023), NaN where undefined. low, high: 95 % interval
    from resampling records. r2: 1 − Σ(t − p)² / Σt², not centred. explained: 1 − Σ|t − p| / Σ|t|, the absolute deviation explained.
    record_rho: the mean of the records' own correlations where they are defined. coverage: the share of records that were simulated.
    reason: why rho is undefined, else "".
    """

    kind: Kind
    rho: float
    low: float
    high: float
    r2: float
    explained: float
    record_rho: float
    n_tokens: int
    n_records: int
    coverage: float
    reason: str = ""


def correlation(true: npt.ArrayLike, simulated: npt.ArrayLike) -> float:
    """Pearson's ρ of two lists of equal length; NaN when either is constant or has fewer than two values."""
    t, p = np.asarray(true, np.float64), np.asarray(simulated, np.float64)
    if t.size < 2 or is_constant(t) or is_constant(p):
        return float("nan")
    # In their own units, so that the squares of very small values do not vanish.
    t, p = (values / np.abs(values).max() for values in (t - t.mean(), p - p.mean()))
    return float(np.clip((t @ p) / np.sqrt((t @ t) * (p @ p)), -1, 1))


def uncentred_r2(true: npt.ArrayLike, simulated: npt.ArrayLike) -> float:
    """1 − mean((t − p)²) / mean(t²). −∞ when all t are 0 and a p is not, NaN when all of both are 0."""
    t, p = np.asarray(true, np.float64), np.asarray(simulated, np.float64)
    return _explained(float(((t - p) ** 2).sum()), float((t**2).sum()))


def absolute_deviation_explained(true: npt.ArrayLike, simulated: npt.ArrayLike) -> float:
    """1 − mean|t − p| / mean|t|, with the same edges as `uncentred_r2`."""
    t, p = np.asarray(true, np.float64), np.asarray(simulated, np.float64)
    return _explained(float(np.abs(t - p).sum()), float(np.abs(t).sum()))


def score(kind: Kind, true: Sequence[Floats], simulated: Sequence[Floats], seed: int = 0) -> Score:
    """Score records: `true` and `simulated` hold one array [tokens] for each, the latter NaN throughout where the simulator failed.

    Failed records are left out of every number and lower the coverage.
    """
    answered = [not bool(np.isnan(values).any()) for values in simulated]
    kept_true = [values for values, ok in zip(true, answered, strict=True) if ok]
    kept = [values for values, ok in zip(simulated, answered, strict=True) if ok]
    coverage = len(kept) / len(true) if len(true) else 0.0
    if not kept:
        reason = "no record to score" if not len(true) else "no record could be simulated"
        nan = float("nan")
        return Score(kind, nan, nan, nan, nan, nan, nan, 0, 0, coverage, reason)
    t, p = np.concatenate(kept_true), np.concatenate(kept)
    rho = correlation(t, p)
    low, high = interval(kept_true, kept, seed) if np.isfinite(rho) else (float("nan"), float("nan"))
    each = [correlation(a, b) for a, b in zip(kept_true, kept, strict=True)]
    defined = [value for value in each if np.isfinite(value)]
    record_rho = float(np.mean(defined)) if defined else float("nan")
    return Score(
        kind, rho, low, high, uncentred_r2(t, p), absolute_deviation_explained(t, p), record_rho, t.size, len(kept), coverage, _why(t, p)
    )


def interval(true: Sequence[Floats], simulated: Sequence[Floats], seed: int) -> tuple[float, float]:
    """The 2.5th and 97.5th percentiles of ρ when whole records are drawn again with replacement (Efron 1979; records are the unit drawn).

    Draws in which ρ is undefined are left out; NaN, NaN when fewer than two records or no draw is left.
    """
    if len(true) < 2:
        return float("nan"), float("nan")
    mean_t, mean_p = np.concatenate(true).mean(), np.concatenate(simulated).mean()
    sums = np.array([_sums(t - mean_t, p - mean_p) for t, p in zip(true, simulated, strict=True)])
    draws = np.random.default_rng(seed).integers(0, len(true), (RESAMPLES, len(true)))
    n, t, p, tt, pp, tp = sums[draws].sum(axis=1).T
    with np.errstate(invalid="ignore", divide="ignore"):
        spread_t, spread_p = tt - t * t / n, pp - p * p / n
        rho = (tp - t * p / n) / np.sqrt(spread_t * spread_p)
    defined = (spread_t > CONSTANT * np.maximum(tt, 1e-300)) & (spread_p > CONSTANT * np.maximum(pp, 1e-300))
    if not defined.any():
        return float("nan"), float("nan")
    low, high = np.percentile(np.clip(rho[defined], -1, 1), [2.5, 97.5])
    return float(low), float(high)


def is_evidence(score: Score, shuffled: Score) -> bool:
    """Whether a score stands out from the same simulator's score with another unit's explanation: the intervals do not overlap.

    Where the shuffled score is undefined (another unit's words predict nothing here) the interval must lie above 0.
    """
    if not np.isfinite(score.low):
        return False
    return score.low > (shuffled.high if np.isfinite(shuffled.high) else 0.0)


def is_constant(values: Floats) -> bool:
    """Whether all values are equal, up to the rounding of sums."""
    return values.size == 0 or float(np.ptp(values)) <= CONSTANT * float(np.abs(values).max())


def _sums(t: Floats, p: Floats) -> tuple[float, ...]:
    return float(t.size), float(t.sum()), float(p.sum()), float(t @ t), float(p @ p), float(t @ p)


def _explained(missed: float, whole: float) -> float:
    if whole == 0:
        return float("-inf") if missed > 0 else float("nan")
    return 1 - missed / whole


def _why(true: Floats, simulated: Floats) -> str:
    if true.size < 2:
        return "a single token has no correlation"
    if is_constant(true):
        return "the true activations are constant on these records"
    return "the simulated activations are constant on these records" if is_constant(simulated) else ""
