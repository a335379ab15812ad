"""The subject above a residual site: from streams there to the logits of the last position, and what may be kept between such passes.

A pass may begin at a later position than the text does: attention is causal, so the keys and values of the positions before it are those
of any other pass in which the stream was the same up to there.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from core.subject.subject import Subject

KeysValues = list[tuple[Tensor, Tensor]]
"""Of each block above the site: keys and values [rows, heads, positions, width of a head]."""


@dataclass
class Work:
    """What was computed: texts read by the subject above the site, positions of them, and passes."""

    rows: int = 0
    positions: int = 0
    passes: int = 0


class Above:
    """The blocks after `layer`, the final norm and the unembedding, at the last position of each text."""

    def __init__(self, subject: Subject, layer: int, on_pass: Callable[[], None] = lambda: None) -> None:
        """on_pass: called before each pass; where a run hears that it should stop."""
        self.subject = subject
        self.layer = layer
        self.work = Work()
        self._on_pass = on_pass
        self._blocks = range(layer + 1, subject.info.n_layers)

    def logits(self, stream: Tensor, last: Tensor, *, gradient: bool = False) -> Tensor:
        """[rows, vocabulary] for streams [rows, positions, d_model] from the first position on. last: [rows], where each text ends."""
        self._count(stream)
        tokens = torch.zeros(stream.shape[:2], dtype=torch.long)
        with self.subject.going_on_from(self.layer, stream):
            return self.subject.logits(tokens, last[:, None], gradient=gradient)[:, 0]

    def logits_after(self, stream: Tensor, last: Tensor, before: KeysValues, start: int) -> tuple[Tensor, KeysValues]:
        """The same for streams that begin at position `start`, and the keys and values of all positions from the first.

        before: of the positions before, of each row; of no use where start is 0. last: counted from `start`.
        """
        self._count(stream)
        cache = DynamicCache()
        if start:
            # Blocks that are left out look into no cache, but the model counts the positions in the first of them.
            none = stream.new_zeros(len(stream), 1, start, 1)
            for block in range(self.subject.info.n_layers):
                keys, values = before[block - self.layer - 1] if block > self.layer else (none, none)
                cache.update(keys[:, :, :start], values[:, :, :start], block)
        tokens = torch.zeros(stream.shape[:2], dtype=torch.long)
        with self.subject.going_on_from(self.layer, stream):
            logits = self.subject.logits(tokens, last[:, None], past=cache)[:, 0]
        found: KeysValues = []
        for block in self._blocks:
            layer: Any = cache.layers[block]  # a cache of another kind has neither, which is an AttributeError
            keys, values = layer.keys, layer.values
            if keys is None or values is None or keys.shape[-2] != start + stream.shape[1]:
                raise ValueError("this model does not keep the keys and values of every position")
            found.append((keys, values))
        return logits, found

    def _count(self, stream: Tensor) -> None:
        self._on_pass()
        self.work.rows += stream.shape[0]
        self.work.positions += stream.shape[0] * stream.shape[1]
        self.work.passes += 1


def taken(kept: KeysValues, rows: Sequence[int] | Tensor, start: int) -> KeysValues:
    """Copies of some rows' keys and values, up to position `start`."""
    places = torch.as_tensor(rows, dtype=torch.long, device=kept[0][0].device) if kept else None
    return [(keys[places, :, :start], values[places, :, :start]) for keys, values in kept]
