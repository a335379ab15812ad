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


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text("utf8").splitlines()
    except OSError:
        return []
