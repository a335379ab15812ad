"""Which contexts a dictionary is trained on and which it is measured on. By document, so that no text is in both. No torch."""

import hashlib

import numpy as np
import numpy.typing as npt

from core.corpus.slice import Slice

SHARE = 20
"""One document in so many is held out."""

Ranks = npt.NDArray[np.int64]


def split(piece: Slice) -> tuple[Ranks, Ranks]:
    """Ranks of the contexts for training, and of those held out, each in order.

    A document is held out by a hash of its first context's content, so the same document is whatever else the slice holds. When that
    leaves nothing (a slice of few documents), the last document is held out; of a single document, the last twentieth of its contexts.
    """
    documents, first = np.unique(piece.documents, return_index=True)
    if len(documents) == 1:
        cut = len(piece) - max(1, len(piece) // SHARE)
        return np.arange(cut), np.arange(cut, len(piece))
    chosen = np.array([_falls(int(key)) for key in piece.keys[first]])
    if not chosen.any() or chosen.all():
        chosen[:] = False
        chosen[-1] = True
    out = np.isin(piece.documents, documents[chosen])
    return np.flatnonzero(~out), np.flatnonzero(out)


def _falls(key: int) -> bool:
    return int.from_bytes(hashlib.blake2b(key.to_bytes(8, "little"), digest_size=4).digest(), "little") % SHARE == 0
