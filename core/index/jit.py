"""One `njit` for the index: numba's, with a cache that knows all of the index's sources.

Numba's own cache looks at the file of the compiled function only: it would go on using what was inlined from another, changed file.
"""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numba
from numba.core import config

_HERE = Path(__file__).parent


def _cache_folder() -> Path:
    """Beside the sources, else in the user's home. Numba's cache is pickled code, so nobody else may write to its folder."""
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(_HERE.glob("*.py")))).hexdigest()[:12]
    for home in (_HERE / "__pycache__", Path.home() / ".cache" / "neuron-atlas"):
        with contextlib.suppress(OSError):
            folder = home / f"kernels-{digest}"
            folder.mkdir(parents=True, exist_ok=True)
            if os.access(folder, os.W_OK):
                return folder
    return Path(tempfile.mkdtemp(prefix="neuron-atlas-"))


if not os.environ.get("NUMBA_CACHE_DIR"):
    cast(Any, config).CACHE_DIR = str(_cache_folder())

if TYPE_CHECKING:

    def njit(**_options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]: ...
else:
    njit = numba.njit
