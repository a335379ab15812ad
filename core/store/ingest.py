"""Ingest: from a run's Parquet files to rows of the cache's light tables."""

import hashlib
import json
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from core.store.catalog import IndexInfo
from core.store.density import density
from core.store.parts import DamagedPart, flat, lengths, read_columns
from core.store.texts import SliceText, load_text, load_vocab
from core.units import Site
from core.workspace import Workspace

DENSE = 0.05
"""A unit active on more tokens than this is not offered as interesting."""

_FLOATS = ("mean", "variance", "skewness", "kurtosis", "min", "max", "p50", "p90", "p99", "p999")
_COPIED = ("unit", "tokens", "nonzero", "peak_token", "peak_context", "peak_position", "snippet")
_TOKEN_LISTS = {"token": "top_tokens", "mean": "top_token_means", "count": "top_token_counts", "total": "top_token_totals"}

Array = npt.NDArray[Any]


def fingerprint(index: IndexInfo) -> str:
    """Changes whenever rows that the cache holds of a run would."""
    files = {site: {name: entry["sha256"] for name, entry in named.items()} for site, named in index.manifest["files"].items()}
    subject, piece = index.subject, index.slice
    parts = [index.generation, index.state, index.contexts_done, index.contexts_total, files, subject["slug"], subject["tokenizer_hash"]]
    return hashlib.sha256(json.dumps([*parts, piece["id"], piece["hash"]], sort_keys=True).encode()).hexdigest()


def verify(index: IndexInfo, *, whole: bool) -> None:
    """Check every file of the generation against the manifest: its size, and with `whole` its hash.

    Raises FileNotFoundError and DamagedPart.
    """
    entries = [(path, entry) for *_, path, entry in [*index.parts(), *index.late()]] + index.texts()
    for path, entry in entries:
        size = path.stat().st_size
        if size != int(entry["bytes"]):
            raise DamagedPart(path, f"it has {size} bytes instead of {entry['bytes']}")
        if whole and _sha256(path) != entry["sha256"]:
            raise DamagedPart(path, "its content is not what was written")


def replace_run(cursor: duckdb.DuckDBPyConnection, workspace: Workspace, index: IndexInfo) -> None:
    """Replace all rows of a run, inside the caller's transaction.

    Raises FileNotFoundError, DamagedPart and AtlasError (its slice or vocabulary cannot be read); the caller rolls back.
    """
    text = load_text(workspace, index)
    if len(text) != int(index.slice["contexts"]):
        path = next((path for path, _ in index.texts()), workspace.corpora / index.slice["id"] / "contexts.parquet")
        raise DamagedPart(path, f"it has {len(text)} contexts instead of {index.slice['contexts']}")
    delete_run(cursor, index.run)
    _ingest_vocab(cursor, workspace, index)
    _ingest_contexts(cursor, index.text, text)
    first = 0
    for site in index.published:
        for table, rows in site_rows(index, site, text, first).items():
            insert(cursor, table, rows)
        first += len(index.units_of(site))
    row = [index.run, index.slug, index.text, index.basis, index.state, index.generation, index.contexts_done, index.contexts_total]
    row += [index.tokens_done, index.n_layers, len(index.published), first, index.bytes, fingerprint(index)]
    cursor.execute(f"INSERT INTO indexes VALUES ({', '.join('?' * len(row))})", row)


def delete_run(cursor: duckdb.DuckDBPyConnection, run: str) -> None:
    """Delete all rows of a run."""
    for table in ("indexes", "units", "top_records", "top_tokens"):
        cursor.execute(f"DELETE FROM {table} WHERE run = ?", [run])


def sweep(cursor: duckdb.DuckDBPyConnection) -> None:
    """Delete text and vocabularies that no run uses any more."""
    cursor.execute("DELETE FROM contexts WHERE slice NOT IN (SELECT slice FROM indexes)")
    for table in ("vocab", "vocabularies"):
        cursor.execute(f"DELETE FROM {table} WHERE subject NOT IN (SELECT subject FROM indexes)")


