"""A second look at the text for some units: their activations on every token of many contexts. Torch is imported when it is done.

The index keeps a few thousand positions of each unit. One pass over its slice, for all units of a run together, gives hundreds of
thousands, which is what rare tokens and left contexts need. Where the slice has fewer tokens than are wanted, the same source is read
on beyond its end: a pattern is learned from more text than the unit's records are drawn from.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from core.autointerp.corpus_counts import SliceCounts
from core.autointerp.request import MOST_BYTES
from core.corpus.spec import MAX_CONTEXTS, CorpusSpec
from core.errors import AtlasError
from core.store.catalog import IndexInfo
from core.store.texts import SliceText, load_slice, load_vocab
from core.units import Site, UnitName
from core.workspace import Workspace

if TYPE_CHECKING:
    from core.bases.basis import Basis
    from core.index.inputs import KeptInput
    from core.subject.subject import Subject

Ints = npt.NDArray[np.int64]
BLOCK_TOKENS = 2048
"""Tokens in a forward pass: more would no longer lie in the cache."""
KEPT_TOKENS = 8192
"""Tokens whose kept inputs are worked on at a time, at most."""
KEPT_NUMBERS = 1 << 26
"""Activations that are made of them at a time, at most: a dictionary may have many units."""


@dataclass(frozen=True)
class Reading:
    """Activations of some units on some positions of a text, in the order of the text: values [units, positions], float16.

    counts: of the text, which begins with the index's slice and may go on beyond it.
    """

    units: dict[UnitName, int]
    contexts: Ints
    positions: Ints
    values: npt.NDArray[np.float16]
    counts: SliceCounts
    recipe: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What was read and how: the slice, tokens, dtype."""

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
    on_block: Callable[[int, int], None],
    room: int = MOST_BYTES,
    with_model: int | None = None,
) -> Reading:
    """Read about `tokens` tokens of the index's text for some of its units; fewer, when there is no more text, or no room for the values.

    Where the index kept the inputs of its sites, its own text is read from these, and only what lies beyond it with the model.
    with_model: the tokens to read when they cannot be used; as many without it.

    on_block gets (done, total) contexts, first of those cut, then of those read, and may raise to stop. room: bytes for the values.
    Raises AtlasError: the index has no text but its records', the model cannot be loaded, or is no longer the one that was indexed; there
    are no inputs, and without them nothing is to be read.
    """
    from core.bases.basis import basis_at
    from core.subject.load import load_subject
    from core.subject.matmul import bfloat16_pays

    # Means over a sample are unsure by more than bfloat16 errs, and are of as much more text as it is faster.
    check_text(index)
    dtype = "bfloat16" if bfloat16_pays() else str(index.provenance.get("dtype") or "float32")
    subject = load_subject(workspace, index.slug, dtype=dtype)
    if subject.info.weights_hash != index.subject["weights_hash"]:
        raise AtlasError(f"The model “{index.slug}” has other weights than the run “{index.run}” read: index it again.")
    ordered = sorted(set(units))
    own = load_slice(workspace, str(index.slice["id"]))
    kept = _kept(index, subject, {unit.site for unit in ordered}, _counted(own, int(index.slice["bos"])))
    if not kept and with_model is not None:
        tokens = with_model
    if not tokens:
        raise AtlasError(f"The inputs that {index.run} kept are damaged, or made by a model of another build.")
    wanted = min(tokens, room // (2 * max(1, len(ordered))))
    identity = _text(workspace, index, subject, wanted, on_block)
    text = load_slice(workspace, identity)
    counts = SliceCounts(text, int(index.slice["bos"]))
    bases = {
        site: basis_at(workspace, subject, site, index.basis, index.dictionary(site).get("weights_sha256"))
        for site in dict.fromkeys(unit.site for unit in ordered)
    }
    work = _Work(subject, counts, sample(text, wanted), ordered, bases)
    done = work.from_kept(kept, own, on_block) if kept else 0
    work.with_model(done, on_block)
    recipe = {"slice": identity, "tokens": work.values.shape[1], "dtype": dtype, "from_inputs": done}
    return Reading({unit: row for row, unit in enumerate(ordered)}, *work.positions(), work.values, counts, recipe)


class _Work:
    """A reading under way: the contexts of `ranks`, ascending, and their values [units, positions], context by context."""

    def __init__(
        self, subject: "Subject", counts: SliceCounts, ranks: Ints, units: Sequence[UnitName], bases: Mapping[Site, "Basis"]
    ) -> None:
        """bases: of the units' sites."""
        text = counts.text
        self._subject, self._counts, self._ranks, self._bases = subject, counts, ranks, bases
        # The rows of the values that are of each site's units, and the units' numbers.
        self._by_site = {site: [row for row, unit in enumerate(units) if unit.site == site] for site in bases}
        self._units = {site: [units[row].index for row in rows] for site, rows in self._by_site.items()}
        self._lengths = np.maximum(text.offsets[ranks + 1] - text.offsets[ranks] - counts.first, 0)
        self._ends = np.cumsum(self._lengths)
        self.values = np.zeros((len(units), int(self._ends[-1]) if len(ranks) else 0), np.float16)

    def positions(self) -> tuple[Ints, Ints]:
        """The context and the position in it of each value, [positions]."""
        begins = np.repeat(self._ends - self._lengths, self._lengths)
        return np.repeat(self._ranks, self._lengths), np.arange(self.values.shape[1]) - begins + self._counts.first

    def from_kept(self, kept: Mapping[Site, "KeptInput"], own: SliceText, on_block: Callable[[int, int], None]) -> int:
        """Fill in the contexts of the index's own text. Returns how many these are; as the ranks ascend, they come first."""
        import torch

        from core.subject.site_input import reader_of

        done = int(np.searchsorted(self._ranks, len(own)))
        end = int(self._ends[done - 1]) if done else 0
        # The rows of the file, which has one for every counted token of the text, in the order of the values.
        lengths = np.maximum(np.diff(own.offsets) - self._counts.first, 0)
        begins = (np.cumsum(lengths) - lengths)[self._ranks[:done]]
        rows = np.arange(end) + np.repeat(begins - (self._ends[:done] - self._lengths[:done]), self._lengths[:done])
        numbers = next(self._subject.model.parameters()).dtype
        for number, (site, one) in enumerate(kept.items()):
            basis = self._bases[site]
            units = self._units[site]
            read = reader_of(self._subject, one.given, units if basis.dictionary is None else None)
            columns = None if basis.dictionary is None else torch.tensor(units, device=self._subject.device)
            widest = max(basis.units, self._subject.info.widths[site.kind])
            step = max(1, min(KEPT_TOKENS, KEPT_NUMBERS // widest))
            for at in range(0, end, step):
                stands = one.tensor(rows[at : at + step]).to(self._subject.device, numbers)
                codes = basis.read(read(stands))
                found = codes if columns is None else codes[:, columns]
                self.values[self._by_site[site], at : at + len(stands)] = _short(found).T
                share = (number + min(1.0, (at + len(stands)) / end)) / len(kept)
                on_block(int(share * done), len(self._ranks))
        return done

    def with_model(self, done: int, on_block: Callable[[int, int], None]) -> None:
        """Fill in the contexts from the place `done` among the ranks on, by passes of the model."""
        from core.subject.lanes import Lanes

        blocks = [places + done for places in _blocks(self._lengths[done:] + self._counts.first)]
        if not blocks:
            on_block(done, len(self._ranks))
            return
        with Lanes(self._subject) as lanes:
            for at in range(0, len(blocks), len(lanes)):
                together = blocks[at : at + len(lanes)]
                lanes.run([self._task(chosen) for chosen in together])
                done += sum(map(len, together))
                on_block(done, len(self._ranks))

    def _task(self, chosen: Ints) -> Callable[["Subject"], None]:
        """Read the contexts at these places among the ranks, in one pass."""
        import torch

        first = self._counts.first

        def keep(site: Site) -> Callable[[Any], None]:
            def handler(activations: Any) -> None:
                found = _short(self._bases[site].read(activations)[..., self._units[site]])
                for i, place in enumerate(chosen):
                    length = int(self._lengths[place])
                    begin = int(self._ends[place]) - length
                    self.values[self._by_site[site], begin : begin + length] = found[i, first : first + length].T

            return handler

        def read(subject: "Subject") -> None:
            block = np.zeros((len(chosen), int(self._lengths[chosen].max()) + first), np.int64)
            for row, place in enumerate(chosen):
                tokens_of = self._counts.text.of(int(self._ranks[place]))
                block[row, : len(tokens_of)] = tokens_of
            subject.read(torch.from_numpy(block), {site: keep(site) for site in self._by_site})

        return read


def _kept(index: IndexInfo, subject: "Subject", sites: Collection[Site], tokens: int) -> dict[Site, "KeptInput"]:
    """The inputs that an index kept of some sites, in their order; nothing unless those of all can be used with this model."""
    from core.index.inputs import kept_input
    from core.subject.site_input import input_of

    found: dict[Site, KeptInput] = {}
    for site in sorted(sites):
        one = kept_input(index.folder, index.manifest, site, tokens)
        if one is None or one.given != input_of(subject, site):
            return {}
        found[site] = one
    return found


def _counted(text: SliceText, first: int) -> int:
    """Tokens of a text that are counted."""
    return int(np.maximum(np.diff(text.offsets) - first, 0).sum())


def _short(found: Any) -> npt.NDArray[np.float16]:
    """A tensor's numbers as float16, those beyond its range at its ends."""
    return found.float().clamp(-65504, 65504).half().cpu().numpy()


def check_text(index: IndexInfo) -> None:
    """Raises AtlasError where an index has only the text of its own records."""
    if index.excerpt:
        raise AtlasError(
            f"{index.run} was imported with only the text of its own records, and explaining counts the tokens of the whole text: "
            "explain these units where they were indexed."
        )


def _text(workspace: Workspace, index: IndexInfo, subject: "Subject", tokens: int, on_block: Callable[[int, int], None]) -> str:
    """The id of a slice that is the index's own and as much of its source beyond the end as makes `tokens` tokens.

    The index's own where the source cannot be read, has no more text, or no longer begins with the text that was indexed.
    """
    from core.corpus.build import build_slice
    from core.subject.tokenizer import SubjectTokenizer

    identity = str(index.slice["id"])
    own = load_slice(workspace, identity)
    try:
        spec = CorpusSpec.from_json(index.slice.get("spec"))
        if not 0 < len(own.tokens) < tokens or len(own) < spec.contexts:  # the source had no more
            return identity
        more = replace(spec, contexts=min(MAX_CONTEXTS, -(-len(own) * tokens // len(own.tokens))))
        tokenizer = SubjectTokenizer(subject, load_vocab(workspace, index.slug))
        found = build_slice(workspace, more, tokenizer, lambda made, wanted, _: on_block(made, wanted))
        return found.id if _begins_with(load_slice(workspace, found.id), own) else identity
    except AtlasError:
        return identity


def _begins_with(text: SliceText, own: SliceText) -> bool:
    """Whether all contexts of `own` come first in `text`, from the same documents under the same numbers."""
    return (
        len(text) >= len(own)
        and np.array_equal(text.offsets[: len(own) + 1], own.offsets)
        and np.array_equal(text.tokens[: len(own.tokens)], own.tokens)
        and np.array_equal(text.document[: len(own)], own.document)
        and text.document_ids[: len(own.document_ids)] == own.document_ids
    )


def _blocks(lengths: Ints) -> list[Ints]:
    """Places of contexts, longest first, so that little is padded; each block of at most BLOCK_TOKENS tokens, or one context."""
    by_length = np.argsort(-lengths, kind="stable")
    blocks: list[Ints] = []
    at = 0
    while at < len(by_length):
        size = max(1, BLOCK_TOKENS // max(1, int(lengths[by_length[at]])))
        blocks.append(by_length[at : at + size])
        at += size
    return blocks
