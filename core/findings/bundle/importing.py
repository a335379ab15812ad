"""Import: a bundle from anybody into the workspace. It is unpacked, checked and written anew in scratch, and only then put in place."""

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast
from uuid import uuid4

import pyarrow.parquet as pq

from core.errors import AtlasError, explain_os_error
from core.findings.bundle import schemas
from core.findings.bundle.archive import Refused, read_json, unpack
from core.findings.bundle.checks import UNITS, check, check_subject
from core.findings.bundle.exporting import SCHEMA
from core.findings.bundle.proving import prove
from core.findings.bundle.reduced import SELF, Reduced, places, plain, renamed
from core.findings.bundle.tables import read_table
from core.store.catalog import IMPORTED, load_index, scan
from core.store.effects import load_effect
from core.store.explained import load_explained
from core.store.explained_ingest import verify_run
from core.store.ingest import verify
from core.store.parts import DamagedPart
from core.units import UnitName, check_slug
from core.workspace import Workspace, flush_folder, write_json


class FindingsMerge(Protocol):
    """What of `core.findings.findings.Findings` takes rows in."""

    def merge(self, rows: Iterable[Mapping[str, object]]) -> Any: ...


@dataclass
class Imported:
    """What an import did. runs: put in place; known: here already; findings: versions of notes, ratings and so on that were new.

    forked: entries that were changed on both sides, whose two texts are shown side by side.
    """

    title: str
    units: list[UnitName]
    runs: list[str] = field(default_factory=list[str])
    known: list[str] = field(default_factory=list[str])
    subjects: list[str] = field(default_factory=list[str])
    findings: int = 0
    forked: int = 0

    @property
    def changed(self) -> bool:
        """Whether the workspace is another than before."""
        return bool(self.runs or self.subjects or self.findings)


def import_bundle(workspace: Workspace, path: Path, *, findings: FindingsMerge | None = None) -> Imported:
    """Take a bundle in. Doing so twice changes nothing.

    Raises AtlasError, Refused where the file is at fault, and then leaves everything as it was.
    """
    scratch = workspace.scratch / f"import-{uuid4().hex}"
    try:
        unpacked = scratch / "unpacked"
        unpacked.mkdir(parents=True)
        manifest = unpack(path, unpacked)
        staged = Workspace.open(scratch / "workspace")
        done, made, rows = _clean(manifest, unpacked, staged)
        prove(staged, made)
        _fit_subjects(workspace, staged)
        return _settle(workspace, staged, done, made, rows, findings)
    except OSError as error:
        raise explain_os_error(error, f"importing {path}") from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _clean(manifest: dict[str, Any], unpacked: Path, staged: Workspace) -> tuple[Imported, list[Reduced], list[dict[str, Any]]]:
    """Read everything in the forms that it must have, and write it anew as a workspace of its own."""
    if manifest["schema"] > SCHEMA:
        raise Refused(
            f"The bundle was written by a newer Neuron Atlas (layout {manifest['schema']}, this one reads {SCHEMA}): update the program."
        )
    try:
        title, names, runs = manifest["title"], manifest["units"], manifest["runs"]
        sound = isinstance(title, str) and len(title) <= 1000 and 0 < len(names) <= UNITS and len(set(names)) == len(names)
        done = Imported(title, [UnitName.parse(name) for name in names])
        listed = [check_slug(str(one["run"]), "run") for one in runs]
    except (KeyError, TypeError, AttributeError, ValueError):
        sound, done, listed = False, Imported("", []), list[str]()
    if not sound or len(set(listed)) != len(listed):
        raise Refused("The manifest of the bundle is damaged.")
    folders = {folder.name for folder in (unpacked / "runs").glob("*")}
    if folders != set(listed):
        raise Refused("The runs in the bundle are not those that its manifest names.")
    made = [_run(unpacked / "runs" / run, run) for run in listed]
    for folder in sorted((unpacked / "subjects").glob("*")):
        _subject(folder, staged)
    for one in made:
        one.write(staged.runs / one.run)
    rows: list[dict[str, Any]] = []
    if (unpacked / "findings.parquet").is_file():
        rows = read_table(unpacked / "findings.parquet", schemas.FINDINGS, "The table of findings").to_pylist()
    return done, made, rows


