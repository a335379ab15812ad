"""Results of ablating as Parquet: one row a position, one row a token of the vocabulary. Schemas are in docs/formats.md.

While a run goes on, each batch of texts is a folder `parts/<number>/` that is there whole or not at all; a run that is resumed reads those
that are intact, if they are of what it is about to read (`parts/about.json`). At the end they become `positions.parquet` and
`vocabulary.parquet`, and the parts are removed.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from core.causal.effect import Measured
from core.workspace import FileNote, is_intact, note_file, put_in_place, whole_folder, write_json

LISTS = ("raised", "lowered", "before", "after")
SUMS = ("change", "direct", "before", "after")
"""Columns of the vocabulary: mean changes of the log-probability, total and direct; mean probabilities with and without."""
_LISTED: list[tuple[str, Any]] = [
    column
    for name in LISTS
    for column in (
        (f"{name}_tokens", pa.list_(pa.int32())),
        (f"{name}_original", pa.list_(pa.float32())),
        (f"{name}_ablated", pa.list_(pa.float32())),
    )
]
POSITIONS = pa.schema(
    [
        ("text", pa.int16()),
        ("position", pa.int16()),
        ("token", pa.int32()),
        ("following", pa.int32()),
        ("activations", pa.list_(pa.float32())),
        ("fires", pa.bool_()),
        ("kl", pa.float64()),
        ("log_p", pa.float32()),
        ("change", pa.float32()),
        *_LISTED,
    ]
)
VOCABULARY = pa.schema([("token", pa.int32()), *((name, pa.float32()) for name in SUMS)])
_PART = pa.schema([("token", pa.int32()), *((name, pa.float64()) for name in SUMS)])


def keep_parts_about(run_dir: Path, about: Mapping[str, Any]) -> None:
    """Parts of an earlier attempt stay if they are about the same (JSON values); else they are removed. Those to come are about this."""
    path = run_dir / "parts" / "about.json"
    try:
        same = json.loads(path.read_text("utf8")) == json.loads(json.dumps(about))
    except (OSError, ValueError):
        same = False
    if not same:
        remove_parts(run_dir)
        path.parent.mkdir(exist_ok=True)
        write_json(path, about)


def write_part(run_dir: Path, number: int, first: int, measured: Measured) -> None:
    """Write the batch `number`, whole or not at all. first: the place of its first text in the run."""
    with whole_folder(_folder(run_dir, number)) as folder:
        pq.write_table(_positions(measured, first), folder / "positions.parquet", compression="zstd")
        pq.write_table(_sums(measured), folder / "sums.parquet", compression="zstd")
        notes = [note_file(folder / f"{name}.parquet", folder) for name in ("positions", "sums")]
        write_json(folder / "part.json", {"files": notes})


def has_part(run_dir: Path, number: int) -> bool:
    """Whether the batch is there and intact."""
    folder = _folder(run_dir, number)
    try:
        return all(is_intact(folder, note) for note in json.loads((folder / "part.json").read_text("utf8"))["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def join_parts(run_dir: Path, count: int) -> tuple[dict[str, FileNote], Any, Any]:
    """Make the run's two files of its `count` batches; returns their notes and their tables. The vocabulary's has means over positions that
    fire, NaN where there is none."""
    parts = [_folder(run_dir, number) for number in range(count)]
    positions = pa.concat_tables([pq.read_table(part / "positions.parquet", schema=POSITIONS) for part in parts])
    fires = int(np.count_nonzero(positions.column("fires").to_numpy()))
    sums = [pq.read_table(part / "sums.parquet", schema=_PART) for part in parts]
    means = {name: np.sum([table.column(name).to_numpy() for table in sums], axis=0) / (fires or np.nan) for name in SUMS}
    vocabulary = pa.table({"token": sums[0].column("token"), **{name: mean.astype(np.float32) for name, mean in means.items()}}, VOCABULARY)
    notes = {name: _write(run_dir, name, table) for name, table in (("positions", positions), ("vocabulary", vocabulary))}
    return notes, positions, vocabulary


def remove_parts(run_dir: Path) -> None:
    """What the run's files hold by now."""
    shutil.rmtree(run_dir / "parts", ignore_errors=True)


def _write(run_dir: Path, name: str, table: Any) -> FileNote:
    path = run_dir / f"{name}.parquet"
    temporary = run_dir / f".{name}.parquet.tmp"
    pq.write_table(table, temporary, compression="zstd")
    put_in_place(temporary, path)
    return note_file(path, run_dir)


def _folder(run_dir: Path, number: int) -> Path:
    return run_dir / "parts" / f"{number:04d}"


def _positions(measured: Measured, first: int) -> Any:
    columns: dict[str, Any] = {name: getattr(measured, name).numpy() for name in ("position", "token", "following", "fires")}
    columns |= {name: getattr(measured, name).numpy() for name in ("kl", "log_p", "change")}
    columns["text"] = measured.text.numpy() + first
    columns["activations"] = _rows(measured.activations.numpy())
    for name in LISTS:
        listed = getattr(measured, name).numpy()
        for place, what in enumerate(("tokens", "original", "ablated")):
            columns[f"{name}_{what}"] = _rows(listed[:, place].astype(np.int32 if what == "tokens" else np.float32))
    return pa.table({name: pa.array(columns[name]).cast(POSITIONS.field(name).type) for name in POSITIONS.names}, schema=POSITIONS)


def _sums(measured: Measured) -> Any:
    columns = {"change": measured.total, "direct": measured.direct, "before": measured.p, "after": measured.q}
    return pa.table({"token": np.arange(len(measured.total)), **{name: columns[name].numpy() for name in SUMS}}, schema=_PART)


def _rows(values: Any) -> Any:
    """A list a row of a matrix."""
    offsets = np.arange(len(values) + 1, dtype=np.int32) * values.shape[1]
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(np.ascontiguousarray(values).reshape(-1)))


def finished(run_dir: Path, notes: dict[str, FileNote]) -> bool:
    """Whether the run's files are as they were noted."""
    return set(notes) == {"positions", "vocabulary"} and all(is_intact(run_dir, note) for note in notes.values())


def most_changed(vocabulary: Any, count: int) -> tuple[Sequence[int], Sequence[int]]:
    """The tokens raised most and lowered most on average, the strongest first; empty where nothing fires."""
    change = vocabulary.column("change").to_numpy()
    if np.isnan(change).any():
        return [], []
    order = np.argsort(change, kind="stable")
    return order[::-1][:count].tolist(), order[:count].tolist()
