"""Every non-zero activation of sparse units, kept beside the sketch: the token histogram counts every token, and co-activation is exact.

While a share is read, its codes go to segments `codes/<share>-<first block>-<next block>/<site>.parquet`, one for each part, ordered by
context, position and unit. When the index is complete they become `codes/<site>.parquet`, one row a unit. Memory is bounded: a part is
written when `MOST_HELD` codes are waiting, and the last step takes as many units at a time as have `_ENTRIES` codes together.
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from core.errors import AtlasError
from core.index.files import UNITS_PER_GROUP
from core.index.jit import njit
from core.index.request import MAX_CODES, MAX_PAIRS
from core.index.sketch import Array
from core.units import Site
from core.workspace import FileNote, note_file, put_in_place, whole_folder

MOST_HELD = 20_000_000
"""Codes that wait in memory for the next part, 14 bytes each: a part is written when there are more, however short the time."""
COACTIVE = 12
_ENTRIES = 20_000_000
_COLUMNS = ("unit", "context", "position", "value")


class CodeWriter:
    """The codes that one worker has read since its last part."""

    def __init__(self, run_dir: Path, share: int, next_block: int) -> None:
        """next_block: where the worker goes on; segments beyond it are of an attempt that was cut off, and are removed."""
        self._folder, self._share, self._next = run_dir / "codes", share, next_block
        self._found: dict[Site, list[tuple[Array, ...]]] = {}
        for folder, span in _segments(run_dir, share):
            if span[1] > next_block:
                shutil.rmtree(folder)

    def add(self, site: Site, block: Array, ranks: Sequence[int], lengths: Array, first: int) -> None:
        """block: [contexts, length, units] codes. lengths: of the contexts. Positions before `first` are not data."""
        place = np.arange(block.shape[1])
        counted = (place >= first) & (place < np.asarray(lengths)[:, None])
        context, position, unit, value = _nonzero(block, counted, int(_count(block, counted)))
        self._found.setdefault(site, []).append((unit, np.asarray(ranks, np.int32)[context], position, value))

    @property
    def held(self) -> int:
        """Codes that wait for the next segment."""
        return sum(len(unit) for pieces in self._found.values() for unit, *_ in pieces)

    def flush(self, next_block: int) -> None:
        """Write what was read up to `next_block` as a segment, whole or not at all."""
        if self._found and next_block > self._next:
            with whole_folder(self._folder / f"{self._share}-{self._next:08d}-{next_block:08d}") as folder:
                for site, pieces in self._found.items():
                    columns = [np.concatenate(arrays) for arrays in zip(*pieces, strict=True)]
                    pq.write_table(
                        pa.table(dict(zip(_COLUMNS, columns, strict=True))), folder / f"{site}.parquet", compression="zstd",
                        compression_level=1,
                    )  # fmt: skip
        self._found, self._next = {}, next_block


def codes_path(run_dir: Path, site: Site) -> Path:
    """Where the codes of a site are kept."""
    return run_dir / "codes" / f"{site}.parquet"


def covered(run_dir: Path, share: int, first: int, next_block: int) -> bool:
    """Whether the segments of a share hold every block from `first` to `next_block`."""
    at = first
    for _, (start, stop) in _segments(run_dir, share):
        if start == at:
            at = stop
    return at >= next_block


def write_codes(run_dir: Path, units: Mapping[Site, int]) -> dict[str, FileNote | None]:
    """Turn the segments into `codes/<site>.parquet` for every site, skipping what an earlier attempt finished. Returns the files' notes.

    Columns: unit, contexts, positions, values (lists over the unit's non-zero tokens, in the slice's order), coactive and
    coactive_counts: the units most often active on the same tokens, by the Jaccard index of the two sets of tokens. A site with more
    codes than MAX_CODES has no file, and None for its note.
    """
    notes: dict[str, FileNote | None] = {}
    for site, count in units.items():
        path = codes_path(run_dir, site)
        if not path.exists():
            counts = np.zeros(count, np.int64)
            for unit, *_ in _read(run_dir, site):
                counts += np.bincount(unit, minlength=count)
            if counts.sum() > MAX_CODES:
                notes[str(site)] = None
                continue
            _write_site(path, run_dir, site, counts)
        notes[str(site)] = note_file(path, run_dir)
    return notes


def remove_segments(run_dir: Path) -> None:
    """When the sites' own files are published."""
    for folder, _ in _segments(run_dir):
        shutil.rmtree(folder, ignore_errors=True)


def _write_site(path: Path, run_dir: Path, site: Site, counts: Array) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    writer = None
    try:
        for low, high in _ranges(counts):
            table = _table(run_dir, site, counts, low, high)
            writer = writer or pq.ParquetWriter(temporary, table.schema, compression="zstd", compression_level=1)
            writer.write_table(table, row_group_size=UNITS_PER_GROUP)
    finally:
        if writer is not None:
            writer.close()
    put_in_place(temporary, path)


def _ranges(counts: Array) -> Iterator[tuple[int, int]]:
    """Units to take at a time: whole row groups of at most `_ENTRIES` codes, at least one group."""
    low = 0
    while low < len(counts):
        high = min(low + UNITS_PER_GROUP, len(counts))
        while high < len(counts) and counts[low : high + UNITS_PER_GROUP].sum() <= _ENTRIES:
            high = min(high + UNITS_PER_GROUP, len(counts))
        yield low, high
        low = high


