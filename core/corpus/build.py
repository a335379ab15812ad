"""Cutting a source into a slice: documents to tokens, tokens to windows, windows to files. A slice once made is found by its recipe."""

import hashlib
import json
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from core.corpus.documents import Document
from core.corpus.slice import CONTEXTS_FILE, CONTEXTS_SCHEMA, DOCUMENTS_FILE, DOCUMENTS_SCHEMA, INFO_FILE, Slice, Tokenizer
from core.corpus.sources import documents, fingerprint
from core.corpus.spec import CorpusSpec
from core.corpus.windows import context_key, quota, taken, windows
from core.errors import AtlasError, explain_os_error
from core.workspace import Workspace, flush_folder, write_json

Progress = Callable[[int, int, str], None]
"""Called with contexts made, contexts wanted, and what is being done."""

RECIPES = ".recipes"
FORMAT = 1
"""Number of the cutting rule: raise it when the same text would be cut differently."""
ROW_GROUP = 1024
_BATCH_CHARS = 1 << 19
_BATCH_DOCUMENTS = 256
_STALE_SECONDS = 86_400


def build_slice(workspace: Workspace, spec: CorpusSpec, tokenizer: Tokenizer, progress: Progress | None = None) -> Slice:
    """Make, or find again, the slice that `spec` and `tokenizer` describe.

    Every document gives windows of `spec.length` tokens, a BOS included, `spec.stride` apart (`windows` says which tails are kept). In a
    first pass over the source a document gives at most 32, spread evenly over it; if that is too little text in all, the source is read
    again and a document may give 512, then 8192, and so on. A context with the tokens of an earlier one is left out. The slice is full at
    `spec.contexts`; with less text it is smaller.

    The hash covers document ids, source labels, starts, tokens, length, BOS and the tokenizer's hash, so equal text gives an equal slice on
    any machine. The files are written to a temporary folder which is then renamed; a slice that exists is reused.
    Raises AtlasError, for a source that cannot be read, text that gives no context, and a length that the model cannot take.
    """
    cut = _Cut.of(spec, tokenizer)
    tell = progress or _silent
    tell(0, spec.contexts, "reading the text")
    recipe = _recipe(workspace, spec, cut)
    remembered = _remembered(workspace, recipe)
    if remembered is not None:
        tell(len(remembered), len(remembered), "the text is cut already")
        return remembered
    workspace.check_writable()
    folder = workspace.scratch / f"slice-{uuid.uuid4().hex}"
    try:
        _remove_stale(workspace)
        folder.mkdir(parents=True)
        with _Writer(folder, spec, cut, tokenizer) as writer:
            _fill(writer, spec, cut, tokenizer, tell)
            info = writer.finish()
        made = _settle(workspace, folder, info)
        if recipe is not None:
            recipe.parent.mkdir(parents=True, exist_ok=True)
            write_json(recipe, {"slice": made.id})
    except OSError as error:
        raise explain_os_error(error, "writing the text slice") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    tell(len(made), len(made), "the text is cut")
    return made


@dataclass(frozen=True)
class _Cut:
    """How documents are cut: `body` document tokens a window, `stride` apart, behind `prefix` (the BOS or nothing)."""

    body: int
    stride: int
    prefix: tuple[int, ...]
    tokenizer_hash: str

    @classmethod
    def of(cls, spec: CorpusSpec, tokenizer: Tokenizer) -> "_Cut":
        if spec.length > tokenizer.context_limit:
            raise AtlasError(
                f"A context of {spec.length} tokens is longer than this model can read ({tokenizer.context_limit}): choose a shorter one."
            )
        with_bos = tokenizer.adds_bos if spec.bos is None else spec.bos
        if with_bos and tokenizer.bos_token_id is None:
            raise AtlasError("This model's tokenizer has no BOS token to prepend: leave BOS off.")
        prefix = (int(tokenizer.bos_token_id),) if with_bos and tokenizer.bos_token_id is not None else ()
        body = spec.length - len(prefix)
        if body < 2:
            raise AtlasError("A context of 2 tokens has room for one token after the BOS: choose a length of at least 3.")
        return cls(body, min(spec.stride or body, body), prefix, tokenizer.tokenizer_hash)