def site_rows(index: IndexInfo, site: Site, text: SliceText, first: int) -> dict[str, Any]:
    """The rows of one site as pyarrow tables by the name of the cache's table. `first` is the ordinal of the site's unit 0.

    Raises FileNotFoundError and DamagedPart.
    """
    path = index.part(site, "units")
    table = read_columns(path, [*_COPIED, *_FLOATS, "bins", "counts", *_TOKEN_LISTS.values()])
    numbers = np.asarray(index.units_of(site))
    width = len(numbers)
    if not np.array_equal(table.column("unit").to_numpy(), numbers):
        raise DamagedPart(path, f"it does not hold {_which(index, site)}")
    ordinals = np.arange(first, first + width, dtype=np.int32)
    tops = _top_records(index, site, text)
    floats: dict[str, Array] = {name: table.column(name).to_numpy() for name in _FLOATS}
    densities = density(
        flat(table.column("bins"), np.int64),
        flat(table.column("counts"), np.int64),
        lengths(table.column("bins")),
        floats["min"],
        floats["max"],
    )
    strong = tops["value"] >= floats["max"][tops["unit"]] / 2
    strong &= tops["value"] > 0
    agreement, common, distinct = _agreement(tops["unit"][strong], tops["token"][strong], width)
    units = {
        "run": _constant(index.run, width),
        "ordinal": ordinals,
        "kind": _constant(site.kind, width),
        "layer": np.full(width, site.layer, np.int16),
        **{name: table.column(name) for name in _COPIED},
        **{name: pa.array(values, from_pandas=True) for name, values in floats.items()},  # NaN becomes NULL
        "density": pa.array(densities.astype(np.float32), from_pandas=True),
        "strong_records": np.bincount(tops["unit"][strong], minlength=width).astype(np.int16),
        "agreement": agreement,
        "common_token": pa.array(common, mask=common < 0),
        "distinct_tokens": distinct,
        "interesting": _interesting(densities, floats["kurtosis"], (index.manifest.get("kurtosis") or {}).get(str(site))),
    }
    records = {"run": _constant(index.run, len(tops["unit"])), "ordinal": ordinals[tops["unit"]]}
    records |= {name: tops[name] for name in ("place", "context", "value", "position", "token")}
    sizes = lengths(table.column("top_tokens"))
    tokens: dict[str, Any] = {"run": _constant(index.run, int(sizes.sum())), "ordinal": np.repeat(ordinals, sizes), "place": _places(sizes)}
    for name, column in _TOKEN_LISTS.items():
        if not np.array_equal(lengths(table.column(column)), sizes):
            raise DamagedPart(path, "its lists of top tokens differ in length")
        tokens[name] = flat(table.column(column), np.float32 if name == "mean" else np.int32)
    return {"units": pa.table(units), "top_records": pa.table(records), "top_tokens": pa.table(tokens)}


def _which(index: IndexInfo, site: Site) -> str:
    units = index.units_of(site)
    return "the units that the manifest names" if index.excerpt else f"the units 0 to {units[-1]}"


def _top_records(index: IndexInfo, site: Site, text: SliceText) -> dict[str, Array]:
    """The records of the band `top` end to end: the unit's row, place, context, value, position and peak token."""
    path = index.part(site, "records")
    table = read_columns(path, ["unit", "band", "contexts", "values", "positions"])
    table = table.filter(pa.array(table.column("band").to_numpy() == "top"))
    sizes = lengths(table.column("contexts"))
    if not np.array_equal(table.column("unit").to_numpy(), np.asarray(index.units_of(site))):
        raise DamagedPart(path, f"it does not hold the top records of {_which(index, site)}")
    contexts, positions = flat(table.column("contexts"), np.int32), flat(table.column("positions"), np.int16)
    values = flat(table.column("values"), np.float32)
    if not len(contexts) == len(positions) == len(values) or not 0 <= contexts.min(initial=0) <= contexts.max(initial=0) < max(
        1, len(text)
    ):
        raise DamagedPart(path, "its records do not fit its slice")
    tokens = text.token_at(contexts, positions)
    unit = np.repeat(np.arange(len(sizes)), sizes)
    return {"unit": unit, "place": _places(sizes), "context": contexts, "value": values, "position": positions, "token": tokens}


