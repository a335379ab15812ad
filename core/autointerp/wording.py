"""Choosing the words of a pattern's sentence: those that explain most of the unit's activity for the room they take."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from core.autointerp.corpus_counts import SliceCounts
from core.autointerp.pattern import Pattern
from core.autointerp.sentence import INSIDE, LIMIT, is_inside, level_of, say, speak
from core.vocab import Vocab

Ints = npt.NDArray[np.int64]
CANDIDATES = 250
_STARS = 4
"""Characters that a word takes beside its own: stars, comma, space."""
_HEIGHTS = (1.0, 0.7, 0.5, 0.35, 0.25)
_IN_VAIN = 12
"""Words in a row that do not fit any more before the sentence is taken as full."""
_WORTH = 0.003
"""A word has to remove this share of what the words before it remove: a short sentence is read, a full one is not."""
_PHRASE_COUNT = 3
"""A phrase of two tokens is offered when the text has it so often; what comes once or twice says nothing about other text."""


@dataclass
class _Candidate:
    word: str
    tail: str
    """The shorter word that this one refines, "" for a single token."""
    value: float
    weight: float
    """The share of all tokens, half of them drawn from contexts in which the unit is strong, on which this word decides."""


def put_into_words(pattern: Pattern, counts: SliceCounts, contexts: Ints, vocab: Vocab, limit: int = LIMIT) -> str:
    """The sentence, of at most `limit` characters. contexts: those with the unit's strongest positions that the fit could see.

    Greedy: each step takes the word that removes most squared error for each character, given the words already taken. What “strongly”
    stands for is tried at several heights, because a single rare word may stand far above all others.
    """
    candidates = _candidates(pattern, counts, contexts, vocab)
    highest = max((candidate.value for candidate in candidates), default=0.0) - pattern.level
    if highest <= 0:
        return say([])
    tried = [_choose(candidates, pattern.level, highest * height, limit) for height in _HEIGHTS]
    return max(tried, key=lambda found: found[0])[1]


def _choose(candidates: Sequence[_Candidate], level: float, top: float, limit: int) -> tuple[float, str]:
    """The squared error that the best words remove when `top` above the level is “strongly”, and their sentence."""
    chosen: dict[str, float] = {}
    removed, in_vain = 0.0, 0
    room = np.array([len(candidate.word) + _STARS for candidate in candidates])
    gains = np.array([_gain(candidate, chosen, top, level) for candidate in candidates])
    while in_vain < _IN_VAIN and gains.max(initial=0.0) > _WORTH * removed:
        best = int(np.argmax(gains / room))
        candidate = candidates[best]
        longer = chosen | {candidate.word: level_of((candidate.value - level) / top)}
        if len(say(_ordered(longer))) > limit:
            in_vain += 1
        else:
            chosen, removed = longer, removed + float(gains[best])
            for at, other in enumerate(candidates):
                if other.tail == candidate.word and gains[at] > 0:
                    gains[at] = _gain(other, chosen, top, level)
        gains[best] = 0.0
    return removed * top**2, say(_ordered(chosen))


def _gain(candidate: _Candidate, chosen: dict[str, float], top: float, level: float) -> float:
    """Squared error that saying the word removes, as a share of `top` squared."""
    true = (candidate.value - level) / top
    now = chosen.get(candidate.tail, 0.0) if candidate.tail else 0.0
    return candidate.weight * ((true - now) ** 2 - (true - level_of(true)) ** 2)


def _ordered(chosen: dict[str, float]) -> list[tuple[str, float]]:
    return sorted(chosen.items(), key=lambda item: -item[1])


def _candidates(pattern: Pattern, counts: SliceCounts, contexts: Ints, vocab: Vocab) -> list[_Candidate]:
    strong = counts.within(contexts)
    rated: list[tuple[float, float, tuple[int, ...]]] = []
    for order in range(2):
        keys = [ids for ids in pattern.rules if len(ids) == order + 1]
        if not keys:
            continue
        codes = counts.codes_of(keys)
        seen = counts.count(order, codes)
        near = np.sort(strong.codes[order])
        there = (np.searchsorted(near, codes, "right") - np.searchsorted(near, codes, "left")) / max(1, len(strong))
        weights = np.where(seen >= (_PHRASE_COUNT if order else 1), (seen / max(1, counts.tokens) + there) / 2, 0)
        worth = weights * (np.array([pattern.rules[ids] for ids in keys]) - pattern.level) ** 2
        best = np.argsort(-worth)[: 2 * CANDIDATES]
        rated += [(float(worth[at]), float(weights[at]), keys[at]) for at in best if weights[at] > 0]
    rated.sort(reverse=True)
    by_word: dict[str, list[tuple[float, float, str]]] = {}
    for _, weight, ids in rated[: 2 * CANDIDATES]:
        pieces = vocab.pieces(ids)
        tail = _written(pieces[1:]) if len(ids) > 1 else ""
        by_word.setdefault(_written(pieces), []).append((weight, pattern.rules[ids], tail))
    found: list[_Candidate] = []
    for word, parts in by_word.items():
        weight = sum(part[0] for part in parts)
        if word and weight > 0:
            found.append(_Candidate(word, parts[0][2], sum(w * value for w, value, _ in parts) / weight, weight))
    found.sort(key=lambda candidate: -candidate.weight * (candidate.value - pattern.level) ** 2)
    return found[:CANDIDATES]


def _written(pieces: Sequence[str]) -> str:
    """A gram between stars; a token that can only go on with a word is marked so."""
    word = speak(pieces)
    # A capital mostly begins a word, at the start of a line or after a bracket.
    return f"{INSIDE}{word}" if word and is_inside(pieces[0], "a") and not pieces[0][:1].isupper() else word
