"""An index of activations that another program kept: every non-zero one is given, and goes through the same sketch as those read here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.index.codes import CodeWriter, write_codes
from core.index.derive import derive
from core.index.files import write_sketch
from core.index.request import MAX_CODES
from core.index.sketch import Array, Contexts, Sketch
from core.units import Site

_BLOCK = 16_000_000
"""Activations in a dense block, those that are zero among them."""


@dataclass(frozen=True)
class Given:
    """The non-zero activations of some units of a site, ordered by context and position, each once.

    tokens: int32 [contexts, length]. keys: uint64 [contexts], content hashes. context, position, unit: int64 [n]; unit counts from 0 among
    the units given. value: float32 [n]. documents: int32 [contexts].
    """

    site: Site
    basis: str
    units: int
    tokens: Array
    keys: Array
    documents: Array
    context: Array
    position: Array
    unit: Array
    value: Array


def write_given(folder: Path, given: Given, vocabulary: int, decode: Callable[[Sequence[int]], str]) -> dict[str, Path]:
    """Write units, records, positions and codes as a run has them into an empty folder; returns their paths by name.

    vocabulary: how many tokens there are. decode: the text of some. Raises AtlasError. Codes are left out where there are too many.
    """
    size, length = given.tokens.shape
    contexts = Contexts(given.keys, given.documents, np.full(size, length, np.int16), length, 0)
    sketch = Sketch(str(given.site), given.basis, given.units, contexts)
    codes = CodeWriter(folder, 0, 0)
    step = max(1, _BLOCK // (length * given.units))
    for start in range(0, size, step):
        stop = min(size, start + step)
        low, high = np.searchsorted(given.context, [start, stop])
        block = np.zeros((stop - start, length, given.units), np.float32)
        block[given.context[low:high] - start, given.position[low:high], given.unit[low:high]] = given.value[low:high]
        ranks = range(start, stop)
        sketch.add(block, ranks)
        codes.add(given.site, block, ranks, contexts.lengths[start:stop], contexts.first)
    codes.flush(size)
    totals = np.bincount(given.tokens.reshape(-1), minlength=vocabulary).astype(np.int64)
    write_sketch(folder / str(given.site), sketch, lambda made: derive(made, given.tokens, totals, decode))
    found = {name: folder / str(given.site) / f"{name}.parquet" for name in ("units", "records", "positions")}
    if len(given.value) <= MAX_CODES and write_codes(folder, {given.site: given.units})[str(given.site)] is not None:
        found["codes"] = folder / "codes" / f"{given.site}.parquet"
    return found
