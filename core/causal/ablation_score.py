"""The ablation score of an explanation: how much of what a unit does to the output survives when its activation is the simulated one.

    1 − E[JSD(ablate to the calibrated simulation ‖ original)] / E[JSD(ablate to the mean ‖ original)]       (Bills et al. 2023)

over the next-token distributions at every token of the records that the explanation was scored on, with the unit's activation replaced at
every token. 1: the simulation does all that the unit does. 0: no better than its mean. It is described in the paper; the released code has
none. JSD(p ‖ q) = ½ KL(p ‖ m) + ½ KL(q ‖ m), m = ½ (p + q), in nats.

Calibrated: true ≈ a · simulated + b by least squares. A record's a and b are learned from the other records of the score, so nothing that
is judged was fitted to itself, whichever scale the simulator answers in.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from core.autointerp.calibration import calibrate
from core.causal.change import UnitChange
from core.causal.effect import Passes, Read
from core.causal.effect_units import ChosenUnit
from core.store.explanation_view import ExplanationView, SimulationView
from core.subject.subject import Subject

Floats = npt.NDArray[np.float64]
BATCH = 4
NO_CALIBRATION = "fewer than two records could be simulated, and one is calibrated on the others"
NO_EFFECT = "setting the unit to its mean changes no prediction on these records"
NEGLIGIBLE = 1e-12
"""A divergence below this, in nats, is rounding."""


@dataclass(frozen=True)
class AblationScore:
    """score: NaN where undefined, and then `reason` says why. simulated, mean: the two expectations, in nats.

    coverage: the share of records that were simulated.
    """

    explanation: str
    score: float
    simulated: float
    mean: float
    tokens: int
    records: int
    coverage: float
    contexts: tuple[int, ...]
    split: str
    simulator: str
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """NaN as null."""
        return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in asdict(self).items()}


def ablation_score(
    subject: Subject, unit: ChosenUnit, explanation: ExplanationView, bos: int | None, said: Callable[[int, int], None]
) -> AblationScore:
    """explanation: of this unit, its records' text at hand (`explanation_of`). bos: the token that the index puts before each context, if
    it does. said: hears how many records of how many are done."""
    headline = explanation.headline()
    contexts = () if headline is None else headline.contexts
    split, simulator = ("", "") if headline is None else (headline.split, headline.simulator)
    records = [one for one in explanation.of_role("simulated", split or None) if one.context in contexts]
    known = [one for one in records if not one.failed]

    def made(score: float, simulated: float, mean: float, tokens: int, reason: str = "") -> AblationScore:
        coverage = len(known) / len(records) if records else 0.0
        done = tuple(one.context for one in known)
        return AblationScore(
            explanation.identity, score, simulated, mean, tokens, len(known), coverage, done, split, simulator, reason
        )  # fmt: skip

    if unit.mean is None:
        return made(math.nan, math.nan, math.nan, 0, "the unit's mean is not known: its site is not indexed")
    if len(known) < 2:
        return made(math.nan, math.nan, math.nan, 0, NO_CALIBRATION)
    expected = calibrated(known)
    sums, tokens = np.zeros(2), 0
    for first in range(0, len(known), BATCH):
        batch = slice(first, first + BATCH)
        texts = [Read((*([] if bos is None else [bos]), *one.tokens), 0 if bos is None else 1) for one in known[batch]]
        both = divergences(subject, unit, texts, expected[batch])
        sums, tokens = sums + both.sum(1), tokens + both.shape[1]
        said(min(first + BATCH, len(known)), len(known))
    simulated, mean = (sums / tokens).tolist()
    if mean < NEGLIGIBLE:
        return made(math.nan, simulated, mean, tokens, NO_EFFECT)
    return made(1 - simulated / mean, simulated, mean, tokens)


def calibrated(records: Sequence[SimulationView]) -> list[Floats]:
    """Each record's simulated activations [tokens] on the unit's own scale, by the line through the other records."""
    found: list[Floats] = []
    for one in records:
        others = [other for other in records if other is not one]
        line = calibrate("linear", np.concatenate([o.simulated for o in others]), np.concatenate([o.activations for o in others]))
        found.append(line(one.simulated))
    return found


@torch.inference_mode()
def divergences(subject: Subject, unit: ChosenUnit, texts: Sequence[Read], expected: Sequence[Floats]) -> Floats:
    """JSD from the original distribution at each token of the texts: [2, tokens], of the simulation `expected` and of the mean."""
    assert unit.mean is not None
    passes = Passes(subject, texts, [unit.name.site])
    ours = passes.ours
    values = torch.full(ours.shape, unit.mean, dtype=torch.float64)
    values[ours] = torch.from_numpy(np.concatenate(expected))
    one = torch.tensor([unit.name.index])
    p = passes.original[ours.to(subject.device)]
    found: list[Tensor] = []
    for replaced in (values[..., None], torch.tensor([unit.mean])):
        edit = UnitChange(unit.basis, one, "clamp", replaced.float(), ours)
        found.append(jensen_shannon(passes.changed([edit])[ours.to(subject.device)], p))
    return torch.stack(found).cpu().numpy()


def jensen_shannon(p: Tensor, q: Tensor) -> Tensor:
    """JSD in nats [rows] of distributions given as their logarithms [rows, V]; float64, between 0 and log 2."""
    middle = torch.logaddexp(p, q) - math.log(2)
    halves = (p.exp() * (p - middle) + q.exp() * (q - middle)).sum(-1, dtype=torch.float64)
    return (halves / 2).clamp(0.0, math.log(2))
