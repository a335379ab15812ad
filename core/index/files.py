"""A sketch as Parquet: what pages read is also the whole state, so that a part can be resumed and merged from its files alone.

The schemas are in docs/formats.md. Lists are written in the order of their keys; the keys themselves are worked out again from values,
ranks and hashes when a file is read back.
"""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from core.errors import AtlasError
from core.index import kernels
from core.index.bands import BANDS, QUANTILES
from core.index.bins import quantiles
from core.index.derive import Derived
from core.index.kernels import LOWEST, OFFSETS, POSITIONS
from core.index.sketch import Array, Contexts, Sketch
from core.workspace import FileNote, note_file

UNITS_PER_GROUP = 32
"""A reader of one unit fetches one row group: 32 units."""
_UNITS_ROWS_PER_GROUP = 128
"""Rows of units.parquet are smaller: 1.8 ms to read one, 8.4 ms if all 1,536 of a site were one group."""
_UNITS_PER_WRITE = 2048
"""Even with contexts of 4,096 tokens their activations stay below the 2 GiB that a binary column may hold at a time."""
_GATE = {"q0": 0, "q1": 0, "q2": 1, "q3": 2}
_NAMES = np.array([name for name, _ in BANDS])


def write_sketch(folder: Path, sketch: Sketch, derive: Callable[[Sketch], Derived]) -> dict[str, FileNote]:
    """Write units, records and positions of one site into `folder`. Paths in the answer are relative to `folder`'s parent."""
    folder.mkdir(parents=True, exist_ok=True)
    sketch.strong.settle()
    sketch.sample.settle()
    units = _units_table(sketch, derive(sketch))
    pq.write_table(units, folder / "units.parquet", compression="zstd", compression_level=1, row_group_size=_UNITS_ROWS_PER_GROUP)
    _write_chunks(folder / "records.parquet", sketch, _records_table, len(BANDS))
    _write_chunks(folder / "positions.parquet", sketch, _positions_table, 2)
    return {name: note_file(folder / f"{name}.parquet", folder.parent) for name in ("units", "records", "positions")}


def read_sketch(folder: Path, site: str, basis: str, contexts: Contexts) -> Sketch:
    """Read back what `write_sketch` wrote, exactly. Raises AtlasError if a file is damaged or of another slice."""
    try:
        units = pq.read_table(folder / "units.parquet", columns=["tokens", "min", "max", "bins", "counts", "sums"])
        records = pq.read_table(folder / "records.parquet")
        positions = pq.read_table(folder / "positions.parquet")
    except (OSError, pa.ArrowException) as error:
        raise AtlasError(f"The files in {folder} are damaged ({str(error).splitlines()[0]}): resume the run to make them again.") from None
    sketch = Sketch(site, basis, units.num_rows, contexts)
    sketch.tokens = int(units["tokens"][0].as_py()) if units.num_rows else 0
    sketch.sums[:] = _flat(units["sums"]).reshape(-1, 8)
    sketch.lows[:], sketch.highs[:] = units["min"].to_numpy(), units["max"].to_numpy()
    sketch.counts[_owners(units["bins"]), _flat(units["bins"])] = _flat(units["counts"])
    _restore_records(sketch, records)
    _restore_positions(sketch, positions)
    kernels.restore_keys(
        contexts.keys, contexts.lengths.astype(np.int64), contexts.first, sketch.seeds, sketch.keys, sketch.values,
        sketch.strong.keys, sketch.strong.values, sketch.sample.keys,
    )  # fmt: skip
    sketch.restore_thresholds()
    return sketch


