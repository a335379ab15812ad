"""Choosing the words of a pattern's sentence: those that explain most of the unit's activity for the room they take."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import compress
from typing import Any

import numpy as np
import numpy.typing as npt

from core.autointerp.corpus_counts import ORDERS, SliceCounts
from core.autointerp.pattern import Pattern
from core.autointerp.sentence import INSIDE, LIMIT, STEPS, is_inside, room, room_of, say, shares_stars, speak
from core.vocab import Vocab

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
CANDIDATES = (1200, 200, 60)
"""Tokens, phrases of two and phrases of three that are looked at: those that remove most squared error by themselves."""
_HEIGHTS = (1.0, 0.7, 0.5, 0.35, 0.25)
_IN_VAIN = 12
"""Words in a row that do not fit any more before the sentence is taken as full."""
_WORTH = 0.0005
"""A word has to remove this share of what the words before it remove: one that hardly helps is in a reader's way."""
_PHRASE_COUNT = 4
"""A phrase is offered when the text has it so often; what comes once or twice says nothing about other text."""
_NEAR = 0.3
"""The share of the weight of an error that is counted in the contexts of the strongest positions; the rest is counted in all text."""
_DOUBT = 3.0
"""What is seen n times counts n / (n + this): the mean of a rare word is less certain."""
_NOTHING = 1e-12
_TAILS = 2 * ORDERS - 1
"""Other words that a gram falls back on at most: itself and each shorter one, and those that only count inside a word once more."""


@dataclass(frozen=True)
class _Candidates:
    """Words and phrases. Arrays are [candidates], of a word in all the spellings in which it occurs.

    weights: the share of all tokens on which it decides, those near the unit's strongest positions counted as more, doubted where it is
    rare. sums: that times its mean activation above the unit's level. tails [candidates, _TAILS]: the places of the words that decide
    where it is not said, in their order, −1 where there is none. room: characters. shares: whether it stands within stars with others.
    """

    words: list[str]
    weights: Floats
    sums: Floats
    tails: Ints
    room: Ints
    shares: npt.NDArray[np.bool_]


def put_into_words(pattern: Pattern, counts: SliceCounts, contexts: Ints, vocab: Vocab, limit: int = LIMIT) -> str:
    """The sentence, of at most `limit` characters. contexts: those with the unit's strongest positions that the fit could see.

    Greedy: each step takes the word that removes most squared error for each character, given the words already taken. What the number
    STEPS stands for is tried at several heights, because a single rare word may stand far above all others.
    """
    candidates = _candidates(pattern, counts, contexts, vocab)
    highest = (candidates.sums / candidates.weights).max(initial=0.0)
    if highest <= 0:
        return say([])
    # A unit that is never below 0, as a feature of a sparse dictionary, is not below its usual level either: it is silent.
    lowest = -STEPS if min(pattern.level, *pattern.rules.values()) < 0 else 0
    tried = [_choose(candidates, highest * height, limit, lowest) for height in _HEIGHTS]
    return say(max(tried, key=lambda found: found[0])[1])


def _choose(given: _Candidates, top: float, limit: int, lowest: int) -> tuple[float, list[tuple[str, int]]]:
    """The squared error that the best words remove when `top` above the level is STEPS, and the words with their steps.

    What a word decides its tails decide no more: its weight is taken from theirs.
    """
    weights, sums = given.weights.copy(), given.sums * (STEPS / top)
    size = len(weights)
    # What is said of each as it stands, and the place of the tail that says it.
    now, decided = np.zeros(size), np.full(size, _TAILS)
    steps, gains, rates = np.zeros(size, np.int64), np.zeros(size), np.zeros(size)

    def rate(at: npt.NDArray[Any] | slice) -> None:
        means = sums[at] / np.maximum(weights[at], _NOTHING)
        steps[at] = np.rint(means).clip(lowest, STEPS).astype(np.int64)
        gains[at] = (steps[at] - now[at]) * (2 * sums[at] - weights[at] * (steps[at] + now[at]))
        rates[at] = gains[at] / given.room[at]

    rate(slice(None))
    said: dict[int, int] = {}
    passed_over: list[int] = []
    removed, left = 0.0, limit
    used: set[int] = set()
    starred: set[int] = set()
    while len(passed_over) < _IN_VAIN:
        best = int(np.argmax(rates))
        gain, step, shares = float(gains[best]), int(steps[best]), bool(given.shares[best])
        if gain <= _WORTH * removed or rates[best] <= 0:
            break
        # A step is named once, and has one pair of stars for all words that share one.
        taken = int(given.room[best]) + 2 * (shares and step not in starred)
        if taken + room(used | {step}) > left:
            passed_over.append(best)
            rates[passed_over] = 0.0
            continue
        said[best], left, removed = step, left - taken, removed + gain
        used.add(step)
        if shares:
            starred.add(step)
        tails = given.tails[best][given.tails[best] >= 0]
        for tail in tails.tolist():
            weights[tail] = max(0.0, weights[tail] - weights[best])
            sums[tail] -= sums[best]
            if tail in said:
                break
        changed = [tails]
        for place in range(_TAILS):
            longer = np.flatnonzero((given.tails[:, place] == best) & (decided > place))
            now[longer], decided[longer] = step, place
            changed.append(longer)
        rate(np.concatenate(changed))
        rates[[*said, *passed_over]] = 0.0
    order = sorted(said, key=lambda at: -given.sums[at] / given.weights[at])
    return removed * top**2, [(given.words[at], said[at]) for at in order]


