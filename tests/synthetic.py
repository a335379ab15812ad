"""Writes a complete subject, slice and index run of random activations, exactly by docs/formats.md.

Statistics are computed the plain way from the activations, so tests can compare what the store gives back with the truth:
`activations()` returns the very numbers that `write_synthetic_index()` summarised.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from core.index.bins import BINS, bin_of, quantiles
from core.units import Site, SiteKind
from core.workspace import Workspace, write_json
from tests.synthetic_text import BOS, HOSTILE, Text, Vocabulary, text, vocabulary

BANDS = {"top": 20, "bottom": 20, "q0": 20, "q1": 20, "q2": 20, "q3": 20, "random": 20}
LIMITS = {"q0": (0.0, 0.5), "q1": (0.5, 0.9), "q2": (0.9, 0.99), "q3": (0.99, 0.999)}
POSITIONS = 256
GROUP = 32
TOP_TOKENS = 20

I16, I32, I64, F32 = pa.int16(), pa.int32(), pa.int64(), pa.float32()
_NUMBERS = ["mean", "variance", "skewness", "kurtosis", "min", "max", "p50", "p90", "p99", "p999"]
UNITS = pa.schema(
    {"unit": I32, "tokens": I64, "nonzero": I64}
    | dict.fromkeys(_NUMBERS, F32)
    | {"bins": pa.list_(I16), "counts": pa.list_(I64), "peak_token": I32, "peak_context": I32, "peak_position": I16}
    | {"snippet": pa.string(), "top_tokens": pa.list_(I32), "top_token_means": pa.list_(F32)}
    | {"top_token_counts": pa.list_(I32), "top_token_totals": pa.list_(I32), "sums": pa.list_(pa.float64())}
)
RECORDS = pa.schema(
    {"unit": I32, "band": pa.string(), "contexts": pa.list_(I32), "values": pa.list_(F32), "positions": pa.list_(I16)}
    | {"scales": pa.list_(F32), "activations": pa.binary(), "sampled": I32, "shown": I32}
)
POSITION_ROWS = pa.schema(
    {"unit": I32, "kind": pa.string(), "contexts": pa.list_(I32), "positions": pa.list_(I16)}
    | {"values": pa.list_(F32), "weights": pa.list_(F32)}
)
EFFECTS = pa.schema(
    {"unit": I32, "raised": pa.list_(I32), "raised_logits": pa.list_(F32), "lowered": pa.list_(I32)}
    | {"lowered_logits": pa.list_(F32), "similar": pa.list_(pa.string()), "similar_cosines": pa.list_(F32)}
)


@dataclass(frozen=True)
class Recipe:
    """Everything the numbers depend on."""

    n_layers: int = 3
    width: int = 16
    contexts: int = 64
    length: int = 16
    kinds: tuple[str, ...] = ("mlp",)
    signed: bool = True
    seed: int = 0
    hostile: bool = False

    @property
    def sites(self) -> list[Site]:
        return [Site(cast(SiteKind, kind), layer) for layer in range(self.n_layers) for kind in self.kinds]

    def text(self) -> tuple[Vocabulary, Text]:
        vocab = vocabulary(self.hostile)
        return vocab, text(vocab, self.contexts, self.length, self.seed, self.hostile)


def activations(recipe: Recipe, site: Site) -> npt.NDArray[np.float32]:
    """Shape (contexts, length, width); NaN at BOS and past the end of a short context, which are never counted.

    By unit number modulo 4: fires on one token, on the token after one, on a tenth of all tokens, or everywhere. The last of 8 or
    more units is dead. Unsigned units are cut at zero.
    """
    vocab, words = recipe.text()
    rng = np.random.default_rng([recipe.seed, 2, site.layer, ["attn", "mlp", "resid"].index(site.kind)])
    ids = np.full((recipe.contexts, recipe.length), -1)
    for rank, row in enumerate(words.contexts):
        ids[rank, : len(row)] = row
    counted = (ids >= 0) & ~(words.bos & (ids == BOS) & (np.arange(recipe.length) == 0))
    before = np.concatenate([np.full((recipe.contexts, 1), -1), ids[:, :-1]], axis=1)
    noise = rng.normal(0, 0.02 if recipe.signed else 0.01, (recipe.contexts, recipe.length, recipe.width))
    values = noise - (0 if recipe.signed else 0.02)
    present = np.unique(ids[counted])
    hostile = [vocab.id(token) for token in HOSTILE if recipe.hostile and vocab.id(token) in present]
    for unit in range(recipe.width):
        target = rng.choice(hostile) if hostile and unit % 8 == 0 else rng.choice(present)
        strength = rng.lognormal(0.8, 0.5)
        if unit % 4 == 0:
            values[..., unit] += strength * (ids == target) * rng.uniform(0.6, 1.4, ids.shape)
        elif unit % 4 == 1:
            values[..., unit] += strength * (before == target) * rng.uniform(0.3, 1.2, ids.shape)
        elif unit % 4 == 2:
            chosen = rng.choice(present, max(2, len(present) // 10), replace=False)
            values[..., unit] += strength * np.isin(ids, chosen) * rng.normal(0.5, 0.4, ids.shape)
        else:
            values[..., unit] += rng.normal(0.1, 0.5, ids.shape)
        if recipe.signed and unit % 2 == 0:
            values[..., unit] -= 0.7 * strength * (ids == rng.choice(present)) * rng.uniform(0.2, 1, ids.shape)
    if not recipe.signed:
        values = np.maximum(values, 0)
    if recipe.width >= 8:
        values[..., -1] = 0
    values[~counted] = np.nan
    return values.astype(np.float32)


def write_synthetic_index(
    workspace: Workspace,
    *,
    run: str = "index-test",
    slug: str = "tiny",
    n_layers: int = 3,
    width: int = 16,
    contexts: int = 64,
    length: int = 16,
    kinds: tuple[str, ...] = ("mlp",),
    signed: bool = True,
    seed: int = 0,
    hostile: bool = False,
    state: str = "complete",
    generation: int = 1,
) -> str:
    """Write the subject, the slice and the run; return the run's id. Writing a higher generation replaces the one before."""
    recipe = Recipe(n_layers, width, contexts, length, kinds, signed, seed, hostile)
    vocab, words = recipe.text()
    subject = write_subject(workspace, vocab, slug, n_layers, dict.fromkeys(("mlp", "resid", "attn"), width), length)
    piece = write_slice(workspace, vocab, words, length, subject["tokenizer_hash"])
    folder = workspace.runs / run
    files: dict[str, Any] = {}
    effects: dict[str, Any] = {}
    for site in recipe.sites:
        values = activations(recipe, site)
        target = folder / f"gen-{generation}" / str(site)
        target.mkdir(parents=True, exist_ok=True)
        (folder / "effects").mkdir(exist_ok=True)
        tables = {"units": _units(values, vocab, words), "records": _records(values, words, signed), "positions": _positions(values)}
        rows = {"units": width, "records": len(BANDS) * GROUP, "positions": 2 * GROUP}
        files[str(site)] = {name: write_part(folder, target / f"{name}.parquet", table, rows[name]) for name, table in tables.items()}
        effects[str(site)] = write_part(folder, folder / "effects" / f"{site}.parquet", _effects(recipe, site, vocab), GROUP)
    manifest = {
        "schema": 1,
        "kind": "index",
        "run": run,
        "state": state,
        "generation": generation,
        "contexts_done": contexts,
        "contexts_total": contexts if state == "complete" else 2 * contexts,
        "tokens_done": piece["tokens"],
        "subject": subject,
        "slice": piece,
        "basis": "neurons",
        "sites": [str(site) for site in recipe.sites],
        "signed": {str(site): signed for site in recipe.sites},
        "bands": BANDS,
        "files": files,
        "effects": effects,
        "units": {str(site): recipe.width for site in recipe.sites},
        "dictionaries": {},
        "codes": {},
        "inputs": {},
        "provenance": {
            "code": "synthetic",
            "dtype": "float32",
            "device": "cpu",
            "seed": seed,
            "created": f"2025-01-01T00:00:{generation:02d}Z",
        },
    }
    write_json(folder / "params.json", {"run": run})
    write_json(folder / "manifest.json", manifest)
    return run


