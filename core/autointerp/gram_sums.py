"""Weights and weighted sums of activations by gram, the means they give, and what lasts of these: the loops of a pattern's fit, compiled.

The positions of a second reading are the same for all units, so they are put in the order of their longest grams once. A unit's sums
are then made in one pass that writes each gram once; those of a shorter gram are the sums of the longer ones that end in it.
"""

from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from core.autointerp.corpus_counts import ORDERS
from core.autointerp.pattern import FADES
from core.autointerp.reading import Reading
from core.index.jit import njit

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
_FOR_LASTING = 131_072
"""Positions, at most about, from which one coefficient is fitted: more cost more than they tell."""


class Arranged:
    """A second reading in the order of its grams.

    begins: where each context that was read begins among the positions. unread: the tokens of the text, ascending, that were not read
    and are the end of some gram.
    """

    def __init__(self, reading: Reading) -> None:
        self.reading, self.counts = reading, reading.counts
        text = self.counts.text
        self.begins = np.flatnonzero(np.diff(reading.contexts, prepend=-1))
        self.contexts = reading.contexts[self.begins]
        unread = self.counts.ids[0] > 0
        unread[text.offsets[reading.contexts] + reading.positions] = False
        self.unread = np.flatnonzero(unread)
        self.unread_contexts = np.searchsorted(text.offsets, self.unread, "right") - 1
        self._grams = reading.grams
        self._contexts = reading.contexts.astype(np.int32)

    @cached_property
    def _order(self) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """The positions in the order of their longest grams, and the context and the longest gram of each in that order."""
        order = np.argsort(self._grams[-1], kind="stable").astype(np.int32)
        return order, self._contexts[order], self._grams[-1][order]

    @cached_property
    def _brief(self) -> tuple[Ints, ...]:
        """Of each order but the longest the positions that have a gram of it and none that is longer."""
        return tuple(np.flatnonzero((a > 0) & (b == 0)) for a, b in zip(self._grams[:-1], self._grams[1:], strict=True))

    @cached_property
    def _sums(self) -> tuple[Floats, ...]:
        return tuple(np.empty((len(codes), 2)) for codes in self.counts.codes)

    @cached_property
    def _values(self) -> npt.NDArray[np.float32]:
        return np.empty(len(self._contexts), np.float32)

    @cached_property
    def gains(self) -> tuple[Floats, ...]:
        """Room for one number a gram, by order. Memory that is asked for anew for each unit costs more than the sums."""
        return tuple(np.empty(len(codes)) for codes in self.counts.codes)

    def lasting(
        self, means: tuple[Floats, ...], gains: tuple[Floats, ...], least: float, level: float, weights: Floats, usable: Bools,
        values: npt.NDArray[np.float32],
    ) -> float:  # fmt: skip
        """The coefficient of the trace that earlier expectations leave (`Pattern.lasts`) in what these expectations miss of the values.

        Weighted least squares on the usable positions of some whole contexts. A token without a rule is taken to be at the level, whatever
        its word. means: of each order's grams, [grams, 2] as `estimate` leaves them. gains [grams]: those of at least `least` are rules.
        weights [contexts of the text]. usable, values [positions].
        """
        every = max(1, -(-len(self._contexts) // _FOR_LASTING))
        product, square = _trace_sums(self._grams, means, gains, least, level, self._contexts, weights, usable, values, FADES, every)
        return product / square if square > 0 else 0.0

    def add_up(self, orders: int, weights: Floats, usable: Bools, values: npt.NDArray[np.float32]) -> tuple[Floats, ...]:
        """For each order, of every gram in `counts.codes` the weight of its usable positions and their weighted sum, [grams, 2].

        weights [contexts of the text]. usable, values [positions]. The arrays are the same for every call: the next one overwrites them.
        """
        found = self._sums[:orders]
        for sums in found:
            sums[:] = 0
        if orders < ORDERS:
            for grams, sums in zip(self._grams, found, strict=False):
                _one_by_one(grams, self._contexts, weights, usable, values, sums)
            return found
        _blank(values, usable, self._values)
        _in_order(*self._order, weights, self._values, found[-1])
        for shorter in range(orders - 2, -1, -1):
            brief, sums = self._brief[shorter], found[shorter]
            _shorten(found[shorter + 1], self.counts.shorter[shorter + 1], sums)
            _one_by_one(self._grams[shorter][brief], self._contexts[brief], weights, usable[brief], values[brief], sums)
        return found


@njit(nogil=True, cache=True)
def add(grams: Any, weights: Any, values: Any, sums: Any) -> None:
    """Add the weight and the weighted value of each position to those of its gram. sums [grams, 2]."""
    for i in range(len(grams)):
        sums[grams[i], 0] += weights[i]
        sums[grams[i], 1] += weights[i] * values[i]


@njit(nogil=True, cache=True)
def _one_by_one(grams: Any, contexts: Any, weights: Any, usable: Any, values: Any, sums: Any) -> None:
    for i in range(len(grams)):
        if usable[i]:
            sums[grams[i], 0] += weights[contexts[i]]
            sums[grams[i], 1] += weights[contexts[i]] * values[i]


@njit(nogil=True, cache=True)
def _blank(values: Any, usable: Any, out: Any) -> None:
    """The values with NaN for what is not usable: one array to look up in any order in the place of two."""
    for i in range(len(values)):
        out[i] = values[i] if usable[i] else np.nan


@njit(nogil=True, cache=True)
def _in_order(order: Any, contexts: Any, grams: Any, weights: Any, values: Any, sums: Any) -> None:
    """order [positions]: the places of positions in `values`, NaN for what does not count. contexts, grams: of each of them."""
    for i in range(len(order)):
        value = values[order[i]]
        if value == value:
            sums[grams[i], 0] += weights[contexts[i]]
            sums[grams[i], 1] += weights[contexts[i]] * value


@njit(nogil=True, cache=True)
def _shorten(longer: Any, shorter: Any, sums: Any) -> None:
    """Add the sums of each gram to those of the gram without its leftmost token. Gram 0 is none."""
    for gram in range(1, len(longer)):
        sums[shorter[gram], 0] += longer[gram, 0]
        sums[shorter[gram], 1] += longer[gram, 1]


@njit(nogil=True, cache=True)
def _trace_sums(
    grams: Any, means: Any, gains: Any, least: float, level: float, contexts: Any, weights: Any, usable: Any, values: Any, fades: float,
    every: int,
) -> Any:  # fmt: skip
    """Of each `every`-th context's usable positions Σ w·trace·(value − expected) and Σ w·trace²."""
    product, square, held, number = 0.0, 0.0, 0.0, -1
    for i in range(len(contexts)):
        if i == 0 or contexts[i] != contexts[i - 1]:
            number += 1
            held = 0.0
        if number % every:
            continue
        above = 0.0
        for order in range(len(grams) - 1, -1, -1):
            gram = grams[order][i]
            if gram > 0 and gains[order][gram] >= least:
                above = means[order][gram, 0] - level
                break
        if usable[i]:
            weight = weights[contexts[i]]
            product += weight * held * (values[i] - level - above)
            square += weight * held * held
        held = fades * held + above
    return product, square


@njit(nogil=True, cache=True, error_model="numpy")
def estimate(sums: Any, unknown: Any, strong: Any, strong_sums: Any, shorter: Any, before: Any, once: Any, gains: Any) -> None:
    """Turn the sums of each gram's weaker positions, [grams, 2], into its mean and the mean of its weaker positions alone.

    unknown [grams]: the weight of positions whose activation is not known; empty for 0 throughout. strong: the grams, ascending, of the
    strongest positions, with their weight and weighted sum `strong_sums` [strong, 2]. before: the result for shorter grams. once: what
    the shorter gram's mean weighs. gains [grams]: gets the squared error that each mean removes, −1 where no position is labelled.
    """
    at = 0
    for gram in range(len(sums)):
        weak, weak_sum = sums[gram, 0], sums[gram, 1]
        here, here_sum = 0.0, 0.0
        if at < len(strong) and strong[at] == gram:
            here, here_sum = strong_sums[at, 0], strong_sums[at, 1]
            at += 1
        n = here + weak
        labelled = gram > 0 and n > 0
        if len(unknown) > 0:
            n += unknown[gram]
        mean_before, rest_before = before[shorter[gram], 0], before[shorter[gram], 1]
        rest = (weak_sum + rest_before) / (weak + 1)
        mean = (here_sum + (n - here) * rest + once * mean_before) / (n + once)
        sums[gram, 0], sums[gram, 1] = mean, rest
        gains[gram] = n * (mean - mean_before) ** 2 if labelled else -1.0
