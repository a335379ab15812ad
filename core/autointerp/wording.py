"""Choosing the words of a pattern's sentence: those that explain most of the unit's activity for the room they take."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from core.autointerp.corpus_counts import ORDERS, SliceCounts
from core.autointerp.pattern import Pattern
from core.autointerp.sentence import INSIDE, LIMIT, is_inside, level_of, say, speak
from core.vocab import Vocab

Ints = npt.NDArray[np.int64]
CANDIDATES = 400
_STARS = 4
"""Characters that a word takes beside its own: stars, comma, space."""


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

    Greedy: each step takes the word that removes most squared error for each character, given the words already taken.
    """
    candidates = _candidates(pattern, counts, contexts, vocab)
    top = max((candidate.value for candidate in candidates), default=0.0) - pattern.level
    if top <= 0:
        return say([])
    chosen: dict[str, float] = {}
    left = list(candidates)
    while left:
        gains = [_gain(candidate, chosen, top, pattern.level) / (len(candidate.word) + _STARS) for candidate in left]
        best = int(np.argmax(gains))
        if gains[best] <= 0:
            break
        candidate = left.pop(best)
        share = level_of((candidate.value - pattern.level) / top)
        longer = chosen | {candidate.word: share}
        if len(say(_ordered(longer))) <= limit:
            chosen = longer
    return say(_ordered(chosen))


def _gain(candidate: _Candidate, chosen: dict[str, float], top: float, level: float) -> float:
    """Squared error that saying the word removes, as a share of the strongest activation's."""
    true = (candidate.value - level) / top
    now = chosen.get(candidate.tail, 0.0) if candidate.tail else 0.0
    return candidate.weight * ((true - now) ** 2 - (true - level_of(true)) ** 2)


def _ordered(chosen: dict[str, float]) -> list[tuple[str, float]]:
    return sorted(chosen.items(), key=lambda item: -item[1])


def _candidates(pattern: Pattern, counts: SliceCounts, contexts: Ints, vocab: Vocab) -> list[_Candidate]:
    by_word: dict[str, list[tuple[float, float, str]]] = {}
    strong = counts.within(contexts)
    for order in range(ORDERS):
        keys = [ids for ids in pattern.rules if len(ids) == order + 1]
        if not keys:
            continue
        codes = np.array([counts.code_of(ids) for ids in keys])
        everywhere = counts.count(order, codes) / max(1, counts.tokens)
        near = np.sort(strong.codes[order])
        there = (np.searchsorted(near, codes, "right") - np.searchsorted(near, codes, "left")) / max(1, len(strong))
        for ids, a, b in zip(keys, everywhere.tolist(), there.tolist(), strict=True):
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
