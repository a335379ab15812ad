"""The review queue: a fixed order of units, of which those are served that a person has neither rated nor labelled. No Streamlit."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from core.errors import AtlasError
from core.findings.database import connect
from core.store import queries
from core.store.cache import Cache
from core.units import UnitName
from core.workspace import Workspace

ORDERS = ("interesting", "random")
LONGEST_PAUSE = 120.0
"""Seconds between two judgements. A longer pause is a break, and no part of how fast somebody goes."""
LAST = 50
"""Over so many judgements the pace is told."""


@dataclass(frozen=True)
class Queue:
    """Units in the order in which they are reviewed. interesting: shape (units,). places: name -> place in `names`."""

    names: tuple[str, ...]
    interesting: npt.NDArray[np.bool_]
    places: Mapping[str, int]

    @classmethod
    def of(cls, names: Sequence[str], interesting: npt.NDArray[np.bool_] | None = None) -> "Queue":
        """interesting: all of them if it is not said."""
        mask = np.ones(len(names), np.bool_) if interesting is None else interesting
        return cls(tuple(names), mask, {name: place for place, name in enumerate(names)})

    def done(self, judged: Collection[str]) -> int:
        """How many units of the queue are among those."""
        return sum(name in self.places for name in judged)

    def following(self, name: str, gone: Collection[str], n: int) -> list[str]:
        """The first `n` units after `name` that are not gone, beginning anew at the end; `name` itself is none of them.

        After a name that is not in the queue, such as an empty one, come its first units.
        """
        place = self.places.get(name, -1)
        free = self._free(gone)
        ahead = place + 1 + np.flatnonzero(free[place + 1 :])[:n]
        behind = np.flatnonzero(free[: max(0, place)])[: n - len(ahead)]
        return [self.names[at] for at in (*ahead.tolist(), *behind.tolist())]

    def step(self, name: str, by: int) -> str:
        """The unit so many places further, done or not; the last or first one where the queue ends. Empty for an empty queue."""
        if not self.names:
            return ""
        place = self.places.get(name)
        at = (0 if by > 0 else len(self.names) - 1) if place is None else place + by
        return self.names[min(max(at, 0), len(self.names) - 1)]

    def around(self, name: str, before: int, after: int) -> list[str]:
        """The units next to one, in order, itself included; none of a name that is not in the queue."""
        place = self.places.get(name)
        return [] if place is None else list(self.names[max(0, place - before) : place + after + 1])

    def chance(self, gone: Collection[str], rng: np.random.Generator) -> str:
        """One of the interesting units that are not gone, by chance; any that is not gone where none is left, empty for none at all."""
        free = self._free(gone)
        found = np.flatnonzero(free & self.interesting)
        if not found.size:
            found = np.flatnonzero(free)
        return self.names[int(rng.choice(found))] if found.size else ""

    def _free(self, gone: Collection[str]) -> npt.NDArray[np.bool_]:
        free = np.ones(len(self.names), np.bool_)
        free[[self.places[name] for name in gone if name in self.places]] = False
        return free


def of_index(
    cache: Cache,
    run: str,
    filters: Mapping[str, Any],
    *,
    order: str = "interesting",
    seed: int = 0,
    only_interesting: bool = False,
    explained: bool | None = None,
    labelled: Collection[str] | None = None,
) -> Queue:
    """The units of an index run that fit. Raises AtlasError for an unknown order.

    filters: as `store.queries.explore` takes them, without sort. order: `interesting`, those first and in each half the most peaked first;
    or `random`, drawn with the seed, the same in every workspace and whatever else is filtered. labelled: only units of these names.
    """
    _known(order)
    frame = queries.reviewable(cache, run, **filters, only_interesting=only_interesting, explained=explained)
    names: list[str] = frame["name"].tolist()
    interesting = frame["interesting"].to_numpy(np.bool_)
    if labelled is not None:
        held = np.array([name in labelled for name in names], np.bool_)
        names, interesting = [name for name in names if name in labelled], interesting[held]
    if order == "random":
        drawn = shuffled(names, seed)
        names, interesting = [names[at] for at in drawn], interesting[drawn]
    return Queue.of(names, interesting)


def of_collection(units: Sequence[UnitName], *, order: str = "interesting", seed: int = 0) -> Queue:
    """The units of a collection: in its own order, or drawn with the seed. Raises AtlasError for an unknown order."""
    _known(order)
    names = [str(unit) for unit in units]
    return Queue.of([names[at] for at in shuffled(names, seed)] if order == "random" else names)


def shuffled(names: Sequence[str], seed: int) -> list[int]:
    """Places in an order by chance that depends on each name and the seed alone: what is left out changes nothing for the others."""
    key = seed.to_bytes(8, "little", signed=True)
    hashes = [blake2b(name.encode(), digest_size=8, key=key).digest() for name in names]
    return sorted(range(len(names)), key=hashes.__getitem__)


def judged(workspace: Workspace, author: str) -> frozenset[str]:
    """The names of the units that this person has rated or labelled."""
    with connect(workspace, write=False) as connection:
        rows = connection.execute(
            "SELECT DISTINCT unit FROM versions WHERE superseded = 0 AND removed = 0 AND kind IN ('rating', 'label') AND author = ?",
            (author,),
        )
        return frozenset(row["unit"] for row in rows)


def labelled(workspace: Workspace, label: str) -> frozenset[str]:
    """The names of the units to which anybody gave this label."""
    with connect(workspace, write=False) as connection:
        rows = connection.execute(
            "SELECT DISTINCT unit FROM versions "
            "WHERE superseded = 0 AND removed = 0 AND kind = 'label' AND json_extract(body, '$.label') = ?",
            (label,),
        )
        return frozenset(row["unit"] for row in rows)


def pace(times: Sequence[float]) -> float | None:
    """Judgements an hour, over the last `LAST` of these moments (in seconds) without breaks; None before there are three without one."""
    last = list(times)[-LAST:]
    gaps = [b - a for a, b in pairwise(last) if 0 <= b - a <= LONGEST_PAUSE]
    return 3600 * len(gaps) / sum(gaps) if len(gaps) >= 2 and sum(gaps) > 0 else None


def _known(order: str) -> None:
    if order not in ORDERS:
        raise AtlasError(f"“{order[:40]}” is not an order of the queue: use {' or '.join(ORDERS)}.")