def _candidates(pattern: Pattern, counts: SliceCounts, contexts: Ints, vocab: Vocab) -> _Candidates:
    strong = counts.within(contexts)
    lengths = np.fromiter(map(len, pattern.rules), np.int64, len(pattern.rules))
    means = np.fromiter(pattern.rules.values(), np.float64, len(pattern.rules))
    found: dict[str, list[float]] = {}
    spoken: list[_Spoken] = []
    for order in range(ORDERS):
        of_order = lengths == order + 1
        keys = list(compress(pattern.rules, of_order.tolist()))
        if not keys:
            continue
        codes = counts.codes_of(keys)
        seen = counts.count(order, codes)
        near = np.sort(strong.codes[order])
        there = (np.searchsorted(near, codes, "right") - np.searchsorted(near, codes, "left")) / max(1, len(strong))
        weights = ((1 - _NEAR) * seen / max(1, counts.tokens) + _NEAR * there) * seen / (seen + _DOUBT)
        weights[seen < (_PHRASE_COUNT if order else 1)] = 0.0
        above = means[of_order] - pattern.level
        worth = weights * above**2
        best = np.argsort(-worth)[: CANDIDATES[order]]
        for at in best[worth[best] > 0].tolist():
            one = _spoken(tuple(vocab.pieces(keys[at])))
            if one.word in one.tails:
                continue  # with no more than a space before it, it is said as the shorter one, which is counted already
            if one.word not in found:
                found[one.word] = [0.0, 0.0]
                spoken.append(one)
            of_word = found[one.word]
            of_word[0] += float(weights[at])
            of_word[1] += float(weights[at] * above[at])
    found.pop("", None)
    spoken = [one for one in spoken if one.word]
    for one in [one for one in spoken if one.anywhere]:
        # What counts inside a word only is said by the same word anywhere, too.
        if one.anywhere not in found:
            spoken.append(_of_word(one.anywhere, one.tails[1:]))
        plain = found.setdefault(one.anywhere, [0.0, 0.0])
        plain[0] += found[one.word][0]
        plain[1] += found[one.word][1]
    places = {one.word: place for place, one in enumerate(spoken)}
    tails = [[*(places.get(tail, -1) for tail in one.tails), *[-1] * (_TAILS - len(one.tails))] for one in spoken]
    totals = np.array(list(found.values())).reshape(-1, 2)
    return _Candidates(
        [one.word for one in spoken], totals[:, 0], totals[:, 1], np.array(tails, np.int64).reshape(-1, _TAILS),
        np.array([one.room for one in spoken], np.int64), np.array([one.shares for one in spoken], bool),
    )  # fmt: skip


@dataclass(frozen=True)
class _Spoken:
    """A gram as it is written. tails: what is read in its place where it is not said, in that order. room, shares: see `sentence`."""

    word: str
    tails: tuple[str, ...]
    room: int
    shares: bool

    @property
    def anywhere(self) -> str:
        """Without the mark of what only counts inside a word; empty where there is none."""
        return self.tails[0] if self.word.startswith(INSIDE) and self.tails else ""


@lru_cache(maxsize=50_000)
def _spoken(pieces: tuple[str, ...]) -> _Spoken:
    # Units of one model share most of their words.
    words: list[str] = []
    for skip in range(len(pieces)):
        word = _written(pieces[skip:])
        words += [word, word[len(INSIDE) :]] if word.startswith(INSIDE) else [word]
    return _of_word(words[0], tuple(words[1:]))


def _of_word(word: str, tails: tuple[str, ...]) -> _Spoken:
    return _Spoken(word, tails, room_of(word), shares_stars(word))


def _written(pieces: Sequence[str]) -> str:
    """A gram between stars; a token that can only go on with a word is marked so."""
    word = speak(pieces)
    # A capital mostly begins a word, at the start of a line or after a bracket.
    return f"{INSIDE}{word}" if word and is_inside(pieces[0], "a") and not pieces[0][:1].isupper() else word