def write_subject(workspace: Workspace, vocab: Vocabulary, slug: str, n_layers: int, widths: dict[str, int], limit: int) -> dict[str, Any]:
    """Write subject.json and vocab.parquet; return the subject."""
    folder = workspace.subjects / slug
    folder.mkdir(parents=True, exist_ok=True)
    special = [i in vocab.special for i in range(len(vocab.tokens))]
    ids = pa.array(range(len(vocab.tokens)), I32)
    pq.write_table(pa.table({"token": ids, "bytes": pa.array(vocab.tokens, pa.binary()), "special": special}), folder / "vocab.parquet")
    subject = {
        "slug": slug,
        "source": f"synthetic/{slug}",
        "revision": None,
        "architecture": "LlamaForCausalLM",
        "n_layers": n_layers,
        "d_model": widths["resid"],
        "widths": widths,
        "vocab_size": len(vocab.tokens),
        "context_limit": 8 * limit,
        "bos_token_id": BOS,
        "tokenizer_hash": hashlib.sha256(b"\0".join(vocab.tokens)).hexdigest(),
        "weights_hash": hashlib.sha256(slug.encode()).hexdigest(),
        "name_or_path": f"synthetic/{slug}",
    }
    write_json(folder / "subject.json", subject)
    return subject


def write_slice(workspace: Workspace, vocab: Vocabulary, words: Text, length: int, tokenizer_hash: str) -> dict[str, Any]:
    """Write the slice's three files; return slice.json."""
    ranks = range(len(words.contexts))
    digest = hashlib.sha256(b"".join(row.tobytes() for row in words.contexts) + json.dumps(words.documents).encode()).hexdigest()
    identity = f"synthetic-{digest[:12]}"
    folder = workspace.corpora / identity
    folder.mkdir(parents=True, exist_ok=True)
    table = pa.table(
        {
            "rank": pa.array(ranks, I32),
            "document": pa.array(words.document, I32),
            "start": pa.array(words.start, I32),
            "tokens": pa.array(words.contexts, pa.list_(I32)),
            "key": pa.array([words.key(rank) for rank in ranks], pa.uint64()),
            "text": [vocab.text(row) for row in words.contexts],
        }
    )
    pq.write_table(table, folder / "contexts.parquet")
    ids, sources = zip(*words.documents, strict=True)
    pq.write_table(pa.table({"document": pa.array(range(len(ids)), I32), "id": ids, "source": sources}), folder / "documents.parquet")
    labels = [sources[document] for document in words.document]
    piece = {
        "id": identity,
        "hash": digest,
        "spec": {"source": "synthetic"},
        "contexts": len(words.contexts),
        "tokens": sum(len(row) - words.bos for row in words.contexts),
        "documents": len(ids),
        "length": length,
        "stride": length,
        "bos": words.bos,
        "tokenizer_hash": tokenizer_hash,
        "sources": {label: labels.count(label) for label in sorted(set(labels))},
    }
    write_json(folder / "slice.json", piece)
    return piece


