"""Fitting a pattern to what the index keeps of a unit: its strongest and sampled positions and the records nobody is scored on.

The estimate of a gram's mean activation joins what is known exactly with what is sampled. With N occurrences in the slice, k of them among
the unit's strongest positions with sum S, and r the mean over labelled positions that are not, with the shorter gram's r as a further
observation, the mean is (S + (N − k) r) / N; it is then moved towards the shorter gram's mean as if that had been observed as well.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from core.autointerp.corpus_counts import ORDERS, SliceCounts
from core.autointerp.pattern import Pattern, fold
from core.store.units import Record, UnitView
from core.vocab import Vocab

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
REST = 1.0
SHRINK = (2.0, 0.5, 0.5)


@dataclass(frozen=True)
class Labelled:
    """Token positions with the unit's activation: [positions] each. `strong` marks those that are among the unit's strongest."""

    contexts: Ints
    positions: Ints
    values: Floats
    strong: npt.NDArray[np.bool_]


def gather(view: UnitView, counts: SliceCounts, records: Collection[Record], excluded: Ints) -> Labelled:
    """Everything known of the unit outside the documents `excluded`: both kinds of positions, and every token of `records`."""
    strong, sampled = view.positions("strong"), view.positions("sampled")
    contexts = [strong.contexts, sampled.contexts]
    positions = [strong.positions, sampled.positions]
    values = [strong.values, sampled.values]
    for record in records:
        places = np.arange(record.first, len(record.tokens))
        contexts.append(np.full(len(places), record.context, np.int32))
        positions.append(places)
        values.append(record.activations[record.first :])
    all_contexts = np.concatenate(contexts).astype(np.int64)
    all_positions = np.concatenate(positions).astype(np.int64)
    all_values = np.concatenate(values).astype(np.float64)
    # A position that comes twice counts once; the exact value of a strong one comes first.
    place = all_contexts << 16 | all_positions
    _, kept = np.unique(place, return_index=True)
    kept = kept[~np.isin(counts.text.document[all_contexts[kept]], excluded)]
    is_strong = kept < len(strong.contexts)
    return Labelled(all_contexts[kept], all_positions[kept], all_values[kept], is_strong)


def fit(labelled: Labelled, counts: SliceCounts, excluded: Ints, vocab: Vocab) -> Pattern:
    """The pattern of a unit: grams of up to ORDERS tokens. excluded: documents whose text does not count either."""
    rules, level = _means(labelled, counts, excluded, ORDERS)
    words: dict[str, list[float]] = {}
    for ids, value in rules.items():
        if len(ids) == 1:
            words.setdefault(fold(vocab.pieces(ids)[0]), []).append(value)
    return Pattern(rules, {word: float(np.mean(found)) for word, found in words.items()}, level)


def fit_lookup(labelled: Labelled, counts: SliceCounts, excluded: Ints) -> Pattern:
    """The token lookup table of Bills et al. 2023: each token's mean activation, and the unit's level for all others."""
    rules, level = _means(labelled, counts, excluded, 1)
    return Pattern(rules, {}, level)


def _means(labelled: Labelled, counts: SliceCounts, excluded: Ints, orders: int) -> tuple[dict[tuple[int, ...], float], float]:
    grams = counts.grams(labelled.contexts, labelled.positions)
    out = counts.inside(excluded)
    weak = ~labelled.strong
    level = float(labelled.values[weak].mean()) if weak.any() else 0.0
    rules: dict[tuple[int, ...], float] = {}
    parents_mean: dict[int, float] = {}
    parents_rest: dict[int, float] = {}
    for order in range(orders):
        codes = grams.codes[order]
        valid = codes >= 0
        keys, inverse = np.unique(codes[valid], return_inverse=True)
        if not len(keys):
            break
        values, strong = labelled.values[valid], labelled.strong[valid]
        k = np.bincount(inverse, strong, len(keys))
        total = np.bincount(inverse, values * strong, len(keys))
        seen = np.bincount(inverse, ~strong, len(keys))
        weak_sum = np.bincount(inverse, values * ~strong, len(keys))
        held = np.sort(out.codes[order][out.codes[order] >= 0])
        n = counts.count(order, keys) - (np.searchsorted(held, keys, "right") - np.searchsorted(held, keys, "left"))
        n = np.maximum(n, k + seen)
        if order == 0:
            parent_mean = np.full(len(keys), level)
            parent_rest = np.full(len(keys), level)
        else:
            shorter = keys // counts.base
            parent_mean = np.array([parents_mean[int(code)] for code in shorter])
            parent_rest = np.array([parents_rest[int(code)] for code in shorter])
        rest = (weak_sum + REST * parent_rest) / (seen + REST)
        mean = (total + (n - k) * rest) / n
        mean = (mean * n + SHRINK[order] * parent_mean) / (n + SHRINK[order])
        parents_mean = dict(zip(keys.tolist(), mean.tolist(), strict=True))
        parents_rest = dict(zip(keys.tolist(), rest.tolist(), strict=True))
        for code, value in parents_mean.items():
            rules[counts.tokens_of(order, code)] = value
    return rules, level
