"""The index the slow and obvious way: every list by sorting everything, every statistic from all values at once."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from core.index.bins import BINS, bin_of
from core.index.sketch import Contexts, unit_seeds

Array = npt.NDArray[Any]
MASK = 2**64 - 1
SIZES = {"top": 20, "bottom": 20, "q0": 8, "q1": 8, "q2": 8, "q3": 8, "random": 20}
BAND_LIMITS = {"q0": (0.0, 0.5), "q1": (0.5, 0.9), "q2": (0.9, 0.99), "q3": (0.99, 0.999)}
EXPECTED_SAMPLE = {"q0": 16, "q1": 16, "q2": 80, "q3": 800}


def splitmix(value: int) -> int:
    z = (value + 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


@dataclass
class Slow:
    """What one unit's sketch must be. Lists hold (context, position, value); records are in the order of the file, shown ones first."""

    stats: dict[str, float]
    counts: Array
    bands: dict[str, list[tuple[int, int, float]]]
    shown: dict[str, int]
    sampled: dict[str, int]
    strong: list[tuple[int, int, float]]
    drawn: list[tuple[int, int, float]]


def slow_unit(values: list[Array], contexts: Contexts, site: str, basis: str, unit: int, units: int) -> Slow:
    """values: by rank, the unit's float32 activations on all tokens of that context (a BOS included)."""
    first = contexts.first
    counted = [row[first:] for row in values]
    flat = np.concatenate(counted)
    seed = int(unit_seeds(site, basis, units)[unit])
    hashes = [splitmix(int(key) ^ seed) for key in contexts.keys]
    highs = [float(row.max()) for row in counted]
    lows = [float(row.min()) for row in counted]
    ranks = range(len(values))

    def record(rank: int, value: float) -> tuple[int, int, float]:
        return rank, first + int(np.flatnonzero(counted[rank] == value)[0]), value

    def best_of_documents(order: list[int]) -> list[int]:
        seen: set[int] = set()
        return [rank for rank in order if not (contexts.documents[rank] in seen or seen.add(int(contexts.documents[rank])))]

    bands: dict[str, list[tuple[int, int, float]]] = {}
    sampled = dict.fromkeys(SIZES, 0)
    tops = best_of_documents(sorted(ranks, key=lambda r: (-highs[r], r)))[:20]
    bands["top"] = [record(r, highs[r]) for r in tops]
    bottoms = best_of_documents(sorted((r for r in ranks if lows[r] < 0), key=lambda r: (lows[r], r)))[:20]
    bands["bottom"] = [record(r, lows[r]) for r in bottoms]
    bands["random"] = [record(r, highs[r]) for r in sorted(ranks, key=lambda r: (-(hashes[r] >> 33), r))[:20]]
    shown = {band: len(found) for band, found in bands.items()}
    for band, (low, high) in BAND_LIMITS.items():
        gate = min(int(min(1.0, EXPECTED_SAMPLE[band] / len(values)) * 2**64), MASK)
        sample = [r for r in ranks if hashes[r] < gate]
        sampled[band] = len(sample)
        sign = 1 if band == "q0" else -1
        kept = sorted(sample, key=lambda r: (sign * highs[r], r))[:8]
        shares = [(i + 0.5) / len(sample) for i in range(len(kept))]
        inside = [low <= (share if band == "q0" else 1 - share) <= high for share in shares]
        ordered = [r for r, ok in zip(kept, inside, strict=True) if ok] + [r for r, ok in zip(kept, inside, strict=True) if not ok]
        bands[band] = [record(r, highs[r]) for r in ordered]
        shown[band] = sum(inside)
    places = [(rank, first + t, float(value)) for rank in ranks for t, value in enumerate(counted[rank])]
    strong = sorted(places, key=lambda place: (-place[2], place[0], place[1]))[:256]
    lottery: list[tuple[float, int, int]] = []
    for rank in ranks:
        again = splitmix(hashes[rank])
        chance = ((again >> 11) + 0.5) / 2**53
        lottery.append((-float(np.float32(math.log(chance) / len(counted[rank]))), rank, first + again % len(counted[rank])))
    drawn = [(rank, place, float(values[rank][place])) for _, rank, place in sorted(lottery)[:256]]
    return Slow(_stats(flat), np.bincount(bin_of(flat), minlength=BINS), bands, shown, sampled, strong, drawn)


def _stats(flat: Array) -> dict[str, float]:
    exact = flat.astype(np.longdouble)
    mean = exact.mean()
    centred = exact - mean
    variance = float((centred**2).mean())
    constant = bool((flat == flat[0]).all())
    return {
        "tokens": flat.size,
        "nonzero": int((flat != 0).sum()),
        "mean": float(mean),
        "variance": 0.0 if constant else variance,
        "skewness": math.nan if constant else float((centred**3).mean()) / variance**1.5,
        "kurtosis": math.nan if constant else float((centred**4).mean()) / variance**2,
        "min": float(flat.min()),
        "max": float(flat.max()),
    }
