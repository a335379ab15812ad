"""What the C library does with memory that a model's pass has freed."""

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST, _LARGEST_ONCE = 1 << 30, 1 << 25
"""Bytes; the second is the most that glibc took for a threshold in earlier versions."""


def keep_freed_memory() -> bool:
    """Have glibc keep large freed blocks for the next request, for the rest of the process. Returns whether it does.

    By default it maps such blocks one by one and unmaps them when they are freed, and the system zeroes their pages again each time.
    A pass frees some twenty blocks a layer, each larger than the default keeps.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False  # another C library
    mapped = mallopt(_M_MMAP_THRESHOLD, _LARGEST) or mallopt(_M_MMAP_THRESHOLD, _LARGEST_ONCE)
    return bool(mapped) and bool(mallopt(_M_TRIM_THRESHOLD, _LARGEST))
