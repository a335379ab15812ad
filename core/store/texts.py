"""The text behind ranks and token numbers: slices and vocabularies, kept in memory while their files do not change."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from core.errors import AtlasError
from core.remembered import FileKey, Remembered, file_key
from core.store.catalog import IndexInfo
from core.store.parts import DamagedPart, flat, lengths, read_columns
from core.vocab import Vocab
from core.workspace import Workspace


@dataclass(frozen=True)
class SliceText:
    """All contexts of a slice in rank order; `offsets` has one entry more than there are contexts.

    Of an excerpt, the contexts that it lacks are empty and belong to a document without a name.
    """

    tokens: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    document: npt.NDArray[np.int32]
    start: npt.NDArray[np.int32]
    texts: Any  # a pyarrow column of strings: text is decoded only when shown
    document_ids: list[str]
    sources: list[str]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def of(self, rank: int) -> npt.NDArray[np.int32]:
        """The token ids of a context, BOS included, shape (at most length,)."""
        return self.tokens[self.offsets[rank] : self.offsets[rank + 1]]

    def text(self, rank: int) -> str:
        return self.texts[rank].as_py() or ""

    def token_at(self, ranks: npt.ArrayLike, positions: npt.ArrayLike) -> npt.NDArray[np.int32]:
        """The token at each position of each context, −1 outside it. Shapes as given."""
        ranks, positions = np.asarray(ranks), np.asarray(positions)
        outside = (positions < 0) | (positions >= self.offsets[ranks + 1] - self.offsets[ranks])
        found = self.tokens[np.where(outside, 0, self.offsets[ranks] + positions)] if len(self.tokens) else np.zeros(ranks.shape, np.int32)
        return np.where(outside, -1, found).astype(np.int32)


_slices: Remembered[tuple[FileKey, FileKey], SliceText] = Remembered(2)
_vocabularies: Remembered[FileKey, Vocab] = Remembered(4)


def load_vocab(workspace: Workspace, slug: str) -> Vocab:
    """The vocabulary of subject `slug`. Raises AtlasError."""
    path = workspace.subjects / slug / "vocab.parquet"
    try:
        key = file_key(path)
    except FileNotFoundError:
        return Vocab.load(path)  # says what is missing and what to do
    return _vocabularies.get(key, lambda: Vocab.load(path))


def load_slice(workspace: Workspace, identity: str) -> SliceText:
    """The text of slice `identity` (4 bytes a token in memory). Raises AtlasError."""
    folder = workspace.corpora / identity
    contexts, documents = folder / "contexts.parquet", folder / "documents.parquet"
    try:
        return _slices.get((file_key(contexts), file_key(documents)), lambda: _read(contexts, documents))
    except FileNotFoundError as error:
        missing = Path(str(error.filename or contexts)).name
        raise AtlasError(f"corpora/{identity}/{missing} is missing: index the same text again to write it.") from None
    except DamagedPart as error:
        raise AtlasError(
            f"corpora/{identity}/{error.path.name} is damaged: delete corpora/{identity} and index the same text again."
        ) from None


def load_text(workspace: Workspace, index: IndexInfo) -> SliceText:
    """The text that an index's ranks mean: its slice's, or what an excerpt has of it.

    Raises FileNotFoundError, DamagedPart and AtlasError.
    """
    if not index.excerpt:
        return load_slice(workspace, index.slice["id"])
    contexts, documents = (index.folder / index.manifest["text"][name]["path"] for name in ("contexts", "documents"))
    return _slices.get((file_key(contexts), file_key(documents)), lambda: _read(contexts, documents))


def _read(contexts: Path, documents: Path) -> SliceText:
    table = read_columns(contexts, ["rank", "document", "start", "tokens", "text"])
    if not np.array_equal(table.column("rank").to_numpy(), np.arange(table.num_rows)):
        raise DamagedPart(contexts, "its contexts are not in rank order")
    named = read_columns(documents, ["document", "id", "source"]).sort_by("document")
    of = table.column("document").to_numpy()
    if not np.array_equal(named.column("document").to_numpy(), np.arange(named.num_rows)) or of.max(initial=-1) >= named.num_rows:
        raise DamagedPart(documents, "it does not list the documents of the contexts")
    column = table.column("tokens")
    return SliceText(
        tokens=flat(column, np.int32),
        offsets=np.concatenate([[0], np.cumsum(lengths(column))]),
        document=of,
        start=table.column("start").to_numpy(),
        texts=table.column("text").combine_chunks(),
        document_ids=named.column("id").to_pylist(),
        sources=named.column("source").to_pylist(),
    )
