"""Where in a folder the dictionary lies, and in which format: known by the name of the file with the weights."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from core.bases.formats import dictionary_learning, gemma_scope, saelens, sparsify
from core.bases.formats.found import Found
from core.bases.formats.safe import Place
from core.errors import AtlasError, shown

READERS: Mapping[str, Callable[[Place], Found]] = {
    saelens.WEIGHTS: saelens.read,
    sparsify.WEIGHTS: sparsify.read,
    dictionary_learning.WEIGHTS: dictionary_learning.read,
    gemma_scope.WEIGHTS: gemma_scope.read,
}
FORMATS: Mapping[str, str] = {
    saelens.WEIGHTS: "saelens",
    sparsify.WEIGHTS: "sparsify",
    dictionary_learning.WEIGHTS: "dictionary_learning",
    gemma_scope.WEIGHTS: "gemma_scope",
}
WEIGHT_FILES = tuple(READERS)
_DEPTH = 5
_FILES = 20_000
"""Files looked at below a folder before it is held for the wrong one."""


def detect(path: Path) -> str:
    """The format of the dictionary at a folder or file: saelens, sparsify, dictionary_learning or gemma_scope. Raises AtlasError."""
    return FORMATS[locate(path, None)[1]]


def locate(path: Path, file: str | None) -> tuple[Place, str]:
    """The place of the one dictionary at a folder or file, and the name of its weights.

    file: which one below the folder, needed where there are several. Raises AtlasError.
    """
    if not path.exists():
        raise AtlasError(f"There is nothing at {path}: check the path.")
    if path.is_file():
        if file is not None:
            raise AtlasError(f"{path.name} is a file already: leave out “{shown(file)}”.")
        name = path.name if path.name in READERS else gemma_scope.WEIGHTS if path.suffix == ".npz" else None
        if name is None:
            raise AtlasError(f"{path.name} is in no format that is known here: {_names()} are.")
        if name != path.name:
            raise AtlasError(f"{path.name} may be of Gemma Scope, whose files are called {name}: rename it.")
        return Place.at(path.parent), name
    weights = choose(_below(path), file, path.name or str(path))
    folder = path / weights
    return Place.at(folder.parent, folder.parent.absolute().as_posix()), folder.name


def choose(found: Sequence[str], file: str | None, where: str) -> str:
    """The one path that is meant among the paths of weights. file: a folder or file, None where there is but one. Raises AtlasError."""
    known = sorted(name for name in found if name.rsplit("/", 1)[-1] in READERS)
    if not known:
        raise AtlasError(f"There is no dictionary in {shown(where)} in a format that is known here: {_names()} are.")
    if file is not None:
        wanted = file.strip("/")
        chosen = [name for name in known if name == wanted or name.rpartition("/")[0] == wanted]
        chosen = chosen or [name for name in known if name.startswith(f"{wanted}/")]
        if not chosen:
            raise AtlasError(f"{shown(where)} has no dictionary at “{shown(file)}”: it has {_few(known)}.")
        known = chosen
    if len(known) > 1:
        raise AtlasError(f"{shown(where)} holds {len(known):,} dictionaries: say which with --file, such as {_few(known)}.")
    return known[0]


def _below(folder: Path) -> list[str]:
    """Paths of weights below a folder, not too deep, links to folders not followed. Raises AtlasError for a folder with too much in it."""
    found: list[str] = []
    seen = 0
    for where, folders, files in os.walk(folder):
        inside = Path(where).relative_to(folder)
        if len(inside.parts) >= _DEPTH:
            folders.clear()
        seen += len(files)
        if seen > _FILES:
            raise AtlasError(f"{folder} holds more than {_FILES:,} files: give the folder of the dictionary itself.")
        found += [(inside / name).as_posix() for name in files if name in READERS]
    return found


def _few(paths: Sequence[str]) -> str:
    folders = [path.rpartition("/")[0] or path for path in paths]
    return ", ".join(shown(folder) for folder in folders[:4]) + (" and others" if len(folders) > 4 else "")


def _names() -> str:
    return ", ".join(f"{name} ({FORMATS[name]})" for name in READERS)