def _fill(writer: "_Writer", spec: CorpusSpec, cut: _Cut, tokenizer: Tokenizer, tell: Progress) -> None:
    """Pass over the source until the slice is full or the text is used up. Raises AtlasError when there is no context at all."""
    turn = 0
    while True:
        more = read = False
        for number, (document, tokens) in enumerate(_encoded(documents(spec), tokenizer)):
            read = True
            spans = windows(len(tokens), cut.body, cut.stride)
            more |= len(spans) > quota(turn)
            for place in taken(len(spans), turn):
                start, end = spans[place]
                if writer.add(number, document, start, (*cut.prefix, *tokens[start:end])) and writer.count % 64 == 0:
                    tell(writer.count, spec.contexts, "cutting the text")
                if writer.count == spec.contexts:
                    return
        if not read:
            raise AtlasError(f"The text of “{spec.source[:80]}” is empty: choose a source with something to read.")
        if not more:
            break
        turn += 1
    if writer.count == 0:
        raise AtlasError(f"No document of “{spec.source[:80]}” has 2 tokens or more: choose longer texts.")


def _encoded(stream: Iterator[Document], tokenizer: Tokenizer) -> Iterator[tuple[Document, list[int]]]:
    """Documents with their tokens, encoded in batches: small at first, so that a small slice does not wait for a big batch."""
    batch: list[Document] = []
    size = 0
    limit = 32
    for document in stream:
        batch.append(document)
        size += len(document.text)
        if len(batch) >= limit or size >= _BATCH_CHARS:
            yield from zip(batch, tokenizer.encode([item.text for item in batch]), strict=True)
            batch, size, limit = [], 0, min(2 * limit, _BATCH_DOCUMENTS)
    if batch:
        yield from zip(batch, tokenizer.encode([item.text for item in batch]), strict=True)


