"""The shelf: the dictionaries that a workspace holds, as folders `bases/<subject>/<site>/<name>/`. No torch.

Each holds `basis.json` (a `BasisInfo`, the weights' size and hash) and `weights.safetensors`; a folder is there whole or not at all.
"""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.bases.info import BasisInfo
from core.errors import AtlasError, explain_os_error, shown
from core.remembered import FileKey, Remembered, file_key
from core.units import Site, check_slug, in_order
from core.workspace import FileNote, Workspace, is_intact, note_file, whole_folder, write_json

SCHEMA = 1
DESCRIPTION = "basis.json"
WEIGHTS = "weights.safetensors"


@dataclass(frozen=True)
class Shelved:
    """A dictionary on the shelf. weights: the file, and its note (size and sha256)."""

    info: BasisInfo
    folder: Path
    note: FileNote

    @property
    def weights(self) -> Path:
        return self.folder / WEIGHTS

    @property
    def hash(self) -> str:
        """Of the weights: part of the recipe of every number made with them."""
        return str(self.note["sha256"])


_descriptions: Remembered[FileKey, Shelved] = Remembered(4096)
"""A description is replaced by renaming, whoever does it, so its file's key tells when it has to be read again."""


def folder_of(workspace: Workspace, subject: str, site: Site, name: str) -> Path:
    """Where a dictionary lives. Raises AtlasError for names that are none."""
    return workspace.bases / check_slug(subject, "subject") / str(site) / check_slug(name, "basis")


def shelved(workspace: Workspace, subject: str | None = None) -> list[Shelved]:
    """Every readable dictionary, by subject, site and name. Damaged descriptions are left out; `damaged` names them."""
    return _scan(workspace, subject)[0]


def damaged(workspace: Workspace) -> list[str]:
    """One sentence for each dictionary whose description cannot be read."""
    return _scan(workspace, None)[1]


def find(workspace: Workspace, subject: str, site: Site, name: str) -> Shelved:
    """One dictionary. Raises AtlasError saying what there is."""
    folder = folder_of(workspace, subject, site, name)
    if (folder / DESCRIPTION).is_file():
        return _read(folder)
    there = [one.info.name for one in shelved(workspace, subject) if one.info.site == site]
    others = f": there is {', '.join(there)}" if there else ""
    raise AtlasError(f"{subject} has no dictionary “{shown(name)}” at {site}{others}.")


def sites_of(workspace: Workspace, subject: str, name: str) -> list[Site]:
    """The sites of a subject that have a dictionary of this name, in the model's order."""
    return in_order(one.info.site for one in shelved(workspace, subject) if one.info.name == name)


def find_named(workspace: Workspace, name: str) -> Shelved:
    """One dictionary by its name, or as subject/site/name where the name alone is not enough. Raises AtlasError."""
    parts = name.split("/")
    if len(parts) == 3:
        return find(workspace, parts[0], Site.parse(parts[1]), parts[2])
    found = [one for one in shelved(workspace) if name in (one.info.name, f"{one.info.site}/{one.info.name}")]
    if len(found) == 1:
        return found[0]
    if not found:
        there = sorted({one.info.name for one in shelved(workspace)})
        raise AtlasError(f"There is no dictionary “{shown(name)}” here{': there is ' + ', '.join(there[:12]) if there else ''}.")
    raise AtlasError(f"“{shown(name)}” names {len(found)} dictionaries: write {' or '.join(one.info.key for one in found[:4])}.")


def check_free(workspace: Workspace, subject: str, site: Site, name: str, mine: Callable[[BasisInfo], bool]) -> None:
    """Raises AtlasError when the name is taken by a dictionary that is not to be replaced, as `mine` tells.

    One whose description is damaged is of use to nobody and may be replaced.
    """
    if not (folder_of(workspace, subject, site, name) / DESCRIPTION).is_file():
        return
    try:
        before = find(workspace, subject, site, name).info
    except AtlasError:
        return
    if not mine(before):
        raise AtlasError(f"There is a dictionary “{name}” at {site} of {subject} already: choose another name, or remove that one.")


