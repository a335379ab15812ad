"""One `njit` for the index: numba's, with a cache that knows all of the index's sources.

Numba's own cache looks at the file of the compiled function only: it would go on using what was inlined from another, changed file.
"""

import contextlib
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numba
from numba.core import config

_HERE = Path(__file__).parent
_KEEP_SECONDS = 7 * 86_400.0
"""A folder of other sources stays so long after its last use: another version may be at work, or take turns with this one."""


def _cache_folder() -> Path:
    """Beside the sources, else in the user's home. Numba's cache is pickled code, so nobody else may write to its folder."""
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(_HERE.glob("*.py")))).hexdigest()[:12]
    for home in (_HERE / "__pycache__", Path.home() / ".cache" / "neuron-atlas"):
        with contextlib.suppress(OSError):
            folder = home / f"kernels-{digest}"
            folder.mkdir(parents=True, exist_ok=True)
            if os.access(folder, os.W_OK):
                os.utime(folder)  # in use: see `remove_old`
                remove_old(folder)
                return folder
    return Path(tempfile.mkdtemp(prefix="neuron-atlas-"))


def remove_old(folder: Path) -> None:
    """Remove the folders beside `folder` that belong to other sources and that no process has taken into use for a week.

    Several processes may do so at once: each folder is first renamed, which only one of them can. (Numba makes a folder anew that has
    gone from under a process, and compiles again what it does not find.)
    """
    for other in folder.parent.glob("kernels-*"):
        with contextlib.suppress(OSError):  # another process was quicker, or it may not be removed: it stays
            if other != folder and time.time() - other.stat().st_mtime > _KEEP_SECONDS:
                doomed = other.with_name(f"{other.name}.{os.getpid()}")
                other.rename(doomed)
                shutil.rmtree(doomed, ignore_errors=True)


if not os.environ.get("NUMBA_CACHE_DIR"):
    cast(Any, config).CACHE_DIR = str(_cache_folder())

if TYPE_CHECKING:

    def njit(**_options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]: ...
else:
    njit = numba.njit
