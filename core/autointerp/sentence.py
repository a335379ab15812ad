"""A pattern as a sentence, and back: “Fires strongly on *fight, combat, not all*; weakly on *…ing*, *?*; below usual on *the, of*.”

Words stand between stars, `\\*` for a star itself, one to a pair or several with commas between them; `…` before one means that it only
counts inside a word. A phrase counts on its last token. Whatever a person or a model writes in this way can be simulated without a language
model.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from core.autointerp.explanation import Floats
from core.vocab import visible

GRAMMAR = 2
"""Number of the rules by which `read` reads: raise it when a sentence would be read differently."""
LIMIT = 300
"""Characters of a printed sentence."""
LEVELS: tuple[tuple[str, float, float], ...] = (
    ("strongly", 1.0, 0.78),
    ("clearly", 0.6, 0.44),
    ("weakly", 0.3, 0.18),
    ("not", 0.0, -0.18),
    ("below usual", -0.3, -0.44),
    ("well below usual", -0.6, -0.78),
    ("far below usual", -1.0, -np.inf),
)
"""A word for a level, the share of the strongest that it stands for, counted from the unit's level, and the least share printed so."""
MOST_TOKENS = 8
INSIDE = "…"
_NAMES = "|".join(name.replace(" ", r"\s+") for name, *_ in LEVELS)
# An escaped character begins nothing: a star of many in a row would otherwise be looked at from each of them.
_SAID = re.compile(rf"\\.|\b({_NAMES})\b|\*((?:\\.|[^*\\\n])+)\*", re.IGNORECASE)
# Only after a letter or a digit does a comma separate: elsewhere it is a word of its own, as in *), and*, and needs no mark.
_BETWEEN = re.compile(r"(?<=[^\W_]), ")
_EMPTY = "No token or short phrase predicts it."


@dataclass(frozen=True)
class Words:
    """What a sentence says: words and phrases -> the expected activation, 0 to 10, or down to −10 below the unit's usual level."""

    values: Mapping[str, float]

    def predict(self, pieces: Sequence[str]) -> Floats:
        """The expected activation on each token, 0 where the sentence says nothing. Longer phrases go first."""
        found = np.zeros(len(pieces))
        for at in range(len(pieces)):
            for length in range(min(MOST_TOKENS, at + 1), 0, -1):
                value = self._of(pieces[at + 1 - length : at + 1], pieces[at - length] if at >= length else "")
                if value is not None:
                    found[at] = value
                    break
        return found

    def _of(self, gram: Sequence[str], before: str) -> float | None:
        word = speak(gram)
        if not word:
            return None
        inside = f"{INSIDE}{word}" if is_inside(gram[0], before) else None
        return self.values.get(inside, self.values.get(word)) if inside is not None else self.values.get(word)


def speak(gram: Sequence[str]) -> str:
    """How tokens in a row are written between stars: without the spaces around them and without capitals, everything else visible."""
    joined = "".join(gram)
    inner = joined.strip(" ")
    folded = (inner or joined).casefold()
    if inner and folded.isprintable():
        return folded.casefold()
    shown = "".join(one if one == " " and inner else visible(one) for one in folded)
    # Once more without capitals, which the names of invisible characters have, because `read` takes them away.
    return shown.casefold()


def is_inside(piece: str, before: str) -> bool:
    """Whether a token goes on with a word that the one before it began."""
    return piece[:1].isalpha() and before[-1:].isalpha()


def say(rules: Iterable[tuple[str, float]]) -> str:
    """The sentence for words and their shares of the strongest, in the order given."""
    words: dict[str, list[str]] = {name: [] for name, *_ in LEVELS}
    for word, share in rules:
        words[_level(share)[0]].append(word)
    parts = [f"{name} on {_between_stars(said)}" for name, said in words.items() if said]
    return f"Fires {'; '.join(parts)}." if parts else _EMPTY


def _between_stars(words: Sequence[str]) -> str:
    """Words that end in a letter or a digit within one pair of stars, each of the others within its own."""
    shared = [_escape(word) for word in words if shares_stars(word)]
    groups = [", ".join(shared)] if shared else []
    return ", ".join(f"*{group}*" for group in [*groups, *(_escape(word) for word in words if not shares_stars(word))])


def read(sentence: str) -> Words:
    """What a sentence says. Words before the first level are strong; of two values for one word the first counts."""
    shares = {name: 10 * share for name, share, _ in LEVELS}
    level, values = shares["strongly"], dict[str, float]()
    for match in _SAID.finditer(sentence):
        if match[1] is not None:
            level = shares[" ".join(match[1].casefold().split())]
        elif match[2] is not None:
            for said in _BETWEEN.split(match[2]):
                if not said.strip() and said != match[2]:
                    continue  # after a comma that nothing follows
                word = re.sub(r"\\(.)", r"\1", said)
                values.setdefault(word if not word.strip() else word.strip(" ").casefold(), level)
    return Words(values)


def level_of(share: float) -> float:
    """The share that a printed level stands for."""
    return _level(share)[1]


def room_of(word: str) -> int:
    """Characters that a word adds to its level in a sentence, the comma before it among them."""
    return len(_escape(word)) + (2 if shares_stars(word) else 4)


def shares_stars(word: str) -> bool:
    """Whether the word can stand within one pair of stars with others."""
    return word[-1:].isalnum()


def _level(share: float) -> tuple[str, float, float]:
    return next(level for level in LEVELS if share >= level[2])


def _escape(word: str) -> str:
    return _BETWEEN.sub(r"\\, ", word.replace("\\", "\\\\").replace("*", "\\*"))
