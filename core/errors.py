"""The one exception that people see.

Anything a person can cause (a wrong name, a damaged file, a full disk) is raised as an `AtlasError` whose text is one
clear sentence: what is wrong, and what to do. Pages print it as it is; the command line prints it and exits with 2.
"""

import errno
import traceback
from collections.abc import Callable

NO_MEMORY = "The memory was not enough for this run: close other programs, or choose fewer sites, shorter contexts or bfloat16."


class AtlasError(Exception):
    """A sentence for the person at the screen. Never wraps a traceback."""


class ReadOnly(AtlasError):
    """Something was asked for that would write, where everything is only to be read."""

    def __init__(self) -> None:
        super().__init__("This is open read-only, so nothing can be started, changed or saved: ask whoever keeps the workspace to do it.")


def shown(text: str) -> str:
    """Something a person typed, as a sentence may quote it: at most 60 characters, unprintable ones as dots."""
    return "".join(c if c.isprintable() else "·" for c in text[:60])


def explain_os_error(error: OSError, doing: str) -> AtlasError:
    """Turn an operating system failure into a sentence. `doing` completes "while ..."."""
    if error.errno == errno.ENOSPC:
        return AtlasError(f"The disk is full, found while {doing}: free some space and try again; what was finished is kept.")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        where = error.filename or "a file"
        return AtlasError(f"No permission to write {where} while {doing}: choose a folder you may write to with --workspace.")
    return AtlasError(f"{error.strerror or error} while {doing}.")


def explain_failure(error: Exception, doing: str, log: Callable[[str], object], where: str) -> str:
    """The sentence for whatever a worker's task raised. What nobody foresaw also goes to `log` as a traceback; `where` names that log."""
    if isinstance(error, AtlasError):
        return str(error)
    if isinstance(error, MemoryError):
        return NO_MEMORY
    if isinstance(error, OSError):
        return str(explain_os_error(error, doing))
    log("".join(traceback.format_exception(error)))
    first = next(iter(str(error).splitlines()), "")
    # torch has no MemoryError: it says so in a RuntimeError.
    if "out of memory" in first.lower() or "can't allocate memory" in first:
        return NO_MEMORY
    return f"Internal error: {type(error).__name__}: {first[:300]}; the traceback is in {where}."
