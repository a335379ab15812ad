"""Choosing the words of a pattern's sentence: those that explain most of the unit's activity for the room they take."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from core.autointerp.corpus_counts import ORDERS, Grams, SliceCounts
from core.autointerp.pattern import Pattern
from core.autointerp.sentence import INSIDE, LIMIT, STEPS, is_inside, room_of, say, speak
from core.autointerp.stretches import stretches
from core.vocab import Vocab

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
CANDIDATES = (1500, 400, 120)
"""Words, phrases of two and phrases of three tokens that are looked at: those that remove most squared error a character by themselves."""
_HEIGHTS = (0.7, 0.5)
_IN_VAIN = 12
"""Words in a row that do not fit any more before the sentence is taken as full."""
_WORTH = 0.0005
"""A word has to remove this share of what the words before it remove: one that hardly helps is in a reader's way."""
_PHRASE_COUNT = 4
"""A phrase is offered when the text has it so often; what comes once or twice says nothing about other text."""
_NEAR = 0.3
"""The share of the weight of an error that is counted in the contexts of the strongest positions; the rest is counted in all text."""
_THERE = 0.25
"""In those contexts a word counts by this share with what the pattern expects there, which knows its left context, and otherwise with its
mean. More would say how it is there, and not in other text: the pattern was fitted to them."""
_DOUBT = 3.0
"""What is seen n times counts n / (n + this): the mean of a rare word is less certain."""
_NOTHING = 1e-12
_FRAME = len("Fires on *") + len("* 10.")
_TAILS = 2 * ORDERS - 1
"""Other words that a gram falls back on at most: itself and each shorter one, and those that only count inside a word once more."""


@dataclass(frozen=True)
class _Candidates:
    """Words and phrases. Arrays are [candidates], of a word in all the spellings in which it occurs.

    weights: the share of all tokens on which it decides, those near the unit's strongest positions counted as more, doubted where it is
    rare. sums: that times its mean activation above the unit's level. tails [candidates, _TAILS]: the places of the words that decide
    where it is not said, in their order, −1 where there is none. room: characters.
    """

    words: list[str]
    weights: Floats
    sums: Floats
    tails: Ints
    room: Ints


@dataclass(frozen=True)
class _Choice:
    """Places of words in the order in which they were taken, and what the error went down by for each character of each.

    lowest: the lowest step that may be said. top: what STEPS stands for. removed: the squared error that all remove together.
    """

    places: list[int]
    rates: list[float]
    lowest: int
    top: float
    removed: float


def put_into_words(pattern: Pattern, counts: SliceCounts, contexts: Ints, vocab: Vocab, limit: int = LIMIT) -> str:
    """The sentence, of at most `limit` characters. contexts: those with the unit's strongest positions that the fit could see.

    Greedy: each step takes the word that removes most squared error for each character, given the words already taken. What the number
    STEPS stands for is tried at several heights, because a single rare word may stand far above all others.
    """
    candidates = _candidates(pattern, counts, contexts, vocab)
    highest = (candidates.sums / np.maximum(candidates.weights, _NOTHING)).max(initial=0.0)
    if highest <= 0:
        return say([])
    # A unit that is never below 0, as a feature of a sparse dictionary, is not below its usual level either: it is silent.
    lowest = -STEPS if min(pattern.level, *pattern.rules.values()) < 0 else 0
    chosen = max((_choose(candidates, highest * height, limit, lowest) for height in _HEIGHTS), key=lambda one: one.removed)
    # The numbers take room as well, how much is not known before: the most words are found by bisection.
    fits, too_many, said = 0, len(chosen.places) + 1, say([])
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        sentence = _sentence(candidates, chosen, middle)
        if len(sentence) <= limit:
            fits, said = middle, sentence
        else:
            too_many = middle
    return said


