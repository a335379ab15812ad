"""Reading a Parquet file from anywhere: bounded before it is read, and only in the columns and types that were agreed on."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from core.findings.bundle.archive import Refused
from core.findings.bundle.schemas import Form

ROWS = 8_000_000
VALUES = 150_000_000
"""Numbers in all columns of a file together."""
BYTES = 1 << 30
"""Of all texts in a file together, and of what the file says that its columns unpack to."""
TEXT = 4 << 20
"""Bytes of one text, or of one unit's packed activations."""
_GROUPS = 200_000


def read_table(path: Path, form: Form, what: str) -> Any:
    """The columns of a form, as it has them. Raises Refused. what: how a sentence calls the file."""
    try:
        return _read(path, form, what)
    except Refused:
        raise
    except FileNotFoundError:
        raise Refused(f"{what} is missing in the bundle.") from None
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, MemoryError, OverflowError):
        raise Refused(f"{what} in the bundle is damaged.") from None


def _read(path: Path, form: Form, what: str) -> Any:
    metadata = pq.read_metadata(path)
    if metadata.num_rows > ROWS or metadata.num_row_groups > _GROUPS:
        raise Refused(f"{what} in the bundle has {metadata.num_rows:,} rows, more than any that this program writes.")
    arrow = metadata.schema.to_arrow_schema()
    names = [name for name in form.columns if name in arrow.names]
    if len(set(arrow.names)) != len(arrow.names):
        raise Refused(f"{what} in the bundle has a column twice.")
    for name, kind in form.columns.items():
        if name not in arrow.names and name not in form.optional:
            raise Refused(f"{what} in the bundle lacks the column {name}.")
        if name in names and not _same(arrow.field(name).type, kind):
            raise Refused(f"{what} in the bundle has numbers or texts of another kind in the column {name}.")
    leaves = [metadata.schema.column(i).path for i in range(metadata.num_columns)]
    wanted = [i for i, leaf in enumerate(leaves) if leaf.partition(".")[0] in names]
    values = size = 0
    for group in range(metadata.num_row_groups):
        columns = [metadata.row_group(group).column(i) for i in wanted]
        values += sum(column.num_values for column in columns)
        size += sum(column.total_uncompressed_size for column in columns)
        if any(column.num_values < 0 or column.total_uncompressed_size < 0 for column in columns) or values > VALUES or size > BYTES:
            raise Refused(f"{what} in the bundle holds more than any that this program writes.")
        for i, column in zip(wanted, columns, strict=True):
            # Arrow reads lists of texts only as they are: at worst each of them is all that the column has.
            if "." in leaves[i] and _is_text(metadata, i) and column.num_values * column.total_uncompressed_size > BYTES:
                raise Refused(f"{what} in the bundle holds more than any that this program writes.")
    # Other texts are read by dictionary: one that stands a million times takes its room once, and is counted before it takes more.
    texts = [leaves[i] for i in wanted if "." not in leaves[i] and _is_text(metadata, i)]
    with pq.ParquetFile(path, read_dictionary=texts, pre_buffer=False) as file:
        table = file.read(columns=names, use_threads=False)
    if table.num_rows != metadata.num_rows:
        raise Refused(f"{what} in the bundle is damaged.")
    total = 0
    for name in names:
        total += _text_bytes(table.column(name), what)
    if total > BYTES:
        raise Refused(f"{what} in the bundle holds more than any that this program writes.")
    made = table.select(form.schema(names).names).cast(form.schema(names)).combine_chunks()
    made.validate(full=True)
    _check(made, form, what)
    return made


def _is_text(metadata: Any, leaf: int) -> bool:
    return metadata.schema.column(leaf).physical_type == "BYTE_ARRAY"


def _same(found: Any, kind: Any) -> bool:
    if pa.types.is_list(kind):
        return bool(pa.types.is_list(found)) and found.value_type == kind.value_type
    return bool(found == kind)


def _text_bytes(column: Any, what: str) -> int:
    """How many bytes the texts of a column take, each as often as it stands there. Raises Refused for one that is too long."""
    total = 0
    for chunk in column.chunks:
        leaf = chunk.flatten() if pa.types.is_list(chunk.type) else chunk
        if not pa.types.is_dictionary(leaf.type):
            continue
        if leaf.dictionary.null_count:
            raise Refused(f"{what} in the bundle is damaged.")
        sizes = pc.call_function("binary_length", [leaf.dictionary.cast(pa.binary())]).to_numpy(zero_copy_only=False)
        if len(sizes) and sizes.max() > TEXT:
            raise Refused(f"{what} in the bundle has a text of {sizes.max():,} bytes, longer than any that this program writes.")
        indices = leaf.indices.drop_null().to_numpy(zero_copy_only=False)
        total += int(sizes[indices].sum(dtype=np.int64)) if len(indices) else 0
    return total


def _check(table: Any, form: Form, what: str) -> None:
    """No missing values, NaN only where it says that a number is undefined, −∞ only where there is no bound, and the key ascending."""
    for name, column in zip(table.column_names, table.columns, strict=True):
        inside = column.combine_chunks()
        if inside.null_count and name not in form.nulls:
            raise Refused(f"{what} in the bundle lacks values in the column {name}.")
        if pa.types.is_list(inside.type):
            inside = inside.flatten()
            if inside.null_count:
                raise Refused(f"{what} in the bundle lacks values in the column {name}.")
        if pa.types.is_floating(inside.type):
            numbers = inside.drop_null().to_numpy(zero_copy_only=False)
            infinite = np.isposinf(numbers) if name in form.unbounded else np.isinf(numbers)
            if infinite.any() or (name not in form.undefined and np.isnan(numbers).any()):
                raise Refused(f"{what} in the bundle has a number in the column {name} that is none.")
    if form.key is not None:
        key = table.column(form.key).to_numpy().astype(np.int64)
        if len(key) and (key[0] < 0 or (np.diff(key) <= 0).any()):
            raise Refused(f"{what} in the bundle does not name each {form.key} once, in order.")
