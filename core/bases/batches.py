"""Contexts of a slice as the model takes them: tokens, and which of their positions count."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from core.bases.held_out import Ranks
from core.corpus.slice import Slice


@dataclass(frozen=True)
class Batch:
    """tokens: int64 [contexts, length], padded on the right. counted: bool of the same shape, off for a BOS and for padding.

    first: the first position that is no BOS.
    """

    tokens: Tensor
    counted: Tensor
    first: int


def batches(piece: Slice, ranks: Ranks, contexts: int) -> Iterator[Batch]:
    """The contexts of `ranks` in their order, so many at a time."""
    for start in range(0, len(ranks), contexts):
        chosen = ranks[start : start + contexts]
        lengths = piece.lengths[chosen]
        width = int(lengths.max())
        place = np.arange(width)
        counted = (place >= piece.first) & (place < lengths[:, None])
        yield Batch(torch.from_numpy(piece.tokens[chosen, :width].astype(np.int64)), torch.from_numpy(counted), piece.first)


def count_tokens(piece: Slice, ranks: Ranks) -> int:
    """How many positions of these contexts count."""
    return int(np.maximum(piece.lengths[ranks].astype(np.int64) - piece.first, 0).sum())