def _choose(given: _Candidates, top: float, limit: int, lowest: int) -> _Choice:
    """The words when `top` above the level is STEPS and `lowest` the lowest step.

    What a word decides its tails decide no more: its weight is taken from theirs.
    """
    weights, sums = given.weights.copy(), given.sums * (STEPS / top)
    size = len(weights)
    # What is said of each as it stands, and the place of the tail that says it.
    now, decided = np.zeros(size), np.full(size, _TAILS)
    values, gains, rates = np.zeros(size), np.zeros(size), np.zeros(size)
    # Where each candidate is a tail: rows and columns of `tails`, by candidate.
    by_tail = np.argsort(given.tails, axis=None, kind="stable")
    begins = np.searchsorted(given.tails.ravel()[by_tail], np.arange(size + 1))

    def rate(at: npt.NDArray[Any] | slice) -> None:
        values[at] = (sums[at] / np.maximum(weights[at], _NOTHING)).clip(lowest, STEPS)
        gains[at] = (values[at] - now[at]) * (2 * sums[at] - weights[at] * (values[at] + now[at]))
        rates[at] = gains[at] / given.room[at]

    rate(slice(None))
    said: list[int] = []
    each: list[float] = []
    passed_over: list[int] = []
    removed, left = 0.0, limit - _FRAME
    while len(passed_over) < _IN_VAIN and size:
        best = int(np.argmax(rates))
        gain = float(gains[best])
        if gain <= _WORTH * removed or rates[best] <= 0:
            break
        if given.room[best] > left:
            passed_over.append(best)
            rates[passed_over] = 0.0
            continue
        said.append(best)
        each.append(float(rates[best]))
        left, removed = left - int(given.room[best]), removed + gain
        _decide(given, best, said, weights, sums)
        rows, columns = np.divmod(by_tail[begins[best] : begins[best + 1]], _TAILS)
        nearer = decided[rows] > columns
        longer = rows[nearer]
        now[longer], decided[longer] = values[best], columns[nearer]
        rate(np.concatenate([given.tails[best][given.tails[best] >= 0], longer]))
        rates[[*said, *passed_over]] = 0.0
    return _Choice(said, each, lowest, top, removed * top**2)


def _decide(given: _Candidates, word: int, said: Sequence[int], weights: Floats, sums: Floats) -> None:
    """Takes what a word decides from the words that decided it so far."""
    for tail in given.tails[word].tolist():
        if tail >= 0:
            weights[tail] = max(0.0, weights[tail] - weights[word])
            sums[tail] -= sums[word]
            if tail in said:
                break


def _sentence(given: _Candidates, chosen: _Choice, most: int) -> str:
    """The sentence of the first `most` words of a choice, each with the mean of what it decides among them."""
    weights, sums = given.weights.copy(), given.sums * (STEPS / chosen.top)
    places = chosen.places[:most]
    for number, place in enumerate(places):
        _decide(given, place, places[:number], weights, sums)
    # What others decide altogether need not be said.
    kept = [place for place in places if weights[place] > _NOTHING]
    means = dict(zip(kept, (sums[kept] / weights[kept]).clip(chosen.lowest, STEPS).tolist(), strict=True))
    order = sorted(means, key=lambda place: -means[place])
    sides = [[place for place in order if means[place] >= 0], [place for place in order if means[place] < 0]]
    price = chosen.rates[most - 1]
    return say(
        chain.from_iterable(
            stretches([given.words[at] for at in side], np.array([means[at] for at in side]), weights[side], price)
            for side in sides
            if side
        )
    )


