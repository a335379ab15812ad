"""A second look at the text for some units: their activations on every token of a sample of contexts. Torch is imported when it is done.

The index keeps a few thousand positions of each unit. One pass over a sample of the same slice, for all units of a run together, gives
tens of thousands, which is what rare tokens and left contexts need.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from core.autointerp.corpus_counts import SliceCounts
from core.errors import AtlasError
from core.store.catalog import IndexInfo
from core.store.texts import SliceText, load_slice
from core.units import Site, UnitName
from core.workspace import Workspace

Ints = npt.NDArray[np.int64]
BLOCK = 32
MOST_BYTES = 512 << 20
"""Activations kept in memory at most: with more units fewer tokens are read."""


@dataclass(frozen=True)
class Reading:
    """Activations of some units on some positions of a slice, in the order of the slice: values [units, positions], float16."""

    units: dict[UnitName, int]
    contexts: Ints
    positions: Ints
    documents: Ints
    values: npt.NDArray[np.float16]
    counts: SliceCounts

    def of(self, unit: UnitName) -> npt.NDArray[np.float32] | None:
        """The unit's activation on each position, None when it was not read."""
        row = self.units.get(unit)
        return None if row is None else self.values[row].astype(np.float32)

    def places(self, contexts: Ints, positions: Ints) -> Ints:
        """Where among the positions that were read those of these that were read stand, in any order."""
        wanted = contexts << 16 | positions
        at = np.searchsorted(self._keys, wanted)
        return at[np.append(self._keys, -1)[at] == wanted]

    @cached_property
    def _keys(self) -> Ints:
        """One number for each position, ascending as the positions are."""
        return self.contexts.astype(np.int64) << 16 | self.positions

    @cached_property
    def grams(self) -> tuple[npt.NDArray[np.int32], ...]:
        """For each order: the place of each position's gram among `counts.codes`."""
        at = self.counts.text.offsets[self.contexts] + self.positions
        return tuple(ids[at] for ids in self.counts.ids)

    def peaks(self, values: npt.NDArray[np.float32]) -> tuple[Ints, npt.NDArray[np.float32]]:
        """The contexts that were read, ascending, and the largest of a unit's values in each."""
        begins = np.flatnonzero(np.diff(self.contexts, prepend=-1))
        return self.contexts[begins], np.maximum.reduceat(values, begins) if len(begins) else values


def sample(text: SliceText, tokens: int) -> Ints:
    """Ranks of contexts with about `tokens` tokens in all, the same for every unit; drawn by the slice's length alone."""
    drawn = np.random.default_rng(len(text)).permutation(len(text))
    lengths = np.diff(text.offsets)[drawn]
    return np.sort(drawn[: int(np.searchsorted(np.cumsum(lengths), tokens, "right"))])


def read_again(
    workspace: Workspace,
    index: IndexInfo,
    units: Collection[UnitName],
    tokens: int,
    counts: SliceCounts,
    on_block: Callable[[int, int], None],
) -> Reading:
    """Read about `tokens` tokens of the index's slice for some of its units. on_block gets (done, total) contexts and may raise to stop.

    Raises AtlasError: the model cannot be loaded, or is no longer the one that was indexed.
    """
    import torch

    from core.bases.basis import basis_at
    from core.subject.load import load_subject
    from core.subject.matmul import bfloat16_pays

    # Means over a sample are unsure by more than bfloat16 errs, and are of as much more text as it is faster.
    dtype = "bfloat16" if bfloat16_pays() else str(index.provenance.get("dtype") or "float32")
    subject = load_subject(workspace, index.slug, dtype=dtype)
    if subject.info.weights_hash != index.subject["weights_hash"]:
        raise AtlasError(f"The model “{index.slug}” has other weights than the run “{index.run}” read: index it again.")
    text = load_slice(workspace, str(index.slice["id"]))
    ordered = sorted(set(units))
    ranks = sample(text, min(tokens, MOST_BYTES // (2 * max(1, len(ordered)))))
    by_site: dict[Site, list[int]] = {}
    for row, unit in enumerate(ordered):
        by_site.setdefault(unit.site, []).append(row)
    bases = {site: basis_at(workspace, subject, site, index.basis, index.dictionary(site).get("weights_sha256")) for site in by_site}
    starts = text.offsets[ranks] + counts.first
    lengths = np.maximum(text.offsets[ranks + 1] - starts, 0)
    ends = np.cumsum(lengths)
    values = np.zeros((len(ordered), int(ends[-1]) if len(ends) else 0), np.float16)
    # Longest first: contexts of one block are of about one length, so that little is padded.
    by_length = np.argsort(-lengths, kind="stable")
    for at in range(0, len(ranks), BLOCK):
        chosen = by_length[at : at + BLOCK]
        block = np.zeros((len(chosen), int(lengths[chosen].max()) + counts.first), np.int64)
        for row, place in enumerate(chosen):
            tokens_of = text.of(int(ranks[place]))
            block[row, : len(tokens_of)] = tokens_of

        def keep(site: Site, chosen: Ints = chosen) -> Callable[[Any], None]:
            rows = by_site[site]
            wanted = torch.tensor([ordered[row].index for row in rows])

            def handler(activations: Any) -> None:
                codes = bases[site].read(activations)
                found = codes[..., wanted.to(codes.device)].float().clamp(-65504, 65504).to(torch.float16).cpu().numpy()
                for i, place in enumerate(chosen):
                    length = int(lengths[place])
                    first = int(ends[place]) - length
                    values[rows, first : first + length] = found[i, counts.first : counts.first + length].T

            return handler

        subject.read(torch.from_numpy(block), {site: keep(site) for site in by_site})
        on_block(min(at + BLOCK, len(ranks)), len(ranks))
    contexts = np.repeat(ranks, lengths)
    positions = np.arange(values.shape[1]) - np.repeat(ends - lengths, lengths) + counts.first
    documents = text.document[contexts].astype(np.int64)
    return Reading({unit: row for row, unit in enumerate(ordered)}, contexts, positions, documents, values, counts)


def enough(units: int) -> int:
    """Tokens worth reading again for so many units: none for a few, whose reader wants an answer soon; for many, more the more they are."""
    return min(MOST, EACH * units) if units >= MANY else 0


MANY, EACH, MOST = 24, 2_048, 262_144