def _units_table(sketch: Sketch, derived: Derived) -> Any:
    moments = sketch.moments()
    occupied = sketch.counts > 0
    offsets = np.concatenate([[0], np.cumsum(occupied.sum(axis=1))]).astype(np.int32)
    unit, bins = np.nonzero(occupied)
    levels = quantiles(sketch.counts, (0.5, 0.9, 0.99, 0.999), sketch.lows, sketch.highs)
    columns: dict[str, Any] = {
        "unit": np.arange(sketch.units, dtype=np.int32),
        "tokens": np.full(sketch.units, sketch.tokens, np.int64),
        "nonzero": sketch.nonzero(),
        **{name: values.astype(np.float32) for name, values in moments.items()},
        "min": sketch.lows,
        "max": sketch.highs,
        **{name: levels[:, i].astype(np.float32) for i, name in enumerate(("p50", "p90", "p99", "p999"))},
        "bins": pa.ListArray.from_arrays(offsets, bins.astype(np.int16)),
        "counts": pa.ListArray.from_arrays(offsets, sketch.counts[unit, bins].astype(np.int64)),
        **derived.columns(),
        "sums": pa.ListArray.from_arrays(np.arange(sketch.units + 1, dtype=np.int32) * 8, sketch.sums.reshape(-1)),
    }
    return pa.table(columns)


def _write_chunks(path: Path, sketch: Sketch, make: Callable[[Sketch, int, int], Any], rows_per_unit: int) -> None:
    writer = None
    dictionaries: Any = ["band", "kind"]
    try:
        for start in range(0, sketch.units, _UNITS_PER_WRITE):
            table = make(sketch, start, min(sketch.units, start + _UNITS_PER_WRITE))
            writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd", compression_level=1, use_dictionary=dictionaries)
            writer.write_table(table, row_group_size=UNITS_PER_GROUP * rows_per_unit)
    finally:
        if writer is not None:
            writer.close()


def _records_table(sketch: Sketch, start: int, stop: int) -> Any:
    keys = sketch.keys[start:stop]
    order = np.concatenate([np.argsort(~keys[:, low:high], axis=1, kind="stable") + low for low, high in pairwise(OFFSETS)], axis=1)
    filled = np.take_along_axis(keys, order, 1) != LOWEST
    counts = np.stack([filled[:, low:high].sum(axis=1) for low, high in pairwise(OFFSETS)], axis=1)
    sampled = np.zeros_like(counts)
    shown = counts.copy()
    for band, (name, _) in enumerate(BANDS):
        if name in _GATE:
            sampled[:, band] = sketch.sampled[start:stop, _GATE[name]]
            shown[:, band] = _show_first(name, order, counts[:, band], sampled[:, band], band)
    rows = np.arange(stop - start)[:, None]
    offsets = np.concatenate([[0], np.cumsum(counts.reshape(-1))])

    def listed(values: Array, dtype: Any) -> Any:
        return pa.ListArray.from_arrays(offsets.astype(np.int32), values[rows, order][filled].astype(dtype))

    steps = np.ascontiguousarray(sketch.steps[start:stop][rows, order][filled])
    packed = pa.Array.from_buffers(
        pa.binary(), counts.size, [None, pa.py_buffer((offsets * steps.shape[1] * 2).astype(np.int32)), pa.py_buffer(steps)]
    )
    return pa.table(
        {
            "unit": np.repeat(np.arange(start, stop, dtype=np.int32), len(BANDS)),
            "band": pa.array(np.tile(_NAMES, stop - start)),
            "contexts": listed(_ranks(keys), np.int32),
            "values": listed(sketch.values[start:stop], np.float32),
            "positions": listed(sketch.places[start:stop], np.int16),
            "scales": listed(sketch.scales[start:stop], np.float32),
            "activations": packed,
            "sampled": sampled.reshape(-1).astype(np.int32),
            "shown": shown.reshape(-1).astype(np.int32),
        }
    )


def _show_first(name: str, order: Array, counts: Array, sampled: Array, band: int) -> Array:
    """Put the records inside the band's quantiles first, in `order` and in place, and count them."""
    low, high = QUANTILES[name]
    size = BANDS[band][1]
    place = np.arange(size)[None, :]
    share = (place + 0.5) / np.maximum(sampled, 1)[:, None]
    quantile = share if name == "q0" else 1 - share
    inside = (quantile >= low) & (quantile <= high) & (place < counts[:, None])
    segment = slice(OFFSETS[band], OFFSETS[band] + size)
    # Stable, and what is empty stays last: inside the band, outside it, empty.
    sort = np.where(inside, 0, np.where(place < counts[:, None], 1, 2))
    order[:, segment] = np.take_along_axis(order[:, segment], np.argsort(sort, axis=1, kind="stable"), 1)
    return inside.sum(axis=1)


