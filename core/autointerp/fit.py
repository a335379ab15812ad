"""Fitting a pattern to what is known of a unit: its strongest and sampled positions, the records nobody is scored on, and a second reading.

The estimate of a gram's mean activation joins what is known exactly with what is sampled. With N occurrences in the slice, k of them among
the unit's strongest positions with sum S, and r the mean over labelled positions that are not, with the shorter gram's r as a further
observation, the mean is (S + (N − k) r) / N; it is then moved towards the shorter gram's mean as if that had been observed once as well.

Scores are over records of which half are the unit's strongest and half are drawn evenly, and so is a pattern's mean: a position counts by
the weight of its context. All contexts share one half of the weight evenly, the other half by the square of the unit's largest activation
there. N, k, S and r are sums of weights. A token lookup table weighs all contexts alike.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from core.autointerp.corpus_counts import ORDERS, SliceCounts
from core.autointerp.gram_sums import Arranged, add, estimate
from core.autointerp.pattern import Pattern
from core.autointerp.reading import Reading
from core.store.units import Record, UnitView
from core.vocab import Vocab

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
MOST_RULES = 20_000
"""A pattern keeps the rules that remove most squared error: the others fall back on shorter ones."""
MOST_WORDS = 2_000
_EACH = 16
_SEEN_TOO_LITTLE = 1.5
"""What lasts is found too small by about this factor: where they were seen, and nowhere else, rules seen once or twice explain part of it,
and so do the strongest positions, which are in the rules and not in what is left over. docs/performance.md has what it brings."""
_MOST_LASTS = 0.3
"""1 − FADES: with more, what lasts of an even text would be more than what is expected of it."""
DIGITS = 4
"""Significant digits of a stored mean."""


@dataclass(frozen=True)
class Labelled:
    """Token positions with the unit's activation, [positions] each, none in an excluded document.

    strong: those among the unit's strongest. allowed [contexts of the text]: those whose document is not excluded. peaks [contexts]: the
    unit's largest activation there; 0 where it is lower, or not known. The rest are the positions of a second reading: `sample`
    [positions of the reading], with `usable` marking what is neither excluded nor among the strongest; None without one.
    """

    contexts: Ints
    positions: Ints
    values: Floats
    strong: Bools
    allowed: Bools
    peaks: Floats
    arranged: Arranged | None = None
    sample: npt.NDArray[np.float32] | None = None
    usable: Bools | None = None

    @property
    def reading(self) -> Reading | None:
        return None if self.arranged is None else self.arranged.reading

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


def gather(view: UnitView, counts: SliceCounts, records: Collection[Record], excluded: Ints, arranged: Arranged | None = None) -> Labelled:
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
    known = None if arranged is None else arranged.reading.of(view.name)
    usable: Bools | None = None
    if arranged is not None and known is not None:
        # What the reading has as well counts there; the strongest positions are known exactly and count here.
        was_read = np.zeros(len(counts.text), bool)
        was_read[arranged.contexts] = True
        kept = kept[(kept < len(strong.contexts)) | ~was_read[all_contexts[kept]]]
        usable = np.repeat(allowed[arranged.contexts], np.diff(np.append(arranged.begins, len(known))))
        usable[arranged.reading.places(contexts[0], positions[0])] = False
        if len(known):
            peaks[arranged.contexts] = np.maximum(peaks[arranged.contexts], np.maximum.reduceat(known, arranged.begins))
    return Labelled(
        all_contexts[kept], all_positions[kept], all_values[kept], kept < len(strong.contexts), allowed, peaks,
        None if usable is None else arranged, known, usable,
    )  # fmt: skip


def fit(labelled: Labelled, counts: SliceCounts, vocab: Vocab) -> Pattern:
    """The pattern of a unit: grams of up to ORDERS tokens."""
    estimates = _estimates(labelled, counts, ORDERS, labelled.peaked, 2.0)
    level, found = estimates.level, estimates.rules()
    singles, means = found[0]
    number_of, words = counts.words(vocab)
    # In the order of their first tokens, so that what is kept of equals does not depend on the vocabulary.
    numbers, first, at = np.unique(number_of[singles], return_index=True, return_inverse=True)
    word_means = _short(np.bincount(at, means, len(numbers)) / np.bincount(at, minlength=len(numbers)))
    best = np.lexsort((first, -np.abs(word_means - level)))[:MOST_WORDS]
    kept = dict(zip((words[number] for number in numbers[best]), word_means[best].tolist(), strict=True))
    short = _short(np.array([level, _lasts(labelled, estimates)])).tolist()
    return Pattern(_by_ids(found, counts), kept, *short)


def fit_lookup(labelled: Labelled, counts: SliceCounts) -> Pattern:
    """The token lookup table of Bills et al. 2023: each token's mean activation, and the unit's level for all others."""
    estimates = _estimates(labelled, counts, 1, labelled.even, 1.0)
    return Pattern(_by_ids(estimates.rules(), counts), {}, estimates.level)


def _by_ids(found: Sequence[tuple[Ints, Floats]], counts: SliceCounts) -> dict[tuple[int, ...], float]:
    rules: dict[tuple[int, ...], float] = {}
    for order, (grams, means) in enumerate(found):
        rules.update(zip(counts.tokens_of(order, counts.codes[order][grams]), means.tolist(), strict=True))
    return rules


@dataclass(frozen=True)
class _Estimates:
    """means: of the grams of each order [grams, 2], as places in `counts.codes`: of all positions, and of the weaker ones. gains [grams]:
    the squared error that each removes. least: the gain of the last that is kept. weights: of contexts.

    The arrays are used again for the next unit.
    """

    means: tuple[Floats, ...]
    gains: tuple[Floats, ...]
    least: float
    level: float
    weights: Floats

    def rules(self) -> list[tuple[Ints, Floats]]:
        """For each order the grams whose rules change most, with their means."""
        kept = [np.flatnonzero(gains >= self.least) for gains in self.gains]
        return [(grams, _short(means[grams, 0])) for grams, means in zip(kept, self.means, strict=True)]


def _estimates(labelled: Labelled, counts: SliceCounts, orders: int, weights: Floats, once: float) -> _Estimates:
    """The means of all grams. weights: of contexts. once: what one of them weighs on average."""
    places = counts.text.offsets[labelled.contexts] + labelled.positions
    weight, strong = weights[labelled.contexts], labelled.strong
    weak_sums = _read(labelled, counts, orders, weights)
    unknown, unknown_weights = _unknown(labelled, counts, weights, places)
    level = _level(labelled, weights, weak_sums[0])
    before = np.full((1, 2), level)
    all_gains: list[Floats] = []
    for order, sums in enumerate(weak_sums):
        ids = counts.ids[order]
        add(ids[places[~strong]], weight[~strong], labelled.values[~strong], sums)
        grams, at = np.unique(ids[places[strong]], return_inverse=True)
        strong_sums = np.zeros((len(grams), 2))
        add(at, weight[strong], labelled.values[strong], strong_sums)
        missing = np.bincount(ids[unknown], unknown_weights, len(sums)) if len(unknown) else np.zeros(0)
        gains = np.empty(len(sums)) if labelled.arranged is None else labelled.arranged.gains[order]
        estimate(sums, missing, grams, strong_sums, counts.shorter[order], before, once, gains)
        all_gains.append(gains)
        before = sums
    return _Estimates(weak_sums, tuple(all_gains), _least(all_gains), level, weights)


def _lasts(labelled: Labelled, found: _Estimates) -> float:
    """The share of an expectation that is added to what follows; none where nothing was read in its order."""
    if labelled.arranged is None or labelled.usable is None or labelled.sample is None:
        return 0.0
    share = labelled.arranged.lasting(
        found.means, found.gains, found.least, found.level, found.weights, labelled.usable, labelled.sample
    )  # fmt: skip
    return min(max(0.0, _SEEN_TOO_LITTLE * share), _MOST_LASTS)


def _read(labelled: Labelled, counts: SliceCounts, orders: int, weights: Floats) -> tuple[Floats, ...]:
    """For each order the weight and the weighted sum of what was read again, [grams, 2]."""
    if labelled.arranged is None or labelled.usable is None or labelled.sample is None:
        return tuple(np.zeros((len(codes), 2)) for codes in counts.codes[:orders])
    return labelled.arranged.add_up(orders, weights, labelled.usable, labelled.sample)


def _unknown(labelled: Labelled, counts: SliceCounts, weights: Floats, places: Ints) -> tuple[Ints, Floats]:
    """The tokens of the slice that were not read again, and what each weighs; 0 where the activation is known all the same."""
    if labelled.arranged is None:
        unknown = np.arange(len(counts.text.tokens))
        weight = np.repeat(weights, np.diff(counts.text.offsets))
    else:
        unknown, weight = labelled.arranged.unread, weights[labelled.arranged.unread_contexts]
    at = np.searchsorted(unknown, places)
    weight[at[np.append(unknown, -1)[at] == places]] = 0
    return unknown, weight


def _least(gains: Sequence[Floats]) -> float:
    """The gain that MOST_RULES grams have or surpass; 0 when there are fewer."""
    if sum(map(len, gains)) <= MOST_RULES:
        return 0.0
    # Most gains are far too small. A bound from each sixteenth of them spares the partition those.
    few = np.concatenate([part[::_EACH] for part in gains])
    wanted = min(len(few), 2 * MOST_RULES // _EACH)
    bound = max(0.0, float(np.partition(few, -wanted)[-wanted]))
    large = np.concatenate([part[part >= bound] for part in gains])
    if len(large) < MOST_RULES:
        large = np.concatenate([part[part >= 0] for part in gains])
    return float(np.partition(large, -MOST_RULES)[-MOST_RULES]) if len(large) >= MOST_RULES else 0.0


def _short(values: Floats) -> Floats:
    """Rounded to DIGITS significant digits."""
    digits = np.floor(np.log10(np.abs(values), where=values != 0, out=np.zeros(len(values)))) - (DIGITS - 1)
    # Multiplied and divided by whole powers of ten only, which are exact: what is stored reads as few digits.
    up, down = 10.0 ** np.clip(-digits, 0, 300), 10.0 ** np.clip(digits, 0, 300)
    return np.round(values * up / down) * down / up


def _level(labelled: Labelled, weights: Floats, read: Floats) -> float:
    """The mean over positions that are not among the strongest: of the reading if there is one, which is drawn evenly.

    read: of each token what was read again, its weight and its weighted sum, [tokens, 2].
    """
    weight, total = read.sum(axis=0)
    if weight > 0:
        return float(total / weight)
    counted = weights[labelled.contexts] * ~labelled.strong
    return float(np.average(labelled.values, weights=counted)) if counted.any() else 0.0
