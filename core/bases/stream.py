"""Activations of one site as batches in random order, read from the subject as they are wanted. Nothing is dumped to disk.

Contexts come in an order drawn anew for each pass over the text. Their vectors fill a buffer; batches are drawn from it until half is
used, then it is filled up again. Orders follow from the seed and from counters alone, so a stream that goes on from `state` gives exactly
what it would have given.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from core.bases.batches import batches
from core.bases.held_out import Ranks
from core.bases.part import Part
from core.corpus.slice import Slice
from core.errors import AtlasError
from core.subject.subject import Subject

_CONTEXTS, _VECTORS = 0, 1
"""What an order is of; part of what seeds it."""


@dataclass(frozen=True)
class Source:
    """Where the activations come from. part: of the site's vector, all of it or one head's."""

    subject: Subject
    piece: Slice
    ranks: Ranks
    part: Part

    @property
    def width(self) -> int:
        return self.part.width

    def read(self, ranks: Ranks) -> Tensor:
        """Activations [tokens, width], float32 on the CPU, of all counted tokens of some contexts, from one forward pass."""
        found: list[Tensor] = []
        for batch in batches(self.piece, ranks, len(ranks)):

            def take(activations: Tensor, counted: Tensor = batch.counted) -> None:
                chosen = self.part.of(activations)[counted.to(activations.device)]
                found.append(chosen.to("cpu", torch.float32))

            self.subject.read(batch.tokens, {self.part.site: take})
        return torch.cat(found)


class Stream:
    """Batches of activations, without end.

    Memory: the buffer, and for a moment half as much again while what is left moves to its beginning.
    """

    def __init__(self, source: Source, *, batch: int, buffer: int, block: int, seed: int) -> None:
        """batch: vectors at a time. buffer: vectors that are mixed. block: contexts in a forward pass."""
        self.source, self.batch, self.block, self.seed = source, batch, block, seed
        self._rows = torch.empty(buffer, source.width)
        self._held = 0
        """Vectors in the buffer that have not been given out."""
        self._order = np.empty(0, np.int64)
        self._at = 0
        self._filling = True
        self.fillings = 0
        """How often the buffer was filled."""
        self.blocks = 0
        """Blocks of contexts read so far, over all passes."""
        self._pass, self._contexts = -1, np.empty(0, np.int64)
        self._longest = block * source.piece.tokens.shape[1]

    @property
    def filling(self) -> bool:
        """Whether `fill` has to be called before `next`."""
        return self._filling

    def fill(self) -> None:
        """Read one more block of contexts into the buffer. Raises AtlasError when the text gives nothing."""
        per_pass = -(-len(self.source.ranks) // self.block)
        number, place = divmod(self.blocks, per_pass)
        if number != self._pass:
            if number == 1 and self._held == 0 and self.fillings == 0:
                raise AtlasError("The text has no token to train on: choose more text.")
            generator = np.random.default_rng((self.seed, _CONTEXTS, number))
            self._pass, self._contexts = number, generator.permutation(self.source.ranks)
        found = self.source.read(self._contexts[place * self.block : (place + 1) * self.block])
        self.blocks += 1
        self._rows[self._held : self._held + len(found)] = found
        self._held += len(found)
        if self._held + self._longest > len(self._rows):
            self._filling = False
            self.fillings += 1
            self._order = np.random.default_rng((self.seed, _VECTORS, self.fillings)).permutation(self._held)
            self._at = 0

    def next(self) -> Tensor:
        """The next batch [batch, width]. The buffer must not be `filling`."""
        taken = self._order[self._at : self._at + self.batch]
        rows = self._rows[torch.from_numpy(taken)]
        self._at += self.batch
        self._held -= self.batch
        if self._held < max(self.batch, len(self._order) // 2):
            self._rows[: self._held] = self._left()
            self._filling = True
        return rows

    def first(self) -> Tensor:
        """What the buffer holds: vectors [n, width], a view. Meant for the first filling."""
        return self._rows[: self._held]

    def state(self) -> tuple[Tensor, dict[str, int]]:
        """The vectors that have not been given out, in the order in which they would be, and the counters."""
        rows = self._rows[: self._held] if self._filling else self._left()
        return rows, {"blocks": self.blocks, "fillings": self.fillings, "filling": int(self._filling), "filled": len(self._order)}

    def load(self, rows: Tensor, counters: dict[str, int]) -> None:
        """Go on from what `state` gave. Raises RuntimeError or KeyError for what does not fit."""
        self._held = len(rows)
        self._rows[: self._held] = rows
        self.blocks, self.fillings, self._filling = counters["blocks"], counters["fillings"], bool(counters["filling"])
        # As if what was given out before lay in front: half of what was filled then decides when to fill again.
        given = 0 if self._filling else counters["filled"] - self._held
        self._order = np.concatenate([np.full(given, -1), np.arange(self._held)])
        self._at = given

    def _left(self) -> Tensor:
        return self._rows[torch.from_numpy(self._order[self._at :])]
