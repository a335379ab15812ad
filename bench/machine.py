"""What a measurement was taken on."""

import os
import platform
from pathlib import Path


def machine() -> str:
    """Processor, cores, memory and Python, in one line."""
    name, memory = platform.processor() or platform.machine(), ""
    for line in _lines("/proc/cpuinfo"):
        if line.startswith("model name"):
            name = line.split(":", 1)[1].strip()
            break
    for line in _lines("/proc/meminfo"):
        if line.startswith("MemTotal"):
            memory = f", {int(line.split()[1]) >> 20} GiB"
    return f"{name}, {os.cpu_count()} cores{memory}, {platform.system()}, Python {platform.python_version()}"


def load() -> dict[str, float]:
    """How busy the machine is: processes that want a CPU (mean of the last minute), and the share of the last ten seconds in which at
    least one of them had to wait for it. The second is left out where the system does not tell.
    """
    found = {"load_1_minute": round(os.getloadavg()[0], 2)} if hasattr(os, "getloadavg") else {}
    for line in _lines("/proc/pressure/cpu"):
        if line.startswith("some avg10="):
            found["waiting_share"] = round(float(line.split()[1].removeprefix("avg10=")) / 100, 3)
    return found


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text("utf8").splitlines()
    except OSError:
        return []
