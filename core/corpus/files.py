"""A person's own text: files and folders of .txt, .md, .jsonl, .csv and .parquet."""

import codecs
import csv
import json
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from core.corpus.documents import Document, divided
from core.errors import AtlasError, shown

PLAIN = (".txt", ".text", ".md", ".markdown")
TABLES = (".jsonl", ".csv", ".parquet")
KINDS = (*PLAIN, *TABLES)
SHOWN_KINDS = ".txt, .md, .jsonl, .csv or .parquet"
DEFAULT_FIELD = "text"
_PIECE, _GLANCE = 1 << 20, 1 << 12
_LONGEST_LINE = 1 << 26


def is_table(path: Path) -> bool:
    """Whether a file has rows with fields; others are read whole."""
    return path.suffix.lower() in TABLES


def nothing_at(path: Path) -> AtlasError:
    return AtlasError(f"There is nothing at {str(path)[:200]}: check the path, or write “embedded” for the text that comes along.")


def without_fields(what: str, field: str) -> AtlasError:
    return AtlasError(f"{what[:200]} is plain text, which has no fields: leave out the field “{shown(field)}”.")


def check_beginning(path: Path) -> None:
    """Raises AtlasError for a file that is empty, or whose beginning is no text. What cannot be opened is for the reader to say."""
    try:
        with path.open("rb") as file:
            seen = file.read(_GLANCE)
    except OSError:
        return
    if not seen:
        raise AtlasError(f"{path} is empty: name a file with text in it.")
    if path.suffix.lower() != ".parquet" and (b"\0" in seen or seen.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))):
        raise _not_text(path, seen)


def found(root: Path) -> list[tuple[Path, str]]:
    """The text files of a file or folder, each with its name relative to the folder, sorted by that name.

    Folders are walked; hidden entries, other kinds of file, and links that lead out of the folder are left out. A file named directly
    may have any suffix: an unknown one is read as plain text. Raises AtlasError when there is nothing to read.
    """
    try:
        if root.is_file():
            return [(root, root.name)]
        if not root.is_dir():
            raise nothing_at(root)
        inside = root.resolve()
        names: list[str] = []
        for folder, folders, files in os.walk(root, onerror=_raise):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in files:
                path = Path(folder) / name
                if name.startswith(".") or path.suffix.lower() not in KINDS or not path.is_file():
                    continue
                if path.is_symlink() and not path.resolve().is_relative_to(inside):
                    continue
                names.append(path.relative_to(root).as_posix())
    except OSError as error:
        raise _unreadable(root, error) from None
    if not names:
        raise AtlasError(f"The folder {root} holds no text to read: put {SHOWN_KINDS} files into it.")
    return [(root / name, name) for name in sorted(names)]


def file_documents(root: Path, field: str | None = None) -> Iterator[Document]:
    """The documents of a file or folder in the order of their names; blank texts are left out.

    A plain file is one document, a table gives one a row (its `id` and `source` columns are kept when it has them). Otherwise ids are the
    file's name relative to the folder, with the row's number in a table, and the source label is the first folder below `root`, or the
    name of `root`. `field` is meant for the tables among the files. Raises AtlasError naming the file, and the line if there is one.
    """
    whole = root.name or root.resolve().name
    every = found(root)
    if field is not None and not any(is_table(path) for path, _ in every):
        raise without_fields(str(root), field)
    for path, name in every:
        first, _, rest = name.partition("/")
        label = first if rest else whole
        kind = path.suffix.lower()
        try:
            if is_table(path):
                yield from _rows_documents(path, name, label, kind, field)
            else:
                yield from divided(_lines(path), name, label)
        except OSError as error:
            raise _unreadable(path, error) from None


def _rows_documents(path: Path, name: str, label: str, kind: str, field: str | None) -> Iterator[Document]:
    rows = _jsonl(path, field) if kind == ".jsonl" else _csv(path, field) if kind == ".csv" else _parquet(path, field)
    for number, text, row in rows:
        yield from row_documents(f"{name}:{number}", label, text, row)


def row_documents(fallback: str, label: str, text: object, row: dict[str, Any]) -> Iterator[Document]:
    """The documents of one row of a table: its own `id` and `source` when they are short texts or numbers, else `fallback` and `label`."""
    if text is None:
        return
    if not isinstance(text, str):
        raise AtlasError(f"The text of {fallback} is not text but {type(text).__name__}: name the right field with --field.")
    own, source = row.get("id"), row.get("source")
    name = str(own) if isinstance(own, str | int) and 0 < len(str(own)) <= 200 else fallback
    yield from divided(iter((text,)), name, source if isinstance(source, str) and 0 < len(source) <= 80 else label)


