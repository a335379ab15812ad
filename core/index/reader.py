"""Reading one share of a slice: forward passes, sketches, and parts at intervals."""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path

import numpy as np
import torch

from core.bases.basis import Basis
from core.corpus.slice import Slice
from core.index.codes import MOST_HELD, CodeWriter
from core.index.derive import Derived, derive
from core.index.inputs import InputWriter
from core.index.parts import Part, Share, remove_other_parts, write_part
from core.index.sketch import Contexts, Sketch
from core.index.turns import OtherFailed, Turns
from core.runs.progress import Cancelled
from core.subject.lanes import Lanes
from core.subject.subject import Subject
from core.units import Site
from core.vocab import Vocab

_FIRST_SECONDS = 4.0
"""The first part comes early, so that pages show something; the time between parts then doubles up to the run's setting."""
_WRITING_SHARE = 10.0
"""Writing parts may take a tenth of the time."""


def contexts_of(piece: Slice) -> Contexts:
    return Contexts(piece.keys, piece.documents, piece.lengths, piece.tokens.shape[1], piece.first)


class ShareReader:
    """Reads the contexts of one share into sketches of all sites and publishes parts."""

    def __init__(
        self, run_dir: Path, subject: Subject, piece: Slice, vocab: Vocab, basis: str, sites: Mapping[Site, Basis], block: int,
        inputs: InputWriter | None = None,
    ) -> None:  # fmt: skip
        """basis: its name. sites: how each is read. block: contexts in a forward pass. inputs: where the sites' inputs go, if anywhere."""
        self.run_dir, self.piece, self.vocab, self.block = run_dir, piece, vocab, block
        self.basis, self.sites, self.inputs = basis, sites, inputs
        self.contexts = contexts_of(piece)
        self.lanes = Lanes(subject)
        # Where there are passes enough at a time, and sites enough to take turns at, each adds what it read by itself.
        self._threads = 1 if 1 < len(self.lanes) <= len(sites) else max(1, torch.get_num_threads())
        self._pool = ThreadPoolExecutor(self._threads) if self._threads > 1 else None

    def read(
        self, share: Share, part: Part | None, seconds: float, on_block: Callable[[int], None], on_part: Callable[[Part], None]
    ) -> Part:
        """Read `share` from where `part` stopped. Returns the last part, which covers all of the share.

        seconds: how long to work between two parts. on_block gets the number of the next block after each few, and may raise to stop;
        on_part gets each part after it was written and before the one it replaces is removed. Raises AtlasError.
        """
        if part is None:
            sketches = {site: Sketch(str(site), self.basis, each.units, self.contexts) for site, each in self.sites.items()}
            at = share.first
        else:
            sketches = part.load(self.sites, self.basis, self.contexts)
            at = part.next_block
        codes = CodeWriter(self.run_dir, share.number, at)
        patience = min(_FIRST_SECONDS, seconds)
        with self.lanes:
            since = time.monotonic()
            while at < share.end:
                count = min(len(self.lanes), share.end - at)
                self.add_blocks(sketches, at, count, codes)
                at += count
                try:
                    on_block(at)
                except Cancelled:
                    # Somebody stops the run, who may go on with it later: what was read is kept.
                    self._publish(share, at, sketches, codes, on_part)
                    raise
                if at < share.end and (time.monotonic() - since >= patience or codes.held > MOST_HELD):
                    started = time.monotonic()
                    part = self._publish(share, at, sketches, codes, on_part)
                    since = time.monotonic()
                    patience = max(min(2 * patience, seconds), _WRITING_SHARE * (since - started) if seconds > 1 else 0)
        if part is None or part.next_block != share.end:
            part = self._publish(share, share.end, sketches, codes, on_part)
        return part

    def add_blocks(
        self, sketches: Mapping[Site, Sketch], first: int, count: int, codes: CodeWriter | None = None, *, everything: bool = True
    ) -> None:
        """Read `count` blocks from `first` on, each in a lane, into the sketches, and into `codes` where units are sparse.

        Every site takes them in their order, whichever lane is ahead. `everything` off keeps the records of both ends only (for the bench).
        """
        turns = Turns()

        def task(place: int) -> Callable[[Subject], None]:
            def read(subject: Subject) -> None:
                with suppress(OtherFailed), turns.stopped_by_failure():
                    self._add_block(subject, sketches, first + place, codes, everything, lambda site: turns.take(site, place))

            return read

        self.lanes.run([task(place) for place in range(count)])

    def _add_block(
        self,
        subject: Subject,
        sketches: Mapping[Site, Sketch],
        number: int,
        codes: CodeWriter | None,
        everything: bool,
        turn: Callable[[Site], AbstractContextManager[None]],
    ) -> None:
        ranks = range(number * self.block, min((number + 1) * self.block, len(self.piece)))
        width = int(self.piece.lengths[ranks.start : ranks.stop].max())
        tokens = torch.from_numpy(self.piece.tokens[ranks.start : ranks.stop, :width].astype(np.int64))

        def handler(site: Site, sketch: Sketch) -> Callable[[torch.Tensor], None]:
            basis = self.sites[site]

            def add(activations: torch.Tensor) -> None:
                block = basis.read(activations).to("cpu", torch.float32).contiguous().numpy()
                with turn(site):
                    sketch.add(block, ranks, self._pool, self._threads, everything=everything)
                    if codes is not None and basis.sparse:
                        codes.add(site, block, ranks, self.piece.lengths[ranks.start : ranks.stop], self.contexts.first)

            return add

        with nullcontext() if self.inputs is None else self.inputs.watching(subject, ranks):
            subject.read(tokens, {site: handler(site, sketch) for site, sketch in sketches.items()})

    def _publish(
        self, share: Share, next_block: int, sketches: Mapping[Site, Sketch], codes: CodeWriter, on_part: Callable[[Part], None]
    ) -> Part:
        if self.inputs is not None:
            self.inputs.flush()
        codes.flush(next_block)  # before the part: codes beyond it are read again, codes short of it would be lost
        totals = token_totals(self.piece, self.vocab.size, share.first * self.block, next_block * self.block)
        name = f"{share.number}-{next_block:08d}"
        part = write_part(self.run_dir, name, share.number, next_block, sketches, deriver(self.piece, self.vocab, totals))
        on_part(part)
        remove_other_parts(self.run_dir, f"{share.number}-", name)
        return part


def token_totals(piece: Slice, vocabulary: int, start: int, stop: int) -> np.ndarray:
    """int64 [vocabulary]: how often each token is counted in the contexts of ranks `start` to `stop`."""
    tokens, lengths = piece.tokens[start:stop], piece.lengths[start:stop]
    place = np.arange(tokens.shape[1])
    counted = (place >= piece.first) & (place < lengths[:, None])
    return np.bincount(tokens[counted], minlength=vocabulary).astype(np.int64)


def deriver(piece: Slice, vocab: Vocab, totals: np.ndarray) -> Callable[[Sketch], Derived]:
    """What `write_part` needs to describe the units' peaks and top tokens."""
    return lambda sketch: derive(sketch, piece.tokens, totals, vocab.decode)
