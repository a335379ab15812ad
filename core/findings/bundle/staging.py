"""Staging: a bundle from anybody, unpacked, checked and written anew as a workspace of its own. Runs in a process of its own with bounds.

What a Parquet file says of itself may be wrong, and the library that reads it is large: here a file that takes all memory, never ends or
crashes the reader ends a child process, and the bundle is refused. What the other process then opens was written by this program.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from core.errors import AtlasError
from core.findings.bundle import schemas
from core.findings.bundle.archive import Refused, read_json, unpack
from core.findings.bundle.checks import UNITS, check, check_subject
from core.findings.bundle.exporting import SCHEMA
from core.findings.bundle.proving import prove
from core.findings.bundle.reduced import SELF, Reduced, places, plain, renamed
from core.findings.bundle.tables import read_table
from core.store.catalog import IMPORTED
from core.units import UnitName, check_slug
from core.workspace import Workspace, write_json

SECONDS = 900
MEMORY = 8 << 30
"""Of addresses, of which a process uses a part."""
_PROJECT = Path(__file__).resolve().parents[3]
_TITLE = 1000


@dataclass(frozen=True)
class StagedRun:
    """A run that is ready to be put in place. refers: index runs that it names."""

    run: str
    kind: str
    origin: str
    refers: tuple[str, ...]


@dataclass(frozen=True)
class Staged:
    """A bundle whose content is in `workspace`, whole and sound. findings: rows for `Findings.merge`, still to be checked by it.

    remarks: what another program's files held that could not be carried.
    """

    workspace: Workspace
    title: str
    units: tuple[str, ...]
    runs: tuple[StagedRun, ...]
    findings: tuple[dict[str, Any], ...]
    remarks: tuple[str, ...] = ()


def stage(path: Path, scratch: Path) -> Staged:
    """Do it in this process. scratch: an empty folder. Raises Refused and AtlasError."""
    unpacked = scratch / "unpacked"
    unpacked.mkdir()
    manifest = unpack(path, unpacked)
    if manifest["schema"] > SCHEMA:
        layouts = f"layout {manifest['schema']}, this one reads {SCHEMA}"
        raise Refused(f"The bundle was written by a newer Neuron Atlas ({layouts}): update the program.")
    workspace = Workspace.open(scratch / "workspace")
    title, names, listed = _said(manifest)
    if {folder.name for folder in (unpacked / "runs").glob("*")} != set(listed):
        raise Refused("The runs in the bundle are not those that its manifest names.")
    made = [_run(unpacked / "runs" / run, run) for run in listed]
    for folder in sorted((unpacked / "subjects").glob("*")):
        _subject(folder, workspace)
    for one in made:
        one.write(workspace.runs / one.run)
    prove(workspace, made)
    rows: list[dict[str, Any]] = []
    if (unpacked / "findings.parquet").is_file():
        rows = read_table(unpacked / "findings.parquet", schemas.FINDINGS, "The table of findings").to_pylist()
    return Staged(workspace, title, tuple(names), staged_runs(made), tuple(rows))


def staged_runs(made: list[Reduced]) -> tuple[StagedRun, ...]:
    """What is to be known of reduced runs to put them in place."""
    return tuple(StagedRun(one.run, one.kind, one.origin, _referred(one)) for one in made)


def stage_apart(path: Path, scratch: Path) -> Staged:
    """The same in a process of its own. Raises Refused and AtlasError."""
    return apart("core.findings.bundle.staging", path, scratch)


def apart(module: str, path: Path, scratch: Path, *more: str) -> Staged:
    """Run a module that stages a file and answers with `answer`, in a process of its own. Raises Refused and AtlasError."""
    command = [sys.executable, "-m", module, str(path.absolute()), str(scratch), *more]
    try:
        done = subprocess.run(command, cwd=_PROJECT, capture_output=True, timeout=SECONDS, check=False)
        said: dict[str, Any] = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        raise Refused("Checking the file took too long: it is larger than it looks, or made to keep programs busy.") from None
    except ValueError:
        raise Refused("Checking the file took more memory than it may, or failed: it is not taken in.") from None
    if "refused" in said:
        raise Refused(said["refused"])
    if "error" in said:
        raise AtlasError(said["error"])
    runs = tuple(StagedRun(one["run"], one["kind"], one["origin"], tuple(one["refers"])) for one in said["runs"])
    remarks = tuple(said["remarks"])
    return Staged(Workspace(scratch / "workspace"), said["title"], tuple(said["units"]), runs, tuple(said["findings"]), remarks)


def _said(manifest: dict[str, Any]) -> tuple[str, list[str], list[str]]:
    """Title, units and runs as the bundle's manifest has them. Raises Refused."""
    damaged = Refused("The manifest of the bundle is damaged.")
    try:
        title, names = manifest["title"], list(manifest["units"])
        for name in names:
            UnitName.parse(name)
        runs = [check_slug(str(one["run"]), "run") for one in manifest["runs"]]
        sound = isinstance(title, str) and len(title) <= _TITLE and 0 < len(names) <= UNITS
        sound = sound and len(set(names)) == len(names) and len(set(runs)) == len(runs)
    except (KeyError, TypeError, AttributeError, ValueError, AtlasError):
        raise damaged from None
    if not sound:
        raise damaged
    return title, names, runs


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
        if kind == "explain":
            identities = [one for table in tables.values() for one in table.column("explanation").to_pylist()]
            if any(not one.startswith(f"{run}.") for one in identities):
                raise Refused(f"{run} in the bundle has explanations of other runs.")
        made = Reduced(kind, origin, manifest, {place: renamed(table, run, SELF) for place, table in tables.items()})
    except OSError:
        raise Refused(f"{run} in the bundle lacks a file.") from None
    except (KeyError, TypeError, AttributeError, ValueError, IndexError):
        raise Refused(f"The manifest of {run} in the bundle is damaged.") from None
    check(made)
    if made.run != run:
        raise Refused(f"{run} in the bundle does not hold what its name stands for: it was changed after it was written.")
    return made


