"""Parts: the Parquet files of a run, read a few rows at a time."""

import errno
import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from core.remembered import FileKey, Remembered, file_key

_OPEN_PARTS = 96
"""Footers kept in memory. One of a 6,400-unit records file takes about a megabyte and 2 ms to parse."""

_OPEN_GROUPS = 24
"""Row groups kept in memory, half a megabyte each: a step to the next unit finds its rows there."""


class DamagedPart(Exception):
    """A Parquet file is truncated, unreadable or lacks what it must hold. `path` says which."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path}: {why}")
        self.path = path
        self.why = why


@contextmanager
def _reading(path: Path) -> Generator[None]:
    """Raises FileNotFoundError with the file's name when it is gone, DamagedPart when it cannot be read."""
    try:
        yield
    except FileNotFoundError:  # Arrow's own has no name
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from None
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise DamagedPart(path, str(error)) from None


@dataclass(frozen=True)
class _Footer:
    metadata: Any  # pyarrow.parquet.FileMetaData
    firsts: npt.NDArray[np.int64]
    """The first unit of each row group, shape (row groups,)."""


_footers: Remembered[FileKey, _Footer] = Remembered(_OPEN_PARTS)


_groups: Remembered[tuple[FileKey, int, tuple[str, ...]], Any] = Remembered(_OPEN_GROUPS)


def read_unit(path: Path, unit: int, columns: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of one unit as Python values, `[]` when it has none. Raises as `unit_table` does."""
    table = unit_table(path, unit, columns)
    return [] if table is None else table.to_pylist()


def unit_table(path: Path, unit: int, columns: Sequence[str]) -> Any:
    """The rows of one unit as a pyarrow table, None when it has none. Reads one row group.

    Raises FileNotFoundError when the file is gone and DamagedPart when it cannot be read.
    """
    key = file_key(path)
    with _reading(path):
        footer = _footers.get(key, lambda: _read_footer(path))
        group = int(np.searchsorted(footer.firsts, unit, side="right")) - 1
        if group < 0:
            return None
        table = _groups.get((key, group, tuple(columns)), lambda: _read_group(path, footer, group, columns))
        units = table.column("unit").to_numpy()
        start, end = np.searchsorted(units, [unit, unit + 1])
        return table.slice(start, end - start) if end > start else None


def read_columns(path: Path, columns: Sequence[str]) -> Any:
    """Whole columns of a file, in file order, as a pyarrow table. Raises FileNotFoundError and DamagedPart."""
    with _reading(path), pq.ParquetFile(path, pre_buffer=False) as file:
        missing = set(columns) - set(file.schema_arrow.names)
        if missing:
            raise DamagedPart(path, f"it lacks the column {', '.join(sorted(missing))}")
        return file.read(columns=list(columns))


def flat(column: Any, kind: npt.DTypeLike) -> npt.NDArray[Any]:
    """The elements of a list column end to end, without gaps."""
    return column.combine_chunks().flatten().to_numpy(zero_copy_only=False).astype(kind, copy=False)


def lengths(column: Any) -> npt.NDArray[np.int64]:
    """How many elements each list of a list column has, shape (rows,)."""
    return np.diff(column.combine_chunks().offsets.to_numpy().astype(np.int64))


def _read_group(path: Path, footer: _Footer, group: int, columns: Sequence[str]) -> Any:
    file = pq.ParquetFile(path, metadata=footer.metadata, pre_buffer=False, memory_map=True)
    try:
        return file.read_row_group(group, columns=list(columns), use_threads=False)
    finally:
        file.close()


def _read_footer(path: Path) -> _Footer:
    metadata = pq.read_metadata(path)
    place = metadata.schema.to_arrow_schema().names.index("unit")
    firsts: list[int] = []
    for group in range(metadata.num_row_groups):
        statistics = metadata.row_group(group).column(place).statistics
        if statistics is None or not statistics.has_min_max:
            raise DamagedPart(path, "its row groups do not say which units they hold")
        firsts.append(statistics.min)
    return _Footer(metadata, np.array(firsts, dtype=np.int64))
