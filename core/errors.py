"""The one exception that people see.

Anything a person can cause (a wrong name, a damaged file, a full disk) is raised as an `AtlasError` whose text is one
clear sentence: what is wrong, and what to do. Pages print it as it is; the command line prints it and exits with 2.
"""

import errno


class AtlasError(Exception):
    """A sentence for the person at the screen. Never wraps a traceback."""


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
