"""Taking times and showing them: what the benches that answer in milliseconds share."""

import shutil
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from core.workspace import Workspace


@contextmanager
def scratch_workspace(prefix: str, folder: Path | None) -> Generator[Workspace]:
    """A workspace inside `folder` (a temporary one by default) that is removed afterwards."""
    made = Path(tempfile.mkdtemp(prefix=prefix, dir=folder))
    try:
        yield Workspace.open(made)
    finally:
        shutil.rmtree(made)


def timed(ask: Callable[[], object]) -> float:
    """Milliseconds."""
    begin = time.perf_counter()
    ask()
    return 1000 * (time.perf_counter() - begin)


def levels(values: list[float], digits: int) -> dict[str, float]:
    """Median, 95th percentile and largest."""
    return {name: round(float(np.percentile(values, level)), digits) for name, level in (("median", 50), ("p95", 95), ("max", 100))}


def spread(values: list[float]) -> dict[str, float]:
    """How many, median, 95th percentile and largest."""
    return {"n": len(values), **levels(values, 1)} if values else {"n": 0}


def table(found: dict[str, Any], prefix: str = "") -> str:
    """The figures for people, one a line."""
    lines = ""
    for name, value in found.items():
        if isinstance(value, dict) and "median" not in value:
            lines += table(value, f"{prefix}{name}: ")
        else:
            text = "  ".join(f"{key} {part}" for key, part in value.items()) if isinstance(value, dict) else str(value)
            lines += f"{prefix + name:<56} {text}\n"
    return lines