def _ranks(keys: Array) -> Array:
    return kernels.RANK_MASK - (keys & kernels.RANK_MASK)


def _positions_table(sketch: Sketch, start: int, stop: int) -> Any:
    columns: dict[str, list[Array]] = {"contexts": [], "positions": [], "values": [], "weights": [], "counts": []}
    for heap, sampled in ((sketch.strong, False), (sketch.sample, True)):
        best_first = slice(start, stop), slice(None, None, -1)
        keys = heap.keys[best_first]
        filled = keys != LOWEST
        kept = filled.sum(axis=1)
        weight = sketch.tokens / np.maximum(kept, 1) if sampled else np.ones(stop - start)
        columns["contexts"].append(_ranks(keys))
        columns["positions"].append(heap.places[best_first])
        columns["values"].append(heap.values[best_first])
        columns["weights"].append(np.broadcast_to(weight[:, None], keys.shape))
        columns["counts"].append(filled)
    filled = np.stack(columns.pop("counts"), axis=1)
    offsets = np.concatenate([[0], np.cumsum(filled.sum(axis=2).reshape(-1))]).astype(np.int32)
    kinds = {"contexts": np.int32, "positions": np.int16, "values": np.float32, "weights": np.float32}
    return pa.table(
        {
            "unit": np.repeat(np.arange(start, stop, dtype=np.int32), 2),
            "kind": pa.array(["strong", "sampled"] * (stop - start)),
            **{
                name: pa.ListArray.from_arrays(offsets, np.stack(columns[name], axis=1)[filled].astype(kind))
                for name, kind in kinds.items()
            },
        }
    )


def _flat(column: Any) -> Array:
    return column.combine_chunks().flatten().to_numpy(zero_copy_only=False)


def _lengths(column: Any) -> Array:
    return np.diff(column.combine_chunks().offsets.to_numpy())


def _owners(column: Any) -> Array:
    """The row of each list item."""
    return np.repeat(np.arange(len(column)), _lengths(column))


def _slots(lengths: Array, starts: Array) -> Array:
    """Consecutive slots from each list's start."""
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - lengths, lengths) + np.repeat(starts, lengths)


def _restore_records(sketch: Sketch, table: Any) -> None:
    lengths = _lengths(table["contexts"])
    unit = np.repeat(np.arange(sketch.units), len(BANDS)).repeat(lengths)
    slot = _slots(lengths, np.tile(OFFSETS[:-1], sketch.units))
    # The low half of a key; `restore_keys` adds the high half.
    sketch.keys[unit, slot] = kernels.RANK_MASK - _flat(table["contexts"]).astype(np.int64)
    sketch.values[unit, slot] = _flat(table["values"])
    sketch.places[unit, slot] = _flat(table["positions"])
    sketch.scales[unit, slot] = _flat(table["scales"])
    length = sketch.contexts.length
    steps = np.concatenate([np.frombuffer(value.as_buffer(), "<i2") for value in table["activations"]] or [np.zeros(0, np.int16)])
    sketch.steps[unit, slot] = steps.reshape(-1, length)
    sampled = table["sampled"].to_numpy().reshape(sketch.units, len(BANDS))
    for gate, band in enumerate((kernels.Q0, kernels.Q2, kernels.Q3)):
        sketch.sampled[:, gate] = sampled[:, band]


def _restore_positions(sketch: Sketch, table: Any) -> None:
    lengths = _lengths(table["contexts"])
    row = np.repeat(np.arange(len(lengths)), lengths)
    slot = _slots(lengths, np.zeros(len(lengths), np.int64))
    for kind, heap in enumerate((sketch.strong, sketch.sample)):
        mine = row % 2 == kind
        # Best first on disk; a list in the opposite order is a min-heap with its empty places in front.
        at = (row[mine] // 2, POSITIONS - 1 - slot[mine])
        heap.keys[at] = kernels.RANK_MASK - _flat(table["contexts"])[mine].astype(np.int64)
        heap.places[at] = _flat(table["positions"])[mine]
        heap.values[at] = _flat(table["values"])[mine]
