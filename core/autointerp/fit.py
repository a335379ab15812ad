"""Fitting a pattern to what is known of a unit: its strongest and sampled positions, the records nobody is scored on, and a second reading.

The estimate of a gram's mean activation joins what is known exactly with what is sampled. With N occurrences in the slice, k of them among
the unit's strongest positions with sum S, and r the mean over labelled positions that are not, with the shorter gram's r as a further
observation, the mean is (S + (N − k) r) / N; it is then moved towards the shorter gram's mean as if that had been observed once as well.

Scores are over records of which half are the unit's strongest and half are drawn evenly, and so is a pattern's mean: a position counts by
the weight of its context. All contexts share one half of the weight evenly, the other half by the square of the unit's largest activation
there. N, k, S and r are sums of weights. A token lookup table weighs all contexts alike.
"""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from core.autointerp.corpus_counts import ORDERS, SliceCounts
from core.autointerp.pattern import Pattern, fold
from core.autointerp.reading import Reading
from core.store.units import Record, UnitView
from core.vocab import Vocab

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
MOST_RULES = 20_000
"""A pattern keeps the rules that remove most squared error: the others fall back on shorter ones."""
MOST_WORDS = 2_000
DIGITS = 4
"""Significant digits of a stored mean."""


@dataclass(frozen=True)
class Labelled:
    """Token positions with the unit's activation, [positions] each, none in an excluded document.

    strong: those among the unit's strongest. allowed [contexts of the slice]: those whose document is not excluded. peaks [contexts]: the
    unit's largest activation there; 0 where it is lower, or not known. The rest are the positions of a second reading: `sample`
    [positions of the reading], with `usable` marking what is neither excluded nor among the strongest; None without one.
    """

    contexts: Ints
    positions: Ints
    values: Floats
    strong: Bools
    allowed: Bools
    peaks: Floats
    reading: Reading | None = None
    sample: npt.NDArray[np.float32] | None = None
    usable: Bools | None = None

    def __len__(self) -> int:
        return len(self.values) + (0 if self.usable is None else int(self.usable.sum()))

    @cached_property
    def even(self) -> Floats:
        """The weight 1 for each context that is allowed, 0 for the others. [contexts]"""
        return self.allowed.astype(np.float64)

    @cached_property
    def peaked(self) -> Floats:
        """The same, with as much weight again shared out by the squares of the peaks. [contexts]"""
        squares = self.even * self.peaks**2
        total = squares.sum()
        return self.even + squares * (self.even.sum() / total) if total > 0 else self.even


@dataclass(frozen=True)
class _Sums:
    """Of each gram, as `counts.codes` has them: the weight of its labelled positions among the strongest with their weighted sum, and those
    of the others."""

    strong: Floats
    strong_sum: Floats
    weak: Floats
    weak_sum: Floats


def gather(view: UnitView, counts: SliceCounts, records: Collection[Record], excluded: Ints, reading: Reading | None = None) -> Labelled:
    """Everything known of the unit outside the documents `excluded`."""
    strong, sampled = view.positions("strong"), view.positions("sampled")
    contexts = [strong.contexts.astype(np.int64), sampled.contexts.astype(np.int64)]
    positions = [strong.positions.astype(np.int64), sampled.positions.astype(np.int64)]
    values = [strong.values.astype(np.float64), sampled.values.astype(np.float64)]
    for record in records:
        places = np.arange(record.first, len(record.tokens), dtype=np.int64)
        contexts.append(np.full(len(places), record.context, np.int64))
        positions.append(places)
        values.append(record.activations[record.first :].astype(np.float64))
    all_contexts, all_positions, all_values = np.concatenate(contexts), np.concatenate(positions), np.concatenate(values)
    peaks = np.zeros(len(counts.text))
    np.maximum.at(peaks, all_contexts, all_values)
    # A position that comes twice counts once; the exact value of a strong one comes first.
    _, kept = np.unique(all_contexts << 16 | all_positions, return_index=True)
    forbidden = np.zeros(len(counts.text.document_ids), bool)
    forbidden[excluded] = True
    allowed = ~forbidden[counts.text.document]
    kept = kept[allowed[all_contexts[kept]]]
    known = None if reading is None else reading.of(view.name)
    usable: Bools | None = None
    if reading is not None and known is not None:
        # What the reading has as well counts there; the strongest positions are known exactly and count here.
        again = (kept >= len(strong.contexts)) & np.isin(all_contexts[kept], reading.contexts)
        kept = kept[~again]
        usable = ~forbidden[reading.documents]
        usable[reading.places(contexts[0], positions[0])] = False
        there, highest = reading.peaks(known)
        peaks[there] = np.maximum(peaks[there], highest)
    return Labelled(
        all_contexts[kept], all_positions[kept], all_values[kept], kept < len(strong.contexts), allowed, peaks,
        None if usable is None else reading, known, usable,
    )  # fmt: skip


