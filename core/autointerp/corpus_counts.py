"""How often tokens and their left contexts occur in a slice, counted once and looked up many times."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from core.autointerp.pattern import fold
from core.store.texts import SliceText
from core.vocab import Vocab

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
    """Occurrences of every gram of a slice. Tokens before `first` of a context (a BOS) are no context and are not counted.

    codes[n]: the distinct grams with n left neighbours, ascending, after −1, which stands for no gram. ids[n] [tokens of the slice]: the
    place among them of the gram that ends at each token. shorter[n]: for each of them the place, among those with n − 1 left neighbours, of
    the gram without its leftmost token; of single tokens 0.
    """

    def __init__(self, text: SliceText, first: int) -> None:
        self.text, self.first = text, first
        self.base = int(text.tokens.max(initial=0)) + 1
        whole = self.grams_of(text.tokens.astype(np.int64), self._places())
        self.tokens = len(whole)
        codes: list[Ints] = []
        ids: list[npt.NDArray[np.int32]] = []
        for found in whole.codes:
            known, place = np.unique(np.append(found, -1), return_inverse=True)
            codes.append(known)
            ids.append(place[:-1].astype(np.int32))
        self.codes, self.ids = tuple(codes), tuple(ids)
        without = (np.searchsorted(codes[order - 1], codes[order] // self.base) for order in range(1, ORDERS))
        self.shorter = (np.zeros(len(codes[0]), np.int64), *without)
        self._words: tuple[Vocab, Ints, list[str]] | None = None
        self._counts = tuple(np.bincount(place, minlength=len(known)) for place, known in zip(ids, codes, strict=True))

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
        known = self.codes[order]
        at = np.minimum(np.searchsorted(known, codes), len(known) - 1)
        return np.where((known[at] == codes) & (codes >= 0), self._counts[order][at], 0)

    def within(self, contexts: Ints) -> Grams:
        """All grams of some contexts."""
        starts = self.text.offsets[contexts] + self.first
        lengths = np.maximum(self.text.offsets[contexts + 1] - starts, 0)
        ends = np.cumsum(lengths)
        positions = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - lengths, lengths) + self.first
        return self.grams(np.repeat(contexts, lengths), positions)

    def tokens_of(self, order: int, codes: Ints) -> list[tuple[int, ...]]:
        """The token ids of grams of `order` left neighbours, each in reading order."""
        columns: list[list[int]] = []
        for _ in range(order):
            codes, left = np.divmod(codes, self.base)
            columns.append(left.tolist())
        return list(zip(*columns, codes.tolist(), strict=True))

    def words(self, vocab: Vocab) -> tuple[Ints, list[str]]:
        """The words (see `fold`) of the single tokens, made once for a vocabulary: the place of each token's among them, and the words.

        As `codes[0]` has the tokens; that of no gram is the word 0 as well.
        """
        if self._words is None or self._words[0] is not vocab:
            places: dict[str, int] = {}
            pieces = vocab.pieces(self.codes[0][1:].tolist())
            numbers = [places.setdefault(fold(piece), len(places)) for piece in pieces]
            self._words = vocab, np.array([0, *numbers], np.int64), list(places)
        return self._words[1:]

    def codes_of(self, grams: Sequence[tuple[int, ...]] | Ints) -> Ints:
        """The codes of grams of one length, each in reading order; −1 where a token does not occur in the slice's range."""
        ids = np.asarray(grams, np.int64)
        codes = ids[:, -1]
        for back in range(1, ids.shape[1]):
            codes = codes * self.base + ids[:, -1 - back]
        return np.where(((ids >= 0) & (ids < self.base)).all(axis=1), codes, -1)

    def _places(self) -> Ints:
        lengths = np.diff(self.text.offsets)
        return np.arange(len(self.text.tokens)) - np.repeat(self.text.offsets[:-1], lengths) - self.first
