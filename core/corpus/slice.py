"""A slice: the contexts of a run in a fixed order, on disk under `corpora/<id>/`, with a hash that is the same on every machine."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from core.errors import AtlasError
from core.units import check_slug
from core.workspace import Workspace

CONTEXTS_FILE = "contexts.parquet"
DOCUMENTS_FILE = "documents.parquet"
INFO_FILE = "slice.json"

CONTEXTS_SCHEMA = pa.schema(
    [
        ("rank", pa.int32()),
        ("document", pa.int32()),
        ("start", pa.int32()),
        ("tokens", pa.list_(pa.int32())),
        ("key", pa.uint64()),
        ("text", pa.string()),
    ]
)
DOCUMENTS_SCHEMA = pa.schema([("document", pa.int32()), ("id", pa.string()), ("source", pa.string())])


class Tokenizer(Protocol):
    """What the corpus needs of a subject's tokenizer. No BOS or other special token is added by `encode`."""

    @property
    def bos_token_id(self) -> int | None: ...
    @property
    def adds_bos(self) -> bool:
        """Whether the tokenizer prepends the BOS by itself when the model is used as its makers do."""
        ...

    @property
    def tokenizer_hash(self) -> str: ...
    @property
    def context_limit(self) -> int:
        """The longest input in tokens that the model takes."""
        ...

    def encode(self, texts: list[str]) -> list[list[int]]: ...
    def decode(self, tokens: Sequence[int]) -> str: ...


class Slice:
    """A slice read from disk, its tokens in memory. (Texts, document ids and labels are for pages: see core/store/texts.py.)

    info: slice.json. tokens: int32 (contexts, length), padded with 0 on the right. lengths: int16 (contexts,), tokens of each context with
    its BOS. first: the first counted position, 1 with a BOS and 0 without. documents, starts: int32 (contexts,), the document's number and
    the offset in its tokens. keys: uint64 (contexts,), the hash of each context's tokens.
    """

    def __init__(self, folder: Path, info: dict[str, Any], table: Any, documents: Any) -> None:
        count, length = int(info["contexts"]), int(info["length"])
        column = table.column("tokens").combine_chunks()
        flat = np.asarray(column.flatten(), dtype=np.int32)
        sizes = np.diff(np.asarray(column.offsets, dtype=np.int64))
        if table.num_rows != count or count < 1 or sizes.min() < 1 or sizes.max() > length or flat.min() < 0:
            raise ValueError("tokens do not match")
        self.folder = folder
        self.info = info
        self.first = int(bool(info["bos"]))
        self.tokens: npt.NDArray[np.int32] = np.zeros((count, length), dtype=np.int32)
        self.tokens[np.arange(length) < sizes[:, None]] = flat
        self.lengths: npt.NDArray[np.int16] = sizes.astype(np.int16)
        self.documents: npt.NDArray[np.int32] = _numbers(table, "document", np.int32)
        self.starts: npt.NDArray[np.int32] = _numbers(table, "start", np.int32)
        self.keys: npt.NDArray[np.uint64] = _numbers(table, "key", np.uint64)
        ranks, numbers = _numbers(table, "rank", np.int32), _numbers(documents, "document", np.int32)
        if not np.array_equal(ranks, np.arange(count)) or not np.array_equal(numbers, np.arange(len(numbers))):
            raise ValueError("rows are out of order")
        if len(numbers) != info["documents"] or self.documents.min() < 0 or self.documents.max() >= len(numbers):
            raise ValueError("documents do not match")

    @classmethod
    def load(cls, workspace: Workspace, slice_id: str) -> "Slice":
        """Read `corpora/<slice_id>/`. Raises AtlasError when there is none, or when its files are damaged or do not match."""
        folder = workspace.corpora / check_slug(slice_id, "slice")
        if not (folder / INFO_FILE).is_file():
            raise AtlasError(f"There is no text slice {slice_id} in {workspace.corpora}: run the index again, which makes it.")
        try:
            info = json.loads((folder / INFO_FILE).read_text("utf8"))
            columns = ["rank", "document", "start", "tokens", "key"]
            table = pq.read_table(folder / CONTEXTS_FILE, columns=columns, page_checksum_verification=True)
            documents = pq.read_table(folder / DOCUMENTS_FILE, page_checksum_verification=True)
            return cls(folder, info, table, documents)
        except (OSError, ValueError, KeyError, TypeError, pa.ArrowException):
            raise AtlasError(
                f"The text slice in {folder} is damaged: delete that folder and run the index again, which makes it anew."
            ) from None

    @property
    def id(self) -> str:
        return str(self.info["id"])

    def __len__(self) -> int:
        return len(self.tokens)


def _numbers(table: Any, name: str, dtype: Any) -> npt.NDArray[Any]:
    return np.asarray(table.column(name).combine_chunks(), dtype=dtype)
