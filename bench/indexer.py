"""The indexer against the bare forward pass, alternating, on the embedded model: `python -m bench.indexer [--json]`.

The bare pass runs the same text through the same blocks of the model, without hooks and without the unembedding, a block after the other
with all of torch's threads. The indexer reads a block in each thread; what that alone is worth is measured too. Ratios of wall and of
CPU time are medians over rounds, in steady state: the sketches have seen `--warm` contexts before.
"""

import argparse
import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from bench.machine import machine
from core.bases.basis import basis_at
from core.corpus.build import build_slice
from core.corpus.spec import CorpusSpec
from core.index.files import write_sketch
from core.index.reader import ShareReader, deriver, token_totals
from core.index.request import IndexRequest
from core.index.sketch import Sketch
from core.subject.info import subject_folder
from core.subject.lanes import Lanes
from core.subject.load import load_subject
from core.subject.subject import Subject
from core.subject.tokenizer import SubjectTokenizer
from core.units import NEURONS, Site, parse_sites
from core.vocab import Vocab
from core.workspace import Workspace


def measure(rounds: int, warm: int, dtype: str, block: int) -> dict[str, object]:
    """Seconds a block of each variant, and what follows from them."""
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace.open(folder)
        subject = load_subject(workspace, "default", dtype=dtype)
        vocab = Vocab.load(subject_folder(workspace, subject.info.slug) / "vocab.parquet")
        # Several blocks are read at a time, so a round is as many of them.
        together = len(Lanes(subject))
        warm -= warm % (block * together)
        contexts = warm + rounds * block * together
        piece = build_slice(workspace, CorpusSpec("embedded", contexts), SubjectTokenizer(subject, vocab))
        sites = {site: basis_at(workspace, subject, site, NEURONS) for site in parse_sites("mlp.all", subject.info.n_layers)}
        reader = ShareReader(Path(folder), subject, piece, vocab, NEURONS, sites, block)

        def sketches() -> dict[Site, Sketch]:
            return {site: Sketch(str(site), NEURONS, basis.units, reader.contexts) for site, basis in sites.items()}

        full, ends = sketches(), sketches()
        memory: list[int] = []

        def read(sketches: dict[Site, Sketch], first: int, *, everything: bool = True) -> None:
            with reader.lanes:
                reader.add_blocks(sketches, first, together, everything=everything)

        for number in range(0, warm // block, together):
            read(full, number)
            read(ends, number, everything=False)
            memory.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)

        def bare(first: int) -> None:
            for number in range(first, first + together):
                rows = piece.tokens[number * block : (number + 1) * block]
                with torch.inference_mode():
                    subject.model.base_model(input_ids=torch.from_numpy(rows.astype(np.int64)), use_cache=False)

        def apart(first: int) -> None:
            """The bare pass as the indexer divides it: a block a thread."""

            def task(number: int) -> Callable[[Subject], None]:
                tokens = torch.from_numpy(piece.tokens[number * block : (number + 1) * block].astype(np.int64))
                return lambda lane: lane.read(tokens, {Site("resid", subject.info.n_layers - 1): lambda _: None})

            with reader.lanes:
                reader.lanes.run([task(number) for number in range(first, first + together)])

        variants: dict[str, Callable[[int], None]] = {
            "bare": bare,
            "apart": apart,
            "ends": lambda number: read(ends, number, everything=False),
            "full": lambda number: read(full, number),
        }
        bare(0)
        wall: dict[str, list[float]] = {name: [] for name in variants}
        cpu: dict[str, list[float]] = {name: [] for name in variants}
        for round_number in range(rounds):
            first = warm // block + round_number * together
            names = list(variants)
            for name in names[round_number % len(names) :] + names[: round_number % len(names)]:
                start, used = time.perf_counter(), time.process_time()
                variants[name](first)
                wall[name].append(time.perf_counter() - start)
                cpu[name].append(time.process_time() - used)
            memory.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        totals = token_totals(piece, vocab.size, 0, contexts)
        site = next(iter(sites))
        start = time.perf_counter()
        notes = write_sketch(Path(folder) / "part" / str(site), full[site], deriver(piece, vocab, totals))
        tokens = int(piece.lengths[warm:].astype(int).sum()) / rounds

        def ratio(times: dict[str, list[float]], name: str) -> float:
            return statistics.median(a / b for a, b in zip(times[name], times["bare"], strict=True))

        return {
            "machine": machine(),
            "dtype": dtype,
            "threads": torch.get_num_threads(),
            "matmul": subject.provenance()["matmul"],
            "block": block,
            "passes_at_a_time": together,
            "warm_contexts": warm,
            "rounds": rounds,
            "bare_tokens_per_second": tokens / statistics.median(wall["bare"]),
            "full_tokens_per_second": tokens / statistics.median(wall["full"]),
            "ends_ratio_wall": ratio(wall, "ends"),
            "ends_ratio_cpu": ratio(cpu, "ends"),
            "full_ratio_wall": ratio(wall, "full"),
            "full_ratio_cpu": ratio(cpu, "full"),
            "bare_a_block_a_thread_ratio_wall": ratio(wall, "apart"),
            "bare_a_block_a_thread_ratio_cpu": ratio(cpu, "apart"),
            "sketch_bytes_per_unit_in_memory": sum(sketch.nbytes for sketch in full.values())
            / sum(basis.units for basis in sites.values()),
            "sketch_bytes_per_unit_on_disk": sum(note["bytes"] for note in notes.values()) / sites[site].units,
            "write_seconds_per_site": time.perf_counter() - start,
            "peak_mb_after_an_eighth_of_the_contexts": memory[len(memory) // 8] / 1024,
            "peak_mb_at_the_end": memory[-1] / 1024,
        }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--warm", type=int, default=1024)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--block", type=int, default=IndexRequest.block, help="contexts in a forward pass; the default is the program's")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(options.rounds, options.warm, options.dtype, options.block)
    if options.json:
        sys.stdout.write(json.dumps(found, indent=1) + "\n")
        return 0
    for name, value in found.items():
        sys.stdout.write(f"{name:40} {value:.4g}\n" if isinstance(value, float) else f"{name:40} {value}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