def _agreement(unit: Array, token: Array, width: int) -> tuple[Array, Array, Array]:
    """For each unit: how many records peak on the most common token, which that is (the lowest of equals), and how many differ."""
    pairs, counts = np.unique(unit.astype(np.int64) << 32 | token.astype(np.int64) & 0xFFFFFFFF, return_counts=True)
    of, tokens = pairs >> 32, (pairs & 0xFFFFFFFF).astype(np.int32)
    order = np.lexsort((tokens, -counts, of))
    best = order[np.unique(of[order], return_index=True)[1]]
    agreement, common = np.zeros(width, np.int16), np.full(width, -1, np.int32)
    agreement[of[best]], common[of[best]] = counts[best], tokens[best]
    return agreement, common, np.bincount(of, minlength=width).astype(np.int16)


def _interesting(densities: Array, kurtosis: Array, median: float | None) -> Array:
    """Units that fire rarely and are more peaked than half of their site: alive, density under 5 %, kurtosis at least the site's median.

    median: of the whole site, where these are some of its units.
    """
    known = kurtosis[~np.isnan(kurtosis)]
    if median is None:
        median = float(np.median(known)) if len(known) else np.inf
    return (densities > 0) & (densities < DENSE) & (np.nan_to_num(kurtosis, nan=-1) >= median)


def _ingest_contexts(cursor: duckdb.DuckDBPyConnection, identity: str, text: SliceText) -> None:
    if cursor.execute("SELECT 1 FROM contexts WHERE slice = ? LIMIT 1", [identity]).fetchall():
        return  # a slice's name is its content
    documents = pa.array(text.document_ids).take(pa.array(text.document))
    sources = pa.array(text.sources).take(pa.array(text.document))
    ranks = np.arange(len(text), dtype=np.int32)
    rows = {"slice": _constant(identity, len(text)), "context": ranks, "document": documents, "source": sources, "start": text.start}
    insert(cursor, "contexts", pa.table(rows | {"text": text.texts}))


def _ingest_vocab(cursor: duckdb.DuckDBPyConnection, workspace: Workspace, index: IndexInfo) -> None:
    key = [index.slug, index.subject["tokenizer_hash"]]
    if cursor.execute("SELECT 1 FROM vocabularies WHERE subject = ? AND tokenizer_hash = ?", key).fetchall():
        return
    for table in ("vocabularies", "vocab"):
        cursor.execute(f"DELETE FROM {table} WHERE subject = ?", [index.slug])
    vocab = load_vocab(workspace, index.slug)
    ids = range(vocab.size)
    rows = {"subject": _constant(index.slug, vocab.size), "token": np.arange(vocab.size, dtype=np.int32), "text": vocab.pieces(ids)}
    insert(cursor, "vocab", pa.table(rows | {"label": [vocab.label(token) for token in ids]}))
    cursor.execute("INSERT INTO vocabularies VALUES (?, ?)", key)


def insert(cursor: duckdb.DuckDBPyConnection, table: str, rows: Any) -> None:
    """Add the rows of a pyarrow table to a table of the cache, by the names of the columns."""
    cursor.register("incoming", rows)
    try:
        cursor.execute(f"INSERT INTO {table} BY NAME SELECT * FROM incoming")
    finally:
        cursor.unregister("incoming")


def _constant(value: str, size: int) -> Any:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(size, np.int32)), pa.array([value]))


def _places(sizes: Array) -> Array:
    """0, 1, … within each list."""
    return (np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)).astype(np.int16)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