def _run(folder: Path, run: str) -> Reduced:
    try:
        document = read_json((folder / "manifest.json").read_bytes(), f"manifest of {run}")
        note = read_json((folder / IMPORTED).read_bytes(), f"note of {run}")
        kind, origin = str(document["kind"]), check_slug(str(note["origin"]), "run")
        if kind not in ("index", "explain", "effect"):
            raise Refused(f"The bundle has a run of the kind “{kind[:40]}”, which this program does not know.")
        if type(document["schema"]) is not int or document["schema"] != 1:
            raise Refused("A run in the bundle was written by a newer Neuron Atlas: update the program.")
        manifest = plain(document)
        tables = {place: read_table(folder / place.path, place.form, place.path) for place in places(kind, manifest)}
        made = Reduced(kind, origin, manifest, {place: renamed(table, run, SELF) for place, table in tables.items()})
        identities = [one for table in tables.values() if kind == "explain" for one in table.column("explanation").to_pylist()]
        if any(not one.startswith(f"{run}.") for one in identities):
            raise Refused(f"{run} in the bundle has explanations of other runs.")
    except FileNotFoundError:
        raise Refused(f"{run} in the bundle lacks a file.") from None
    except (KeyError, TypeError, AttributeError, ValueError, IndexError):
        raise Refused(f"The manifest of {run} in the bundle is damaged.") from None
    check(made)
    if made.run != run:
        raise Refused(f"{run} in the bundle does not hold what its name stands for: it was changed after it was written.")
    return made


def _subject(folder: Path, staged: Workspace) -> None:
    try:
        card = read_json((folder / "subject.json").read_bytes(), "card of a model")
        check_subject(card)
        if card["slug"] != folder.name:
            raise Refused("The card of a model in the bundle has another name than its folder.")
        table = read_table(folder / "vocab.parquet", schemas.TOKENS, "The vocabulary")
    except FileNotFoundError:
        raise Refused("A model in the bundle lacks its vocabulary.") from None
    except (KeyError, TypeError, AttributeError):
        raise Refused("The card of a model in the bundle is damaged.") from None
    target = staged.subjects / folder.name
    target.mkdir(parents=True)
    pq.write_table(table, target / "vocab.parquet", compression="zstd")
    write_json(target / "subject.json", card)


def _fit_subjects(workspace: Workspace, staged: Workspace) -> None:
    """Refuse a bundle over another model, or the same one with another tokenizer, under a name that is taken here."""
    indexed = {index.slug: index.subject for index in scan(staged)[0]}
    for folder in staged.subjects.iterdir():
        card: dict[str, Any] = json.loads((folder / "subject.json").read_text("utf8"))
        if any(indexed.get(folder.name, card)[key] != card[key] for key in ("tokenizer_hash", "weights_hash")):
            raise Refused(f"The indexes in the bundle and its card of {folder.name} are of different models.")
        try:
            mine = json.loads((workspace.subjects / folder.name / "subject.json").read_text("utf8"))
        except FileNotFoundError:
            continue
        except ValueError:
            raise AtlasError(f"subjects/{folder.name}/subject.json is damaged: load the model again before you import.") from None
        if any(mine.get(key) != card[key] for key in ("tokenizer_hash", "weights_hash")):
            raise AtlasError(
                f"This workspace has another model under the name {folder.name} than the bundle: import it into a workspace of its own."
            )