def choose_field(columns: Iterable[str], field: str | None, where: str) -> str:
    """The column that holds the text. Raises AtlasError listing the columns there are."""
    names = list(columns)
    wanted = field or DEFAULT_FIELD
    if wanted in names:
        return wanted
    listed = ", ".join(f"“{name[:40]}”" for name in names[:12]) or "none"
    raise AtlasError(f"{where} has no field “{wanted}”; it has {listed}: name the one that holds the text with --field.")


def _lines(path: Path) -> Iterator[str]:
    """Lines of a UTF-8 file with their ends (every kind of line end becomes a newline). A very long line comes in pieces."""
    with path.open(encoding="utf-8-sig", errors="strict", newline=None) as file:
        while True:
            try:
                line = file.readline(_PIECE)
            except UnicodeDecodeError:
                raise _not_text(path, _beginning(path)) from None
            if not line:
                return
            if "\0" in line:
                raise _not_text(path, b"\0")
            yield line


def _jsonl(path: Path, field: str | None) -> Iterator[tuple[int, object, dict[str, Any]]]:
    number = 1
    held = ""
    for piece in _lines(path):
        held += piece
        if len(held) > _LONGEST_LINE:
            raise AtlasError(f"{path}, line {number} is longer than {_LONGEST_LINE >> 20} MB: split it into several lines.")
        if not piece.endswith("\n"):
            continue
        yield from _json_line(path, number, held, field)
        number, held = number + 1, ""
    yield from _json_line(path, number, held, field)


def _json_line(path: Path, number: int, line: str, field: str | None) -> Iterator[tuple[int, object, dict[str, Any]]]:
    if not line.strip():
        return
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        raise AtlasError(f"{path}, line {number} is not JSON: a .jsonl file holds one JSON object a line.") from None
    if not isinstance(row, dict):
        raise AtlasError(f'{path}, line {number} is not a JSON object: write lines such as {{"text": "…"}}.')
    name = choose_field(row, field, f"{path}, line {number}")
    text = row[name]
    if isinstance(text, str):
        text = text.encode("utf-8", "replace").decode()  # JSON may spell half a surrogate pair, which no tokenizer can read
    yield number, text, row


def _csv(path: Path, field: str | None) -> Iterator[tuple[int, object, dict[str, Any]]]:
    csv.field_size_limit(min(sys.maxsize, _LONGEST_LINE))
    reader = csv.reader(_whole_lines(path), strict=True)
    try:
        header = next(reader, None)
        if header is None:
            return
        name = choose_field(header, field, str(path))
        for number, cells in enumerate(reader, start=1):
            if not cells:
                continue
            if len(cells) != len(header):
                raise AtlasError(
                    f"{path}, line {reader.line_num} has {len(cells)} cells where the header has {len(header)}: mend the line."
                )
            row = dict(zip(header, cells, strict=True))
            yield number, row[name], row
    except csv.Error as error:
        raise AtlasError(f"{path}, line {reader.line_num} is not valid CSV ({error}): mend the line.") from None


def _whole_lines(path: Path) -> Iterator[str]:
    """Lines with their pieces joined, as the CSV reader takes each item for a whole line."""
    held: list[str] = []
    for piece in _lines(path):
        held.append(piece)
        if piece.endswith("\n"):
            yield "".join(held)
            held = []
    if held:
        yield "".join(held)


def _parquet(path: Path, field: str | None) -> Iterator[tuple[int, object, dict[str, Any]]]:
    try:
        with pq.ParquetFile(path) as file:
            columns: list[str] = list(file.schema_arrow.names)
            name = choose_field(columns, field, str(path))
            kept = [column for column in dict.fromkeys((name, "id", "source")) if column in columns]
            number = 0
            for batch in file.iter_batches(batch_size=256, columns=kept):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row[name], row
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise AtlasError(f"{path} is not a whole Parquet file ({str(error).splitlines()[0][:120]}): copy or write it again.") from None
    except OSError as error:
        if error.errno is not None:
            raise
        # Arrow reports a damaged page as an OSError without a number.
        raise AtlasError(f"{path} is a damaged Parquet file ({str(error).splitlines()[0][:120]}): copy or write it again.") from None


def _not_text(path: Path, seen: bytes) -> AtlasError:
    """The sentence for a file that cannot be read as UTF-8. seen: its beginning, or just what was found in it."""
    if seen.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return AtlasError(f"{path} is not UTF-8 text but UTF-16: save it as UTF-8.")
    if b"\0" in seen:
        return AtlasError(f"{path} is a binary file, not text (it has NUL bytes in it): leave it out, or save its text as UTF-8.")
    return AtlasError(f"{path} is not UTF-8 text (it is in another encoding, or binary): leave it out, or save it as UTF-8.")


def _beginning(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_PIECE)


def _unreadable(path: Path, error: OSError) -> AtlasError:
    return AtlasError(f"{error.filename or path} cannot be read ({error.strerror or error}): check its permissions.")


def _raise(error: OSError) -> None:
    raise error