def fit(labelled: Labelled, counts: SliceCounts, vocab: Vocab) -> Pattern:
    """The pattern of a unit: grams of up to ORDERS tokens."""
    rules, level = _rules(labelled, counts, ORDERS, labelled.peaked, 2.0)
    words: dict[str, list[float]] = {}
    singles = [ids for ids in rules if len(ids) == 1]
    for ids, piece in zip(singles, vocab.pieces([ids[0] for ids in singles]), strict=True):
        words.setdefault(fold(piece), []).append(rules[ids])
    short = _short(np.array([level, *(sum(found) / len(found) for found in words.values())])).tolist()
    means = dict(zip(words, short[1:], strict=True))
    best = sorted(means, key=lambda word: -abs(means[word] - level))[:MOST_WORDS]
    return Pattern(rules, {word: means[word] for word in best}, short[0])


def fit_lookup(labelled: Labelled, counts: SliceCounts) -> Pattern:
    """The token lookup table of Bills et al. 2023: each token's mean activation, and the unit's level for all others."""
    rules, level = _rules(labelled, counts, 1, labelled.even, 1.0)
    return Pattern(rules, {}, level)


def _rules(
    labelled: Labelled, counts: SliceCounts, orders: int, weights: Floats, once: float
) -> tuple[dict[tuple[int, ...], float], float]:
    """The rules that change most, and the level elsewhere. weights: of contexts. once: what one of them weighs on average."""
    level = _level(labelled, weights)
    shorter_mean, shorter_rest = np.full(1, level), np.full(1, level)
    everywhere = np.repeat(weights, np.diff(counts.text.offsets))
    found: list[tuple[Ints, Floats, Floats]] = []
    for order in range(orders):
        sums, shorter = _sums(labelled, counts, order, weights), counts.shorter[order]
        n = np.maximum(np.bincount(counts.ids[order], everywhere, len(counts.codes[order])), sums.strong + sums.weak)
        rest = (sums.weak_sum + shorter_rest[shorter]) / (sums.weak + 1)
        mean = (sums.strong_sum + (n - sums.strong) * rest + once * shorter_mean[shorter]) / (n + once)
        known = np.flatnonzero((sums.strong + sums.weak > 0) & (counts.codes[order] >= 0))
        found.append((known, mean[known], (n * (mean - shorter_mean[shorter]) ** 2)[known]))
        shorter_mean, shorter_rest = mean, rest
    gains = np.concatenate([gain for *_, gain in found])
    least = np.partition(gains, -MOST_RULES)[-MOST_RULES] if len(gains) > MOST_RULES else 0.0
    rules: dict[tuple[int, ...], float] = {}
    for order, (known, mean, gain) in enumerate(found):
        kept = gain >= least
        rules.update(zip(counts.tokens_of(order, counts.codes[order][known[kept]]), _short(mean[kept]).tolist(), strict=True))
    return rules, level


def _short(values: Floats) -> Floats:
    """Rounded to DIGITS significant digits."""
    digits = np.floor(np.log10(np.abs(values), where=values != 0, out=np.zeros(len(values)))) - (DIGITS - 1)
    # Multiplied and divided by whole powers of ten only, which are exact: what is stored reads as few digits.
    up, down = 10.0 ** np.clip(-digits, 0, 300), 10.0 ** np.clip(digits, 0, 300)
    return np.round(values * up / down) * down / up


def _level(labelled: Labelled, weights: Floats) -> float:
    """The mean over positions that are not among the strongest: of the reading if there is one, which is drawn evenly."""
    if labelled.reading is not None and labelled.sample is not None and labelled.usable is not None:
        counted = weights[labelled.reading.contexts] * labelled.usable
        if counted.any():
            return float(np.average(labelled.sample, weights=counted))
    counted = weights[labelled.contexts] * ~labelled.strong
    return float(np.average(labelled.values, weights=counted)) if counted.any() else 0.0


def _sums(labelled: Labelled, counts: SliceCounts, order: int, weights: Floats) -> _Sums:
    size = len(counts.codes[order])
    here = counts.ids[order][counts.text.offsets[labelled.contexts] + labelled.positions]
    weight = weights[labelled.contexts]

    def total(ids: npt.NDArray[np.int32], weight: Floats, values: npt.NDArray[Any]) -> tuple[Floats, Floats]:
        return np.bincount(ids, weight, size).astype(np.float64), np.bincount(ids, weight * values, size).astype(np.float64)

    strong, strong_sum = total(here, weight * labelled.strong, labelled.values)
    weak, weak_sum = total(here, weight * ~labelled.strong, labelled.values)
    if labelled.reading is not None and labelled.sample is not None and labelled.usable is not None:
        counted = weights[labelled.reading.contexts] * labelled.usable
        more, more_sum = total(labelled.reading.grams[order], counted, labelled.sample)
        weak, weak_sum = weak + more, weak_sum + more_sum
    return _Sums(strong, strong_sum, weak, weak_sum)
