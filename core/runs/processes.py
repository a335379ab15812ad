"""Is the process that took a run still the same one, and still there? Starting one that outlives its parent. No torch."""

import ctypes
import os
import subprocess
import sys
import threading
from datetime import datetime
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent.parent
"""The folder that `python -m core...` is started from."""


def start_ticks(pid: int) -> int | None:
    """When the process began, in units that only compare equal for the same process; None if it is gone or a zombie.

    A process number is used again by the system; the pair (number, start) is not.
    """
    if sys.platform == "win32":
        return _windows_start(pid)
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("utf8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None if Path("/proc/self/stat").exists() else _ps_start(pid)
    return None if fields[0] in "ZX" else int(fields[19])


def alive(pid: int | None, ticks: int | None) -> bool:
    """Whether the process that was recorded as (pid, ticks) still runs."""
    return pid is not None and ticks is not None and start_ticks(pid) == ticks


def spawn(arguments: list[str], log: Path) -> subprocess.Popen[bytes]:
    """Start `python ARGUMENTS` from the project's folder in a session of its own, its output going to `log`.

    It survives the end of this process. A thread waits for it, so that it does not stay behind as a zombie.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=PROJECT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    threading.Thread(target=process.wait, name=f"wait-{process.pid}", daemon=True).start()
    return process


def tail(path: Path, lines: int) -> list[str]:
    """The last lines of a text file, or nothing when there is none. Reads at most 64 KiB."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 65536))
            return file.read().decode("utf8", errors="replace").splitlines()[-lines:]
    except FileNotFoundError:
        return []


def _ps_start(pid: int) -> int | None:
    """macOS and BSD, which have no /proc: seconds since 1970, from `ps`."""
    answer = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False, env={"LC_ALL": "C"})
    state, _, began = answer.stdout.strip().partition(" ")
    if not began.strip() or state.startswith("Z"):
        return None
    return int(datetime.strptime(" ".join(began.split()), "%a %b %d %H:%M:%S %Y").timestamp())


def _windows_start(pid: int) -> int | None:
    """Windows: the creation time in 100 ns units. (`os.kill(pid, 0)` would end the process there.)"""
    kernel: Any = vars(ctypes)["windll"].kernel32
    handle = kernel.OpenProcess(0x1000, False, pid)  # PROCESS_QUERY_LIMITED_INFORMATION
    if not handle:
        return None
    try:
        times = (ctypes.c_ulonglong * 4)()
        code = ctypes.c_ulong()
        known = kernel.GetProcessTimes(handle, *(ctypes.byref(times, 8 * i) for i in range(4)))
        running = kernel.GetExitCodeProcess(handle, ctypes.byref(code)) and code.value == 259  # STILL_ACTIVE
        return int(times[0]) if known and running else None
    finally:
        kernel.CloseHandle(handle)
