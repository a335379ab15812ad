"""From a description of text to its documents: the embedded mix, files and folders, or a dataset of the hub."""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from core.corpus import embedded, files, mix
from core.corpus.documents import Document
from core.corpus.spec import HUB_PREFIX, CorpusSpec
from core.errors import AtlasError

_DATASET = re.compile(r"[\w.-]+(?:/[\w.-]+)?(?::[\w.+-]+)?")


def documents(spec: CorpusSpec) -> Iterator[Document]:
    """The documents of a source, in an order that is the same on every machine. Raises AtlasError, possibly in the middle."""
    check_source(spec)
    if spec.is_embedded:
        return embedded.embedded_documents(spec.length, spec.seed)
    path = local_path(spec)
    return files.file_documents(path, spec.field) if path is not None else _hub_documents(spec)


def check_source(spec: CorpusSpec) -> None:
    """What can be said at a glance: that there is nothing at a path, no text, or that a field is named for text that has none.

    Raises AtlasError.
    """
    path = local_path(spec)
    if path is not None and _is_missing(path):
        raise files.nothing_at(path)
    if path is not None and os.path.isfile(path):
        files.check_beginning(path)
    if spec.field is not None and (spec.is_embedded or (path is not None and os.path.isfile(path) and not files.is_table(path))):
        raise files.without_fields("The embedded text" if path is None else str(path), spec.field)


def local_path(spec: CorpusSpec) -> Path | None:
    """The file or folder that the source names, or None for a dataset. What exists here is a path; so is what looks like one."""
    if spec.is_embedded or spec.source.startswith(HUB_PREFIX):
        return None
    path = Path(os.path.expanduser(spec.source))
    looks = spec.source.startswith((".", "/", "~")) or "\\" in spec.source or path.suffix.lower() in files.KINDS
    if looks or os.path.lexists(path) or _DATASET.fullmatch(spec.source) is None:
        return path
    return None


def _is_missing(path: Path) -> bool:
    """Whether there is nothing. What may not be looked at is not missing: reading says why."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def fingerprint(spec: CorpusSpec) -> str | None:
    """What the source looks like now, cheaply: equal when the text is unchanged. None when that cannot be known (a dataset).

    For files their names, sizes and times of change; for the embedded text its version. Raises AtlasError like `documents`.
    """
    if spec.is_embedded:
        embedded.package_data()
        return f"{embedded.PACKAGE} {embedded.VERSION} mix {mix.MIX}"
    path = local_path(spec)
    if path is None:
        return None
    states: list[tuple[str, int, int]] = []
    for file, name in files.found(path):
        try:
            state = file.stat()
        except OSError as error:
            raise AtlasError(f"{file} cannot be read ({error.strerror or error}): check its permissions.") from None
        states.append((name, state.st_size, state.st_mtime_ns))
    return hashlib.sha256(json.dumps([str(path.resolve()), states]).encode()).hexdigest()


def _hub_documents(spec: CorpusSpec) -> Iterator[Document]:
    """Rows of a dataset, streamed by the `datasets` package. Its failures have no common type, hence the broad except clauses."""
    import datasets

    name, _, config = spec.source.removeprefix(HUB_PREFIX).partition(":")
    try:
        stream: Any = datasets.load_dataset(name, config or None, split=spec.split, revision=spec.revision, streaming=True)
        rows = iter(stream)
        first = next(rows, None)
    except Exception as error:  # noqa: BLE001 - whatever the hub, the network or a dataset's own loader raised becomes one sentence
        raise _failed(name, error) from None
    number = 0
    while first is not None:
        row: dict[str, Any] = first
        text = row[files.choose_field(row, spec.field, f"The dataset {name}")]
        yield from files.row_documents(f"{name}:{spec.split}:{number}", name.rsplit("/", 1)[-1], text, row)
        number += 1
        try:
            first = next(rows, None)
        except Exception as error:  # noqa: BLE001 - as above
            raise _failed(name, error) from None


def _failed(name: str, error: Exception) -> AtlasError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")[:200]
    return AtlasError(
        f"“{name}” is no file here, and the dataset of that name could not be read ({reason}): check name, split, revision and network."
    )
