"""The store at the size of GPT-2 XL: 48 layers × 6,400 neurons, sketches made up by chance. Times ingest, one unit, and Explore.

    python -m bench.store_scale [--layers 48] [--width 6400] [--contexts 4096] [--folder DIR] [--json]

Every unit has the bands and sizes that the indexer writes (20 top, 20 bottom, 4 × 8 in quantile bands, 20 random; 64 tokens each).
Token positions are written for the first layer only: nothing timed here reads them, and their disk is reported from that layer.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from bench.figures import levels, scratch_workspace, timed
from core.index.bins import BINS, ZERO_BIN
from core.store.cache import Cache
from core.store.picks import random_interesting, worth_a_look
from core.store.queries import explore, layers
from core.store.units import load_unit
from core.units import Site, UnitName
from core.workspace import Workspace, write_json

LENGTH = 64
VOCABULARY = 50257
BANDS = {"top": 20, "bottom": 20, "q0": 8, "q1": 8, "q2": 8, "q3": 8, "random": 20}
RECORDS = sum(BANDS.values())
OCCUPIED = 120
"""Occupied histogram bins of a unit."""
GROUP = 32
UNITS_GROUP = 128
TOP_TOKENS = 20
POSITIONS = 256
RUN = "index-scale"
SLUG = "scale"

Array = npt.NDArray[Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--layers", type=int, default=48)
    parser.add_argument("--width", type=int, default=6400)
    parser.add_argument("--contexts", type=int, default=4096)
    parser.add_argument("--folder", type=Path, default=None, help="where to work (removed afterwards); a temporary folder by default")
    parser.add_argument("--json", action="store_true")
    choice = parser.parse_args()
    with scratch_workspace("store-scale-", choice.folder) as workspace:
        found = measure(workspace, choice.layers, choice.width, choice.contexts)
    sys.stdout.write(json.dumps(found, indent=1) + "\n" if choice.json else table(found))


def measure(workspace: Workspace, n_layers: int, width: int, contexts: int) -> dict[str, Any]:
    """Write, ingest, query. Times in seconds (ingest) and milliseconds (the rest), sizes in bytes."""
    started = time.perf_counter()
    write(workspace, n_layers, width, contexts)
    written = time.perf_counter() - started
    units = n_layers * width
    parquet: dict[str, int] = {}
    for path in workspace.runs.rglob("*.parquet"):
        parquet[path.stem] = parquet.get(path.stem, 0) + path.stat().st_size
    cache = Cache.open(workspace)
    started = time.perf_counter()
    problems = cache.ingest()
    ingested = time.perf_counter() - started
    assert not problems, problems
    started = time.perf_counter()
    cache.ingest()
    again = time.perf_counter() - started
    size = workspace.cache.stat().st_size
    rng = np.random.default_rng(1)
    names = [UnitName(SLUG, Site("mlp", int(rng.integers(n_layers))), "neurons", int(rng.integers(width))) for _ in range(300)]
    load_unit(workspace, names[0])  # reads the slice and the vocabulary once
    busy = time.process_time()
    singles = [timed(lambda name=name: load_unit(workspace, name)) for name in names]
    busy = 1000 * (time.process_time() - busy) / len(names)
    there = [UnitName(SLUG, Site("mlp", n_layers // 2), "neurons", i % width) for i in range(300)]
    nexts = [timed(lambda name=name: load_unit(workspace, name)) for name in there]
    middle = n_layers // 2
    questions: dict[str, Callable[[], object]] = {
        "explore: first page, by kurtosis": lambda: explore(cache, RUN),
        "explore: by density, page 1,000": lambda: explore(cache, RUN, sort="density", offset=50_000),
        "explore: one layer": lambda: explore(cache, RUN, layers=[middle]),
        "explore: density, kurtosis and maximum": lambda: explore(cache, RUN, density=(0.001, 0.05), kurtosis=(10, None), maximum=(2, 20)),
        "explore: a top token": lambda: explore(cache, RUN, token="w77"),
        "explore: text, rare": lambda: explore(cache, RUN, text="w40123"),
        "explore: text, common": lambda: explore(cache, RUN, text="w1"),
        "explore: text and ranges": lambda: explore(cache, RUN, text="w40", density=(0.001, 0.05), layers=range(middle)),
        "layers": lambda: layers(cache, RUN),
        "worth a look": lambda: worth_a_look(cache, RUN, 1),
        "random interesting": lambda: random_interesting(cache, RUN, 1),
    }
    queries = {name: float(np.median([timed(ask) for _ in range(10)])) for name, ask in questions.items()}
    cache.close()
    return {
        "units": units,
        "contexts": contexts,
        "write_seconds": round(written, 1),
        "ingest_seconds": round(ingested, 2),
        "ingest_nothing_new_ms": round(1000 * again, 1),
        "parquet_bytes": parquet,
        "parquet_bytes_a_unit": round(sum(parquet[name] for name in ("units", "records")) / units + parquet["positions"] / width),
        "cache_bytes": size,
        "cache_bytes_a_unit": round(size / units),
        "load_unit_cpu_ms": round(busy, 2),
        "load_unit_ms": levels(singles, 2),
        "load_unit_same_layer_ms": levels(nexts, 2),
        "query_median_ms": {name: round(value, 1) for name, value in queries.items()},
    }


def table(found: dict[str, Any]) -> str:
    """The figures for people."""
    rows = [(key, str(value)) for key, value in found.items() if not isinstance(value, dict)]
    for key in ("parquet_bytes", "load_unit_ms", "load_unit_same_layer_ms", "query_median_ms"):
        rows += [(f"{key}: {name}", str(value)) for name, value in found[key].items()]
    return "".join(f"{name:<58} {value:>14}\n" for name, value in rows)


def write(workspace: Workspace, n_layers: int, width: int, contexts: int) -> None:
    """A subject, a slice and a complete run."""
    rng = np.random.default_rng(0)
    text = (rng.zipf(1.2, (contexts, LENGTH)) % VOCABULARY).astype(np.int32)
    subject = {
        "slug": SLUG,
        "source": "folder",
        "revision": None,
        "architecture": "GPT2LMHeadModel",
        "n_layers": n_layers,
        "d_model": width // 4,
        "widths": {"mlp": width, "resid": width // 4, "attn": width // 4},
        "vocab_size": VOCABULARY,
        "context_limit": 1024,
        "bos_token_id": None,
        "tokenizer_hash": "scale",
        "weights_hash": "scale",
        "name_or_path": "scale",
    }
    (workspace.subjects / SLUG).mkdir()
    write_json(workspace.subjects / SLUG / "subject.json", subject)
    pieces = [f" w{i}".encode() for i in range(VOCABULARY)]
    ids = pa.array(np.arange(VOCABULARY, dtype=np.int32))
    pq.write_table(pa.table({"token": ids, "bytes": pieces, "special": [False] * VOCABULARY}), workspace.subjects / SLUG / "vocab.parquet")
    piece = write_slice(workspace, text)
    folder = workspace.runs / RUN
    files: dict[str, Any] = {}
    for layer in range(n_layers):
        site = folder / "gen-1" / f"mlp.{layer}"
        site.mkdir(parents=True)
        tables = {
            "units": (units_table(rng, width, text), UNITS_GROUP),
            "records": (records_table(rng, width, contexts), GROUP * len(BANDS)),
        }
        if layer == 0:
            tables["positions"] = (positions_table(rng, width, contexts), 2 * GROUP)
        files[f"mlp.{layer}"] = {name: write_part(folder, site, name, *content) for name, content in tables.items()}
    manifest = {
        "schema": 1,
        "kind": "index",
        "run": RUN,
        "state": "complete",
        "generation": 1,
        "contexts_done": contexts,
        "contexts_total": contexts,
        "tokens_done": text.size,
        "subject": subject,
        "slice": piece,
        "basis": "neurons",
        "sites": list(files),
        "signed": dict.fromkeys(files, True),
        "bands": BANDS,
        "files": files,
        "effects": {},
        "provenance": {},
    }
    write_json(folder / "manifest.json", manifest)


def write_slice(workspace: Workspace, text: Array) -> dict[str, Any]:
    contexts = len(text)
    folder = workspace.corpora / "scale"
    folder.mkdir()
    numbers = np.arange(contexts, dtype=np.int32)
    columns = {
        "rank": numbers,
        "document": numbers // 2,
        "start": numbers % 2 * LENGTH,
        "tokens": pa.ListArray.from_arrays(np.arange(contexts + 1, dtype=np.int32) * LENGTH, text.reshape(-1)),
        "key": numbers.astype(np.uint64),
        "text": [" ".join(f"w{token}" for token in row) for row in text],
    }
    pq.write_table(pa.table(columns), folder / "contexts.parquet")
    documents = np.arange(contexts // 2 + 1, dtype=np.int32)
    named = {"document": documents, "id": [f"document {i}" for i in documents], "source": ["made up"] * len(documents)}
    pq.write_table(pa.table(named), folder / "documents.parquet")
    piece = {"id": "scale", "hash": "scale", "spec": {}, "contexts": contexts, "tokens": text.size, "documents": len(documents)}
    piece |= {"length": LENGTH, "stride": LENGTH, "bos": False, "tokenizer_hash": "scale", "sources": {"made up": contexts}}
    write_json(folder / "slice.json", piece)
    return piece


def lists(values: Array, each: int) -> Any:
    """`values` cut into lists of `each`."""
    return pa.ListArray.from_arrays(np.arange(len(values) // each + 1, dtype=np.int32) * each, values)


def units_table(rng: np.random.Generator, width: int, text: Array) -> Any:
    peak = rng.lognormal(1, 0.7, width).astype(np.float32)
    near = np.sort(rng.permuted(np.tile(np.arange(ZERO_BIN - 100, ZERO_BIN + 100), (width, 1)), axis=1)[:, :OCCUPIED], axis=1)
    counts = np.maximum(1, rng.lognormal(5, 2, (width, OCCUPIED)).astype(np.int64))
    at = rng.integers(0, len(text), width), rng.integers(0, LENGTH, width)
    columns: dict[str, Any] = {"unit": np.arange(width, dtype=np.int32), "tokens": counts.sum(axis=1), "nonzero": counts.sum(axis=1)}
    columns |= {name: rng.normal(0, 0.1, width).astype(np.float32) for name in ("mean", "variance", "skewness")}
    columns |= {"kurtosis": rng.lognormal(2.5, 1, width).astype(np.float32), "min": -peak / 3, "max": peak}
    columns |= {name: peak * share for name, share in (("p50", np.float32(0)), ("p90", np.float32(0.05)), ("p99", np.float32(0.2)))}
    columns |= {"p999": peak * np.float32(0.5), "bins": lists(np.minimum(near, BINS - 1).reshape(-1).astype(np.int16), OCCUPIED)}
    columns |= {"counts": lists(counts.reshape(-1), OCCUPIED), "peak_token": text[at], "peak_context": at[0].astype(np.int32)}
    columns |= {"peak_position": at[1].astype(np.int16), "snippet": [" ".join(f"w{t}" for t in text[row][:12]) for row in at[0]]}
    tokens = text.reshape(-1)[rng.integers(0, text.size, width * TOP_TOKENS)]
    columns |= {"top_tokens": lists(tokens, TOP_TOKENS), "top_token_means": lists(rng.random(tokens.size, np.float32), TOP_TOKENS)}
    columns |= {name: lists(np.ones(tokens.size, np.int32), TOP_TOKENS) for name in ("top_token_counts", "top_token_totals")}
    return pa.table(columns | {"sums": lists(rng.random(width * 8), 8)})


def records_table(rng: np.random.Generator, width: int, contexts: int) -> Any:
    sizes = np.tile(list(BANDS.values()), width)
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    total = int(offsets[-1])
    # Small activations with rare strong ones, as steps of the record's largest; eight hundred kinds of record, drawn at random.
    kinds = np.clip(rng.standard_t(2, (800, LENGTH)) * 2500, -32767, 32767).astype("<i2")
    steps = kinds[rng.integers(0, len(kinds), total)] + rng.integers(-300, 300, (total, LENGTH), dtype=np.int16)
    packed = [pa.py_buffer(offsets.astype(np.int64) * LENGTH * 2), pa.py_buffer(np.ascontiguousarray(steps))]
    values = np.sort(rng.lognormal(0.5, 0.6, (width, RECORDS)).astype(np.float32), axis=1)[:, ::-1].reshape(-1)

    def cut(items: Array) -> Any:
        return pa.ListArray.from_arrays(offsets, items)

    return pa.table(
        {
            "unit": np.repeat(np.arange(width, dtype=np.int32), len(BANDS)),
            "band": pa.array(np.tile(list(BANDS), width)),
            "contexts": cut(rng.integers(0, contexts, total, dtype=np.int32)),
            "values": cut(values),
            "positions": cut(rng.integers(0, LENGTH, total, dtype=np.int16)),
            "scales": cut(values / 32767),
            "activations": pa.Array.from_buffers(pa.large_binary(), len(sizes), [None, *packed]),
            "sampled": np.full(len(sizes), 1600, np.int32),
            "shown": sizes.astype(np.int32),
        }
    )


def positions_table(rng: np.random.Generator, width: int, contexts: int) -> Any:
    total = width * 2 * POSITIONS
    columns: dict[str, Any] = {"unit": np.repeat(np.arange(width, dtype=np.int32), 2), "kind": pa.array(["strong", "sampled"] * width)}
    columns |= {"contexts": lists(rng.integers(0, contexts, total, dtype=np.int32), POSITIONS)}
    columns |= {"positions": lists(rng.integers(0, LENGTH, total, dtype=np.int16), POSITIONS)}
    columns |= {"values": lists(rng.random(total, np.float32), POSITIONS), "weights": lists(np.ones(total, np.float32), POSITIONS)}
    return pa.table(columns)


def write_part(folder: Path, site: Path, name: str, content: Any, rows: int) -> dict[str, Any]:
    path = site / f"{name}.parquet"
    pq.write_table(content, path, compression="zstd", compression_level=1, row_group_size=rows, use_dictionary=["band"])  # pyright: ignore[reportArgumentType]
    return {"path": str(path.relative_to(folder)), "bytes": path.stat().st_size, "sha256": f"{name} {path.stat().st_size}"}


if __name__ == "__main__":
    main()
