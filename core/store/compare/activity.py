"""All that an index keeps of one unit's activations, by context: its records, and of a sparse feature every one that is not zero."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from core.store.catalog import IndexInfo, read_current
from core.store.density import ACTIVE_SHARE
from core.store.parts import DamagedPart, flat, unit_table
from core.store.texts import load_text
from core.store.units import Positions, Record, UnitView
from core.units import UnitName
from core.workspace import Workspace

Floats = npt.NDArray[np.float32]
_PLACES = 1 << 16
"""Positions fit into 16 bits, so a context and a position make one number."""


@dataclass(frozen=True)
class Codes:
    """Every activation of a feature that is not zero, in the order of the text. All shapes (n,)."""

    contexts: npt.NDArray[np.int32]
    positions: npt.NDArray[np.int64]
    values: Floats

    @property
    def places(self) -> npt.NDArray[np.int64]:
        """A number for each context and position, ascending."""
        return places(self.contexts, self.positions)


@dataclass(frozen=True)
class Activity:
    """One unit. records: by the rank of their context. codes: None where not every activation is kept, as for neurons.

    strong: the unit's strongest positions in the whole text.
    """

    view: UnitView
    records: dict[int, Record]
    codes: Codes | None
    strong: Positions

    @property
    def text(self) -> str:
        """Names the contexts that ranks mean: units with equal ones were read over the same contexts, cut by the same tokenizer."""
        return str(self.view.index.slice["hash"])

    @property
    def first(self) -> int:
        """Positions before this one (a BOS) are no data."""
        return int(self.view.index.slice["bos"])

    @cached_property
    def largest(self) -> float:
        """The largest |activation| that is known; 0 where nothing was counted."""
        found = max(map(abs, self.view.limits))
        return found if np.isfinite(found) else 0.0

    def has(self, rank: int) -> bool:
        """Whether a context is among the unit's records, or, where every activation is kept, whether it is active there."""
        return rank in self.records or (self.codes is not None and bool(np.diff(_within(self.codes, rank))[0]))

    def on(self, rank: int, tokens: int) -> Floats | None:
        """The activation on each of a context's tokens [tokens], NaN on a BOS; None where it is not kept."""
        if self.codes is not None:
            start, end = _within(self.codes, rank)
            found = np.zeros(tokens, np.float32)
            found[self.codes.positions[start:end]] = self.codes.values[start:end]
        elif rank in self.records:
            found = np.array(self.records[rank].activations, np.float32)
        else:
            return None
        found[: self.first] = np.nan
        return found

    def active(self, values: Floats) -> npt.NDArray[np.bool_]:
        """Where the unit is active: not zero where every activation is kept, else above 5 % of its largest (as its density counts)."""
        return values != 0 if self.codes is not None else np.abs(values) > ACTIVE_SHARE * self.largest


def load_activity(workspace: Workspace, view: UnitView) -> Activity:
    """What is kept of a unit that was just loaded. Raises AtlasError."""
    records: dict[int, Record] = {}
    for band in view.bands.values():
        for record in band:
            records.setdefault(record.context, record)
    codes = read_current(workspace, view.index, lambda index: _codes(workspace, index, view.name))
    return Activity(view, records, codes, view.positions("strong"))


def places(contexts: npt.ArrayLike, positions: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """A number for each context and position."""
    return np.asarray(contexts, np.int64) * _PLACES + np.asarray(positions, np.int64)


def _within(codes: Codes, rank: int) -> tuple[int, int]:
    start, end = np.searchsorted(codes.contexts, [rank, rank + 1]).tolist()
    return start, end


def _codes(workspace: Workspace, index: IndexInfo, name: UnitName) -> Codes | None:
    path = index.codes(name.site)
    if path is None:
        return None
    table = unit_table(path, name.index, ["unit", "contexts", "positions", "values"])
    if table is None:
        raise DamagedPart(path, f"unit {name.index} is not in it")
    contexts, positions = flat(table.column("contexts"), np.int32), flat(table.column("positions"), np.int64)
    values = flat(table.column("values"), np.float32)
    text = load_text(workspace, index)
    inside = len(contexts) == len(positions) == len(values) and contexts.min(initial=0) >= 0 and contexts.max(initial=-1) < len(text)
    if not inside or (text.token_at(contexts, positions) < 0).any():
        raise DamagedPart(path, f"the tokens of unit {name.index} do not fit its slice")
    order = np.argsort(places(contexts, positions), kind="stable")
    return Codes(contexts[order], positions[order], values[order])
