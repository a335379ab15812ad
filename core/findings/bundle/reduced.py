"""A reduced run: what a run knows of some units, in exactly the files of such a run. Its name follows from what it holds."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from core.findings.bundle import schemas
from core.findings.bundle.schemas import Form
from core.store.catalog import IMPORTED
from core.workspace import note_file, write_json

SELF = "self"
"""Stands for the run's own name, which follows from the content, wherever that mentions it."""
_GROUP = 32
_ROWS = {"units": 128, "records": 7 * _GROUP, "positions": 2 * _GROUP, "effects": _GROUP, "codes": _GROUP, "contexts": 1024}
"""Rows of a row group, as the indexer writes them."""
_WRITTEN = ("files", "effects", "codes", "text", "parts", "run")
"""Keys of a manifest that follow from the files and the name."""

Table = Any


@dataclass(frozen=True)
class Place:
    """A table's place in a run: the keys under which the manifest notes its file, and its form."""

    keys: tuple[str, ...]
    form: Form = field(compare=False)

    @property
    def path(self) -> str:
        """The file, relative to the run's folder."""
        head, *rest = self.keys
        folder = {"files": rest[:-1], "effects": ["effects"], "codes": ["codes"], "text": ["text"], "parts": ["parts", "0"]}[head]
        return "/".join([*folder, f"{rest[-1]}.parquet"])


@dataclass(frozen=True)
class Reduced:
    """kind: index, explain or effect. origin: the run it was first taken from. manifest: without the keys that follow from the rest."""

    kind: str
    origin: str
    manifest: dict[str, Any]
    tables: dict[Place, Table] = field(repr=False)

    @property
    def run(self) -> str:
        """The name: equal for equal content, in every workspace."""
        digest = hashlib.sha256(json.dumps([self.kind, self.origin, self.manifest], sort_keys=True, ensure_ascii=False).encode())
        for place in sorted(self.tables, key=lambda place: place.path):
            digest.update(f"\n{place.path}\n".encode())
            _digest(digest, self.tables[place])
        return f"{self.origin[:40].rstrip('.')}.x{digest.hexdigest()[:16]}"

    def write(self, folder: Path) -> None:
        """Write the run's folder."""
        run = self.run
        document: dict[str, Any] = {**self.manifest, "run": run}
        document.pop("late", None)
        if self.kind == "index":
            document |= {"files": {}, "effects": {}, "codes": {}, "text": {}}
        elif self.kind == "effect":
            document["files"] = {}
        notes: dict[str, Any] = {}
        for place, table in self.tables.items():
            path = folder / place.path
            path.parent.mkdir(parents=True, exist_ok=True)
            rows = _ROWS.get(path.stem, _ROWS.get(place.keys[0], 1 << 16))
            pq.write_table(renamed(table, SELF, run), path, compression="zstd", row_group_size=rows)
            notes[place.path] = note_file(path, folder)
            if self.kind != "explain":
                _put(document, place.keys, notes[place.path])
        if self.kind == "explain":
            files = {place.keys[-1]: notes[place.path] for place in self.tables}
            document["parts"] = [{"number": 0, **self.manifest["part"], "files": files}]
            del document["part"]
        write_json(folder / IMPORTED, {"schema": 1, "run": run, "kind": self.kind, "origin": self.origin})
        write_json(folder / "manifest.json", document)


def places(kind: str, manifest: dict[str, Any]) -> list[Place]:
    """Where the tables of a run are that has this manifest, from the keys that do not follow from its files."""
    if kind == "explain":
        return [Place(("parts", name), form) for name, form in schemas.PART.items()]
    if kind == "effect":
        return [Place(("files", name), form) for name, form in schemas.EFFECT_RUN.items()]
    found = [Place(("text", name), form) for name, form in schemas.EXCERPT.items()]
    for site in manifest["sites"]:
        found += [Place(("files", site, name), form) for name, form in schemas.INDEX.items()]
        found += [Place((name, site), form) for name, form in schemas.LATE.items() if site in manifest["late"][name]]
    return found


def plain(document: dict[str, Any]) -> dict[str, Any]:
    """A written manifest without the keys that follow from the rest."""
    found = {key: value for key, value in document.items() if key not in _WRITTEN}
    if document["kind"] == "index":
        found["late"] = {name: sorted(document[name]) for name in schemas.LATE}
    if document["kind"] == "explain":
        part = document["parts"][0]
        found["part"] = {"work": part["work"], "indexes": part["indexes"]}
    return found


def renamed(table: Table, before: str, after: str) -> Table:
    """A table in which explanations are those of another run: `<before>.0.0.0` becomes `<after>.0.0.0`."""
    if "explanation" not in table.column_names:
        return table
    at = table.column_names.index("explanation")
    named = pa.array([after + one[len(before) :] for one in table.column(at).to_pylist()], pa.string())
    return table.set_column(at, "explanation", named)


def _put(document: dict[str, Any], keys: tuple[str, ...], note: Any) -> None:
    for key in keys[:-1]:
        document = document.setdefault(key, {})
    document[keys[-1]] = note


def _digest(digest: Any, table: Table) -> None:
    for name, column in zip(table.column_names, table.columns, strict=True):
        digest.update(f"{name} {column.type} {len(column)}\n".encode())
        _digest_array(digest, pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type))


def _digest_array(digest: Any, array: Any) -> None:
    """The values themselves, whatever they look like in memory."""
    digest.update(array.is_null().to_numpy(zero_copy_only=False).tobytes())
    array = array.drop_null() if array.null_count else array
    kind = array.type
    if pa.types.is_list(kind):
        digest.update(array.value_lengths().to_numpy(zero_copy_only=False).astype("<i8").tobytes())
        _digest_array(digest, array.flatten())
    elif pa.types.is_string(kind) or pa.types.is_binary(kind):
        digest.update(pc.call_function("binary_length", [array]).to_numpy(zero_copy_only=False).astype("<i8").tobytes())
        digest.update(b"".join(array.cast(pa.binary()).to_pylist()))
    else:
        values = array.to_numpy(zero_copy_only=False)
        if values.dtype.kind == "f":  # one NaN and one zero
            values = np.where(np.isnan(values), np.nan, values).astype(values.dtype) + values.dtype.type(0)
        digest.update(np.ascontiguousarray(values.astype(values.dtype.newbyteorder("<"))).tobytes())
