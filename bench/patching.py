"""Trying one feature less in every pair of sentences, against the slow way: `python -m bench.patching [--json]`.

What is timed is one sweep's question: with every feature of a dictionary patched at `resid.9` of the embedded model, what does the mean KL
of 50 pairs become when each feature alone is left out? The slow way runs the whole subject for each feature and pair, with a hook, and is
timed on some of them. Unless a dictionary of a workspace is named, it is a tied one of random directions whose biases leave about 60 of
2,304 units active a token. Both ways have to agree to 1e-5 nats on the features that both tried.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from bench.features import planted
from bench.machine import machine
from core.causal import orders
from core.causal.above import Above
from core.causal.decompositions import Decomposition, decomposition_at
from core.causal.ioi_pairs import PairRuns, Streams, read_pairs
from core.causal.ioi_sentences import Wording, draw, encode_pairs, usable_names
from core.causal.patching import PatchedSet
from core.causal.support import Support, support_of
from core.subject.edits import Edit
from core.subject.load import load_subject
from core.subject.subject import Subject
from core.units import Site
from core.workspace import Workspace

SITE = Site("resid", 9)
UNITS = 2304
AGREE = 1e-5


def slow_way(subject: Subject, runs: PairRuns, streams: Streams, support: Support, feature: int, pair: int) -> float:
    """KL of a pair with every feature but one patched: the whole subject, one text, a hook."""
    members = np.ones(len(support), dtype=bool)
    members[feature] = False
    length = int(runs.lengths[pair])
    patched = streams.base[pair, :length].double() + support.added(pair, members)
    with subject.edit([Edit(SITE, "replace", patched.float()[None])]):
        logits = subject.logits(runs.base[pair : pair + 1, :length])[:, -1]
    return float(runs.answers.of(logits, torch.tensor([pair])).kl[0])


def measure(pairs: int, features: int, compared: int, workspace: Path | None, name: str) -> dict[str, object]:
    """Seconds of both ways, their ratio, and how far apart they are."""
    with tempfile.TemporaryDirectory() as folder:
        place = Workspace.open(workspace or folder)
        subject = load_subject(place, "default")
        names, _ = usable_names(Wording(), subject.encode)
        encoded = encode_pairs(draw(Wording(), list(names), pairs, 0), names, subject.encode)
        runs, found = read_pairs(subject, encoded, [SITE])
        streams = found[SITE]
        if workspace is not None:
            decomposition = decomposition_at(place, subject, SITE, name)
        else:
            basis = planted(subject, streams.base.flatten(0, 1).float(), UNITS)
            decomposition = Decomposition("planted", SITE, UNITS, basis.dictionary, False)
        support = support_of(decomposition, runs, streams)
        above = Above(subject, SITE.layer)
        patched = PatchedSet(above, runs, streams, support)
        patched.become(np.ones(len(support), dtype=bool))
        chance = np.random.default_rng(0)
        chosen = np.sort(chance.choice(len(support), min(features, len(support)), replace=False)).tolist()
        kl: dict[int, float] = {}

        positions, begin, used = above.work.positions, time.perf_counter(), time.process_time()
        for some in orders.pieces(patched, chosen):
            kl.update(zip(some, patched.toggled(some).tolist(), strict=True))
        fast_wall, fast_cpu = time.perf_counter() - begin, time.process_time() - used
        share = len(chosen) / len(support)
        slow_wall: list[float] = []
        slow_cpu: list[float] = []
        worst = 0.0
        for feature in chance.choice(chosen, compared, replace=False).tolist():
            slow: list[float] = []
            for pair in range(pairs):
                begin, used = time.perf_counter(), time.process_time()
                slow.append(slow_way(subject, runs, streams, support, feature, pair))
                slow_wall.append(time.perf_counter() - begin)
                slow_cpu.append(time.process_time() - used)
            worst = max(worst, abs(statistics.fmean(slow) - kl[feature]))
        # The slow way knows of no support: it runs every pair for every unit.
        passes = decomposition.units * pairs
        return {
            "machine": machine(),
            "pairs": pairs,
            "units": decomposition.units,
            "supported": len(support),
            "items": len(support.pairs),
            "features_tried": len(chosen),
            "positions": above.work.positions - positions,
            "keys_and_values": patched.keeps or "kept",
            "difference": worst,
            "agree": worst < AGREE,
            "fast_seconds": fast_wall / share,
            "fast_cpu_seconds": fast_cpu / share,
            "slow_pass_ms": 1000 * statistics.median(slow_wall),
            "slow_seconds": passes * statistics.median(slow_wall),
            "slow_cpu_seconds": passes * statistics.median(slow_cpu),
            "ratio": passes * statistics.median(slow_wall) * share / fast_wall,
            "ratio_cpu": passes * statistics.median(slow_cpu) * share / fast_cpu,
            "share_cpu": fast_cpu / (passes * statistics.median(slow_cpu) * share),
            "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=50)
    parser.add_argument("--features", type=int, default=UNITS, help="tried the fast way; the time of all is extrapolated from them")
    parser.add_argument("--compared", type=int, default=4, help="tried both ways")
    parser.add_argument("--workspace", type=Path, help="with a dictionary of its own at resid.9")
    parser.add_argument("--name", default="", help="of that dictionary")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(options.pairs, options.features, options.compared, options.workspace, options.name)
    if options.json:
        sys.stdout.write(json.dumps(found, indent=1) + "\n")
    else:
        for name, value in found.items():
            sys.stdout.write(f"{name:18} {value:.4g}\n" if isinstance(value, float) else f"{name:18} {value}\n")
    return 0 if found["agree"] else 1


if __name__ == "__main__":
    sys.exit(main())
