"""Export: chosen units with all that the workspace knows of them, as one `.atlas.zip`."""

import json
import time
import zipfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from core.errors import AtlasError, explain_os_error
from core.findings.bundle import schemas
from core.findings.bundle.archive import MANIFEST, MEMBERS
from core.findings.bundle.checks import UNITS, check
from core.findings.bundle.reduced import Reduced
from core.findings.bundle.taking import contexts_of, reindexed, taken_effect, taken_explanations, taken_index
from core.store.catalog import IndexInfo, broken_file, find_unit, load_index, read_current
from core.store.effects import EffectRun, effect_runs
from core.store.explained import ExplainedRun, explained_runs
from core.store.parts import DamagedPart
from core.units import Site, UnitName
from core.workspace import Workspace, note_file, write_json

SCHEMA = 1
FORMAT = "neuron-atlas-bundle"
SUFFIX = ".atlas.zip"
_FIXED_TIME = (1980, 1, 1, 0, 0, 0)
"""Of every member: when a file was written is no part of what it says."""


class FindingsRows(Protocol):
    """What of `core.findings.findings.Findings` goes along."""

    def rows(self, units: Iterable[UnitName] | None = None, collections: Iterable[str] = ()) -> Sequence[Mapping[str, Any]]: ...


@dataclass
class Exported:
    """What went into a bundle. remarks: sentences about what stayed behind or went along unasked."""

    path: Path
    units: int
    runs: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    explanations: int = 0
    effects: int = 0
    findings: int = 0
    bytes: int = 0
    remarks: list[str] = field(default_factory=list[str])