def put(workspace: Workspace, info: BasisInfo, weights: Path) -> Shelved:
    """Put a dictionary on the shelf, in place of one of the same name. weights: a finished file, which is copied."""
    workspace.check_writable()
    target = folder_of(workspace, info.subject, info.site, info.name)
    target.parent.mkdir(parents=True, exist_ok=True)
    with whole_folder(target) as folder:
        shutil.copyfile(weights, folder / WEIGHTS)
        note = note_file(folder / WEIGHTS, folder)
        _describe(folder, info, note)
    return Shelved(info, target, note)


def describe(one: Shelved, info: BasisInfo) -> Shelved:
    """Replace a dictionary's description, such as after measuring it. Its name and weights stay."""
    _describe(one.folder, info, one.note)
    return Shelved(info, one.folder, one.note)


def remove(workspace: Workspace, name: str) -> str:
    """Take a dictionary off the shelf, by a name as `find_named` takes it, and return its key. What was indexed with it stays readable.

    One whose description is damaged goes too, by its whole key. Raises AtlasError.
    """
    workspace.check_writable()
    parts = name.split("/")
    whole = folder_of(workspace, parts[0], Site.parse(parts[1]), parts[2]) if len(parts) == 3 else None
    folder = whole if whole is not None and whole.is_dir() else find_named(workspace, name).folder
    going = folder.with_name(f".{folder.name}.{os.getpid()}.removed.tmp")
    try:
        shutil.rmtree(going, ignore_errors=True)
        folder.replace(going)  # at once, so that nobody finds half of it
        shutil.rmtree(going)
    except OSError as error:
        raise explain_os_error(error, f"removing {folder}") from None
    return f"{folder.parent.parent.name}/{folder.parent.name}/{folder.name}"


def check_weights(one: Shelved) -> None:
    """Raises AtlasError when the weights are missing or not those that were put there."""
    if not is_intact(one.folder, one.note):
        raise AtlasError(f"The weights of {one.info.key} are missing or damaged: train or import the dictionary again.")


class _Gone(AtlasError):
    """The description is no longer there."""


def _describe(folder: Path, info: BasisInfo, note: FileNote) -> None:
    write_json(folder / DESCRIPTION, {"schema": SCHEMA, **info.to_json(), "weights": note})


def _read(folder: Path) -> Shelved:
    """The dictionary in a folder, read again only when its description was replaced. Raises AtlasError."""
    path = folder / DESCRIPTION
    try:
        key = file_key(path)
    except OSError:
        raise _Gone(f"{path} is not there: train or import the dictionary again.") from None
    return _descriptions.get(key, lambda: _parse(folder))


def _parse(folder: Path) -> Shelved:
    path = folder / DESCRIPTION
    try:
        document: dict[str, Any] = json.loads(path.read_text("utf8"))
        schema, note = int(document["schema"]), document["weights"]
        note = FileNote(path=WEIGHTS, bytes=int(note["bytes"]), sha256=str(note["sha256"]))
    except (OSError, ValueError, KeyError, TypeError):
        raise AtlasError(f"{path} is damaged: train or import the dictionary again.") from None
    if schema > SCHEMA:
        raise AtlasError(f"{path} was written by a newer Neuron Atlas (layout {schema}): update the program to use this dictionary.")
    info = BasisInfo.from_json(document)
    if (info.subject, str(info.site), info.name) != (folder.parent.parent.name, folder.parent.name, folder.name):
        raise AtlasError(f"{path} describes {info.key}, which belongs elsewhere: move or remove the folder.")
    return Shelved(info, folder, note)


def _scan(workspace: Workspace, subject: str | None) -> tuple[list[Shelved], list[str]]:
    found: list[Shelved] = []
    broken: list[str] = []
    for path in sorted(workspace.bases.glob(f"{subject or '*'}/*/*/{DESCRIPTION}")):
        if path.parent.name.startswith("."):
            continue  # being written, or left by a kill
        try:
            found.append(_read(path.parent))
        except _Gone:
            continue  # removed between the listing and the reading
        except AtlasError as error:
            broken.append(str(error))
    return sorted(found, key=lambda one: (one.info.subject, one.info.site.layer, one.info.site.kind, one.info.name)), broken