def write_part(folder: Path, path: Path, table: pa.Table, rows: int) -> dict[str, Any]:
    """Write one Parquet file; return its entry in the manifest. rows: of a row group."""
    pq.write_table(table, path, compression="zstd", row_group_size=max(rows, 1))
    content = path.read_bytes()
    return {"path": str(path.relative_to(folder)), "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _units(values: npt.NDArray[np.float32], vocab: Vocabulary, words: Text) -> pa.Table:
    rows: list[dict[str, Any]] = []
    length, width = values.shape[1:]
    for unit in range(width):
        grid = values[..., unit]
        flat = grid[~np.isnan(grid)].astype(np.float64)
        centred = flat - flat.mean()
        variance = float((centred**2).mean())
        bins = np.bincount(bin_of(flat), minlength=BINS)
        peak, at = divmod(int(np.nanargmax(grid)), length)
        row = words.contexts[peak]
        tokens = _top_tokens(grid, words)
        shares = quantiles(bins, [0.5, 0.9, 0.99, 0.999], float(flat.min()), float(flat.max()))
        rows.append(
            {
                "unit": unit,
                "tokens": flat.size,
                "nonzero": int((flat != 0).sum()),
                "mean": flat.mean(),
                "variance": variance,
                "skewness": (centred**3).mean() / variance**1.5 if variance else np.nan,
                "kurtosis": (centred**4).mean() / variance**2 if variance else np.nan,
                "min": flat.min(),
                "max": flat.max(),
                **dict(zip(("p50", "p90", "p99", "p999"), shares, strict=True)),
                "bins": np.flatnonzero(bins),
                "counts": bins[bins > 0],
                "peak_token": int(row[at]),
                "peak_context": peak,
                "peak_position": at,
                "snippet": vocab.text(row[max(0, at - 5) : at + 6]),
                "top_tokens": [token for token, *_ in tokens],
                "top_token_means": [mean for _, mean, *_ in tokens],
                "top_token_counts": [count for *_, count, _ in tokens],
                "top_token_totals": [total for *_, total in tokens],
                "sums": [float((flat**power).sum()) for power in range(8)],
            }
        )
    return pa.Table.from_pylist(rows, schema=UNITS)


def _top_tokens(grid: npt.NDArray[np.float32], words: Text) -> list[tuple[int, float, int, int]]:
    """(token, mean activation, how often above a quarter of the maximum, how often in the slice), strongest first."""
    ids = np.full(grid.shape, -1)
    for rank, row in enumerate(words.contexts):
        ids[rank, : len(row)] = row
    bar = np.nanmax(grid) / 4
    found: list[tuple[int, float, int, int]] = []
    for token in np.unique(ids[~np.isnan(grid)]):
        here = grid[(ids == token) & ~np.isnan(grid)]
        found.append((int(token), float(here.mean()), int((here > bar).sum()), len(here)))
    return sorted(found, key=lambda item: (-item[1], item[0]))[:TOP_TOKENS]


def _records(values: npt.NDArray[np.float32], words: Text, signed: bool) -> pa.Table:
    rows: list[dict[str, Any]] = []
    keys = [words.key(rank) for rank in range(values.shape[0])]
    by_key = sorted(range(values.shape[0]), key=lambda rank: (keys[rank], rank))
    for unit in range(values.shape[2]):
        grid = values[..., unit]
        high, low = np.nanmax(grid, axis=1), np.nanmin(grid, axis=1)

        def descending(ranks: list[int], high: npt.NDArray[np.float32] = high) -> list[int]:
            return sorted(ranks, key=lambda place: (-high[place], place))

        chosen: dict[str, tuple[list[int], int]] = {"top": (_one_a_document(descending(by_key), words, BANDS["top"]), 0)}
        lowest = sorted(by_key, key=lambda rank: (low[rank], rank))
        chosen["bottom"] = (_one_a_document(lowest, words, BANDS["bottom"]) if signed else [], 0)
        shown: dict[str, int] = {band: len(ranks) for band, (ranks, _) in chosen.items()}
        for band, (first, last) in LIMITS.items():
            sample = descending(by_key[: int(BANDS[band] / (last - first))])
            inside = [rank for i, rank in enumerate(sample) if first <= 1 - (i + 0.5) / len(sample) < last]
            if band == "q0":
                inside.reverse()
            outside = [rank for rank in sample if rank not in inside][:5]
            chosen[band], shown[band] = (inside + outside, len(sample)), len(inside)
        chosen["random"] = (by_key[-BANDS["random"] :], 0)
        for band, (ranks, sampled) in chosen.items():
            held = np.nan_to_num(grid[ranks])
            scales = np.abs(held).max(axis=1, initial=0) / 32767
            scaled = np.rint(held / np.where(scales > 0, scales, 1)[:, None]).astype("<i2")
            places = np.nanargmin(grid[ranks], axis=1) if band == "bottom" else np.nanargmax(grid[ranks], axis=1)
            rows.append(
                {
                    "unit": unit,
                    "band": band,
                    "contexts": ranks,
                    "values": (low if band == "bottom" else high)[ranks],
                    "positions": places,
                    "scales": scales,
                    "activations": scaled.tobytes(),
                    "sampled": sampled,
                    "shown": shown.get(band, len(ranks)),
                }
            )
    return pa.Table.from_pylist(rows, schema=RECORDS)


def _one_a_document(ranks: list[int], words: Text, limit: int) -> list[int]:
    seen: dict[int, int] = {}
    for rank in ranks:
        seen.setdefault(words.document[rank], rank)
    return list(seen.values())[:limit]


def _positions(values: npt.NDArray[np.float32]) -> pa.Table:
    rows: list[dict[str, Any]] = []
    length = values.shape[1]
    for unit in range(values.shape[2]):
        flat = values[..., unit].reshape(-1)
        counted = np.flatnonzero(~np.isnan(flat))
        strong = counted[np.argsort(-flat[counted], kind="stable")][:POSITIONS]
        sampled = np.sort(np.random.default_rng(unit).permutation(counted)[:POSITIONS])
        for kind, chosen, weight in (("strong", strong, 1.0), ("sampled", sampled, len(counted) / max(1, len(sampled)))):
            contexts, positions = np.divmod(chosen, length)
            weights = np.full(len(chosen), weight)
            rows.append(
                {"unit": unit, "kind": kind, "contexts": contexts, "positions": positions, "values": flat[chosen], "weights": weights}
            )
    return pa.Table.from_pylist(rows, schema=POSITION_ROWS)


def _effects(recipe: Recipe, site: Site, vocab: Vocabulary) -> pa.Table:
    rng = np.random.default_rng([recipe.seed, 3, site.layer])
    rows: list[dict[str, Any]] = []
    for unit in range(recipe.width):
        order = rng.permutation(len(vocab.tokens))
        logits = np.sort(np.abs(rng.normal(0, 0.4, 10)))[::-1]
        others = rng.integers(0, recipe.width, 5)
        layers = rng.integers(0, recipe.n_layers, 5)
        rows.append(
            {
                "unit": unit,
                "raised": order[:10],
                "raised_logits": logits,
                "lowered": order[-10:],
                "lowered_logits": -logits,
                "similar": [f"{site.kind}.{layer}/{other}" for layer, other in zip(layers, others, strict=True)],
                "similar_cosines": np.sort(rng.uniform(0.1, 0.6, 5))[::-1],
            }
        )
    return pa.Table.from_pylist(rows, schema=EFFECTS)
