"""Ranking: BM25 (Robertson and Zaragoza 2009, Lucene's variant) over the words of one part, with PyPI `bm25s`.

bm25s keeps, for each word, the documents that hold it with their score. Here that score is the word's frequency in the document alone,
tf / (k1 (1 − b + b · length / average) + tf); how rare the word is, log(1 + (N − n + ½) / (n + ½)), is multiplied when somebody asks,
because N and n are counted over all parts.
"""

import math
import sys
from bisect import bisect_left
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

K1, B = 1.5, 0.75
_NOT_WANTED = ("numba", "scipy", "jax", "tqdm")

Array = npt.NDArray[Any]


class DamagedRanking(Exception):
    """The files of a ranking cannot be read, or do not belong together."""


class Ranking:
    """Which documents of a part hold which word, and how much of it."""

    def __init__(self, bm25: Any) -> None:
        """Use `build` or `load`."""
        self._bm25 = bm25
        self._ids: dict[str, int] = bm25.vocab_dict
        self._words = tuple(self._ids)  # in alphabetical order, by their ids
        bm25.unique_token_ids_set = None  # not used here, and the garbage collector would walk over it after every page view
        self._offsets: Array = bm25.scores["indptr"]

    @classmethod
    def build(cls, words: Sequence[str], held: Array, lengths: Array, averages: Array) -> "Ranking":
        """words: all there are, in alphabetical order. held: the words of all documents end to end, as places in `words`.

        lengths: how many of them each document has, shape (documents,). averages: the mean length of documents like it, same shape.
        """
        bm25 = library().BM25(k1=K1, b=B, method="lucene", backend="numpy")
        # One number for each word of each document: sorted, equal ones lie together, by word and then by document.
        pairs = held.astype(np.int64)
        pairs <<= 32
        pairs |= np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
        pairs.sort()
        first = np.flatnonzero(np.concatenate([[True], pairs[1:] != pairs[:-1]])[: len(pairs)])
        counts = np.diff(first, append=len(pairs))
        pairs = pairs[first]
        at = (pairs & 0xFFFFFFFF).astype(np.int32)
        norm = K1 * (1 - B + B * lengths / np.maximum(averages, 1))
        bm25.scores = {
            "data": (counts / (norm[at] + counts)).astype(np.float32),
            "indices": at,
            "indptr": np.searchsorted(pairs >> 32, np.arange(len(words) + 1)).astype(np.int64),
            "num_docs": len(lengths),
        }
        bm25.vocab_dict = {word: place for place, word in enumerate(words)}
        bm25.nonoccurrence_array = None  # what variants need that score absent words
        return cls(bm25)

    @property
    def documents(self) -> int:
        return int(self._bm25.scores["num_docs"])

    def holding(self, word: str) -> int:
        """How many documents hold a word."""
        place = self._ids.get(word)
        return 0 if place is None else int(self._offsets[place + 1] - self._offsets[place])

    def beginning(self, start: str) -> list[tuple[str, int]]:
        """The words that begin with `start`, longer ones only, each with how many documents hold it."""
        first, end = bisect_left(self._words, start), bisect_left(self._words, start + "\U0010ffff")
        counts = np.diff(self._offsets[first : end + 1]).tolist()
        return [(word, count) for word, count in zip(self._words[first:end], counts, strict=True) if word != start]

    def scores(self, words: Iterable[str]) -> Array | None:
        """The frequency scores of some words, summed, float32, shape (documents,); None when no document holds any."""
        places = [self._ids[word] for word in words if word in self._ids]
        return self._bm25.get_scores_from_ids(places) if places else None

    def save(self, folder: Path) -> None:
        """Write npy and JSON files into an empty folder."""
        self._bm25.save(folder, show_progress=False)

    @classmethod
    def load(cls, folder: Path) -> "Ranking":
        """What `save` wrote, memory-mapped; nothing in it is a pickle. Raises DamagedRanking."""
        try:
            bm25 = library().BM25.load(folder, mmap=True, allow_pickle=False, show_progress=False)
            loaded = cls(bm25)
            loaded._check()
        except (OSError, ValueError, TypeError, KeyError, AttributeError, EOFError) as error:
            raise DamagedRanking(str(error)) from None
        return loaded

    def _check(self) -> None:
        """Whatever a file holds, no question may fail on it. Raises ValueError."""
        data, at, offsets = (self._bm25.scores[name] for name in ("data", "indices", "indptr"))
        if (data.dtype, at.dtype, offsets.dtype) != (np.float32, np.int32, np.int64) or data.ndim + at.ndim + offsets.ndim != 3:
            raise ValueError("arrays of other types")
        if len(data) != len(at) or len(offsets) != len(self._words) + 1 or list(self._ids.values()) != list(range(len(self._words))):
            raise ValueError("arrays of other lengths")
        if offsets[0] != 0 or offsets[-1] != len(at) or (np.diff(offsets) < 0).any():
            raise ValueError("words without an end")
        if len(at) and (at.min() < 0 or at.max() >= self.documents):
            raise ValueError("documents that there are not")


def rarity(documents: int, holding: int) -> float:
    """What holding a word is worth that `holding` of `documents` hold."""
    return math.log(1 + (documents - holding + 0.5) / (holding + 0.5))


@cache
def library() -> Any:
    """The module bm25s, without the packages that it takes along where they are installed: numba alone would double the dashboard's memory.

    What is used of it here needs numpy only.
    """
    with _hidden(_NOT_WANTED):
        import bm25s
    return bm25s


@contextmanager
def _hidden(names: Sequence[str]) -> Generator[None]:
    """Make importing some packages fail, as if they were not installed."""
    before = {name: sys.modules.get(name) for name in names}
    sys.modules.update(dict.fromkeys(names))  # pyright: ignore[reportArgumentType, reportCallIssue] - None says “not there”
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