def _candidates(pattern: Pattern, counts: SliceCounts, contexts: Ints, vocab: Vocab) -> _Candidates:
    strong = counts.within(contexts)
    grams = _by_order(pattern, counts)
    expected = _expected(grams, strong)
    singles = _singles(vocab)
    found: dict[str, list[float]] = {}
    spoken: list[_Spoken] = []
    for order, of_order in enumerate(grams):
        weights, sums = _totals(of_order, order, counts, strong, expected)
        if not order:
            _add_singles(singles, of_order.ids[:, 0], weights, sums, found, spoken)
            continue
        room = singles.room[singles.of_token[of_order.ids]].sum(axis=1)
        for at in _best(weights, sums, room, CANDIDATES[order]):
            one = _spoken(tuple(vocab.pieces(of_order.ids[at].tolist())))
            if not one.word or one.word in one.tails:
                continue  # with no more than a space before it, it is said as the shorter one, which is counted already
            if one.word not in found:
                found[one.word] = [0.0, 0.0]
                spoken.append(one)
            # What counts inside a word only is said by the same word anywhere, too.
            if one.anywhere and one.anywhere not in found:
                found[one.anywhere] = [0.0, 0.0]
                spoken.append(_Spoken(one.anywhere, one.tails[1:], room_of(one.anywhere)))
            for word in filter(None, (one.word, one.anywhere)):
                found[word][0] += float(weights[at])
                found[word][1] += float(sums[at])
    places = {one.word: place for place, one in enumerate(spoken)}
    tails = np.full((len(spoken), _TAILS), -1)
    for place, one in enumerate(spoken):
        if one.tails:
            tails[place, : len(one.tails)] = [places.get(tail, -1) for tail in one.tails]
    totals = np.array([found[one.word] for one in spoken]).reshape(-1, 2)
    return _Candidates(list(places), totals[:, 0], totals[:, 1], tails, np.array([one.room for one in spoken], np.int64))


@dataclass(frozen=True)
class _Grams:
    """A pattern's rules of one length. ids [grams, tokens], codes [grams] as in SliceCounts, above [grams]: the mean above the level."""

    ids: Ints
    codes: Ints
    above: Floats


def _by_order(pattern: Pattern, counts: SliceCounts) -> list[_Grams]:
    size = len(pattern.rules)
    lengths = np.fromiter(map(len, pattern.rules), np.int64, size)
    flat = np.fromiter(chain.from_iterable(pattern.rules), np.int64, int(lengths.sum()))
    above = np.fromiter(pattern.rules.values(), np.float64, size) - pattern.level
    begins = np.cumsum(lengths) - lengths
    found: list[_Grams] = []
    for length in range(1, ORDERS + 1):
        of_length = lengths == length
        ids = flat[begins[of_length][:, None] + np.arange(length)]
        found.append(_Grams(ids, counts.codes_of(ids), above[of_length]))
    return found


def _expected(grams: Sequence[_Grams], strong: Grams) -> Floats:
    """What the rules expect above the level at positions, [positions]: what the longest one says."""
    expected = np.zeros(len(strong))
    for of_order, codes in zip(grams, strong.codes, strict=True):
        if len(of_order.codes):
            order = np.argsort(of_order.codes)
            at = order[np.minimum(np.searchsorted(of_order.codes, codes, sorter=order), len(order) - 1)]
            expected = np.where((of_order.codes[at] == codes) & (codes >= 0), of_order.above[at], expected)
    return expected


def _totals(grams: _Grams, order: int, counts: SliceCounts, strong: Grams, expected: Floats) -> tuple[Floats, Floats]:
    """Weights and sums as in _Candidates, of each gram by itself."""
    seen = counts.count(order, grams.codes)
    arranged = np.argsort(strong.codes[order], kind="stable")
    near = strong.codes[order][arranged]
    begins, ends = np.searchsorted(near, grams.codes, "left"), np.searchsorted(near, grams.codes, "right")
    totals = np.append(0.0, np.cumsum(expected[arranged]))
    there = _NEAR / max(1, len(strong)) * (ends - begins)
    sums_there = _NEAR / max(1, len(strong)) * (totals[ends] - totals[begins])
    everywhere = (1 - _NEAR) / max(1, counts.tokens) * seen
    certain = np.where(seen < (_PHRASE_COUNT if order else 1), 0.0, seen / (seen + _DOUBT))
    sums = everywhere * grams.above + (1 - _THERE) * there * grams.above + _THERE * sums_there
    return certain * (everywhere + there), certain * sums


