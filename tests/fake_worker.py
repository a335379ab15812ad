"""A batch worker with kinds of runs that need no model: `python -m tests.fake_worker --workspace FOLDER`."""

import sys
import time
from pathlib import Path
from typing import Any

from core.errors import AtlasError
from core.runs.progress import Progress
from core.runs.worker import main
from core.workspace import Workspace

MODULE = "tests.fake_worker"
KINDS = {"count": "tests.fake_worker:count", "break": "tests.fake_worker:break_down", "absent": "tests.no_such_module:run"}


def count(workspace: Workspace, run_dir: Path, params: dict[str, Any], progress: Progress) -> None:
    """Make one file a part, `pause` seconds each; parts that are there already are left alone."""
    progress.stage("counting")
    for part in range(params["parts"]):
        target = run_dir / f"part-{part}"
        if not target.exists():
            time.sleep(params.get("pause", 0))
            target.write_text("made", "utf8")
            progress.log(f"made part {part}")
        progress.update(part + 1, params["parts"], f"part {part}", unit="parts")


def break_down(workspace: Workspace, run_dir: Path, params: dict[str, Any], progress: Progress) -> None:
    """End in the way that `params["how"]` names."""
    how = params["how"]
    if how == "sentence":
        raise AtlasError("The text is empty: choose another file.")
    if how == "disk":
        raise OSError(28, "No space left on device")
    if how == "memory":
        raise MemoryError
    if how == "torch memory":
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried ...")
    if how == "bug":
        raise ZeroDivisionError("first line <script>\nsecond line")
    raise AssertionError(how)


if __name__ == "__main__":
    sys.exit(main(kinds=KINDS))
