"""The run that patches features into pairs of sentences: the baseline first, then curve after curve, each kept when it is finished."""

import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

import core
from core.causal import ioi_files as files
from core.causal import orders
from core.causal.above import Above
from core.causal.decompositions import Decomposition, decomposition_at
from core.causal.ioi_pairs import Doubles, PairRuns, Streams, read_pairs
from core.causal.ioi_request import IoiRequest, Piece
from core.causal.ioi_sentences import EncodedPair, draw, encode_pairs, usable_names
from core.causal.patching import PatchedSet
from core.causal.support import Support, support_of
from core.errors import AtlasError
from core.runs.progress import Progress
from core.subject.info import subject_info
from core.subject.load import load_subject
from core.subject.loaded import kept_subject
from core.subject.subject import Subject
from core.units import Site
from core.workspace import Workspace, write_json

SCHEMA = 1
STEPS = 100
"""Steps of progress of each curve."""
_A_WORD = 0.3
"""Seconds between two reports at most often."""


def run_ioi(workspace: Workspace, run_dir: Path, params: dict[str, Any], progress: Progress) -> None:
    """Measure the baseline and make the curves, or go on: those that are finished are not made again. Raises AtlasError, and Cancelled."""
    request = IoiRequest.from_params(params)
    progress.stage("loading the model")
    subject = _subject(workspace, request)
    if subject.info.slug != request.model and any(not key.endswith("/neurons") for key in request.decompositions):
        raise AtlasError(f"Dictionaries are kept by the model's name here: name it {subject.info.slug}.")
    beyond = next((site for site in request.sites if site.layer >= subject.info.n_layers), None)
    if beyond is not None:
        raise AtlasError(f"{beyond} is out of range: the layers of {subject.info.slug} are 0 to {subject.info.n_layers - 1}.")
    Patching(workspace, run_dir, request, subject, progress).go()


