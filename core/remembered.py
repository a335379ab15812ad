"""Values that were made from files, kept while the files stay what they were: a small memory, and what tells two states of a file apart."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

FileKey = tuple[str, int, int, int]
"""Path, time of the last change in nanoseconds, size, inode."""


class Remembered(Generic[Key, Value]):
    """A small thread-safe memory of the values used last. Two threads may make the same value at once; both get a right one."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._values: OrderedDict[Key, Value] = OrderedDict()

    def get(self, key: Key, make: Callable[[], Value]) -> Value:
        """The value of a key, made if it is not known. What `make` raises is passed on and nothing is kept."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        value = make()
        self.put(key, value)
        return value

    def known(self, key: Key) -> Value | None:
        """The value of a key; None where nothing is remembered."""
        with self._lock:
            return self._values.get(key)

    def put(self, key: Key, value: Value) -> None:
        """Remember a value. The one that was not used for longest goes when there are too many."""
        with self._lock:
            self._values[key] = value
            while len(self._values) > self._size:
                self._values.popitem(last=False)


def file_key(path: Path) -> FileKey:
    """Changes whenever the file at `path` is replaced: a rename gives it another inode. Raises FileNotFoundError."""
    found = path.stat()
    return (str(path), found.st_mtime_ns, found.st_size, found.st_ino)
