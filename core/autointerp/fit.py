"""Fitting a pattern to what is known of a unit: its strongest and sampled positions, the records nobody is scored on, and a second reading.

The estimate of a gram's mean activation joins what is known exactly with what is sampled. With N occurrences in the slice, k of them among
the unit's strongest positions with sum S, and r the mean over labelled positions that are not, with the shorter gram's r as a further
observation, the mean is (S + (N − k) r) / N; it is then moved towards the shorter gram's mean as if that had been observed as well.
"""

from collections.abc import Collection
from dataclasses import dataclass
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
SHRINK = (0.5, 0.1, 0.1)
"""Weight of the shorter gram's mean, in occurrences."""
COMMON = 0.5
"""A rule's worth is its squared change times the gram's count to this power: rare grams matter more than their count says, because records
are chosen for their peaks. Of 0, ¼, ½ and 1 the best on held-out records."""
MOST_RULES = 10_000
"""A pattern keeps the rules that are worth most: the others fall back on shorter ones."""
MOST_WORDS = 2_000
DIGITS = 4
"""Significant digits of a stored mean."""


@dataclass(frozen=True)
class Labelled:
    """Token positions with the unit's activation, [positions] each, none in an excluded document.

    strong: those among the unit's strongest. The rest of the arrays are the same of a second reading: `sample` [positions of the reading],
    with `usable` marking what is neither excluded nor among the strongest; None without one.
    """

    contexts: Ints
    positions: Ints
    values: Floats
    strong: Bools
    excluded: Ints
    reading: Reading | None = None
    sample: npt.NDArray[np.float32] | None = None
    usable: Bools | None = None

    def __len__(self) -> int:
        return len(self.values) + (0 if self.usable is None else int(self.usable.sum()))


@dataclass(frozen=True)
class _Sums:
    """Of each gram: how many labelled positions among the strongest with which sum, and how many others with which sum."""

    keys: Ints
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
    # A position that comes twice counts once; the exact value of a strong one comes first.
    _, kept = np.unique(all_contexts << 16 | all_positions, return_index=True)
    forbidden = np.zeros(len(counts.text.document_ids), bool)
    forbidden[excluded] = True
    kept = kept[~forbidden[counts.text.document[all_contexts[kept]]]]
    known = None if reading is None else reading.of(view.name)
    usable: Bools | None = None
    if reading is not None and known is not None:
        # What the reading has as well counts there; the strongest positions are known exactly and count here.
        again = (kept >= len(strong.contexts)) & np.isin(all_contexts[kept], reading.contexts)
        kept = kept[~again]
        usable = ~forbidden[reading.documents]
        usable[reading.places(contexts[0], positions[0])] = False
    return Labelled(
        all_contexts[kept], all_positions[kept], all_values[kept], kept < len(strong.contexts), excluded,
        None if usable is None else reading, known, usable,
    )  # fmt: skip


def fit(labelled: Labelled, counts: SliceCounts, vocab: Vocab) -> Pattern:
    """The pattern of a unit: grams of up to ORDERS tokens."""
    rules, level = _rules(labelled, counts, ORDERS)
    words: dict[str, list[float]] = {}
    singles = [ids for ids in rules if len(ids) == 1]
    for ids, piece in zip(singles, vocab.pieces([ids[0] for ids in singles]), strict=True):
        words.setdefault(fold(piece), []).append(rules[ids])
    means = {word: _short(sum(found) / len(found)) for word, found in words.items()}
    best = sorted(means, key=lambda word: -abs(means[word] - level))[:MOST_WORDS]
    return Pattern(rules, {word: means[word] for word in best}, _short(level))


def fit_lookup(labelled: Labelled, counts: SliceCounts) -> Pattern:
    """The token lookup table of Bills et al. 2023: each token's mean activation, and the unit's level for all others."""
    rules, level = _rules(labelled, counts, 1)
    return Pattern(rules, {}, level)


def _rules(labelled: Labelled, counts: SliceCounts, orders: int) -> tuple[dict[tuple[int, ...], float], float]:
    """The rules that change most, and the level elsewhere."""
    out = counts.inside(labelled.excluded)
    level = _level(labelled)
    shorter: tuple[Ints, Floats, Floats] | None = None
    found: list[tuple[int, Ints, Floats, Floats]] = []
    for order in range(orders):
        sums = _sums(labelled, counts, order)
        if not len(sums.keys):
            break
        held = np.sort(out.codes[order][out.codes[order] >= 0])
        n = counts.count(order, sums.keys) - (np.searchsorted(held, sums.keys, "right") - np.searchsorted(held, sums.keys, "left"))
        n = np.maximum(n, sums.strong + sums.weak)
        parent_mean, parent_rest = np.full(len(n), level), np.full(len(n), level)
        if shorter is not None:
            at = np.searchsorted(shorter[0], sums.keys // counts.base)
            parent_mean, parent_rest = shorter[1][at], shorter[2][at]
        rest = (sums.weak_sum + parent_rest) / (sums.weak + 1)
        mean = (sums.strong_sum + (n - sums.strong) * rest) / n
        mean = (mean * n + SHRINK[order] * parent_mean) / (n + SHRINK[order])
        found.append((order, sums.keys, mean, n**COMMON * (mean - parent_mean) ** 2))
        shorter = (sums.keys, mean, rest)
    rules: dict[tuple[int, ...], float] = {}
    if found:
        gains = np.concatenate([gain for *_, gain in found])
        least = np.partition(gains, -MOST_RULES)[-MOST_RULES] if len(gains) > MOST_RULES else 0.0
        for order, keys, mean, gain in found:
            kept = gain >= least
            for code, value in zip(keys[kept].tolist(), mean[kept].tolist(), strict=True):
                rules[counts.tokens_of(order, code)] = _short(value)
    return rules, level


def _short(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _level(labelled: Labelled) -> float:
    """The mean over positions that are not among the strongest: of the reading if there is one, which is drawn evenly."""
    if labelled.sample is not None and labelled.usable is not None and labelled.usable.any():
        return float(labelled.sample[labelled.usable].mean(dtype=np.float64))
    weak = ~labelled.strong
    return float(labelled.values[weak].mean()) if weak.any() else 0.0


def _sums(labelled: Labelled, counts: SliceCounts, order: int) -> _Sums:
    codes = counts.grams(labelled.contexts, labelled.positions).codes[order]
    valid = codes >= 0
    keys, inverse = np.unique(codes[valid], return_inverse=True)
    values, strong = labelled.values[valid], labelled.strong[valid]

    def total(weights: npt.NDArray[Any]) -> Floats:
        return np.bincount(inverse, weights, len(keys)).astype(np.float64)

    own = _Sums(keys, total(strong), total(values * strong), total(~strong), total(values * ~strong))
    if labelled.reading is None or labelled.sample is None or labelled.usable is None or order >= len(labelled.reading.grams):
        return own
    known, place, has = labelled.reading.grams[order]
    counted = labelled.usable & has
    n = np.bincount(place[counted], minlength=len(known)).astype(np.float64)
    sums = np.bincount(place[counted], labelled.sample[counted], len(known))
    seen = n > 0
    everything = np.union1d(known[seen], own.keys)
    at, there = np.searchsorted(everything, own.keys), np.searchsorted(everything, known[seen])

    def spread(values: npt.NDArray[Any], where: Ints) -> Floats:
        made = np.zeros(len(everything))
        made[where] = values
        return made

    return _Sums(
        everything,
        spread(own.strong, at),
        spread(own.strong_sum, at),
        spread(own.weak, at) + spread(n[seen], there),
        spread(own.weak_sum, at) + spread(sums[seen], there),
    )