@dataclass
class _Writer:
    """Writes the files of a slice into `folder` context by context, and hashes what identifies it."""

    folder: Path
    spec: CorpusSpec
    cut: _Cut
    tokenizer: Tokenizer
    count: int = 0
    counted_tokens: int = 0
    sources: dict[str, int] = field(default_factory=dict[str, int])

    def __enter__(self) -> "_Writer":
        self._file = (self.folder / CONTEXTS_FILE).open("wb")
        self._table = pq.ParquetWriter(self._file, CONTEXTS_SCHEMA, compression="zstd", write_page_checksum=True)
        self._rows: list[tuple[int, int, int, npt.NDArray[np.int32], int, str]] = []
        self._keys: set[int] = set()
        self._documents: list[tuple[str, str]] = []
        self._numbers: dict[int, int] = {}
        header = {"format": FORMAT, "length": self.spec.length, "bos": bool(self.cut.prefix), "tokenizer": self.cut.tokenizer_hash}
        self._digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
        return self

    def __exit__(self, failed: object, *_: object) -> None:
        try:
            self._table.close()
        except OSError:
            if failed is None:  # otherwise the first failure is on its way already
                raise
        finally:
            self._table.is_open = False
            self._file.close()

    def add(self, place: int, document: Document, start: int, context: tuple[int, ...]) -> bool:
        """Append one context unless its tokens were there before. place: the document's in the source, the same in every pass."""
        tokens = np.array(context, dtype=np.int32)
        key = context_key(tokens)
        if key in self._keys:
            return False
        self._keys.add(key)
        number = self._numbers.get(place)
        if number is None:
            number = self._numbers[place] = len(self._documents)
            self._documents.append((document.id, document.source))
            self._digest.update(json.dumps([document.id, document.source]).encode())
        self._digest.update(np.array([number, start, len(tokens), *context], dtype="<i4").tobytes())
        text = self.tokenizer.decode(context[len(self.cut.prefix) :])
        self._rows.append((self.count, number, start, tokens, key, text))
        self.count += 1
        self.counted_tokens += len(context) - len(self.cut.prefix)
        self.sources[document.source] = self.sources.get(document.source, 0) + 1
        if len(self._rows) == ROW_GROUP:
            self._flush()
        return True

    def _flush(self) -> None:
        ranks, numbers, starts, tokens, keys, texts = zip(*self._rows, strict=True)
        columns = [
            pa.array(ranks, pa.int32()),
            pa.array(numbers, pa.int32()),
            pa.array(starts, pa.int32()),
            pa.array(tokens, pa.list_(pa.int32())),
            pa.array(keys, pa.uint64()),
            pa.array(texts, pa.string()),
        ]
        self._table.write_table(pa.table(columns, schema=CONTEXTS_SCHEMA), row_group_size=ROW_GROUP)
        self._rows = []

    def finish(self) -> dict[str, Any]:
        """Write what is left and slice.json; return slice.json."""
        if self._rows:
            self._flush()
        self._table.close()
        self._file.close()
        ids, sources = zip(*self._documents, strict=True)
        columns = [pa.array(range(len(ids)), pa.int32()), pa.array(ids, pa.string()), pa.array(sources, pa.string())]
        with (self.folder / DOCUMENTS_FILE).open("wb") as file:
            pq.write_table(pa.table(columns, schema=DOCUMENTS_SCHEMA), file, compression="zstd", write_page_checksum=True)
        digest = self._digest.hexdigest()
        info: dict[str, Any] = {
            "id": digest[:12],
            "hash": digest,
            "spec": self.spec.to_json(),
            "contexts": self.count,
            "tokens": self.counted_tokens,
            "documents": len(ids),
            "length": self.spec.length,
            "stride": self.cut.stride,
            "bos": bool(self.cut.prefix),
            "tokenizer_hash": self.cut.tokenizer_hash,
            "sources": dict(sorted(self.sources.items())),
        }
        write_json(self.folder / INFO_FILE, info)
        return info


def _settle(workspace: Workspace, folder: Path, info: dict[str, Any]) -> Slice:
    """Rename the finished folder to its id. One that is there already stays, unless it is damaged."""
    target = workspace.corpora / info["id"]
    if target.exists():
        try:
            return Slice.load(workspace, info["id"])
        except AtlasError:
            shutil.rmtree(target)
    flush_folder(folder)
    try:
        folder.rename(target)
    except OSError:
        if not target.exists():  # otherwise another process has made the same slice in this moment
            raise
    return Slice.load(workspace, info["id"])


def _recipe(workspace: Workspace, spec: CorpusSpec, cut: _Cut) -> Path | None:
    """Where the slice of this source, as it is now, and this cutting is remembered. None when the source may change unseen."""
    state = fingerprint(spec)
    if state is None:
        return None
    name = json.dumps([FORMAT, spec.to_json(), state, cut.body, cut.stride, cut.prefix, cut.tokenizer_hash], sort_keys=True)
    return workspace.corpora / RECIPES / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.json"


def _remembered(workspace: Workspace, recipe: Path | None) -> Slice | None:
    """The slice made before. A recipe that is unreadable, or whose slice is gone or damaged, only means that it is made again."""
    if recipe is None or not recipe.is_file():
        return None
    try:
        return Slice.load(workspace, json.loads(recipe.read_text("utf8"))["slice"])
    except (AtlasError, OSError, ValueError, KeyError, TypeError):
        return None


def _remove_stale(workspace: Workspace) -> None:
    """Delete half-made slices of processes that were killed over a day ago."""
    for folder in workspace.scratch.glob("slice-*"):
        if time.time() - folder.stat().st_mtime > _STALE_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)


def _silent(_done: int, _total: int, _doing: str) -> None:
    pass