def _settle(
    workspace: Workspace,
    staged: Workspace,
    done: Imported,
    made: list[Reduced],
    rows: list[dict[str, Any]],
    findings: FindingsMerge | None,
) -> Imported:
    """Put in place what is not here yet. Findings first: they are taken in whole or refused, and what follows are renames."""
    new = [one for one in made if not _here(workspace, staged, one)]
    referred = {run for one in new for run in _referred(one)}
    for one in made:
        if one.kind == "index" and one not in new and one.run in referred and not (workspace.runs / one.run).exists():
            new.append(one)  # it is here as a whole, but what is put in place names it
    if rows and findings is not None:
        merged = findings.merge(cast(list[Mapping[str, object]], rows))
        done.findings, done.forked = int(merged.added), len(merged.forked)
    for folder in sorted(staged.subjects.iterdir()):
        if not (workspace.subjects / folder.name / "subject.json").exists():
            _move(folder, workspace.subjects / folder.name)
            done.subjects.append(folder.name)
    for one in sorted(new, key=lambda one: ("index", "explain", "effect").index(one.kind)):
        _move(staged.runs / one.run, workspace.runs / one.run)
    done.runs = [one.run for one in new]
    done.known = [one.run for one in made if one.run not in done.runs]
    return done


def _here(workspace: Workspace, staged: Workspace, one: Reduced) -> bool:
    """Whether the workspace has what a reduced run holds: under its own name, intact, or in the run that it was taken from."""
    folder = workspace.runs / one.run
    try:
        if folder.exists():
            _intact(workspace, one)
            return True
        return (workspace.runs / one.origin).exists() and _same_as_origin(workspace, staged, one)
    except (AtlasError, DamagedPart, OSError, ValueError, KeyError, TypeError):
        return False


def _intact(workspace: Workspace, one: Reduced) -> None:
    if one.kind == "index":
        verify(load_index(workspace, one.run), whole=True)
    elif one.kind == "explain":
        verify_run(load_explained(workspace, one.run), whole=True)
    else:
        load_effect(workspace, one.run)


def _same_as_origin(workspace: Workspace, staged: Workspace, one: Reduced) -> bool:
    """Whether the run that it was taken from is here and says the same."""
    if one.kind == "index":
        theirs, mine = load_index(staged, one.run), load_index(workspace, one.origin)
        if mine.excerpt or mine.slice["hash"] != theirs.slice["hash"]:
            return False
        for site in theirs.published:
            numbers = set(theirs.units_of(site))
            found = pq.read_table(mine.part(site, "units"), filters=[("unit", "in", numbers)])
            form = schemas.UNITS.schema(list(schemas.UNITS.columns))
            if not found.select(form.names).cast(form).equals(pq.read_table(theirs.part(site, "units")).select(form.names).cast(form)):
                return False
        return True
    if one.kind == "explain":
        found = load_explained(workspace, one.origin)
        here = {row for part in found.parts for row in _said(found.path(part, "explanations"), one.origin)}
        theirs_too = load_explained(staged, one.run)
        return all(row in here for part in theirs_too.parts for row in _said(theirs_too.path(part, "explanations"), one.run))
    mine, theirs = load_effect(workspace, one.origin), load_effect(staged, one.run)
    return len(mine.kl) == len(theirs.kl) and bool((mine.kl == theirs.kl).all()) and len(mine.run.scores) == len(theirs.run.scores)


def _said(path: Path, run: str) -> list[tuple[str, str, str]]:
    table = pq.read_table(path, columns=["explanation", "unit", "text"])
    return [(row["explanation"].removeprefix(run), row["unit"], row["text"]) for row in table.to_pylist()]


def _referred(one: Reduced) -> set[str]:
    if one.kind == "explain":
        return set(one.manifest["index"])
    return {str(told["index"]) for told in one.manifest["units"]} if one.kind == "effect" else set()


def _move(folder: Path, target: Path) -> None:
    flush_folder(folder)
    if target.exists():  # damaged, or without its manifest: it is replaced
        doomed = folder.with_name(f".{folder.name}.damaged")
        target.rename(doomed)
    folder.rename(target)
