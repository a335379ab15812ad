"""A lock between processes: a file that one of them holds until it ends, however it ends. No torch."""

import os
import sys
from pathlib import Path
from types import TracebackType

from core.errors import explain_os_error
from core.workspace import Workspace


class FileLock:
    """Held by at most one process; the system lets go when that process dies. Not for threads of one process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: int | None = None

    def acquire(self) -> bool:
        """Take the lock if nobody has it. Returns False at once when somebody does. Raises AtlasError."""
        if self._handle is not None:
            return True
        try:
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise explain_os_error(error, f"opening the lock {self.path}") from None
        try:
            _lock(handle)
        except OSError:
            os.close(handle)
            return False
        self._handle = handle
        return True

    def release(self) -> None:
        """Let go. The file stays: removing it would let two processes hold two files of the same name."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def hand_down(self) -> None:
        """Let a program that takes this process's place (`exec`) keep the lock until it ends."""
        if self._handle is not None:
            os.set_inheritable(self._handle, True)

    def held_elsewhere(self) -> bool:
        """Whether another process has it now."""
        if self._handle is not None:
            return False
        if not self.acquire():
            return True
        self.release()
        return False

    def __enter__(self) -> "FileLock":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.release()


def lane_lock(workspace: Workspace, lane: str) -> FileLock:
    """Held by a lane's worker for as long as it may claim runs."""
    return FileLock(workspace.scratch / f"{lane}-lane.lock")


def dashboard_lock(workspace: Workspace) -> FileLock:
    """Held by the dashboard that `python -m core serve` started."""
    return FileLock(workspace.scratch / "dashboard.lock")


def _lock(handle: int) -> None:
    """Raises OSError when another process holds the lock."""
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