def _best(weights: Floats, sums: Floats, room: Ints, most: int) -> list[int]:
    """The places of those that remove most squared error for each character."""
    rates = sums**2 / np.maximum(weights, _NOTHING) / room
    [some] = np.nonzero(rates)
    return some[np.argsort(-rates[some], kind="stable")[:most]].tolist()


@dataclass(frozen=True)
class _Singles:
    """A vocabulary's tokens as words. of_token [tokens]: the place of each one's in `spoken`.

    anywhere [words]: the place of the same word without the mark of what counts only inside a word, −1 without such a mark. room [words].
    """

    spoken: list["_Spoken"]
    of_token: Ints
    anywhere: Ints
    room: Ints


@lru_cache(maxsize=2)
def _singles(vocab: Vocab) -> _Singles:
    places: dict[str, int] = {}
    spoken: list[_Spoken] = []

    def place(one: _Spoken) -> int:
        if one.word not in places:
            places[one.word] = len(spoken)
            spoken.append(one)
        return places[one.word]

    of_token = [place(_of_pieces((piece,))) for piece in vocab.pieces(range(vocab.size))]
    anywhere = [place(_Spoken(one.anywhere, (), room_of(one.anywhere))) if one.anywhere else -1 for one in list(spoken)]
    anywhere += [-1] * (len(spoken) - len(anywhere))
    return _Singles(spoken, np.array(of_token, np.int64), np.array(anywhere, np.int64), np.array([one.room for one in spoken], np.int64))


def _add_singles(
    singles: _Singles, tokens: Ints, weights: Floats, sums: Floats, found: dict[str, list[float]], spoken: list["_Spoken"]
) -> None:
    """Adds the best words of single tokens, each in all its spellings."""
    size = len(singles.spoken)
    words = singles.of_token[tokens]
    total = np.bincount(words, weights, size).astype(np.float64)
    above = np.bincount(words, sums, size).astype(np.float64)
    anywhere = singles.anywhere[words]
    marked = anywhere >= 0
    total += np.bincount(anywhere[marked], weights[marked], size)
    above += np.bincount(anywhere[marked], sums[marked], size)
    best = np.array(_best(total, above, singles.room, CANDIDATES[0]), np.int64)
    plain = singles.anywhere[best]
    for at in dict.fromkeys([*best.tolist(), *plain[plain >= 0].tolist()]):
        if singles.spoken[at].word:
            found[singles.spoken[at].word] = [float(total[at]), float(above[at])]
            spoken.append(singles.spoken[at])


@dataclass(frozen=True)
class _Spoken:
    """A gram as it is written. tails: what is read in its place where it is not said, in that order. room: see `room_of`."""

    word: str
    tails: tuple[str, ...]
    room: int

    @property
    def anywhere(self) -> str:
        """Without the mark of what only counts inside a word; empty where there is none."""
        return self.tails[0] if self.word.startswith(INSIDE) and self.tails else ""


def _of_pieces(pieces: tuple[str, ...]) -> _Spoken:
    words: list[str] = []
    for skip in range(len(pieces)):
        word = _written(pieces[skip:])
        words += [word, word[len(INSIDE) :]] if word.startswith(INSIDE) else [word]
    return _Spoken(words[0], tuple(words[1:]), room_of(words[0]))


_spoken = lru_cache(maxsize=50_000)(_of_pieces)
"""Units of one model share most of their words."""


def _written(pieces: Sequence[str]) -> str:
    """A gram between stars; a token that can only go on with a word is marked so."""
    word = speak(pieces)
    # A capital mostly begins a word, at the start of a line or after a bracket.
    return f"{INSIDE}{word}" if word and is_inside(pieces[0], "a") and not pieces[0][:1].isupper() else word