def _table(run_dir: Path, site: Site, counts: Array, low: int, high: int) -> Any:
    """The rows of units `low` to `high`."""
    total = int(counts[low:high].sum())
    contexts, positions, values = np.zeros(total, np.int32), np.zeros(total, np.int16), np.zeros(total, np.float32)
    fill = np.concatenate([[0], np.cumsum(counts[low:high])])
    offsets = fill.astype(np.int32)
    pairs = np.zeros((high - low, len(counts)), np.uint32) if len(counts) <= MAX_PAIRS else None
    for unit, context, position, value in _read(run_dir, site):
        _scatter(unit, context, position, value, low, high, fill, contexts, positions, values)
        if pairs is not None:
            _pair(unit, context, position, low, high, pairs)
    near, together = _coactive(pairs, counts, low, high)
    return pa.table(
        {
            "unit": np.arange(low, high, dtype=np.int32),
            "contexts": pa.ListArray.from_arrays(offsets, contexts),
            "positions": pa.ListArray.from_arrays(offsets, positions),
            "values": pa.ListArray.from_arrays(offsets, values),
            "coactive": pa.array(near, pa.list_(pa.int32())),
            "coactive_counts": pa.array(together, pa.list_(pa.int64())),
        }
    )


def _coactive(pairs: Array | None, counts: Array, low: int, high: int) -> tuple[list[list[int]], list[list[int]]]:
    """For each row the units with the largest Jaccard index n_ij / (n_i + n_j − n_ij), and n_ij."""
    if pairs is None:
        return [[] for _ in range(low, high)], [[] for _ in range(low, high)]
    near: list[list[int]] = []
    together: list[list[int]] = []
    for row, shared in enumerate(pairs.astype(np.int64)):
        shared[low + row] = 0
        jaccard = shared / np.maximum(counts[low + row] + counts - shared, 1)
        order = np.argsort(-jaccard, kind="stable")[:COACTIVE]
        order = order[shared[order] > 0]
        near.append(order.tolist())
        together.append(shared[order].tolist())
    return near, together


def _segments(run_dir: Path, share: int | None = None) -> list[tuple[Path, tuple[int, int]]]:
    """The finished segments, of one share or of all, in the order of their blocks."""
    found: list[tuple[Path, tuple[int, int]]] = []
    for folder in sorted((run_dir / "codes").glob("[0-9]*-*-*")):
        number, first, after = folder.name.split("-")
        if share is None or int(number) == share:
            found.append((folder, (int(first), int(after))))
    return sorted(found, key=lambda each: each[1])


def _read(run_dir: Path, site: Site) -> Iterator[tuple[Array, Array, Array, Array]]:
    """unit, context, position and value of each segment of a site. Raises AtlasError for a damaged one."""
    for folder, _ in _segments(run_dir):
        path = folder / f"{site}.parquet"
        try:
            table = pq.read_table(path)
        except (OSError, pa.ArrowException):
            raise AtlasError(f"The codes in {folder.name} are damaged: delete the run and index again.") from None
        yield tuple(table.column(name).to_numpy() for name in _COLUMNS)  # pyright: ignore[reportReturnType] - four of them


@njit(nogil=True, cache=True)
def _count(block: Any, counted: Any) -> int:
    found = 0
    for c in range(block.shape[0]):
        for t in range(block.shape[1]):
            if counted[c, t]:
                for u in range(block.shape[2]):
                    found += block[c, t, u] != 0
    return found


@njit(nogil=True, cache=True)
def _nonzero(block: Any, counted: Any, size: int) -> Any:
    """Context, position, unit and value of every code that is not zero."""
    context, position = np.empty(size, np.int32), np.empty(size, np.int16)
    unit, value = np.empty(size, np.int32), np.empty(size, np.float32)
    at = 0
    for c in range(block.shape[0]):
        for t in range(block.shape[1]):
            if counted[c, t]:
                for u in range(block.shape[2]):
                    if block[c, t, u] != 0:
                        context[at], position[at], unit[at], value[at] = c, t, u, block[c, t, u]
                        at += 1
    return context, position, unit, value


@njit(nogil=True, cache=True)
def _scatter(
    unit: Any, context: Any, position: Any, value: Any, low: int, high: int, fill: Any, contexts: Any, positions: Any, values: Any
) -> None:
    """Append each code to its unit's stretch; `fill` is where the next one of each unit goes."""
    for i in range(unit.shape[0]):
        u = unit[i]
        if low <= u < high:
            at = fill[u - low]
            contexts[at], positions[at], values[at] = context[i], position[i], value[i]
            fill[u - low] = at + 1


@njit(nogil=True, cache=True)
def _pair(unit: Any, context: Any, position: Any, low: int, high: int, pairs: Any) -> None:
    """Count every two units that are active on the same token, for rows `low` to `high`."""
    start = 0
    while start < unit.shape[0]:
        stop = start
        while stop < unit.shape[0] and context[stop] == context[start] and position[stop] == position[start]:
            stop += 1
        for i in range(start, stop):
            if low <= unit[i] < high:
                for j in range(start, stop):
                    pairs[unit[i] - low, unit[j]] += np.uint32(1)
        start = stop