class Patching:
    """One run at work."""

    def __init__(self, workspace: Workspace, run_dir: Path, request: IoiRequest, subject: Subject, progress: Progress) -> None:
        self.run_dir, self.request, self.subject, self.progress = run_dir, request, subject, progress
        names = {(piece.site, piece.decomposition) for piece in request.pieces}
        self.decompositions: dict[tuple[Site, str], Decomposition] = {
            (site, name): decomposition_at(workspace, subject, site, name) for site, name in sorted(names)
        }
        self.done: list[dict[str, Any]] = files.finished(run_dir, subject.info, self._hashes())
        self.sentences: list[dict[str, Any]] = []
        self._share, self._part, self._message = 0.0, (0.0, 1.0), ""
        self._said = -math.inf

    def go(self) -> None:
        numbers = {piece: number for number, piece in enumerate(self.request.pieces)}
        finished = {int(one["piece"]) for one in self.done}
        tokens, dropped = usable_names(self.request.wording, self.subject.encode)
        start = self._start()
        for seed in self.request.seed_list:
            self.progress.stage(f"baseline, seed {seed}")
            encoded = encode_pairs(draw(self.request.wording, list(tokens), self.request.pairs, seed), tokens, self.subject.encode, start)
            limit = self.subject.info.context_limit
            if max(len(one.base) for one in encoded) > limit:
                raise AtlasError(
                    f"A sentence is longer than the {limit:,} tokens that {self.subject.info.slug} reads: shorten the templates."
                )
            left = [piece for piece in numbers if piece.seed == seed and numbers[piece] not in finished]
            sites = sorted({piece.site for piece in left})
            runs, streams = read_pairs(self.subject, encoded, sites, self._hear)
            self._keep_sentences(seed, encoded, runs, dropped)
            for site, name in dict.fromkeys((piece.site, piece.decomposition) for piece in left):
                here = [piece for piece in left if (piece.site, piece.decomposition) == (site, name)]
                self._patch(self.decompositions[site, name], here, numbers, runs, streams[site])
        self._publish()

    def _patch(
        self, decomposition: Decomposition, pieces: list[Piece], numbers: Mapping[Piece, int], runs: PairRuns, streams: Streams
    ) -> None:
        """All missing orders of one decomposition and seed, over the same support."""
        _set_threads()
        self.progress.stage(f"comparing codes of {decomposition.name} at {decomposition.site}")
        support = support_of(decomposition, runs, streams)
        above = Above(self.subject, decomposition.site.layer, self._hear)
        patched = PatchedSet(above, runs, streams, support)
        gains: Doubles | None = None
        for piece in pieces:
            begin, positions, rows = time.perf_counter(), above.work.positions, above.work.rows
            self.progress.stage(f"{piece.order} of {piece.decomposition} at {piece.site}, seed {piece.seed}")
            self._part = (0.0, 1.0)
            if piece.order in ("single", "greedy") and gains is None:
                gains = self._gains_of(piece, numbers, support)
                if gains is None:
                    self._part = (0.0, 0.7)
                    gains = orders.single_effects(patched, self._say)
                    self._part = (0.7, 1.0)
            found = self._order(piece, patched, gains)
            self.done.append(
                files.write_piece(self.run_dir, numbers[piece], found, support)
                | {
                    "site": str(piece.site),
                    "decomposition": piece.decomposition,
                    "order": piece.order,
                    "seed": piece.seed,
                    "units": decomposition.units,
                    "weights": decomposition.hash,
                    "supported": len(support),
                    "items": len(support.pairs),
                    "plain": patched.keeps,
                    "seconds": time.perf_counter() - begin,
                    "texts": above.work.rows - rows,
                    "positions": above.work.positions - positions,
                    "threads": torch.get_num_threads(),
                }
            )
            self._share, self._message = 0.0, ""
            self._publish()

    def _order(self, piece: Piece, patched: PatchedSet, gains: Doubles | None) -> orders.Ranked:
        if piece.order == "gradient":
            return orders.gradient(patched, self._say)
        if piece.order == "acdc":
            request = self.request
            thresholds = np.logspace(np.log10(request.lowest), np.log10(request.highest), request.thresholds).tolist()

            return orders.acdc(patched, thresholds, piece.seed, self._say, request.again or math.inf)
        assert gains is not None
        return (orders.single if piece.order == "single" else orders.greedy)(patched, gains, self._say)

    def _gains_of(self, piece: Piece, numbers: Mapping[Piece, int], support: Support) -> Doubles | None:
        """What each feature does alone, if this run has found that already."""
        number = numbers.get(Piece(piece.site, piece.decomposition, "single", piece.seed))
        if number is None or all(int(one["piece"]) != number for one in self.done):
            return None
        return files.read_scores(self.run_dir, number, support)

    def _say(self, share: float, text: str) -> None:
        low, high = self._part
        self._share, self._message = low + (high - low) * share, text
        self._hear()

    def _hear(self) -> None:
        """Tell how far it is, now and then; where somebody's wish to stop is heard."""
        now = time.monotonic()
        if now - self._said >= _A_WORD:
            self._said = now
            total = len(self.request.pieces) or 1
            self.progress.update(int(STEPS * (len(self.done) + min(self._share, 0.99))), STEPS * total, self._message, "steps")

    def _start(self) -> list[int]:
        """What every text begins with."""
        bos = self.subject.info.bos_token_id
        wanted = self.request.bos
        if wanted is None:
            wanted = bos is not None and self.subject.tokenizer("a")["input_ids"][:1] == [bos]
        if wanted and bos is None:
            raise AtlasError(f"{self.subject.info.slug} has no BOS token: leave it out.")
        return [bos] if wanted and bos is not None else []

    def _keep_sentences(self, seed: int, encoded: list[EncodedPair], runs: PairRuns, dropped: list[str]) -> None:
        note = files.write_pairs(self.run_dir, seed, encoded, runs)
        self.sentences.append({"seed": seed, "file": note, "dropped_names": dropped, "baseline": runs.baseline()})
        self._publish()

    def _hashes(self) -> dict[tuple[str, str], str]:
        return {(str(site), name): one.hash for (site, name), one in self.decompositions.items()}

    def _publish(self) -> None:
        complete = len(self.done) == len(self.request.pieces) and len(self.sentences) == self.request.seeds
        write_json(
            self.run_dir / "manifest.json",
            {
                "schema": SCHEMA,
                "kind": "ioi",
                "run": self.run_dir.name,
                "state": "complete" if complete else "partial",
                "request": self.request.to_params(),
                "subject": self.subject.info.to_json(),
                "sentences": self.sentences,
                "pieces": sorted(self.done, key=lambda one: int(one["piece"])),
                "pieces_total": len(self.request.pieces),
                "decompositions": {f"{site}/{name}": files.told(one) for (site, name), one in self.decompositions.items()},
                "provenance": {**self.subject.provenance(), "code": core.__version__},
            },
        )


def _subject(workspace: Workspace, request: IoiRequest) -> Subject:
    """The one that this process has, or loads by a registered name; else whatever the name says."""
    try:
        subject_info(workspace, request.model)
    except AtlasError:
        return load_subject(workspace, request.model, dtype=request.dtype)
    return kept_subject(workspace, request.model, dtype=request.dtype)


def _set_threads() -> None:
    """As many threads as cores are idle: passes are short, and two threads on one busy core wait for each other most of the time."""
    cores = os.cpu_count() or 1
    busy = os.getloadavg()[0] - torch.get_num_threads() if hasattr(os, "getloadavg") else 0.0
    torch.set_num_threads(max(1, cores - max(0, round(busy))))
