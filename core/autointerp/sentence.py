"""A pattern as a sentence, and back: “Fires on *fight/combat/not all* 10–6, *…ing/?* 3; below usual on *the/of* 2–4.”

Words stand between stars with slashes between them, `\\*` for a star itself and `\\/` for a slash; `…` before one means that it only counts
inside a word. A phrase counts on its last token. The number after words is the activation that they stand for, 10 for the strongest,
counted from the unit's level, and below it after *below usual*; of two numbers the first is that of the first word, the second that of the
last, with even steps between. What is expected of a token is felt a little on those after it.

People and models write words each between stars of its own or with commas between them, *strongly*, *clearly*, *weakly* and so on before
them, or a number in brackets after them: (10), (−4). Between such stars a slash is only a slash. Whatever is written in one of these ways
can be simulated without a language model.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from core.autointerp import notation
from core.autointerp.explanation import Floats
from core.autointerp.notation import DASH, END, NUMBER, WORDS, unescaped
from core.autointerp.pattern import trace
from core.vocab import visible

GRAMMAR = 4
"""Number of the rules by which `read` reads: raise it when a sentence would be read differently."""
LIMIT = 300
"""Characters of a printed sentence."""
STEPS = 10
"""The number said after the words that are strongest; as far below the unit's level it is −STEPS."""
LASTS = 0.06
"""The share of what is said of a token that is added to the next one, pattern.FADES times as much to each one after it. A number of the
unit's own, as `Pattern.lasts`, would take room and predict no better."""
LEVELS: Mapping[str, float] = {
    "strongly": 10.0, "clearly": 6.0, "weakly": 3.0, "not": 0.0, "below usual": -3.0, "well below usual": -6.0, "far below usual": -10.0,
}  # fmt: skip
"""What a person's or a model's words for a level stand for."""
MOST_TOKENS = 8
INSIDE = "…"
_NAMES = "|".join(name.replace(" ", r"\s+") for name in LEVELS)
# An escaped character begins nothing: a star of many in a row would otherwise be looked at from each of them.
_SAID = re.compile(
    rf"\\.|\b({_NAMES})\b|\*({WORDS})\*(?:\s*\(([−–+-]?\d+)\)|[ ]({NUMBER})(?:{DASH}(\d{{1,2}}))?{END})?",
    re.IGNORECASE,
)
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
        """The expected activation on each token: what is said of it, and some of what is said of those before it."""
        said = self.said(pieces)
        return np.clip(said + LASTS * trace(said), -STEPS, STEPS)

    def said(self, pieces: Sequence[str]) -> Floats:
        """What is said of each token by itself, 0 where the sentence says nothing. Longer phrases go first."""
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


@dataclass(frozen=True)
class Stretch:
    """Words in a row whose activations go in even steps from `first` to `last`, both whole and on one side of 0; one word's is `first`."""

    words: Sequence[str]
    first: int
    last: int


def say(stretches: Iterable[Stretch]) -> str:
    """The sentence for words, those above the unit's level first, otherwise in the order given."""
    above: list[str] = []
    below: list[str] = []
    for one in stretches:
        (below if min(one.first, one.last) < 0 else above).append(f"*{'/'.join(map(_escape, one.words))}* {_mark(one)}")
    parts = [f"{name}{', '.join(said)}" for name, said in ((_ABOVE, above), (_BELOW, below)) if said]
    return f"Fires{';'.join(parts)}." if parts else _EMPTY


def _mark(stretch: Stretch) -> str:
    first, last = abs(stretch.first), abs(stretch.last)
    return str(first) if len(stretch.words) == 1 or first == last else f"{first}–{last}"


def room_of(word: str) -> int:
    """Characters that a word adds to a stretch, the slash before it among them."""
    return len(_escape(word)) + 1


def read(sentence: str) -> Words:
    """What a sentence says. Words without a number or a level before them are strong; of two values for one word the first counts.

    A number is that of all words before it with nothing but commas between them.
    """
    level, values = LEVELS["strongly"], dict[str, float]()
    waiting: list[str] = []
    end = 0

    def settle(first: float, last: float) -> None:
        for word, value in zip(waiting, np.linspace(first, last, len(waiting)).tolist(), strict=True):
            values.setdefault(word, value)
        waiting.clear()

    for match in _SAID.finditer(sentence):
        name, words, bracketed, first, last = match.groups()
        if name is not None:
            settle(level, level)
            level = LEVELS[" ".join(name.casefold().split())]
        elif words is not None:
            if sentence[end : match.start()].strip() != ",":
                settle(level, level)
            waiting += _apart(words, slashed=first is not None)
            end = match.end()
            if bracketed is not None or first is not None:
                step = _number(bracketed or first)
                towards = step if last is None else math.copysign(_number(last), step)
                if max(abs(step), abs(towards)) > STEPS:
                    step = towards = level
                elif first is not None and first.isdigit() and level < 0:
                    step, towards = -step, -towards
                settle(step, towards)
    settle(level, level)
    return Words(values)


def _number(written: str) -> float:
    return float(re.sub("[−–]", "-", written[:_DIGITS]))


def _apart(between_stars: str, *, slashed: bool) -> list[str]:
    """The words between a pair of stars."""
    parts = notation.slashed(between_stars) if slashed else [between_stars]
    said = [one for part in parts for one in _BETWEEN.split(part) if one.strip() or one == between_stars]  # none after a last comma
    words = [unescaped(one) for one in said]
    return [word.strip(" ").casefold() if word.strip() else word for word in words]


def _escape(word: str) -> str:
    return _BETWEEN.sub(r"\\, ", word.replace("\\", "\\\\").replace("*", "\\*").replace("/", "\\/"))
