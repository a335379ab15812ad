"""Patching a set of features into every pair, and asking what one feature more or less would do.

The KL of a pair depends on the set only through the features that matter in it. Each pair has a version, which changes when a feature that
matters in it comes or goes; what a feature would do to the pair is valid as long as the version is the same, and only the rest is computed
again. Together with the keys and values of the positions before the first one that the feature changes, which are those of the present
set, that is exact: nothing is estimated.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from core.causal.above import Above, KeysValues, taken
from core.causal.ioi_pairs import Doubles, Measured, PairRuns, Streams
from core.causal.support import Support, Whole

Members = npt.NDArray[np.bool_]
ROWS = 64
POSITIONS = 1024
"""Texts, and positions of them, that are read in one pass at most."""
SLACK = 48
"""Positions of padding that a pass may have before a second pass is cheaper."""
_MOST_KEPT = 3 << 30
_MOST_RECENT = 1 << 28
_AGREE = 1e-5


@dataclass(frozen=True)
class Point:
    """A patched set: how many features, mean KL(z‖y) in nats, mean ‖x′ − x‖ over the positions of all texts, mean logit of the indirect
    object and of the third name − that of the subject, and the KL of the ABBA and of the BABA sentences (None without any)."""

    features: int
    kl: float
    edit: float
    io: float
    other: float
    kl_abba: float | None
    kl_baba: float | None


class PatchedSet:
    """A set of features that is patched into all pairs. It begins empty; `become` and `toggle` change it."""

    def __init__(self, above: Above, runs: PairRuns, streams: Streams, support: Support, *, keep: bool = True) -> None:
        """keep: keys and values, if the subject's agree with the plain way."""
        self.above, self.runs, self.support = above, runs, support
        self.members: Members = np.zeros(len(support), dtype=bool)
        self._base = streams.base.double()
        self._stream = self._base.clone()
        self._version = np.zeros(len(runs), dtype=np.int64)
        self._kl, self._io, self._other = (np.zeros(len(runs)) for _ in range(3))
        items = len(support.pairs)
        self._tried = np.full(items, -1, dtype=np.int64)
        """The version of its pair under which an item was tried."""
        self._tried_as: list[Doubles] = [np.zeros(items) for _ in range(3)]
        self._kept: KeysValues | None = None
        self._recent: deque[tuple[dict[int, int], KeysValues]] = deque()
        """The newest passes: rows by item, and the keys and values that the items would leave behind."""
        self.keeps = ""
        """Why keys and values are not kept; empty when they are."""
        self._begin(keep)

    @property
    def kl(self) -> float:
        return float(self._kl.mean())

    def point(self) -> Point:
        """What the present set does."""
        abba = self.runs.abba
        moved = (self._stream - self._base).norm(dim=-1)
        inside = torch.arange(moved.shape[1])[None, :] < torch.from_numpy(self.runs.lengths)[:, None]
        kl_abba, kl_baba = (float(self._kl[chosen].mean()) if chosen.any() else None for chosen in (abba, ~abba))
        edit = float(moved.cpu()[inside].mean())
        return Point(int(self.members.sum()), self.kl, edit, float(self._io.mean()), float(self._other.mean()), kl_abba, kl_baba)

    def become(self, members: Members) -> None:
        """Patch another set. Only pairs in which it differs are run again."""
        changed = self.members != members
        pairs = [pair for pair, features in enumerate(self.support.features) if changed[features].any()]
        self.members = members.copy()
        self._run(pairs)

    def slopes(self, pairs: Tensor, length: int) -> Tensor:
        """∂KL/∂x [pairs, length, d_model], float64, of some pairs [n] under the present set."""
        stream = self._stream[pairs, :length].to(self.runs.answers.target.dtype).requires_grad_()
        logits = self.above.logits(stream, torch.from_numpy(self.runs.lengths[pairs.numpy()] - 1), gradient=True)
        (found,) = torch.autograd.grad(self.runs.answers.divergence(logits, pairs.to(logits.device)).sum(), stream)
        return found.double()

    def stale(self, feature: int) -> Whole:
        """The feature's items that have to be tried anew."""
        items = self.support.items(feature)
        return items[self._tried[items] != self._version[self.support.pairs[items]]]

    def positions_of(self, items: Whole) -> int:
        """How many positions have to be read to try these items."""
        pairs = self.support.pairs[items]
        return int((self.runs.lengths[pairs] - (self.support.starts[items] if self._kept is not None else 0)).sum())

    def toggled(self, features: Sequence[int]) -> Doubles:
        """Mean KL if this feature alone came into the present set, or went out of it; for each of some features."""
        stale = np.concatenate([self.stale(feature) for feature in features]) if len(features) else np.zeros(0, dtype=np.int64)
        for batch, start in self._batches(stale):
            self._try(batch, start)
        rises = [self._rise(feature) for feature in features]
        return self.kl + np.array(rises) / len(self.runs)

    def toggle(self, feature: int) -> None:
        """Put the feature into the set, or take it out."""
        items = self.support.items(feature)
        if len(self.stale(feature)):
            self.toggled([feature])
        self.members[feature] = not self.members[feature]
        again: list[int] = []
        for item, pair in zip(items.tolist(), self.support.pairs[items].tolist(), strict=True):
            self._version[pair] += 1
            left = self._left_by(item)
            if self._kept is not None and left is None:
                again.append(pair)
                continue
            self._stream[pair, : self.runs.lengths[pair]] = self._patched(pair)
            for mine, tried in zip((self._kl, self._io, self._other), self._tried_as, strict=True):
                mine[pair] = tried[item]
            if self._kept is not None and left is not None:
                found, row = left
                for (keys, values), (new_keys, new_values) in zip(self._kept, found, strict=True):
                    keys[pair, :, : new_keys.shape[2]] = new_keys[row]
                    values[pair, :, : new_values.shape[2]] = new_values[row]
        if again:
            self._run(again, counted=False)

    def _left_by(self, item: int) -> tuple[KeysValues, int] | None:
        """The keys and values of the pass that tried an item last, and the row; None when they are gone."""
        return next(((found, rows[item]) for rows, found in reversed(self._recent) if item in rows), None)

    def _rise(self, feature: int) -> float:
        items = self.support.items(feature)
        return float((self._tried_as[0][items] - self._kl[self.support.pairs[items]]).sum())

    def _patched(self, pair: int) -> Tensor:
        """x′ of a pair [positions, d_model], float64, from the set alone: rounding does not add up over many steps."""
        return self._base[pair, : self.runs.lengths[pair]] + self.support.added(pair, self.members)

    def _begin(self, keep: bool) -> None:
        """Run the empty set; with and without keys and values, to see whether they agree."""
        everything = list(range(len(self.runs)))
        self._run(everything, counted=False)
        if not keep:
            self.keeps = "not asked for"
            return
        try:
            self._kept = self._room()
            self._run(everything, counted=False)
            self.keeps = self._disagreement()
        except (RuntimeError, ValueError, TypeError, AttributeError, LookupError) as error:  # a model whose cache is of another kind
            self.keeps = f"the subject's own do not fit ({type(error).__name__}: {str(error)[:120]})"
        if self.keeps:
            self._kept = None
            self._tried[:] = -1
            self._run(everything, counted=False)

    def _room(self) -> KeysValues:
        """Keys and values for all pairs, still empty. Raises ValueError when they would take too much."""
        longest = self._stream.shape[1]
        _, one = self.above.logits_after(self._stream[:1], torch.zeros(1, dtype=torch.long), [], 0)
        wanted = _bytes(one) * len(self.runs)
        if wanted > _MOST_KEPT:
            raise ValueError(f"{wanted / (1 << 30):.1f} GiB would be needed")
        return [(*(part.new_zeros(len(self.runs), part.shape[1], longest, part.shape[3]) for part in both),) for both in one]  # type: ignore[misc]

    def _disagreement(self) -> str:
        """Try some items both ways. Empty when the numbers agree."""
        some = np.unique(np.linspace(0, len(self.support.pairs) - 1, 24).round().astype(np.int64))
        found: list[Doubles] = []
        kept = self._kept
        for self._kept in (kept, None):
            for batch, start in self._batches(some):
                self._try(batch, start)
            found.append(self._tried_as[0][some].copy())
        self._kept = kept
        worst = float(np.abs(found[0] - found[1]).max())
        return "" if worst < _AGREE else f"with them the KL differs by {worst:.1e}"

    def _run(self, pairs: Sequence[int], *, counted: bool = True) -> None:
        """Run some pairs with the present set, all their positions. counted: their versions change."""
        for pair in pairs:
            self._version[pair] += int(counted)
            self._stream[pair, : self.runs.lengths[pair]] = self._patched(pair)
        for start in range(0, len(pairs), ROWS // 2):
            some = torch.tensor(pairs[start : start + ROWS // 2])
            length = int(self.runs.lengths[some.numpy()].max())
            last = torch.from_numpy(self.runs.lengths[some.numpy()] - 1)
            logits, found = self._read(self._stream[some, :length], last, [], 0)
            measured = self.runs.answers.of(logits, some.to(logits.device))
            for mine, value in zip((self._kl, self._io, self._other), _three(measured), strict=True):
                mine[some.numpy()] = value
            if self._kept is not None:
                for (keys, values), (new_keys, new_values) in zip(self._kept, found, strict=True):
                    keys[some, :, :length] = new_keys
                    values[some, :, :length] = new_values

    def _read(self, stream: Tensor, last: Tensor, before: KeysValues, start: int) -> tuple[Tensor, KeysValues]:
        if self._kept is None:
            return self.above.logits(stream, last), []
        return self.above.logits_after(stream, last, before, start)

    def _batches(self, items: Whole) -> Iterator[tuple[Whole, int]]:
        """Items in passes, each with the position where it begins: those that begin at about the same one together."""
        starts = self.support.starts[items] if self._kept is not None else np.zeros(len(items), dtype=np.int64)
        ends = self.runs.lengths[self.support.pairs[items]]
        order = np.lexsort((ends, starts))
        begin, own, longest = 0, 0, 0
        for place in range(len(order) + 1):
            if place < len(order):
                item = order[place]
                start = int(starts[order[begin]])
                reach = max(longest, int(ends[item]) - start)
                positions = reach * (place + 1 - begin)
                mine = int(ends[item] - starts[item])
                if place == begin or (place - begin < ROWS and positions <= POSITIONS and positions - own - mine <= SLACK):
                    own, longest = own + mine, reach
                    continue
            if place > begin:
                yield items[order[begin:place]], int(starts[order[begin]])
            if place < len(order):
                begin = place
                own = longest = int(ends[order[place]] - starts[order[place]])

    def _try(self, items: Whole, start: int) -> None:
        """Toggle each item's feature in its pair, by itself, and note the outcome. start: positions before it are those of the set."""
        pairs = self.support.pairs[items]
        features = np.searchsorted(self.support.begins, items, side="right") - 1
        ends = self.runs.lengths[pairs]
        length = int(ends.max()) - start
        device = self._stream.device
        rows = self._stream[torch.from_numpy(pairs).to(device), start : start + length]
        along = rows.new_zeros(len(items), length)
        for row, (item, pair) in enumerate(zip(items.tolist(), pairs.tolist(), strict=True)):
            column = self.support.steps[pair][start:, self.support.columns[item]]
            along[row, : len(column)] = -column if self.members[features[row]] else column
        rows = rows + along[:, :, None] * self.support.directions[torch.from_numpy(features).to(device)][:, None]
        before = [] if self._kept is None or not start else taken(self._kept, torch.from_numpy(pairs), start)
        logits, found = self._read(rows, torch.from_numpy(ends - 1 - start), before, start)
        measured = self.runs.answers.of(logits, torch.from_numpy(pairs).to(logits.device))
        for tried, value in zip(self._tried_as, _three(measured), strict=True):
            tried[items] = value
        self._tried[items] = self._version[pairs]
        if self._kept is not None:
            self._recent.append(({item: row for row, item in enumerate(items.tolist())}, found))
            while len(self._recent) > 1 and sum(map(_bytes, (one for _, one in self._recent))) > _MOST_RECENT:
                self._recent.popleft()


def _three(measured: Measured) -> tuple[Doubles, Doubles, Doubles]:
    return measured.kl, measured.io, measured.other


def _bytes(kept: KeysValues) -> int:
    return sum(part.numel() * part.element_size() for both in kept for part in both)
