"""The one folder on disk where everything of a user lives."""

import hashlib
import json
import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from core.errors import AtlasError, ReadOnly, explain_os_error

WORKSPACE_ENV = "NEURON_ATLAS_WORKSPACE"
READ_ONLY_ENV = "NEURON_ATLAS_READ_ONLY"
"""Names a folder of this process's own. Then workspaces are only read, and what has to be written on the way goes there."""
SCHEMA = 1
_DEFAULT = Path(__file__).resolve().parent.parent / "data" / "workspace"


@dataclass(frozen=True)
class Workspace:
    """Paths inside the workspace. Nothing outside `path` is ever written.

    own: where the workspace is only to be read, the folder that takes cache and scratch instead; then nothing in `path` is written.
    """

    path: Path
    own: Path | None = None

    @classmethod
    def open(cls, path: str | Path | None = None, own: str | Path | None = None) -> "Workspace":
        """Open or create the workspace at `path`, $NEURON_ATLAS_WORKSPACE or data/workspace. Raises AtlasError.

        With `own`, else $NEURON_ATLAS_READ_ONLY, it is opened to be read, and has to be there.
        """
        chosen = Path(path or os.environ.get(WORKSPACE_ENV) or _DEFAULT).expanduser().absolute()
        own = own or os.environ.get(READ_ONLY_ENV)
        workspace = cls(chosen, Path(own).absolute() if own else None)
        marker = chosen / "workspace.json"
        try:
            if workspace.read_only and not marker.exists():
                raise AtlasError(f"There is no workspace at {chosen} to read: choose another folder with --workspace.")
            folders = (workspace.subjects, workspace.corpora, workspace.bases, workspace.runs) if not workspace.read_only else ()
            for folder in (*folders, workspace.scratch):
                folder.mkdir(parents=True, exist_ok=True)
            if not marker.exists():
                write_json(marker, {"schema": SCHEMA})
            found = int(json.loads(marker.read_text("utf8"))["schema"])
        except OSError as error:
            raise explain_os_error(error, f"opening the workspace {chosen}") from None
        except (ValueError, KeyError, TypeError):
            raise AtlasError(f"{marker} is damaged: restore it, or choose another folder with --workspace.") from None
        if found > SCHEMA:
            raise AtlasError(
                f"The workspace {chosen} was made by a newer Neuron Atlas (layout {found}, this one reads {SCHEMA}): update the program."
            )
        return workspace

    @property
    def read_only(self) -> bool:
        """Whether nothing in it may be written."""
        return self.own is not None

    def check_writable(self) -> None:
        """Called first by whatever writes into the workspace or starts work that does. Raises ReadOnly."""
        if self.read_only:
            raise ReadOnly

    @property
    def subjects(self) -> Path:
        return self.path / "subjects"

    @property
    def corpora(self) -> Path:
        return self.path / "corpora"

    @property
    def bases(self) -> Path:
        return self.path / "bases"

    @property
    def runs(self) -> Path:
        return self.path / "runs"

    @property
    def scratch(self) -> Path:
        """Locks, logs, addresses of running processes and notes: safe to delete when nothing runs."""
        return (self.own or self.path) / "scratch"

    @property
    def registry(self) -> Path:
        return self.path / "registry.sqlite"

    @property
    def cache(self) -> Path:
        return (self.own or self.path) / "cache.duckdb"


def write_json(path: Path, value: Any) -> None:
    """Write JSON under a temporary name, then rename, so that a reader never sees half a file."""
    write_atomic(path, (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode())


def write_atomic(path: Path, content: bytes) -> None:
    """Write bytes under a temporary name in the same folder, flush to disk, then rename."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _flush_names(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def put_in_place(temporary: Path, target: Path) -> None:
    """Give a finished file in the same folder its name, its content on disk first."""
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    temporary.replace(target)
    _flush_names(target.parent)


@contextmanager
def whole_folder(target: Path) -> Generator[Path]:
    """Make the folder `target`, whole or not at all, whatever happens meanwhile: a failure, a kill, a full disk, a power cut.

    The block fills the folder it is given, which lies beside `target` under a name that begins with a dot. When it ends, everything in it
    is flushed to disk, a `target` of before is removed and the folder takes its name. When it raises, nothing is left of it, and a
    `target` of before is as it was. (A process that is killed leaves the folder with the dot behind.)
    """
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        flush_folder(temporary)
        shutil.rmtree(target, ignore_errors=True)
        temporary.replace(target)
        _flush_names(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def flush_folder(folder: Path) -> None:
    """Wait until everything in a folder is on disk: a rename that follows then never names files whose content a power cut took."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb+") as file:  # Windows flushes only what may be written
                os.fsync(file.fileno())
        else:
            _flush_names(path)
    _flush_names(folder)


def _flush_names(folder: Path) -> None:
    """Wait until the names in a folder are on disk. Windows has no such call: its file system logs names by itself."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class FileNote(TypedDict):
    """How a manifest names a file."""

    path: str
    bytes: int
    sha256: str


def note_file(path: Path, relative_to: Path) -> FileNote:
    """Size and hash of a file that was just written."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"path": path.relative_to(relative_to).as_posix(), "bytes": path.stat().st_size, "sha256": digest}


def is_intact(root: Path, note: FileNote) -> bool:
    """Whether the file is still what was noted."""
    path = root / note["path"]
    return path.is_file() and path.stat().st_size == note["bytes"] and note_file(path, root)["sha256"] == note["sha256"]
