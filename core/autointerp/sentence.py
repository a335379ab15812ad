"""A pattern as a sentence, and back: “Fires on *fight, combat, not all* (10), *…ing*, *?* (3); below usual on *the, of* (−4).”

Words stand between stars, `\\*` for a star itself, one to a pair or several with commas between them; `…` before one means that it only
counts inside a word. A phrase counts on its last token. The number after words is the activation that they stand for, 10 for the strongest,
counted from the unit's level; people and models may write *strongly*, *clearly*, *weakly* and so on before them instead. Whatever is
written in this way can be simulated without a language model.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from core.autointerp.explanation import Floats
from core.vocab import visible

GRAMMAR = 3
"""Number of the rules by which `read` reads: raise it when a sentence would be read differently."""
LIMIT = 300
"""Characters of a printed sentence."""
STEPS = 10
"""The number said after the words that are strongest; −STEPS is as far below the unit's level."""
LEVELS: Mapping[str, float] = {
    "strongly": 10.0, "clearly": 6.0, "weakly": 3.0, "not": 0.0, "below usual": -3.0, "well below usual": -6.0, "far below usual": -10.0,
}  # fmt: skip
"""What a person's or a model's words for a level stand for."""
MOST_TOKENS = 8
INSIDE = "…"
_NAMES = "|".join(name.replace(" ", r"\s+") for name in LEVELS)
# An escaped character begins nothing: a star of many in a row would otherwise be looked at from each of them.
_SAID = re.compile(rf"\\.|\b({_NAMES})\b|\*((?:\\.|[^*\\\n])+)\*(?:\s*\(([−–+-]?\d+)\))?", re.IGNORECASE)
# Only after a letter or a digit does a comma separate: elsewhere it is a word of its own, as in *), and*, and needs no mark.
_BETWEEN = re.compile(r"(?<=[^\W_]), ")
_EMPTY = "No token or short phrase predicts it."
_DIGITS = 4
"""As many characters of a number as it takes to see that it is none of the steps."""
_ABOVE, _BELOW = " on ", " below usual on "


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


def say(rules: Iterable[tuple[str, int]]) -> str:
    """The sentence for words and their steps, −STEPS to STEPS, in the order given."""
    words: dict[int, list[str]] = {}
    for word, step in rules:
        words.setdefault(step, []).append(word)
    groups = {step: f"{_between_stars(words[step])} {_mark(step)}" for step in sorted(words, reverse=True)}
    above = ", ".join(group for step, group in groups.items() if step >= 0)
    below = ", ".join(group for step, group in groups.items() if step < 0)
    parts = [f"{name}{said}" for name, said in ((_ABOVE, above), (_BELOW, below)) if said]
    return f"Fires{';'.join(parts)}." if parts else _EMPTY


def _mark(step: int) -> str:
    return f"({step})" if step >= 0 else f"(−{-step})"


def _between_stars(words: Sequence[str]) -> str:
    """Words that end in a letter or a digit within one pair of stars, each of the others within its own."""
    shared = [_escape(word) for word in words if shares_stars(word)]
    groups = [", ".join(shared)] if shared else []
    return ", ".join(f"*{group}*" for group in [*groups, *(_escape(word) for word in words if not shares_stars(word))])


def read(sentence: str) -> Words:
    """What a sentence says. Words without a number or a level before them are strong; of two values for one word the first counts.

    A number is that of all words before it with nothing but commas between them.
    """
    level, values = LEVELS["strongly"], dict[str, float]()
    waiting: list[str] = []
    end = 0

    def settle(value: float) -> None:
        for word in waiting:
            values.setdefault(word, value)
        waiting.clear()

    for match in _SAID.finditer(sentence):
        if match[1] is not None:
            settle(level)
            level = LEVELS[" ".join(match[1].casefold().split())]
        elif match[2] is not None:
            if sentence[end : match.start()].strip() != ",":
                settle(level)
            waiting += _apart(match[2])
            end = match.end()
            if match[3] is not None:
                step = int(re.sub("[−–]", "-", match[3][:_DIGITS]))
                settle(float(step) if abs(step) <= STEPS else level)
    settle(level)
    return Words(values)


def _apart(between_stars: str) -> list[str]:
    """The words between a pair of stars."""
    said = [one for one in _BETWEEN.split(between_stars) if one.strip() or one == between_stars]  # none after a last comma
    words = [re.sub(r"\\(.)", r"\1", one) for one in said]
    return [word.strip(" ").casefold() if word.strip() else word for word in words]


def room(steps: Collection[int]) -> int:
    """Characters of a sentence besides its words, when these are on `steps`; what `room_of` says of each word comes to it."""
    above, below = any(step >= 0 for step in steps), any(step < 0 for step in steps)
    # The comma that `room_of` counts before each word is not there before the first of either part.
    frame = len("Fires.") + above * (len(_ABOVE) - 2) + below * (len(_BELOW) - 2) + (above and below)
    return frame + sum(1 + len(_mark(step)) for step in steps)


def room_of(word: str) -> int:
    """Characters that a word adds to its level in a sentence, the comma before it among them."""
    return len(_escape(word)) + (2 if shares_stars(word) else 4)


def shares_stars(word: str) -> bool:
    """Whether the word can stand within one pair of stars with others."""
    return word[-1:].isalnum()


def _escape(word: str) -> str:
    return _BETWEEN.sub(r"\\, ", word.replace("\\", "\\\\").replace("*", "\\*"))
