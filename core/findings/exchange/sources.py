"""The files of another program, from a file, a folder or a zip: found and read without trusting what they say of themselves."""

import gzip
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any, cast

from core.errors import AtlasError, shown
from core.findings.bundle.archive import MEMBERS, RATIO, TOTAL_BYTES, Refused, check_end
from core.findings.bundle.safe_json import parse

FILES = 20_000
DOCUMENT_BYTES = 256 << 20
"""Of one JSON value."""
_FREE = 1 << 20
_CHUNK = 1 << 18
_GZIP = b"\x1f\x8b"
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Piece:
    """One file: its name relative to what was given, with `/`, only ever compared, never opened by; its size on the disk."""

    name: str
    size: int
    open: Callable[[], IO[bytes]]
    path: Path | None = None
    """Where it lies, unless it is in a zip."""


class Budget:
    """How many bytes may still be unpacked, over all files together."""

    def __init__(self, most: int = TOTAL_BYTES) -> None:
        self.left = most

    def take(self, count: int) -> None:
        """Raises Refused when it is spent."""
        self.left -= count
        if self.left < 0:
            raise Refused(f"What was given unpacks to more than the {TOTAL_BYTES:,} bytes that are taken in at once: import a part of it.")


@contextmanager
def pieces(path: Path) -> Generator[list[Piece]]:
    """The files, by name: of a folder all but hidden ones and links, of a zip all members, else the file itself. Raises AtlasError."""
    if path.is_dir():
        yield _in_folder(path)
    elif not path.is_file():
        raise AtlasError(f"There is no file {path}.")
    elif is_zip(path):
        with reading(path.name), zipfile.ZipFile(path) as archive:
            yield _in_zip(archive)
    else:
        yield [Piece(path.name, path.stat().st_size, lambda: path.open("rb"), path)]


def is_zip(path: Path) -> bool:
    """Whether the file begins as a zip does."""
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


@contextmanager
def reading(name: str) -> Generator[None]:
    """Turn what libraries raise over a damaged file into one sentence."""
    try:
        yield
    except (zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, gzip.BadGzipFile, EOFError, NotImplementedError, struct.error):
        raise Refused(f"“{shown(name)}” is damaged: fetch it again.") from None
    except RuntimeError as error:
        if isinstance(error, RecursionError):
            raise
        raise Refused(f"“{shown(name)}” is encrypted: unpack it first.") from None


def documents(piece: Piece, budget: Budget) -> Iterator[dict[str, Any]]:
    """The JSON objects of a file, plain or gzipped: its only one, or one a line. Nothing of a file that holds no JSON. Raises Refused."""
    damaged = Refused(f"“{shown(piece.name)}” is not the JSON that it begins as: fetch it again.")
    with reading(piece.name):
        lines = _lines(piece, budget)
        first = next(lines, b"")
        if not first.lstrip().startswith(b"{"):
            return
        try:
            head = _parsed(first)
        except ValueError:  # an object over several lines
            try:
                yield _object(_parsed(b"".join(_up_to(DOCUMENT_BYTES, first, lines))), damaged)
            except ValueError:
                raise damaged from None
            return
        yield _object(head, damaged)
        for line in lines:
            if line.strip():
                try:
                    yield _object(_parsed(line), damaged)
                except ValueError:
                    raise damaged from None


def content(piece: Piece, budget: Budget, most: int) -> bytes:
    """All of a file, unpacked. Raises Refused."""
    with reading(piece.name):
        return b"".join(_up_to(most, b"", _chunks(piece, budget)))


def _up_to(most: int, first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    most -= len(first)
    for part in rest:
        most -= len(part)
        if most < 0:
            raise Refused("One of the files is larger than any that is taken in: import a part of it.")
        yield part


def _object(found: Any, damaged: Refused) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise damaged
    return cast(dict[str, Any], found)


def _parsed(line: bytes) -> Any:
    """A JSON value in which no text has half a character: those cannot be written to a file."""
    found = parse(line, undefined=True)
    return _mended(found) if rb"\u" in line else found


def _mended(value: Any) -> Any:
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_mended(one) for one in cast(list[Any], value)]
    if isinstance(value, dict):
        return {_mended(key): _mended(one) for key, one in cast(dict[str, Any], value).items()}
    return value


def _lines(piece: Piece, budget: Budget) -> Iterator[bytes]:
    """Lines with their ends. Raises Refused for one that is too long."""
    waiting: list[bytes] = []
    held = 0
    for chunk in _chunks(piece, budget):
        *whole, last = chunk.split(b"\n")
        for part in whole:
            yield b"".join([*waiting, part, b"\n"])
            waiting, held = [], 0
        waiting.append(last)
        held += len(last)
        if held > DOCUMENT_BYTES:
            raise Refused("One of the files is larger than any that is taken in: import a part of it.")
    if held:
        yield b"".join(waiting)


def _chunks(piece: Piece, budget: Budget) -> Iterator[bytes]:
    """What a file unpacks to, where it is gzipped; never much more than it may."""
    out = 0
    with piece.open() as file:
        head = file.read(2)
    with piece.open() as file:
        stream = cast(IO[bytes], gzip.GzipFile(fileobj=file)) if head == _GZIP else file
        while chunk := stream.read(_CHUNK):
            out += len(chunk)
            if out > _FREE + RATIO * piece.size:
                raise Refused(f"“{shown(piece.name)}” unpacks to more than {RATIO} times its size: it is not taken in.")
            budget.take(len(chunk))
            yield chunk


def _in_folder(folder: Path) -> list[Piece]:
    paths = list(islice(folder.rglob("*"), 2 * FILES + 1))
    if len(paths) > 2 * FILES:
        raise Refused(f"The folder has more than the {FILES:,} files that are taken in at once: import a part of it.")
    found: list[Piece] = []
    for path in sorted(paths):
        name = path.relative_to(folder).as_posix()
        if any(part.startswith(".") for part in name.split("/")) or path.is_symlink() or not stat.S_ISREG(path.stat().st_mode):
            continue
        if not path.resolve().is_relative_to(folder.resolve()):
            continue  # a folder above it is a link
        found.append(Piece(name, path.stat().st_size, lambda path=path: path.open("rb"), path))
    return found


def _in_zip(archive: zipfile.ZipFile) -> list[Piece]:
    found: dict[str, Piece] = {}
    for info in archive.infolist():
        if info.is_dir():
            continue
        if info.filename in found:
            raise Refused(f"The file has two members with the name “{shown(info.filename)}”.")
        if info.file_size > _FREE + RATIO * info.compress_size:
            raise Refused(f"“{shown(info.filename)}” unpacks to more than {RATIO} times its size: it is not taken in.")
        found[info.filename] = Piece(info.filename, info.file_size, lambda info=info: archive.open(info))
    return [found[name] for name in sorted(found)]


def check_zip(path: Path) -> list[str]:
    """The names of a zip's members, after a look at its directory's size. Raises Refused."""
    with reading(path.name):
        with path.open("rb") as file:
            check_end(file, path.stat().st_size)
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    if len(names) > MEMBERS:
        raise Refused(f"The file has more members than a zip may have that is taken in ({MEMBERS:,}).")
    return names
