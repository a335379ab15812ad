"""Opening files that strangers made: sizes are looked at before anything is allocated, and no file can run code.

Whatever is wrong with a file is an AtlasError of one sentence. Three containers are known: safetensors, the zip that `torch.save` writes,
and numpy's `.npz`. The last two can hold pickles. A torch file's pickle is first read as a list of instructions, without doing any of
them, and refused unless it only builds tensors; arrays of objects are refused.
"""

import json
import math
import pickletools
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from core.errors import AtlasError, shown

MAX_CONFIG = 4 << 20
MAX_HEADER = 1 << 20
"""A safetensors header takes some hundred bytes a tensor, and a dictionary has at most ten."""
MAX_PICKLE = 1 << 20
MAX_MEMBERS = 256
MAX_WEIGHTS = 16 << 30
MAX_RATIO = 100
"""How many times smaller compression may make a member of more than `_LARGE` bytes: weights hardly shrink, zip bombs a thousandfold."""
_LARGE = 1 << 20

_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
_FLOATS = ("F64", "F32", "F16", "BF16")

_BUILDS_TENSORS = {
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
    *(f"torch {kind}Storage" for kind in ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")),
}
_CALLS_OTHERWISE = {"INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "STACK_GLOBAL", "EXT1", "EXT2", "EXT4"}
"""Instructions of a pickle that name or call something by other ways than the one that `torch.save` uses."""


@dataclass(frozen=True)
class Place:
    """A folder with one dictionary in it.

    root: files may be links, but to nothing outside this folder. label: what people call the place, such as a hub id and the path in it;
    some formats keep their site in nothing but the path.
    """

    folder: Path
    root: Path
    label: str

    @classmethod
    def at(cls, folder: Path, label: str | None = None) -> "Place":
        return cls(folder, root_of(folder), label or folder.absolute().as_posix())

    def has(self, name: str) -> bool:
        return (self.folder / name).exists()

    def file(self, name: str) -> Path:
        """The true path of a file. Raises AtlasError when it is missing, not a plain file, or a link that leads out."""
        path = self.folder / name
        if not path.exists():
            raise AtlasError(f"There is no {name} in {self.label}: the dictionary is incomplete.")
        true = path.resolve()
        if not true.is_relative_to(self.root.resolve()):
            raise AtlasError(f"{name} in {self.label} is a link that leads out of its folder, and is not followed: copy the file there.")
        if not true.is_file():
            raise AtlasError(f"{name} in {self.label} is not a file.")
        return true

    def config(self, name: str) -> dict[str, Any]:
        return read_config(self.file(name), name)


def root_of(folder: Path) -> Path:
    """What a folder's links may lead to: the folder, or in the hub's cache, which keeps contents apart from names, its repository."""
    true = folder.resolve()
    for parent in (true, *true.parents):
        if parent.parent.name == "snapshots" and parent.parent.parent.name.startswith(("models--", "datasets--")):
            return parent.parent.parent
    return true


def read_config(path: Path, name: str | None = None) -> dict[str, Any]:
    """A JSON file that holds one object. Raises AtlasError."""
    called = name or path.name
    try:
        size = path.stat().st_size
        if size > MAX_CONFIG:
            raise AtlasError(f"{called} has {size:,} bytes, too many for a configuration: it is not one.")
        value: Any = json.loads(path.read_text("utf8"))
    except (OSError, ValueError, RecursionError):
        raise AtlasError(f"{called} is not readable JSON: fetch the dictionary again.") from None
    if not isinstance(value, dict):
        raise AtlasError(f"{called} should hold one JSON object: it is not the configuration of a dictionary.")
    return cast(dict[str, Any], value)


def whole(config: Mapping[str, Any], key: str, low: int = 1, high: int = 1 << 24) -> int:
    """A whole number of a configuration. Raises AtlasError."""
    value = config.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise AtlasError(f"The configuration's “{key}” should be a whole number from {low} to {high:,}, not {shown(str(value))}.")
    return value


def text(config: Mapping[str, Any], key: str) -> str | None:
    """A text of a configuration, at most 300 characters of it; None when it is missing or something else."""
    value = config.get(key)
    return "".join(c for c in value[:300] if c.isprintable()) if isinstance(value, str) and value else None


def safetensors_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes in a safetensors file's header, after checking that the header is sound and the file as long as it says.

    Raises AtlasError. Nothing of the size that the file claims is allocated.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > size - 8 or length > MAX_HEADER:
                big = size >= 8 and length > MAX_HEADER
                why = f"its header claims {length:,} bytes" if big else "it is cut off, or something else"
                raise AtlasError(f"{path.name} is not a sound safetensors file ({why}): fetch it again.")
            header: Any = json.loads(file.read(length))
        entries: dict[str, Any] = {str(name): entry for name, entry in header.items() if name != "__metadata__"}
        shapes: dict[str, tuple[int, ...]] = {}
        spans: list[tuple[int, int]] = []
        for name, entry in entries.items():
            shape, (begin, end) = tuple(int(n) for n in entry["shape"]), entry["data_offsets"]
            dtype = str(entry["dtype"])
            if dtype not in _BYTES:
                raise AtlasError(f"“{shown(name)}” in {path.name} is stored as {shown(dtype)}, a number format that is not read here.")
            if min(shape, default=0) < 0 or math.prod(shape) * _BYTES[dtype] != end - begin:
                raise ValueError
            shapes[name] = shape
            spans.append((begin, end))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise AtlasError(f"{path.name} is not a sound safetensors file (its header is damaged): fetch it again.") from None
    end = 0
    for begin, after in sorted(spans):
        if begin != end:
            raise AtlasError(f"{path.name} is not a sound safetensors file (its tensors overlap or leave gaps): fetch it again.")
        end = after
    if size - 8 - length != end:
        raise AtlasError(f"{path.name} is cut off or has more in it than its header says: fetch it again.")
    _check_size(path, end)
    return shapes


def load_safetensors(path: Path, names: Iterable[str]) -> dict[str, Tensor]:
    """Some tensors of a file that `safetensors_shapes` has looked at, as float32. Raises AtlasError."""
    try:
        with safe_open(path, framework="pt") as opened:
            file: Any = opened
            return {name: file.get_tensor(name).float() for name in names}
    except (OSError, SafetensorError, ValueError, RuntimeError) as error:
        raise AtlasError(f"{path.name} is not a readable safetensors file ({_first(error)}): fetch it again.") from None


def load_torch(path: Path) -> dict[str, Tensor]:
    """The tensors of a file that `torch.save` wrote, floats as float32. Raises AtlasError for one that would run code."""
    with _unzipped(path, "a file of torch.save") as archive:
        members = archive.infolist()
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise AtlasError(f"{path.name} is compressed, which torch.save never does: it is not read.")
        _check_size(path, sum(member.file_size for member in members))
        pickles = [member for member in members if member.filename.endswith(".pkl")]
        if len(pickles) != 1 or pickles[0].file_size > MAX_PICKLE:
            raise AtlasError(f"{path.name} is not a file of torch.save with tensors in it.")
        _check_pickle(path.name, archive.read(pickles[0]))
    try:
        loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - unpicklers raise whatever they stumble over; it becomes the sentence
        raise AtlasError(f"{path.name} cannot be read as tensors ({_first(error)}): fetch it again.") from None
    if not isinstance(loaded, dict):
        raise AtlasError(f"{path.name} holds something else than tensors by name: it is not a dictionary's weights.")
    tensors: dict[str, Tensor] = {}
    for name, tensor in cast(dict[Any, Any], loaded).items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor) or tensor.layout != torch.strided:
            raise AtlasError(f"{path.name} holds something else than tensors by name: it is not a dictionary's weights.")
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise AtlasError(f"“{shown(name)}” in {path.name} claims to be larger than what is stored: it is not read.")
        tensors[name] = tensor.detach().float() if tensor.is_floating_point() else tensor.detach()
    return tensors


def load_npz(path: Path, names: Iterable[str]) -> dict[str, Tensor]:
    """Some arrays of an `.npz`, as float32. Those that are not there are left out. Raises AtlasError."""
    found: dict[str, Tensor] = {}
    total = 0
    with _unzipped(path, "an .npz file") as archive:
        members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
        for name in [name for name in names if name in members]:
            member = members[name]
            total += member.file_size
            _check_size(path, total)
            if member.file_size > max(_LARGE, MAX_RATIO * member.compress_size):
                packed, unpacked = member.compress_size, member.file_size
                raise AtlasError(f"“{name}” in {path.name} would unpack {packed:,} bytes to {unpacked:,}: it is not read.")
            try:
                with archive.open(member) as file:
                    shape, fortran, dtype = _npy_header(file)
                    header = file.tell()
                    if dtype.kind != "f" or math.prod(shape) * dtype.itemsize != member.file_size - header:
                        raise ValueError("not plain numbers of the stated shape")
                    numbers = np.frombuffer(file.read(), dtype)
                ordered = numbers.reshape(shape[::-1]).T if fortran else numbers.reshape(shape)
                found[name] = torch.from_numpy(np.array(ordered, dtype=np.float32, order="C"))
            except (OSError, ValueError, zipfile.BadZipFile, EOFError, RuntimeError, NotImplementedError) as error:
                raise AtlasError(f"“{name}” in {path.name} cannot be read ({_first(error)}): fetch the file again.") from None
    return found


def check_shapes(shapes: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]], what: str) -> None:
    """Raises AtlasError for the first wanted tensor that is missing or has another shape."""
    for name, shape in wanted.items():
        if name not in shapes:
            raise AtlasError(f"{what} has no weights “{name}”: it is incomplete, or of another kind than it says.")
        if tuple(shapes[name]) != shape:
            found = "×".join(map(str, shapes[name])) or "one number"
            raise AtlasError(f"“{name}” of {what} is {found} and should be {'×'.join(map(str, shape)) or 'one number'}.")


