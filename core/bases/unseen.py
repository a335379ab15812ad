"""Which contexts of a text no dictionary was trained on, also when the text is cut otherwise than it was for training. No torch.

`held_out.split` draws documents by how they begin as they are cut, so contexts of another length, with a BOS or of another tokenizer give
another part, most of which was trained on. Then it is by their names that documents are told from those of the training part.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow.parquet as pq

from core.bases.held_out import Ranks, split
from core.bases.info import BasisInfo
from core.corpus.slice import DOCUMENTS_FILE, Slice
from core.corpus.spec import CorpusSpec
from core.errors import AtlasError
from core.workspace import Workspace

_PART = re.compile(r"#\d+$")


def unseen(workspace: Workspace, piece: Slice, corpus: CorpusSpec, dictionaries: Sequence[BasisInfo]) -> Ranks:
    """Ranks of the contexts to measure dictionaries on, in order. corpus: what the slice was cut from.

    They are the held-out part of the slice if that holds nothing of what was read to make one of the dictionaries, and all contexts of
    documents that were not read if it does. What a dictionary was made from is known of those that were made here, over this very source;
    of others it is not. Raises AtlasError when nothing is left, and when it can no longer be told what was read.
    """
    held_out = split(piece)[1]
    kept = np.ones(len(piece), dtype=bool)
    blame = ""
    for info in dictionaries:
        read, before = info.recipe.get("slice"), info.recipe.get("corpus")
        if not isinstance(read, str) or not isinstance(before, Mapping):
            continue
        made_from = cast(Mapping[str, Any], before)
        if read == piece.id:
            kept &= np.isin(np.arange(len(piece)), held_out)
        elif _same(made_from, corpus):
            kept &= ~_read_by(workspace, info, read, piece, corpus.is_embedded and made_from.get("length") != corpus.length)
            blame = blame or f"{info.key}, in contexts of {made_from.get('length')} tokens"
    if kept[held_out].all():
        return held_out
    if not kept.any():
        raise AtlasError(
            f"Every document of this text was read to make {blame}, and cut otherwise it cannot be told what was held out: measure"
            f"{' them one by one' if len(dictionaries) > 1 else ''} on the text of the training, cut as it was then, or on another text."
        )
    return np.flatnonzero(kept)


def made_from_this(info: BasisInfo, corpus: CorpusSpec) -> bool:
    """Whether a dictionary says that it was made from the source of this text."""
    before = info.recipe.get("corpus")
    return isinstance(before, Mapping) and _same(cast(Mapping[str, Any], before), corpus)


def _same(made_from: Mapping[str, Any], corpus: CorpusSpec) -> bool:
    """Whether both are of one source. An export names a file without its folder."""
    source, split_of = str(made_from.get("source")), made_from.get("split", corpus.split)
    return source in (corpus.source, Path(corpus.source).name) and split_of == corpus.split


def _read_by(workspace: Workspace, info: BasisInfo, read: str, piece: Slice, by_text: bool) -> Any:
    """bool [contexts]: which contexts of `piece` are of documents in the training part of the slice `read`.

    by_text: the parts of one text are taken together. The embedded text is divided by the length of contexts, so its parts are others then.
    """
    try:
        before = Slice.load(workspace, read)
        names = _names(before, by_text)
    except (AtlasError, OSError, ValueError):
        raise AtlasError(
            f"The text that {info.key} was made from is not here any more as it was cut then, so it cannot be told what was held out:"
            " measure on the text of its training, cut as it was then, or on another text."
        ) from None
    trained = {names[number] for number in np.unique(before.documents[split(before)[0]]).tolist()}
    seen = np.array([name in trained for name in _names(piece, by_text)])
    return seen[piece.documents]


def _names(piece: Slice, by_text: bool) -> list[tuple[str, str]]:
    """Id and source label of each document of a slice, by its number."""
    columns = pq.read_table(piece.folder / DOCUMENTS_FILE, columns=["id", "source"]).to_pydict()
    ids = [_PART.sub("", one) for one in columns["id"]] if by_text else columns["id"]
    return list(zip(ids, columns["source"], strict=True))