def _subject(folder: Path, workspace: Workspace) -> None:
    try:
        card = read_json((folder / "subject.json").read_bytes(), "card of a model")
        check_subject(card)
        if card["slug"] != folder.name:
            raise Refused("The card of a model in the bundle has another name than its folder.")
        table = read_table(folder / "vocab.parquet", schemas.TOKENS, "The vocabulary")
    except OSError:
        raise Refused("A model in the bundle lacks its vocabulary.") from None
    except (KeyError, TypeError, AttributeError):
        raise Refused("The card of a model in the bundle is damaged.") from None
    put_subject(workspace, card, table)


def put_subject(workspace: Workspace, card: dict[str, Any], vocabulary: Any) -> None:
    """Write the folder of a model."""
    target = workspace.subjects / card["slug"]
    target.mkdir(parents=True)
    pq.write_table(vocabulary, target / "vocab.parquet", compression="zstd")
    write_json(target / "subject.json", card)


def _referred(one: Reduced) -> tuple[str, ...]:
    if one.kind == "explain":
        return tuple(one.manifest["index"])
    return tuple(sorted({str(told["index"]) for told in one.manifest["units"]})) if one.kind == "effect" else ()


def _bound() -> None:
    """Bounds on this process, where the system has such."""
    if sys.platform == "win32":
        return
    import resource

    for what, most in ((resource.RLIMIT_AS, MEMORY), (resource.RLIMIT_CPU, SECONDS)):
        _, hard = resource.getrlimit(what)
        resource.setrlimit(what, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def answer(make: Callable[[], Staged]) -> dict[str, Any]:
    """What a process of its own says on its output, as `apart` reads it: what it staged, or why not. Bounds this process."""
    _bound()
    try:
        staged = make()
    except Refused as error:
        return {"refused": str(error)}
    except AtlasError as error:
        return {"error": str(error)}
    except MemoryError:
        return {"refused": "Checking the file took more memory than it may: it is not taken in."}
    except RecursionError:
        return {"refused": "The file is nested deeper than any that is taken in."}
    return {
        "title": staged.title,
        "units": staged.units,
        "runs": [asdict(run) for run in staged.runs],
        "findings": staged.findings,
        "remarks": staged.remarks,
    }


def _main(path: str, scratch: str) -> dict[str, Any]:
    return answer(lambda: stage(Path(path), Path(scratch)))


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_main(*sys.argv[1:])))
