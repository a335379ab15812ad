"""Search over 307,200 explanations and as many units' top tokens, made up by chance: making the index, opening it, questions.

    python -m bench.search [--units 307200] [--questions 300] [--folder DIR] [--json]

Questions are 1 to 5 words, drawn as often as they occur, and go through the function that the page calls. Beside them stand, in the same
run and over the same texts: PyPI `bm25s` asked for the best 25 without completions and filters, and reading every text for one word.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from bench.figures import scratch_workspace, spread, table, timed
from bench.machine import machine
from core.findings.findings import Findings
from core.findings.search.part import Part
from core.findings.search.question import Question
from core.findings.search.ranking import library
from core.findings.search.search import Search
from core.units import UnitName
from core.workspace import Workspace, write_json

SLUG = "scale"
VOCABULARY = 50_257
WORDS = 30_000
PER_PART = 256
"""Explanations of a part, as the program writes them."""
TOP_TOKENS = 20
WIDTH = 6400
LABELLED = 500
SHOWN = 25

compute: Any = pyarrow.compute


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--units", type=int, default=307_200)
    parser.add_argument("--questions", type=int, default=300)
    parser.add_argument("--folder", type=Path, default=None, help="where to work (removed afterwards); a temporary folder by default")
    parser.add_argument("--json", action="store_true")
    choice = parser.parse_args()
    with scratch_workspace("search-scale-", choice.folder) as workspace:
        found = {"machine": machine(), **measure(workspace, choice.units, choice.questions)}
    sys.stdout.write(json.dumps(found, indent=1) + "\n" if choice.json else table(found))


def measure(workspace: Workspace, units: int, questions: int) -> dict[str, Any]:
    """Write, make the index, ask. Times in milliseconds unless the name says otherwise."""
    rng = np.random.default_rng(0)
    words = write(workspace, units, rng)
    search = Search(workspace)
    begin, used = time.perf_counter(), time.process_time()
    search.find(Question(words[50]))
    made, made_cpu = time.perf_counter() - begin, time.process_time() - used
    if search.failed:
        raise SystemExit(search.failed)
    folder = next(path for path in (workspace.scratch / "search").iterdir() if path.is_dir())
    begin = time.perf_counter()
    search = Search(workspace)
    search.find(Question(words[50]))
    opened = 1000 * (time.perf_counter() - begin)
    findings = Findings(workspace, "Ada")
    for number in rng.choice(units, min(LABELLED, units // 2), replace=False).tolist():
        findings.label(UnitName.parse(unit_name(number)), "water")
    findings.save_note(UnitName.parse(unit_name(7)), "a note that was just written")
    begin = time.perf_counter()
    seen = search.find(Question("written")).total
    noted = 1000 * (time.perf_counter() - begin)
    assert seen >= 1
    asked = [drawn(rng, words, 1 + number % 5) for number in range(questions)]
    filters: dict[str, dict[str, Any]] = {
        "no filter": {},
        "explanations only": {"kinds": ("explanation",)},
        "tokens of some layers": {"kinds": ("tokens",), "layers": tuple(range(10, 20))},
        "score at least 0.5": {"least": 0.5},
        "labelled units": {"labelled": True},
        "everything at once": {"kinds": ("explanation",), "subject": SLUG, "site_kind": "mlp", "basis": "neurons", "least": 0.3,
                               "layers": tuple(range(24)), "author": "pattern", "labelled": True},
    }  # fmt: skip
    times = {name: [timed(page(search, Question(text, **given))) for text in asked] for name, given in filters.items()}
    deep = [timed(page(search, Question(text), 2000)) for text in asked[:100]]
    part = Part.load(folder)
    library_times = [timed(plain_library(folder, text)) for text in asked]
    scans = [timed(plain_scan(part, text)) for text in asked[:10]]
    every = [value for each in times.values() for value in each]
    return {
        "units": units,
        "documents": len(part),
        "making_seconds": round(made, 2),
        "making_cpu_seconds": round(made_cpu, 2),
        "bytes": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        "opening_ms": round(opened, 1),
        "after_a_note_ms": round(noted, 1),
        "questions": questions,
        "query_ms": {name: spread(each) for name, each in times.items()},
        "page_80_ms": spread(deep),
        "all_ms": spread(every),
        "bm25s_alone_ms": spread(library_times),
        "reading_all_ms": spread(scans),
        "ratio_to_bm25s": round(float(np.median(times["no filter"]) / np.median(library_times)), 2),
        "ratio_to_reading_all": round(float(np.median(times["no filter"]) / np.median(scans)), 4),
    }


def page(search: Search, question: Question, offset: int = 0) -> Callable[[], object]:
    return lambda: search.find(question, limit=SHOWN, offset=offset)


_loaded: dict[Path, Any] = {}


def plain_library(folder: Path, text: str) -> Callable[[], object]:
    """bm25s over the same postings: whole words, no filter, the best 25."""
    if folder not in _loaded:
        _loaded[folder] = library().BM25.load(folder / "ranking", mmap=True, show_progress=False)
    return lambda: _loaded[folder].retrieve([text.split()], k=SHOWN, show_progress=False)


def plain_scan(part: Part, text: str) -> Callable[[], object]:
    """Every text that has the first word, in no order."""
    column = part.documents.column("text")
    return lambda: compute.match_substring_regex(column, rf"(?i)\b{text.split()[0]}\b")


def drawn(rng: np.random.Generator, words: list[str], count: int) -> str:
    """Some words of the texts, common ones more often, the last cut short now and then as somebody types it."""
    chosen = [words[min(int(rank), len(words)) - 1] for rank in rng.zipf(1.3, count)]
    if rng.random() < 0.5:
        chosen[-1] = chosen[-1][: max(2, len(chosen[-1]) - 2)]
    return " ".join(chosen)


def unit_name(number: int) -> str:
    return f"{SLUG}/mlp.{number // WIDTH}/neurons/{number % WIDTH}"


def write(workspace: Workspace, units: int, rng: np.random.Generator) -> list[str]:
    """A subject, an index with top tokens only, and an explaining run; the words of its texts, the commonest first."""
    letters = np.array(list("etaoinshrdlucmfywgpbvk"))
    words = list(dict.fromkeys("".join(rng.choice(letters, size)) for size in rng.integers(2, 10, 2 * WORDS)))[:WORDS]
    pieces = [f" {words[token]}" if token < len(words) else f"x{token}" for token in range(VOCABULARY)]
    folder = workspace.subjects / SLUG
    folder.mkdir()
    ids = pa.array(np.arange(VOCABULARY, dtype=np.int32))
    content = pa.table({"token": ids, "bytes": [piece.encode() for piece in pieces], "special": [False] * VOCABULARY})
    pq.write_table(content, folder / "vocab.parquet")
    write_index(workspace, units, rng)
    write_explained(workspace, units, words, rng)
    return words


def write_index(workspace: Workspace, units: int, rng: np.random.Generator) -> None:
    folder = workspace.runs / "index-scale"
    layers = -(-units // WIDTH)
    files: dict[str, Any] = {}
    for layer in range(layers):
        size = min(WIDTH, units - layer * WIDTH)
        tokens = (rng.zipf(1.2, size * TOP_TOKENS) % VOCABULARY).astype(np.int32)
        offsets = np.arange(size + 1, dtype=np.int32) * TOP_TOKENS
        path = folder / f"mlp.{layer}.parquet"
        folder.mkdir(exist_ok=True)
        content = {"unit": np.arange(size, dtype=np.int32), "top_tokens": pa.ListArray.from_arrays(offsets, tokens)}
        content |= {"top_token_means": pa.ListArray.from_arrays(offsets, np.ones(tokens.size, np.float32))}
        pq.write_table(pa.table(content), path)
        files[f"mlp.{layer}"] = {"units": noted(folder, path)}
    widths = {"mlp": WIDTH, "resid": WIDTH, "attn": WIDTH}
    manifest = {
        "schema": 1, "kind": "index", "state": "complete", "generation": 1, "contexts_done": 1, "contexts_total": 1, "tokens_done": 64,
        "subject": {"slug": SLUG, "n_layers": layers, "widths": widths}, "slice": {"id": "scale", "length": 64}, "basis": "neurons",
        "sites": list(files), "signed": dict.fromkeys(files, True), "files": files,
        "units": {site: min(WIDTH, units - number * WIDTH) for number, site in enumerate(files)},
    }  # fmt: skip
    write_json(folder / "manifest.json", manifest)


def write_explained(workspace: Workspace, units: int, words: list[str], rng: np.random.Generator) -> None:
    folder = workspace.runs / "explain-scale"
    known = np.array(words, object)
    parts: list[dict[str, Any]] = []
    for number, first in enumerate(range(0, units, PER_PART)):
        mine = range(first, min(units, first + PER_PART))
        sizes = rng.integers(4, 18, len(mine))
        chosen = known[np.minimum(rng.zipf(1.2, int(sizes.sum())), len(words)) - 1]
        texts = ["Fires on " + " ".join(each) + "." for each in np.split(chosen, np.cumsum(sizes)[:-1])]
        identities = [f"explain-scale.{unit}.0.0" for unit in mine]
        told = {"explanation": identities, "unit": [unit_name(unit) for unit in mine], "text": texts}
        told |= {"author": ["pattern"] * len(mine), "failed": [""] * len(mine)}
        scored = {"explanation": identities * 2, "role": ["simulated"] * len(mine) + ["lookup"] * len(mine)}
        scored |= {
            "kind": ["top-and-random"] * 2 * len(mine),
            "split": ["test"] * 2 * len(mine),
            "rho": rng.uniform(-0.1, 1, 2 * len(mine)),
        }
        place = folder / f"part-{number:05d}"
        place.mkdir(parents=True)
        entries: dict[str, Any] = {"simulations": {"path": f"part-{number:05d}/simulations.parquet", "bytes": 0, "sha256": "none"}}
        for name, content in (("explanations", told), ("scores", scored)):
            pq.write_table(pa.table(content), place / f"{name}.parquet", compression="zstd")
            entries[name] = noted(folder, place / f"{name}.parquet")
        parts.append({"number": number, "work": [f"{unit}.0" for unit in mine], "files": entries})
    manifest = {
        "schema": 1, "kind": "explain", "state": "complete", "generation": 1, "work_done": units, "work_total": units, "study": "",
        "settings": [{}], "units": units, "index": ["index-scale"], "parts": parts, "spend": None, "provenance": {},
    }  # fmt: skip
    write_json(folder / "manifest.json", manifest)


def noted(folder: Path, path: Path) -> dict[str, Any]:
    return {"path": str(path.relative_to(folder)), "bytes": path.stat().st_size, "sha256": f"{path.name} {path.stat().st_size}"}


if __name__ == "__main__":
    main()
