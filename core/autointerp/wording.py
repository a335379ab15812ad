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
CANDIDATES = 400
_STARS = 4
"""Characters that a word takes beside its own: stars, comma, space."""
_HEIGHTS = (1.0, 0.7, 0.5, 0.35, 0.25)
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
    removed = 0.0
    room = [len(candidate.word) + _STARS for candidate in candidates]
    gains = [_gain(candidate, chosen, top, level) for candidate in candidates]
    while True:
        best = int(np.argmax([gain / characters for gain, characters in zip(gains, room, strict=True)]))
        if gains[best] <= 0:
            return removed * top**2, say(_ordered(chosen))
        candidate = candidates[best]
        longer = chosen | {candidate.word: level_of((candidate.value - level) / top)}
        if len(say(_ordered(longer))) <= limit:
            chosen, removed = longer, removed + gains[best]
            for at, other in enumerate(candidates):
                if other.tail == candidate.word and gains[at] > 0:
                    gains[at] = _gain(other, chosen, top, level)
        gains[best] = 0.0


def _gain(candidate: _Candidate, chosen: dict[str, float], top: float, level: float) -> float:
    """Squared error that saying the word removes, as a share of `top` squared."""
    true = (candidate.value - level) / top
    now = chosen.get(candidate.tail, 0.0) if candidate.tail else 0.0
    return candidate.weight * ((true - now) ** 2 - (true - level_of(true)) ** 2)


def _ordered(chosen: dict[str, float]) -> list[tuple[str, float]]:
    return sorted(chosen.items(), key=lambda item: -item[1])


def _candidates(pattern: Pattern, counts: SliceCounts, contexts: Ints, vocab: Vocab) -> list[_Candidate]:
    by_word: dict[str, list[tuple[float, float, str]]] = {}
    strong = counts.within(contexts)
    for order in range(2):
        keys = [ids for ids in pattern.rules if len(ids) == order + 1]
        if not keys:
            continue
        codes = np.array([counts.code_of(ids) for ids in keys])
        seen = counts.count(order, codes)
        everywhere = np.where(seen >= (_PHRASE_COUNT if order else 1), seen, 0) / max(1, counts.tokens)
        near = np.sort(strong.codes[order])
        there = (np.searchsorted(near, codes, "right") - np.searchsorted(near, codes, "left")) / max(1, len(strong))
        for ids, a, b in zip(keys, everywhere.tolist(), there.tolist(), strict=True):
            if a == 0:
                continue
            pieces = vocab.pieces(ids)
            word, tail = _written(pieces), _written(pieces[1:]) if order else ""
            by_word.setdefault(word, []).append(((a + b) / 2, pattern.rules[ids], tail))
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
    return f"{INSIDE}{word}" if is_inside(pieces[0], "a") and word else word
