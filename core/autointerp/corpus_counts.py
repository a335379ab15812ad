"""How often tokens and their left contexts occur in a slice, counted once and looked up many times."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from core.store.texts import SliceText

Ints = npt.NDArray[np.int64]
ORDERS = 3
"""A token, the token with the one before it, and with the two before it."""


@dataclass(frozen=True)
class Grams:
    """The grams that end at some positions: `codes[n]` [positions] for the token with its n left neighbours, −1 where there are fewer."""

    codes: tuple[Ints, ...]

    def __len__(self) -> int:
        return len(self.codes[0])


class SliceCounts:
    """Occurrences of every gram of a slice. Tokens before `first` of a context (a BOS) are no context and are not counted."""

    def __init__(self, text: SliceText, first: int) -> None:
        self.text, self.first = text, first
        self.base = int(text.tokens.max(initial=0)) + 1
        whole = self.grams_of(text.tokens.astype(np.int64), self._places())
        self.tokens = len(whole)
        self._sorted = tuple(np.sort(codes[codes >= 0]) for codes in whole.codes)

    def grams(self, contexts: npt.ArrayLike, positions: npt.ArrayLike) -> Grams:
        """The grams that end at these positions of these contexts."""
        contexts, positions = np.asarray(contexts, np.int64), np.asarray(positions, np.int64)
        at = self.text.offsets[contexts] + positions
        tokens = self.text.tokens
        codes: list[Ints] = [tokens[at].astype(np.int64)]
        for back in range(1, ORDERS):
            known = positions - back >= self.first
            left = tokens[np.where(known, at - back, 0)].astype(np.int64)
            codes.append(np.where(known & (codes[-1] >= 0), codes[-1] * self.base + left, -1))
        return Grams(tuple(codes))

    def grams_of(self, tokens: Ints, places: Ints) -> Grams:
        """The grams of running text: `tokens` [n] and the place of each in its context, counted from its first data token."""
        codes: list[Ints] = [np.where(places >= 0, tokens, -1)]
        for back in range(1, ORDERS):
            left = np.concatenate([np.zeros(back, np.int64), tokens[:-back]]) if back < len(tokens) else np.zeros(len(tokens), np.int64)
            codes.append(np.where((places >= back) & (left < self.base), codes[-1] * self.base + left, -1))
        return Grams(tuple(codes))

    def count(self, order: int, codes: Ints) -> Ints:
        """How often each gram of `order` left neighbours occurs in the slice."""
        known = self._sorted[order]
        return np.searchsorted(known, codes, "right") - np.searchsorted(known, codes, "left")

    def inside(self, documents: Ints) -> Grams:
        """All grams of the contexts of some documents (numbers of `text.document`)."""
        return self.within(np.flatnonzero(np.isin(self.text.document, documents)))

    def within(self, contexts: Ints) -> Grams:
        """All grams of some contexts."""
        starts = self.text.offsets[contexts] + self.first
        lengths = np.maximum(self.text.offsets[contexts + 1] - starts, 0)
        ends = np.cumsum(lengths)
        positions = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - lengths, lengths) + self.first
        return self.grams(np.repeat(contexts, lengths), positions)

    def tokens_of(self, order: int, code: int) -> tuple[int, ...]:
        """The token ids of a gram in reading order."""
        found: list[int] = []
        for _ in range(order):
            code, left = divmod(code, self.base)
            found.append(left)
        return (*found, code)

    def code_of(self, ids: tuple[int, ...]) -> int:
        """The code of a gram given in reading order; −1 when a token does not occur in the slice's range."""
        if any(not 0 <= token < self.base for token in ids):
            return -1
        code = ids[-1]
        for left in reversed(ids[:-1]):
            code = code * self.base + left
        return code

    def _places(self) -> Ints:
        lengths = np.diff(self.text.offsets)
        return np.arange(len(self.text.tokens)) - np.repeat(self.text.offsets[:-1], lengths) - self.first
