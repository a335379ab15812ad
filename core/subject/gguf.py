"""A reader of GGUF files (version 2 and 3): metadata, and tensors as float32.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Only the tensor types that the embedded model and plain
files use are read: F32, F16, Q4_1 and Q8_0.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from core.errors import AtlasError

Floats = npt.NDArray[np.float32]

_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
_BLOCK = 32
"""Weights that share a scale in the quantised types."""


def _q4_1(raw: npt.NDArray[np.uint8]) -> Floats:
    """Blocks of half d, half m, 16 bytes: weight = d·q + m; the low nibbles are the first 16 weights, the high ones the rest."""
    blocks = raw.reshape(-1, 20)
    d = blocks[:, 0:2].copy().view(np.float16).astype(np.float32)
    m = blocks[:, 2:4].copy().view(np.float16).astype(np.float32)
    nibbles = np.concatenate([blocks[:, 4:] & 0x0F, blocks[:, 4:] >> 4], axis=1)
    return (nibbles.astype(np.float32) * d + m).reshape(-1)


def _q8_0(raw: npt.NDArray[np.uint8]) -> Floats:
    """Blocks of half d and 32 signed bytes: weight = d·q."""
    blocks = raw.reshape(-1, 34)
    d = blocks[:, 0:2].copy().view(np.float16).astype(np.float32)
    return (blocks[:, 2:].view(np.int8).astype(np.float32) * d).reshape(-1)


def _f16(raw: npt.NDArray[np.uint8]) -> Floats:
    return raw.view(np.float16).astype(np.float32)


def _f32(raw: npt.NDArray[np.uint8]) -> Floats:
    return raw.view(np.float32).copy()


_TYPES: dict[int, tuple[int, int, Callable[[npt.NDArray[np.uint8]], Floats]]] = {
    0: (1, 4, _f32),
    1: (1, 2, _f16),
    3: (_BLOCK, 20, _q4_1),
    8: (_BLOCK, 34, _q8_0),
}
"""Type number → weights a block, bytes a block, reader."""


@dataclass(frozen=True)
class _Tensor:
    shape: tuple[int, ...]
    """As numpy and torch write it: the file lists dimensions innermost first."""
    kind: int
    offset: int


class GGUF:
    """One open file. `metadata` holds its keys and values; `tensor` reads one tensor."""

    def __init__(self, path: Path) -> None:
        """Read the header. Raises AtlasError when the file is not GGUF or is cut off; OSError when it cannot be opened."""
        self._path = path
        self._data: npt.NDArray[np.uint8] = np.memmap(path, dtype=np.uint8, mode="r")
        self._at = 0
        self.metadata: dict[str, Any] = {}
        try:
            if bytes(self._data[:4]) != b"GGUF":
                raise AtlasError(f"{path} is not a GGUF file.")
            self._at = 4
            version = self._scalar("<I")
            if version not in (2, 3):
                raise AtlasError(f"{path} is a GGUF file of version {version}: versions 2 and 3 can be read.")
            tensors, keys = self._scalar("<Q"), self._scalar("<Q")
            for _ in range(keys):
                key = self._string()
                self.metadata[key] = self._value(self._scalar("<I"))
            self._tensors = dict(self._entry() for _ in range(tensors))
        except (struct.error, KeyError, UnicodeDecodeError):
            raise AtlasError(f"{path} is damaged: its header cannot be read.") from None
        alignment = int(self.metadata.get("general.alignment", 32))
        self._start = -(-self._at // alignment) * alignment

    @property
    def names(self) -> list[str]:
        """The names of all tensors, in the order of the file."""
        return list(self._tensors)

    def tensor(self, name: str) -> Floats:
        """One tensor as float32. Raises AtlasError when it is absent, cut off, or of a type that is not read."""
        entry = self._tensors.get(name)
        if entry is None:
            raise AtlasError(f"{self._path} has no tensor {name}.")
        if entry.kind not in _TYPES:
            raise AtlasError(f"{self._path}: tensor {name} has type {entry.kind}; F32, F16, Q4_1 and Q8_0 can be read.")
        per_block, size, read = _TYPES[entry.kind]
        begin = self._start + entry.offset
        end = begin + prod(entry.shape) // per_block * size
        if end > len(self._data):
            raise AtlasError(f"{self._path} is cut off: tensor {name} is not whole.")
        return read(self._data[begin:end]).reshape(entry.shape)

    def _scalar(self, form: str) -> Any:
        size = struct.calcsize(form)
        value = struct.unpack(form, self._data[self._at : self._at + size].tobytes())[0]
        self._at += size
        return value

    def _string(self) -> str:
        length = self._scalar("<Q")
        text = self._data[self._at : self._at + length].tobytes()
        self._at += length
        if len(text) < length:
            raise struct.error
        return text.decode("utf8")

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            return self._string()
        if kind == _ARRAY:
            inner, length = self._scalar("<I"), self._scalar("<Q")
            return [self._value(inner) for _ in range(length)]
        return self._scalar(_SCALARS[kind])

    def _entry(self) -> tuple[str, _Tensor]:
        name = self._string()
        dimensions = [self._scalar("<Q") for _ in range(self._scalar("<I"))]
        kind, offset = self._scalar("<I"), self._scalar("<Q")
        return name, _Tensor(tuple(reversed(dimensions)), kind, offset)
