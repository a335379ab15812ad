"""One `njit` for the index: numba's, with a cache that knows all of the index's sources.

Numba's own cache looks at the file of the compiled function only: it would go on using what was inlined from another, changed file.
"""

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numba

if TYPE_CHECKING:

    def njit(**_options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]: ...
else:
    _here = Path(__file__).parent
    _digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(_here.glob("*.py")))).hexdigest()[:12]
    if not os.environ.get("NUMBA_CACHE_DIR"):
        _home = (
            _here
            if os.access(_here, os.W_OK)
            else Path(tempfile.gettempdir()) / f"neuron-atlas-{os.getuid() if hasattr(os, 'getuid') else 0}"
        )
        numba.config.CACHE_DIR = str(_home / "__pycache__" / f"kernels-{_digest}")
    njit = numba.njit
