"""Pairs of random tokens, small dictionaries, and the slow way to patch: what tests of patching share."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from core.bases.baselines import random_directions, signed
from core.bases.dictionary import Dictionary
from core.bases.info import BasisInfo
from core.causal.above import Above
from core.causal.decompositions import Decomposition, decomposition_at
from core.causal.ioi_pairs import PairRuns, Streams, read_pairs
from core.causal.ioi_sentences import EncodedPair, Order, Pair
from core.causal.patching import PatchedSet
from core.causal.support import Support, support_of
from core.subject.edits import Edit
from core.subject.subject import Subject
from core.units import Site
from core.workspace import Workspace
from tests.models import D_MODEL, VOCABULARY, load_tiny_model

SITE = Site("resid", 0)
PAIRS = 5


def encoded(pairs: int = PAIRS, seed: int = 0) -> list[EncodedPair]:
    """Random tokens, of several lengths, that differ at one position."""
    chance = np.random.default_rng(seed)
    found: list[EncodedPair] = []
    for number in range(pairs):
        length, first = int(chance.integers(6, 11)), int(chance.integers(1, 5))
        base = chance.integers(2, VOCABULARY, length)
        io, other, s = chance.choice(np.arange(2, VOCABULARY), 3, replace=False).tolist()
        base[first] = io
        counterfactual = base.copy()
        counterfactual[first] = other
        order: Order = "ABBA" if number % 2 == 0 else "BABA"
        pair = Pair(order, "", f"base {number}", f"other {number}", "io", "s", "other")
        found.append(EncodedPair(pair, tuple(base.tolist()), tuple(counterfactual.tolist()), io, s, other, first))
    return found


def put_dictionary(workspace: Workspace, subject: Subject, site: Site = SITE, units: int = 40, name: str = "made", **more: Any) -> None:
    """A dictionary of random directions whose biases leave about a third of the units active."""
    chance = torch.Generator().manual_seed(3)
    rows = torch.nn.functional.normalize(torch.randn(units, subject.info.d_model, generator=chance), dim=1)
    model = subject.info
    info = BasisInfo(name, model.slug, site, "sae", "relu", model.d_model, units, model.weights_hash, tied=True, **more)
    Dictionary(info, {"encoder": rows, "bias": torch.full((units,), -0.4)}).save(workspace)


def put_rotation(workspace: Workspace, subject: Subject, site: Site = SITE) -> None:
    """An orthonormal basis, as ± directions."""
    directions = random_directions(D_MODEL, 1)
    signed(directions, np.full(D_MODEL, 0.3), subject=subject.info, site=site, family="random", name="random", k=None, recipe={}).save(
        workspace
    )


class Setting:
    """A tiny subject, pairs, and everything that patching takes."""

    def __init__(self, folder: Path, variant: str = "llama", name: str = "made", pairs: int = PAIRS, **more: Any) -> None:
        self.subject = load_tiny_model(folder, variant, 3)
        self.workspace = Workspace.open(folder / "ws")
        put_dictionary(self.workspace, self.subject, **more)
        put_rotation(self.workspace, self.subject)
        self.runs: PairRuns
        self.runs, streams = read_pairs(self.subject, encoded(pairs), [SITE])
        self.streams: Streams = streams[SITE]
        self.decomposition: Decomposition = decomposition_at(self.workspace, self.subject, SITE, name)
        self.support: Support = support_of(self.decomposition, self.runs, self.streams)
        self.above = Above(self.subject, SITE.layer)

    def patched(self, *, keep: bool = True) -> PatchedSet:
        return PatchedSet(self.above, self.runs, self.streams, self.support, keep=keep)

    def slow(self, units: list[int]) -> tuple[float, torch.Tensor]:
        """Mean KL with these units patched: each pair by itself, the whole subject with a hook, nothing pruned or kept. And the logits."""
        kl: list[float] = []
        logits: list[torch.Tensor] = []
        for one in self.runs.encoded:
            base, other = torch.tensor([one.base]), torch.tensor([one.counterfactual])
            x, there = (self.subject.capture(tokens, [SITE])[SITE] for tokens in (base, other))
            steps = self.decomposition.steps(x, there)[..., units]
            patched = x + (steps @ self.decomposition.directions(torch.tensor(units, dtype=torch.long), D_MODEL)).float()
            y = self.subject.logits(other)[0, -1].double().log_softmax(-1)
            with self.subject.edit([Edit(SITE, "replace", patched)]):
                z = self.subject.logits(base)[0, -1]
            logits.append(z)
            z = z.double().log_softmax(-1)
            kl.append(float((z.exp() * (z - y)).sum()))
        return float(np.mean(kl)), torch.stack(logits)

    def units(self, members: npt.NDArray[np.bool_]) -> list[int]:
        return self.support.units[members].tolist()
