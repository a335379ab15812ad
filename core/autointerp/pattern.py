"""Patterns: tokens and their left contexts with the mean activation there. The explanation that needs no language model.

A pattern predicts an activation from the longest left context it knows, backing off to shorter ones (Katz 1987), to the same word in other
spellings, and to the unit's level elsewhere. Of what it expects it adds some to the tokens after, because a topic lasts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, groupby
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
FADES = 0.7
"""What is left of an expectation's trace, one token later. Part of the stored format: another number would change what is predicted from
patterns that are there."""


@dataclass(frozen=True)
class Pattern:
    """rules: the ids of a token, after at most two left neighbours, in reading order -> the mean activation expected on its last token.

    words: the same for a token's `fold`, for tokens that were never seen themselves. level: what is expected anywhere else. lasts: the
    share of what was expected above the level that is added to the next token, FADES times as much to each one after it.
    """

    rules: Mapping[tuple[int, ...], float]
    words: Mapping[str, float]
    level: float
    lasts: float = 0.0

    @cached_property
    def longest(self) -> int:
        return max(map(len, self.rules), default=0)

    def predict(self, ids: Sequence[int], pieces: Sequence[str]) -> Floats:
        """The expected activation on each token, [tokens]."""
        found = np.full(len(ids), self.level)
        for at in range(len(ids)):
            for length in range(min(self.longest, at + 1), 0, -1):
                value = self.rules.get(tuple(ids[at + 1 - length : at + 1]))
                if value is not None:
                    found[at] = value
                    break
            else:
                found[at] = self.words.get(fold(pieces[at]), self.level)
        if self.lasts:
            found += self.lasts * trace(found - self.level)
            if self._never_below:
                np.maximum(found, 0.0, out=found)
        return found

    @cached_property
    def _never_below(self) -> bool:
        """Whether nothing below 0 is expected of any token by itself, as of a feature of a sparse dictionary."""
        return min((self.level, *self.rules.values(), *self.words.values())) >= 0

    def tokens_only(self) -> "Pattern":
        """The same without left contexts, without other spellings and without what lasts: a token lookup table."""
        return Pattern({ids: value for ids, value in self.rules.items() if len(ids) == 1}, {}, self.level)

    def to_json(self) -> dict[str, Any]:
        """The rules by length, as columns: of the ids in reading order, then of the activations. Lists of few numbers would take long."""
        columns: list[list[Any]] = []
        for length, group in groupby(sorted(self.rules, key=len), key=len):
            keys = list(group)
            ids = list(chain.from_iterable(keys))
            columns.append([*(ids[place::length] for place in range(length)), list(map(self.rules.__getitem__, keys))])
        return {"level": self.level, "lasts": self.lasts, "columns": columns, "words": dict(self.words)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Pattern":
        """Raises ValueError, KeyError or TypeError for what `to_json` did not write.

        Reads what was once written, too: `rules`, each a list, and nothing that lasts.
        """
        rules = {tuple(int(token) for token in rule[:-1]): float(rule[-1]) for rule in document.get("rules", ())}
        for *ids, values in document["columns"] if "rules" not in document else ():
            rules.update(zip(zip(*(map(int, column) for column in ids), strict=True), map(float, values), strict=True))
        words = {str(word): float(value) for word, value in document["words"].items()}
        lasts = float(document.get("lasts", 0.0))
        if not 0 <= lasts <= 1:
            raise ValueError("lasts")
        return cls(rules, words, float(document["level"]), lasts)


def trace(above: Floats) -> Floats:
    """At each token Σ FADES^(t − s − 1) · above[s] over the tokens s before it, [tokens]."""
    found, held = np.empty(len(above)), 0.0
    for at, value in enumerate(above.tolist()):
        found[at] = held
        held = FADES * held + value
    return found


def fold(piece: str) -> str:
    """A token's word: without the spaces around it and without capitals."""
    return piece.strip().casefold()
