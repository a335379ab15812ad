"""Import: a bundle from anybody into the workspace. It is unpacked, checked and written anew in scratch, and only then put in place."""

import json
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast
from uuid import uuid4

import pyarrow.parquet as pq

from core.errors import AtlasError, explain_os_error
from core.findings.bundle import schemas
from core.findings.bundle.archive import Refused
from core.findings.bundle.staging import Staged, StagedRun, stage_apart
from core.store.catalog import load_index, scan
from core.store.effects import load_effect
from core.store.explained import load_explained
from core.store.explained_ingest import verify_run
from core.store.ingest import verify
from core.store.parts import DamagedPart
from core.units import UnitName
from core.workspace import Workspace, flush_folder

_STALE_SECONDS = 86_400


class FindingsMerge(Protocol):
    """What of `core.findings.findings.Findings` takes rows in."""

    def merge(self, rows: Iterable[Mapping[str, object]]) -> Any: ...


@dataclass
class Imported:
    """What an import did. runs: put in place; known: here already; findings: versions of notes, ratings and so on that were new.

    forked: entries that were changed on both sides, whose two texts are shown side by side. remarks: what could not be carried.
    """

    title: str
    units: list[UnitName]
    runs: list[str] = field(default_factory=list[str])
    known: list[str] = field(default_factory=list[str])
    subjects: list[str] = field(default_factory=list[str])
    findings: int = 0
    forked: int = 0
    remarks: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether the workspace is another than before."""
        return bool(self.runs or self.subjects or self.findings)


def import_bundle(
    workspace: Workspace,
    path: Path,
    *,
    findings: FindingsMerge | None = None,
    stage: Callable[[Path, Path], Staged] = stage_apart,
) -> Imported:
    """Take a bundle in. Doing so twice changes nothing. stage: how it is checked.

    Raises AtlasError, Refused where the file is at fault, and then leaves everything as it was.
    """
    workspace.check_writable()
    scratch = workspace.scratch / f"import-{uuid4().hex}"
    remove_stale(workspace)
    try:
        scratch.mkdir(parents=True)
        staged = stage(path, scratch)
        _fit_subjects(workspace, staged.workspace)
        return _settle(workspace, staged, findings)
    except OSError as error:
        raise explain_os_error(error, f"importing {path}") from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def remove_stale(workspace: Workspace) -> None:
    """What an import or export left behind that was killed a day ago or earlier."""
    for folder in [*workspace.scratch.glob("import-*"), *workspace.scratch.glob("export-*")]:
        with suppress(FileNotFoundError):  # another one removes it just now
            if folder.is_dir() and time.time() - folder.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)


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


def _settle(workspace: Workspace, staged: Staged, findings: FindingsMerge | None) -> Imported:
    """Put in place what is not here yet. Findings first: they are taken in whole or refused, and what follows are renames."""
    done = Imported(staged.title, [UnitName.parse(name) for name in staged.units], remarks=staged.remarks)
    new = [one for one in staged.runs if not _here(workspace, staged.workspace, one)]
    referred = {run for one in new for run in one.refers}
    for one in staged.runs:
        if one.kind == "index" and one not in new and one.run in referred and not (workspace.runs / one.run).exists():
            new.append(one)  # it is here as a whole, but what is put in place names it
    if staged.findings and findings is not None:
        merged = findings.merge(cast(tuple[Mapping[str, object], ...], staged.findings))
        done.findings, done.forked = int(merged.added), len(merged.forked)
    for folder in sorted(staged.workspace.subjects.iterdir()):
        if not (workspace.subjects / folder.name / "subject.json").exists():
            _move(folder, workspace.subjects / folder.name)
            done.subjects.append(folder.name)
    for one in sorted(new, key=lambda one: ("index", "explain", "effect").index(one.kind)):
        _move(staged.workspace.runs / one.run, workspace.runs / one.run)
    done.runs = [one.run for one in new]
    done.known = [one.run for one in staged.runs if one.run not in done.runs]
    return done


def _here(workspace: Workspace, staged: Workspace, one: StagedRun) -> bool:
    """Whether the workspace has what a reduced run holds: under its own name, intact, or in the run that it was taken from."""
    folder = workspace.runs / one.run
    try:
        if folder.exists():
            _intact(workspace, one)
            return True
        return (workspace.runs / one.origin).exists() and _same_as_origin(workspace, staged, one)
    except (AtlasError, DamagedPart, OSError, ValueError, KeyError, TypeError):
        return False


def _intact(workspace: Workspace, one: StagedRun) -> None:
    if one.kind == "index":
        verify(load_index(workspace, one.run), whole=True)
    elif one.kind == "explain":
        verify_run(load_explained(workspace, one.run), whole=True)
    else:
        load_effect(workspace, one.run)


def _same_as_origin(workspace: Workspace, staged: Workspace, one: StagedRun) -> bool:
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


def _move(folder: Path, target: Path) -> None:
    flush_folder(folder)
    if target.exists():  # damaged, or without its manifest: it is replaced
        doomed = folder.with_name(f".{folder.name}.damaged")
        target.rename(doomed)
    folder.rename(target)
