"""A pattern as a sentence, and back: “Fires strongly on *fight*, *not all*; clearly on *war*; weakly on *…ing*.”

Words stand between stars, `\\*` for a star itself; `…` before one means that it only counts inside a word. A phrase counts on its last
token. Whatever a person or a model writes in this way can be simulated without a language model.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from core.autointerp.explanation import Floats
from core.vocab import visible

LIMIT = 300
"""Characters of a printed sentence."""
LEVELS: tuple[tuple[str, float, float], ...] = (("strongly", 1.0, 0.78), ("clearly", 0.6, 0.44), ("weakly", 0.3, 0.18), ("not", 0.0, 0.0))
"""A word for a level, the share of the strongest that it stands for, and the least share that is printed so."""
MOST_TOKENS = 8
INSIDE = "…"
_SAID = re.compile(r"\b(strongly|clearly|weakly|not)\b|\*((?:\\.|[^*\\\n])+)\*", re.IGNORECASE)
_EMPTY = "No token or short phrase predicts it."


@dataclass(frozen=True)
class Words:
    """What a sentence says: words and phrases -> the expected activation, 0 to 10."""

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
    shown = "".join(one if one == " " and inner else visible(one) for one in (inner or joined).casefold())
    # Once more without capitals, which the names of invisible characters have, because `read` takes them away.
    return shown.casefold()


def is_inside(piece: str, before: str) -> bool:
    """Whether a token goes on with a word that the one before it began."""
    return piece[:1].isalpha() and before[-1:].isalpha()


def say(rules: Sequence[tuple[str, float]]) -> str:
    """The sentence for words and their shares of the strongest, in the order given."""
    parts: list[str] = []
    for name, _, least in LEVELS:
        upper = next((low for *_, low in reversed(LEVELS) if low > least), float("inf"))
        words = [f"*{_escape(word)}*" for word, share in rules if least <= share < upper]
        if words:
            parts.append(f"{name} on {', '.join(words)}")
    return f"Fires {'; '.join(parts)}." if parts else _EMPTY


def read(sentence: str) -> Words:
    """What a sentence says. Words before the first level are strong; of two values for one word the first counts."""
    shares = {name: 10 * share for name, share, _ in LEVELS}
    level, values = shares["strongly"], dict[str, float]()
    for match in _SAID.finditer(sentence):
        if match[1] is not None:
            level = shares[match[1].lower()]
        else:
            word = re.sub(r"\\(.)", r"\1", match[2])
            values.setdefault(word if not word.strip() else word.strip(" ").casefold(), level)
    return Words(values)


def level_of(share: float) -> float:
    """The share that a printed level stands for."""
    return next((stands for _, stands, least in LEVELS if share >= least), 0.0)


def _escape(word: str) -> str:
    return word.replace("\\", "\\\\").replace("*", "\\*")
