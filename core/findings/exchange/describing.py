"""What every import says of itself: where it is from, the model's card, the manifest of its index, its vocabulary."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from core.findings.bundle import schemas
from core.findings.bundle.reduced import Reduced, Table
from core.index.bands import BANDS
from core.subject.info import IMPORTED_SOURCE
from core.units import Site, UnitName, slugify

NOT_KNOWN = "not known"


@dataclass(frozen=True)
class Origin:
    """Where it comes from. word: the format, in names. title: the same in sentences. bands: what the bands hold, where not ours."""

    word: str
    title: str
    model: str
    bands: Mapping[str, str]


@dataclass(frozen=True)
class Made:
    """What becomes a workspace: the model's card and vocabulary, its indexes, what was said of their units, and these units' names."""

    card: dict[str, Any]
    vocabulary: Table
    runs: list[Reduced]
    units: list[UnitName]


def model_card(origin: Origin, pieces: Sequence[bytes], sites: Sequence[Site], limit: int) -> dict[str, Any]:
    """The card of the model: its own name with that of the format and of its vocabulary's content, so that it is no other model's.

    pieces: the bytes of each token. limit: the longest context.
    """
    digest = hashlib.sha256(json.dumps([origin.word, origin.model]).encode())
    for piece in pieces:
        digest.update(len(piece).to_bytes(4, "little") + piece)
    return {
        "slug": f"{slugify(origin.model)[:50]}.{origin.word}-{digest.hexdigest()[:8]}",
        "source": IMPORTED_SOURCE,
        "revision": None,
        "architecture": NOT_KNOWN,
        "n_layers": 1 + max(site.layer for site in sites),
        "d_model": 0,
        "widths": {"mlp": 0, "resid": 0, "attn": 0},
        "vocab_size": len(pieces),
        "context_limit": limit,
        "bos_token_id": None,
        "tokenizer_hash": digest.hexdigest(),
        "weights_hash": NOT_KNOWN,
        "name_or_path": origin.model,
    }


def described(
    origin: Origin, card: dict[str, Any], basis: str, sites: Sequence[Site], text_hash: str, contexts: int, length: int, tokens: int
) -> dict[str, Any]:
    """The manifest of an index, as far as it does not depend on the units. tokens: 0 where nobody says how many were read."""
    return {
        "schema": 1,
        "kind": "index",
        "state": "complete",
        "generation": 1,
        "contexts_done": contexts,
        "contexts_total": contexts,
        "tokens_done": tokens,
        "slice": {
            "id": text_hash[:12],
            "hash": text_hash,
            "spec": {"source": f"imported from {origin.title}"},
            "contexts": contexts,
            "documents": None,
            "tokens": tokens,
            "length": length,
            "stride": None,
            "bos": False,
            "tokenizer_hash": card["tokenizer_hash"],
            "sources": {},
        },
        "basis": basis,
        "bands": dict(BANDS),
        "subject": card,
        "sites": [str(site) for site in sites],
        "dictionaries": {},
        "kurtosis": {str(site): None for site in sites},
        "made": {},
        "imported": {"from": origin.title, "bands": dict(origin.bands)},
    }


def vocabulary_table(pieces: Sequence[bytes], special: npt.NDArray[np.bool_]) -> Table:
    return pa.table([np.arange(len(pieces), dtype=np.int32), pa.array(pieces, pa.binary()), special], schema=schema_of(schemas.TOKENS))


def schema_of(form: schemas.Form) -> Any:
    """The schema of a form with all its columns."""
    return form.schema(list(form.columns))