def export_bundle(
    workspace: Workspace,
    units: Sequence[UnitName],
    path: Path,
    *,
    run: str | None = None,
    title: str = "",
    findings: FindingsRows | None = None,
    collections: Collection[str] = (),
) -> Exported:
    """Write the bundle of some units, of one or several subjects. run: the index run to take them from, else the one over most tokens.

    findings, collections: whose words about the units go along, and of which collections. Raises AtlasError; nothing is left behind then.
    """
    chosen = list(dict.fromkeys(units))
    if not chosen:
        raise AtlasError("There is nothing to export: name at least one unit, or a collection with units in it.")
    if len(chosen) > UNITS:
        raise AtlasError(f"A bundle takes at most {UNITS:,} units, not {len(chosen):,}: export fewer at a time.")
    if path.is_dir() or not path.parent.is_dir():
        raise AtlasError(f"{path} cannot be written: name a file in a folder that is there, such as {path.parent / 'units'}{SUFFIX}.")
    folder = workspace.scratch / f"export-{uuid4().hex}"
    done = Exported(path, len(chosen))
    try:
        folder.mkdir(parents=True)
        rows = [] if findings is None else list(findings.rows(chosen, collections))
        _fill(workspace, folder, chosen, run, rows, done)
        write_json(folder / MANIFEST, _manifest(folder, chosen, title, done))
        temporary = path.with_name(f".{path.name}.{uuid4().hex[:8]}.tmp")
        try:
            _zip(folder, temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        done.bytes = path.stat().st_size
        return done
    except OSError as error:
        raise explain_os_error(error, f"writing {path}") from None
    finally:
        _remove(folder)


def _fill(
    workspace: Workspace, folder: Path, chosen: list[UnitName], run: str | None, rows: list[Mapping[str, Any]], done: Exported
) -> None:
    names = {str(unit) for unit in chosen}
    held: dict[str, dict[Site, list[int]]] = {}
    for unit in chosen:
        _hold(held, find_unit(workspace, unit, run), unit)
    explained: list[tuple[ExplainedRun, Reduced]] = []
    for one in explained_runs(workspace):
        made = _within(workspace, one.run, lambda one=one: taken_explanations(one, names))
        if made is not None:
            explained.append((one, made))
    ablated: list[tuple[EffectRun, Reduced]] = [
        (one, _within(workspace, one.run, lambda one=one: taken_effect(one)))
        for one in effect_runs(workspace)
        if {str(unit) for unit in one.units} <= names
    ]
    _hold_referred(workspace, held, chosen, [made for _, made in [*explained, *ablated]])
    wanted: dict[str, set[int]] = {}
    for _, made in [*explained, *ablated]:
        for index, ranks in contexts_of(made).items():
            wanted.setdefault(index, set()).update(ranks)
    named: dict[str, str] = {}
    for identity, sites in held.items():
        index = load_index(workspace, identity)
        made = read_current(
            workspace, index, lambda current, sites=sites: taken_index(workspace, current, sites, wanted.get(current.run, set()))
        )
        named[identity] = _put(folder, made, done)
        _put_subject(workspace, folder, index)
        if not index.complete:
            done.remarks.append(f"{identity} is not complete: its numbers are over {index.contexts_done:,} contexts.")
        source = str((index.slice.get("spec") or {}).get("source", "")) if isinstance(index.slice.get("spec"), dict) else ""
        if Path(source).is_absolute():
            done.remarks.append(f"The provenance names the folder of the text, {source}.")
    identities: dict[str, str] = {}
    for one, made in explained:
        made = reindexed(made, named, {})
        identities[one.run] = _put(folder, made, done)
        done.explanations += next(table.num_rows for place, table in made.tables.items() if place.form is schemas.EXPLANATIONS)
    for _, made in ablated:
        _put(folder, reindexed(made, named, identities), done)
        done.effects += 1
    if rows:
        table = pa.Table.from_pylist([dict(row) for row in rows], schema=schemas.FINDINGS.schema(list(schemas.FINDINGS.columns)))
        pq.write_table(table, folder / "findings.parquet", compression="zstd")
        done.findings = len(rows)


def _hold(held: dict[str, dict[Site, list[int]]], index: IndexInfo, unit: UnitName) -> None:
    units = held.setdefault(index.run, {}).setdefault(unit.site, [])
    if unit.index not in units:
        units.append(unit.index)


def _hold_referred(workspace: Workspace, held: dict[str, dict[Site, list[int]]], chosen: list[UnitName], made: list[Reduced]) -> None:
    """Indexes that explanations and ablations were made from go along with the units that they hold, as far as they are still here."""
    referred: set[str] = set()
    for one in made:
        referred |= set(one.manifest["index"]) if one.kind == "explain" else {str(told["index"]) for told in one.manifest["units"]}
    for run in sorted(referred - held.keys() - {"None"}):
        with suppress(AtlasError):  # it was deleted since: what was made from it stays readable, without its text
            index = load_index(workspace, run)
            for unit in chosen:
                mine = (index.slug, index.basis) == (unit.subject, unit.basis) and unit.site in index.published
                if mine and unit.index in index.units_of(unit.site):
                    _hold(held, index, unit)


def _within(workspace: Workspace, run: str, take: Any) -> Any:
    try:
        return take()
    except FileNotFoundError as error:
        raise AtlasError(broken_file(workspace, run, Path(str(error.filename)), "is missing")) from None
    except DamagedPart as damage:
        raise AtlasError(broken_file(workspace, run, damage.path, "is damaged")) from None


def _put(folder: Path, made: Reduced, done: Exported) -> str:
    check(made)
    run = made.run
    made.write(folder / "runs" / run)
    done.runs.append({"run": run, "kind": made.kind, "origin": made.origin})
    return run


def _put_subject(workspace: Workspace, folder: Path, index: IndexInfo) -> None:
    target = folder / "subjects" / index.slug
    if target.exists():
        return
    target.mkdir(parents=True)
    source = workspace.subjects / index.slug / "vocab.parquet"
    form = schemas.TOKENS
    try:
        table = pq.read_table(source, columns=list(form.columns)).cast(form.schema(list(form.columns)))
    except FileNotFoundError:
        raise AtlasError(f"subjects/{index.slug}/vocab.parquet is missing: load the model again to write it.") from None
    except (pa.ArrowException, KeyError, ValueError):
        raise AtlasError(f"subjects/{index.slug}/vocab.parquet is damaged: delete the folder and load the model again.") from None
    pq.write_table(table, target / "vocab.parquet", compression="zstd")
    card = dict(index.subject)
    if card.get("source") == "folder":
        card["name_or_path"] = Path(str(card["name_or_path"]).replace("\\", "/")).name
    write_json(target / "subject.json", card)


def _manifest(folder: Path, chosen: list[UnitName], title: str, done: Exported) -> dict[str, Any]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if len(files) >= MEMBERS:
        raise AtlasError(f"These units have {len(files):,} files of runs, more than a bundle takes ({MEMBERS:,}): export fewer units.")
    notes = {path.relative_to(folder).as_posix(): note_file(path, folder) for path in files}
    return {
        "format": FORMAT,
        "schema": SCHEMA,
        "title": title,
        "created": time.time(),
        "units": [str(unit) for unit in chosen],
        "runs": done.runs,
        "findings": done.findings,
        "files": {name: {"bytes": note["bytes"], "sha256": note["sha256"]} for name, note in notes.items()},
    }


def _zip(folder: Path, path: Path) -> None:
    with zipfile.ZipFile(path, "w", allowZip64=False) as archive:
        for file in sorted(file for file in folder.rglob("*") if file.is_file()):
            info = zipfile.ZipInfo(file.relative_to(folder).as_posix(), _FIXED_TIME)
            info.compress_type = zipfile.ZIP_STORED if file.suffix == ".parquet" else zipfile.ZIP_DEFLATED
            info.external_attr = 0o100644 << 16
            archive.writestr(info, file.read_bytes())


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


def bundle_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a bundle of one's own, for tests and remarks."""
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read(MANIFEST))
