"""A fence around a folder: nothing that Python does in this process changes what is in it. It stands behind the checks of `Workspace`.

A check refuses in the place that would write. The fence stands around the whole process of a read-only dashboard, so that what
forgot to check is refused all the same. It sees what the interpreter does (opening, making, renaming, linking and removing files, and
opening SQLite files), not what a library's own C code does behind it: DuckDB opens only the file that it is given, which lies elsewhere.
"""

import os
import sys
from pathlib import Path
from typing import Any

from core.errors import ReadOnly

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_PLACES: dict[str, tuple[tuple[int, int | None], ...]] = {
    "os.mkdir": ((0, 2),),
    "os.remove": ((0, 1),),
    "os.rmdir": ((0, 1),),
    "os.rename": ((0, 2), (1, 3)),
    "os.link": ((0, 2), (1, 3)),
    "os.symlink": ((1, 2),),
    "os.truncate": ((0, None),),
    "os.chmod": ((0, 2),),
    "os.chown": ((0, 3),),
    "os.utime": ((0, 3),),
    "os.setxattr": ((0, None),),
    "shutil.rmtree": ((0, 1),),
    "sqlite3.connect": ((0, None),),
}
"""Audit event -> which of its arguments are paths that it changes, and which names the folder that a relative one starts from."""
_fenced: set[str] = set()
_watching = False


def fence(folder: Path) -> None:
    """From now on whatever would change something in `folder` raises ReadOnly, and does nothing."""
    global _watching
    _fenced.add(os.path.realpath(folder))
    if not _watching:
        sys.addaudithook(_watch)
        _watching = True


def open_again(folder: Path) -> None:
    """Take the fence away, as tests do. (The hook itself stays: Python has no way to remove it.)"""
    _fenced.discard(os.path.realpath(folder))


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if not _fenced:
        return
    if event == "open":
        path, _, flags = arguments
        if isinstance(flags, int) and flags & _WRITING and _inside(path):
            raise ReadOnly
    elif event in _PLACES:
        for place, folder in _PLACES[event]:
            if _inside(arguments[place], arguments[folder] if folder is not None and folder < len(arguments) else None):
                raise ReadOnly


def _inside(path: object, folder: object = None) -> bool:
    """Whether a path leads into a fenced folder, or is one. folder: the open directory that it starts from, if it is relative to one."""
    if not isinstance(path, str | bytes | os.PathLike):
        return False  # an open file: it was looked at when it was opened
    name = os.fsdecode(path)
    if isinstance(folder, int) and folder >= 0 and not os.path.isabs(name):
        name = os.path.join(_directory(folder), name)
    # The last part is not followed: a link that is removed or renamed is changed itself.
    target = os.path.join(os.path.realpath(os.path.dirname(name) or "."), os.path.basename(name))
    return any(one == fenced or one.startswith(fenced + os.sep) for one in (target, os.path.realpath(name)) for fenced in _fenced)


def _directory(descriptor: int) -> str:
    """The path of an open directory; the working one where the system does not tell (`shutil.rmtree` was seen before, then)."""
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return os.curdir
