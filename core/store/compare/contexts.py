"""Contexts that several units have in common, each once with the activation of every unit on it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from core.store.compare.activity import Activity, Floats
from core.store.units import Record


@dataclass(frozen=True)
class SharedContext:
    """One context. units: the places of the units that were read over this text, ascending; activations: theirs, in that order [tokens],

    None where it is not kept. among: the places of the units that have it. record: the context's text, from one of the records. peak: the
    position at which the units' shares of their own maxima have the largest sum."""

    record: Record
    units: tuple[int, ...]
    activations: tuple[Floats | None, ...]
    among: tuple[int, ...]
    peak: int

    @property
    def context(self) -> int:
        """Its rank in the slice."""
        return self.record.context


def shared_contexts(units: Sequence[Activity]) -> list[SharedContext]:
    """The contexts of records that at least two units of one text have, those first on which a second unit comes nearest to its maximum.

    A neuron has a context that is among its records; a feature whose every activation is kept also any on which it is active.
    """
    found: list[tuple[float, SharedContext]] = []
    for text in dict.fromkeys(unit.text for unit in units):
        here = tuple(place for place, unit in enumerate(units) if unit.text == text)
        ranks = {rank: record for place in reversed(here) for rank, record in units[place].records.items()}
        for rank in sorted(ranks):
            among = tuple(place for place in here if units[place].has(rank))
            if len(among) > 1:
                found.append(_shared(units, here, among, ranks[rank]))
    return [one for _, one in sorted(found, key=lambda pair: (-pair[0], pair[1].units, pair[1].context))]


def _shared(units: Sequence[Activity], here: tuple[int, ...], among: tuple[int, ...], record: Record) -> tuple[float, SharedContext]:
    """The context, and the share of its own maximum that the second strongest unit reaches on it."""
    activations = tuple(units[place].on(record.context, len(record.tokens)) for place in here)
    shares = np.array([_shares(one, units[place], len(record.tokens)) for place, one in zip(here, activations, strict=True)])
    second = float(np.sort(shares.max(axis=1))[-2])
    return second, SharedContext(record, here, activations, among, max(record.first, int(shares.sum(axis=0).argmax())))


def _shares(activations: Floats | None, unit: Activity, tokens: int) -> npt.NDArray[np.float64]:
    if activations is None or not unit.largest:
        return np.zeros(tokens)
    return np.abs(np.nan_to_num(activations.astype(np.float64))) / unit.largest