def _npy_header(file: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file, max_header_size=10_000)
    return tuple(shape), fortran, dtype


def _check_pickle(name: str, content: bytes) -> None:
    """Raises AtlasError unless all that a pickle names are the functions that rebuild tensors. Nothing of it is carried out."""
    try:
        for operation, argument, _ in pickletools.genops(content):
            if operation.name in _CALLS_OTHERWISE or (operation.name == "GLOBAL" and argument not in _BUILDS_TENSORS):
                called = shown(str(argument or operation.name).replace(" ", "."))
                raise AtlasError(f"{name} is a pickle that would run code ({called}) when it is opened: it was not. Ask for safetensors.")
    except (ValueError, IndexError, UnicodeError):
        raise AtlasError(f"{name} is damaged: fetch it again.") from None


def _unzipped(path: Path, what: str) -> zipfile.ZipFile:
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
        raise AtlasError(f"{path.name} is not {what}: it is cut off, or a bare pickle, which is never opened.") from None
    if len(archive.infolist()) > MAX_MEMBERS:
        archive.close()
        raise AtlasError(f"{path.name} has {len(archive.infolist()):,} parts, too many for a dictionary: it is not read.")
    return archive


def _check_size(path: Path, size: int) -> None:
    if size > MAX_WEIGHTS:
        raise AtlasError(f"{path.name} holds {size / 2**30:.0f} GiB of weights; at most {MAX_WEIGHTS >> 30} GiB are read here.")


def _first(error: BaseException) -> str:
    return shown(next(iter(str(error).splitlines()), "") or type(error).__name__)
