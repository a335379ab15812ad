"""Indexing a dictionary's features against the bare forward pass to their layer: `python -m bench.features [--json]`.

The dictionary is a tied one of random directions at `resid.9` of the embedded model, with biases that leave about 60 of 4,608 units active
a token: what is measured does not depend on what the directions mean. The bare pass runs the same text through the same blocks and stops
there. Several numbers of units show what each costs beyond the one pass. Medians over rounds, alternating, in steady state. Where
ATLAS_SAEDASHBOARD_PYTHON names a Python that has sae-dashboard, its cost for 256 of the 4,608 features is measured beside ours.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from bench.machine import machine
from core.bases.basis import Basis
from core.bases.dictionary import Dictionary
from core.bases.info import BasisInfo
from core.corpus.build import build_slice
from core.corpus.slice import Slice
from core.corpus.spec import CorpusSpec
from core.index.codes import CodeWriter
from core.index.reader import ShareReader
from core.index.sketch import Sketch
from core.subject.info import subject_folder
from core.subject.lanes import Lanes
from core.subject.load import load_subject
from core.subject.subject import Subject
from core.subject.tokenizer import SubjectTokenizer
from core.units import Site
from core.vocab import Vocab
from core.workspace import Workspace

BLOCK = 32
PEER_CONTEXTS, PEER_FEATURES = 512, 256
SITE = Site("resid", 9)
ACTIVE = 60 / 4608
"""The share of units that are active on a token."""


def planted(subject: Subject, stream: torch.Tensor, units: int) -> Basis:
    """Random directions with biases at the quantile of `stream` [tokens, d] that leaves ACTIVE of the tokens."""
    generator = torch.Generator().manual_seed(units)
    width = subject.info.d_model
    encoder = torch.nn.functional.normalize(torch.randn(units, width, generator=generator), dim=1)
    bias = -torch.quantile(stream @ encoder.T, 1 - ACTIVE, dim=0)
    info = BasisInfo("bench", subject.info.slug, SITE, "sae", "relu", width, units, tied=True)
    return Basis(SITE, units, Dictionary(info, {"encoder": encoder, "bias": bias}))


def rows(piece: Slice, number: int) -> torch.Tensor:
    """The tokens of a block."""
    return torch.from_numpy(piece.tokens[number * BLOCK : (number + 1) * BLOCK].astype(np.int64))


@dataclass(frozen=True)
class Variant:
    """Reading as many blocks as are read at a time, into one dictionary's sketch and codes."""

    reader: ShareReader
    sketches: dict[Site, Sketch]
    codes: CodeWriter
    together: int

    def __call__(self, first: int) -> None:
        with self.reader.lanes:
            self.reader.add_blocks(self.sketches, first, self.together, self.codes)


def measure(rounds: int, warm: int, sizes: list[int]) -> dict[str, object]:
    """Ratios to the bare pass for each number of units, and the share of non-zero codes."""
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace.open(folder)
        subject = load_subject(workspace, "default")
        vocab = Vocab.load(subject_folder(workspace, subject.info.slug) / "vocab.parquet")
        together = len(Lanes(subject))
        warm -= warm % (BLOCK * together)
        piece = build_slice(workspace, CorpusSpec("embedded", warm + rounds * BLOCK * together), SubjectTokenizer(subject, vocab))
        stream = subject.capture(rows(piece, 0), [SITE])[SITE].flatten(0, 1).float()

        def bare(first: int) -> None:
            for number in range(first, first + together):
                subject.read(rows(piece, number), {SITE: lambda _: None})

        variants: dict[str, Callable[[int], None]] = {"bare": bare}
        found: dict[str, object] = {"machine": machine(), "threads": torch.get_num_threads(), "rounds": rounds, "warm_contexts": warm}
        for units in sizes:
            basis = planted(subject, stream, units)
            reader = ShareReader(Path(folder), subject, piece, vocab, "bench", {SITE: basis}, BLOCK)
            sketches = {SITE: Sketch(str(SITE), "bench", units, reader.contexts)}
            codes = CodeWriter(Path(folder) / str(units), 0, 0)
            variant = Variant(reader, sketches, codes, together)
            for number in range(0, warm // BLOCK, together):
                variant(number)
            found[f"l0_{units}"] = float((basis.read(stream) != 0).sum(1).float().mean())
            codes.flush(warm // BLOCK)
            variants[str(units)] = variant
        wall: dict[str, list[float]] = {name: [] for name in variants}
        cpu: dict[str, list[float]] = {name: [] for name in variants}
        for turn in range(rounds):
            names = list(variants)
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                start, used = time.perf_counter(), time.process_time()
                variants[name](warm // BLOCK + turn * together)
                wall[name].append(time.perf_counter() - start)
                cpu[name].append(time.process_time() - used)
        tokens = int(piece.lengths[warm:].astype(int).sum()) / rounds
        found["bare_tokens_per_second"] = tokens / statistics.median(wall["bare"])
        for units in sizes:
            for kind, times in (("cpu", cpu), ("wall", wall)):
                ratios = [a / b for a, b in zip(times[str(units)], times["bare"], strict=True)]
                found[f"ratio_{kind}_{units}"] = statistics.median(ratios)
        if python := os.environ.get("ATLAS_SAEDASHBOARD_PYTHON"):
            np.save(Path(folder) / "tokens.npy", piece.tokens[:PEER_CONTEXTS].astype(np.int32))
            found["sae_dashboard"] = peer(python, Path(folder) / "tokens.npy", 4608, PEER_FEATURES)
        return found


def peer(python: str, tokens: Path, units: int, features: int) -> dict[str, float]:
    """What the same page data of `features` of `units` features cost SAEDashboard, in its own Python, and its own bare pass."""
    command = [python, str(Path(__file__).with_name("feature_peer.py")), str(tokens), str(units), str(features), str(ACTIVE)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(said.strip().splitlines()[-1])


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--warm", type=int, default=1024)
    parser.add_argument("--units", type=int, nargs="+", default=[576, 4608, 9216])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(options.rounds, options.warm, options.units)
    if options.json:
        sys.stdout.write(json.dumps(found, indent=1) + "\n")
        return 0
    for name, value in found.items():
        sys.stdout.write(f"{name:30} {value:.4g}\n" if isinstance(value, float) else f"{name:30} {value}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
