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
from core.autointerp.sentence import INSIDE, LEVELS, LIMIT, is_inside, room_of, say, shares_stars, speak
from core.vocab import Vocab

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
CANDIDATES = (1200, 200, 60)
"""Tokens, phrases of two and phrases of three that are looked at: those that remove most squared error by themselves."""
_HEIGHTS = (1.0, 0.7, 0.5, 0.35, 0.25)
_IN_VAIN = 12
"""Words in a row that do not fit any more before the sentence is taken as full."""
_WORTH = 0.003
"""A word has to remove this share of what the words before it remove: a short sentence is read, a full one is not."""
_PHRASE_COUNT = 4
"""A phrase is offered when the text has it so often; what comes once or twice says nothing about other text."""
_NEAR = 0.3
"""The share of the weight of an error that is counted in the contexts of the strongest positions; the rest is counted in all text."""
_DOUBT = 3.0
"""What is seen n times counts n / (n + this): the mean of a rare word is less certain."""
_NOTHING = 1e-12
_STANDS = np.array([stands for _, stands, _ in LEVELS])
_BELOW = -np.array([least for *_, least in LEVELS])
_NAMED = [len(f"{name} on ") for name, *_ in LEVELS]
"""Characters of a level's name, with the semicolon before it: its last word has no comma after it."""
_SILENT = int(np.flatnonzero(_STANDS == 0)[0])


@dataclass(frozen=True)
class _Candidates:
    """Words and phrases. Arrays are [candidates], of a word in all the spellings in which it occurs.

    weights: the share of all tokens on which it decides, those near the unit's strongest positions counted as more, doubted where it is
    rare. sums: that times its mean activation above the unit's level. tails [candidates, ORDERS − 1]: the places of the shorter words that
    it ends with, longest first, −1 where there is none. room: characters. shares: whether it stands within stars with others.
    """

    words: list[str]
    weights: Floats
    sums: Floats
    tails: Ints
    room: Ints
    shares: npt.NDArray[np.bool_]


def put_into_words(pattern: Pattern, counts: SliceCounts, contexts: Ints, vocab: Vocab, limit: int = LIMIT) -> str:
    """The sentence, of at most `limit` characters. contexts: those with the unit's strongest positions that the fit could see.

    Greedy: each step takes the word that removes most squared error for each character, given the words already taken. What “strongly”
    stands for is tried at several heights, because a single rare word may stand far above all others.
    """
    candidates = _candidates(pattern, counts, contexts, vocab)
    highest = (candidates.sums / candidates.weights).max(initial=0.0)
    if highest <= 0:
        return say([])
    # A unit that is never below 0, as a feature of a sparse dictionary, is not below its usual level either: it is silent.
    lowest = len(LEVELS) - 1 if min(pattern.level, *pattern.rules.values()) < 0 else _SILENT
    tried = [_choose(candidates, highest * height, limit, lowest) for height in _HEIGHTS]
    return say(max(tried, key=lambda found: found[0])[1])


def _choose(given: _Candidates, top: float, limit: int, lowest: int) -> tuple[float, list[tuple[str, float]]]:
    """The squared error that the best words remove when `top` above the level is “strongly”, and the words with their shares.

    What a phrase decides its tails decide no more: its weight is taken from theirs.
    """
    weights, sums = given.weights.copy(), given.sums / top
    size = len(weights)
    # What is said of each as it stands, and the place of the tail that says it.
    now, decided = np.zeros(size), np.full(size, ORDERS)
    levels, gains, rates = np.zeros(size, np.int64), np.zeros(size), np.zeros(size)

    def rate(at: npt.NDArray[Any] | slice) -> None:
        means = sums[at] / np.maximum(weights[at], _NOTHING)
        levels[at] = np.minimum(np.searchsorted(_BELOW, -means, "left"), lowest)
        stands = _STANDS[levels[at]]
        gains[at] = (stands - now[at]) * (2 * sums[at] - weights[at] * (stands + now[at]))
        rates[at] = gains[at] / given.room[at]

    rate(slice(None))
    said: dict[int, int] = {}
    passed_over: list[int] = []
    removed, left = 0.0, limit - len("Fires")
    heads: set[tuple[int, bool]] = set()
    while len(passed_over) < _IN_VAIN:
        best = int(np.argmax(rates))
        gain, level, shares = float(gains[best]), int(levels[best]), bool(given.shares[best])
        if gain <= _WORTH * removed or rates[best] <= 0:
            break
        # A level takes its name once, and a pair of stars once for all words that share one.
        taken = int(given.room[best]) + _NAMED[level] * ((level, False) not in heads) + 2 * (shares and (level, True) not in heads)
        if taken > left:
            passed_over.append(best)
            rates[passed_over] = 0.0
            continue
        said[best], left, removed = level, left - taken, removed + gain
        heads |= {(level, False), (level, shares)}
        tails = given.tails[best][given.tails[best] >= 0]
        for tail in tails.tolist():
            weights[tail] = max(0.0, weights[tail] - weights[best])
            sums[tail] -= sums[best]
            if tail in said:
                break
        changed = [tails]
        for place in range(ORDERS - 1):
            longer = np.flatnonzero((given.tails[:, place] == best) & (decided > place))
            now[longer], decided[longer] = _STANDS[level], place
            changed.append(longer)
        rate(np.concatenate(changed))
        rates[[*said, *passed_over]] = 0.0
    order = sorted(said, key=lambda at: -given.sums[at] / given.weights[at])
    return removed * top**2, [(given.words[at], float(_STANDS[said[at]])) for at in order]


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
            if one.word not in found:
                found[one.word] = [0.0, 0.0]
                spoken.append(one)
            of_word = found[one.word]
            of_word[0] += float(weights[at])
            of_word[1] += float(weights[at] * above[at])
    found.pop("", None)
    spoken = [one for one in spoken if one.word]
    places = {one.word: place for place, one in enumerate(spoken)}
    tails = [[*(places.get(tail, -1) for tail in one.tails), *[-1] * (ORDERS - 1 - len(one.tails))] for one in spoken]
    totals = np.array(list(found.values())).reshape(-1, 2)
    return _Candidates(
        [one.word for one in spoken], totals[:, 0], totals[:, 1], np.array(tails, np.int64).reshape(-1, ORDERS - 1),
        np.array([one.room for one in spoken], np.int64), np.array([one.shares for one in spoken], bool),
    )  # fmt: skip


@dataclass(frozen=True)
class _Spoken:
    """A gram as it is written. tails: the shorter ones that it ends with, longest first. room, shares: see `sentence`."""

    word: str
    tails: tuple[str, ...]
    room: int
    shares: bool


@lru_cache(maxsize=50_000)
def _spoken(pieces: tuple[str, ...]) -> _Spoken:
    # Units of one model share most of their words.
    word = _written(pieces)
    return _Spoken(word, tuple(_written(pieces[skip:]) for skip in range(1, len(pieces))), room_of(word), shares_stars(word))


def _written(pieces: Sequence[str]) -> str:
    """A gram between stars; a token that can only go on with a word is marked so."""
    word = speak(pieces)
    # A capital mostly begins a word, at the start of a line or after a bracket.
    return f"{INSIDE}{word}" if word and is_inside(pieces[0], "a") and not pieces[0][:1].isupper() else word
