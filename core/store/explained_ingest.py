"""Ingest of what was explained: from the parts of a run to rows of the cache's light tables. A part never changes, so each is read once."""

import hashlib
import json
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from core.errors import AtlasError
from core.store.explained import FILES, ExplainedPart, ExplainedRun
from core.store.ingest import insert
from core.store.parts import DamagedPart, read_columns
from core.units import UnitName

TABLES = ("explain_runs", "explain_parts", "explanations", "scores")
ROLES = ("simulated", "lookup", "shuffled", "paraphrase")
_COPIED = ("explanation", "setting", "step", "explainer", "author", "text", "failed", "seconds", "created")
_WORDS = ("explanation", "role", "kind", "split", "simulator", "calibration", "reason", "said", "said_of")
_NUMBERS = ("rho", "low", "high", "r2", "explained", "record_rho", "coverage")


def delete_explained(cursor: duckdb.DuckDBPyConnection, run: str) -> None:
    """Delete all rows of a run."""
    for table in TABLES:
        cursor.execute(f"DELETE FROM {table} WHERE run = ?", [run])


def update_run(cursor: duckdb.DuckDBPyConnection, found: ExplainedRun, *, whole: bool) -> tuple[Path, str] | None:
    """Bring a run's rows up to date inside the caller's transaction: new parts are read, parts that are gone or replaced are deleted.

    whole: check the hash of every file that is read, not only its size. A part that cannot be read is left out, the others are taken in;
    the first such file is returned with “is missing” or “is damaged”.
    """
    rows: list[Any] = cursor.execute("SELECT part, hash FROM explain_parts WHERE run = ?", [found.run]).fetchall()
    stored: dict[int, str] = dict(rows)
    wanted = {part.number: part for part in found.parts}
    for number, known in stored.items():
        if number not in wanted or wanted[number].hash() != known:
            for table in TABLES[1:]:
                cursor.execute(f"DELETE FROM {table} WHERE run = ? AND part = ?", [found.run, number])
    wrong: tuple[Path, str] | None = None
    for part in found.parts:
        if stored.get(part.number) == part.hash():
            continue
        try:
            verify_part(found, part, whole=whole)
            tables = part_rows(found, part)
        except FileNotFoundError as error:
            wrong = wrong or (Path(str(error.filename)), "is missing")
        except DamagedPart as damage:
            wrong = wrong or (damage.path, "is damaged")
        else:
            for table, content in tables.items():
                insert(cursor, table, content)
            cursor.execute("INSERT INTO explain_parts VALUES (?, ?, ?)", [found.run, part.number, part.hash()])
    cursor.execute("DELETE FROM explain_runs WHERE run = ?", [found.run])
    spend = found.spend or {}
    row: list[Any] = [found.run, found.state, found.generation, found.work_done, found.work_total, found.study]
    row += [json.dumps(found.settings, ensure_ascii=False), found.units, list(found.index), found.written]
    row += [spend.get(key) for key in ("calls", "cached", "tokens_in", "tokens_out", "money")]
    row.append(found.fingerprint if wrong is None else "")  # the next ingest tries again
    cursor.execute(f"INSERT INTO explain_runs VALUES ({', '.join('?' * len(row))})", row)
    return wrong


def verify_run(found: ExplainedRun, *, whole: bool) -> None:
    """Check the files of every part, see `verify_part`."""
    for part in found.parts:
        verify_part(found, part, whole=whole)


def verify_part(found: ExplainedRun, part: ExplainedPart, *, whole: bool) -> None:
    """Check the files of a part against the manifest: their sizes, and with `whole` their hashes.

    Raises FileNotFoundError and DamagedPart.
    """
    for name in FILES:
        path, entry = found.path(part, name), part.files[name]
        size = path.stat().st_size
        if size != int(entry["bytes"]):
            raise DamagedPart(path, f"it has {size} bytes instead of {entry['bytes']}")
        if whole:
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != entry["sha256"]:
                    raise DamagedPart(path, "its content is not what was written")


def part_rows(found: ExplainedRun, part: ExplainedPart) -> dict[str, Any]:
    """The rows of one part as pyarrow tables by the name of the cache's table. Raises FileNotFoundError and DamagedPart."""
    path = found.path(part, "explanations")
    try:
        explanations = _explanations(found, part, path)
        path = found.path(part, "scores")
        return {"explanations": explanations, "scores": _scores(found, part, path)}
    except (AtlasError, ValueError, pa.ArrowException) as error:  # a name that is none, a word where a number belongs
        raise DamagedPart(path, str(error)) from None


def places(run: str, identity: str) -> tuple[int, int]:
    """The unit's and the setting's place in the run, from an explanation's identity. Raises ValueError for another run's."""
    before, unit, setting, _step = identity.rsplit(".", 3)
    if before != run:
        raise ValueError(f"{identity} is not an explanation of {run}")
    return int(unit), int(setting)


def _explanations(found: ExplainedRun, part: ExplainedPart, path: Path) -> Any:
    table = read_columns(path, [*_COPIED, "unit", "index"])
    names = [UnitName.parse(name) for name in table.column("unit").to_pylist()]
    at = np.array([places(found.run, identity) for identity in table.column("explanation").to_pylist()], np.int32).reshape(-1, 2)
    return pa.table(
        {
            "run": pa.array([found.run] * len(names), pa.string()),
            "part": np.full(len(names), part.number, np.int32),
            "name": table.column("unit"),
            "subject": pa.array([name.subject for name in names], pa.string()),
            "kind": pa.array([name.site.kind for name in names], pa.string()),
            "layer": np.array([name.site.layer for name in names], np.int16),
            "basis": pa.array([name.basis for name in names], pa.string()),
            "unit": np.array([name.index for name in names], np.int32),
            "index_run": table.column("index"),
            "unit_place": at[:, 0],
            "setting_place": at[:, 1],
            **{name: table.column(name) for name in _COPIED},
        }
    )


def _scores(found: ExplainedRun, part: ExplainedPart, path: Path) -> Any:
    table = read_columns(path, [*_WORDS, *_NUMBERS, "n_tokens", "n_records"])
    unknown = set(table.column("role").to_pylist()) - set(ROLES)
    if unknown:
        raise ValueError(f"{sorted(unknown)[0]} is not the role of a score")
    columns = {name: table.column(name) for name in (*_WORDS, "n_tokens", "n_records")}
    for name in _NUMBERS:  # undefined is NULL, never a number
        columns[name] = pa.array(table.column(name).to_numpy(), pa.float64(), from_pandas=True)
    size = table.num_rows
    return pa.table({"run": pa.array([found.run] * size, pa.string()), "part": np.full(size, part.number, np.int32), **columns})
