"""Training dictionaries side by side over one stream of activations, with curves and checkpoints.

Everything that a step depends on is in `state`, so a training that goes on from a checkpoint ends with the same weights as one that was
never stopped.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from core.bases.curves import CurveWriter
from core.bases.dictionary import prepare
from core.bases.info import Prepare
from core.bases.passes import ActivePass, Pass, worth_screening
from core.bases.stream import Stream
from core.bases.tied import Tied
from core.bases.topk import TopK
from core.bases.train_request import TrainRequest
from core.errors import AtlasError

POINTS = 200
"""Points of a curve."""
_DIVERGED = 4.0
"""A squared error above this many times Σ‖x‖², which predicting zero would make, at several points in a row, is diverging."""
_PATIENCE = 5
"""So many points. Many units that all begin active make a large error: what is no larger than at the first point does not count."""
_REVIVING = 0.5
"""Dead units are given new directions up to this share of the run."""

Evaluate = Callable[["Trainer"], Sequence[float | str]]
"""Loss recovered of each dictionary as it is now, or a sentence on why there is none: a look that fails must not cost the training."""


@dataclass
class _Sums:
    """Of one dictionary, since the last point of its curve."""

    squared: float = 0.0
    l1: float = 0.0
    l0: float = 0.0

    def add(self, found: Pass, tokens: int) -> None:
        self.squared += found.squared * tokens
        self.l1 += found.l1 * tokens
        self.l0 += found.l0 * tokens


@dataclass
class _Spread:
    """Of the activations since the last point: their number, sum [d] and sum of squared norms, float64."""

    sum: Tensor
    squared: float = 0.0
    tokens: int = 0

    def add(self, x: Tensor) -> None:
        self.sum += x.sum(0, dtype=torch.float64)
        self.squared += float(x.square().sum(dtype=torch.float64))
        self.tokens += len(x)

    @property
    def variance(self) -> float:
        """Σ‖x − mean‖²."""
        return self.squared - float(self.sum.square().sum()) / max(1, self.tokens)


@dataclass
class Member:
    """One dictionary in training.

    last: int64 [units], tokens seen when a unit was last active. bad: points in a row with too large an error. first: the squared error
    of the first point, a mean over tokens; 0 before it.
    """

    name: str
    alpha: float | None
    learner: Tied | TopK
    last: Tensor
    sums: _Sums = field(default_factory=_Sums)
    bad: int = 0
    first: float = 0.0

    def limit(self, size: float) -> float:
        """The squared error above which this diverges. size: that of predicting zero."""
        return max(_DIVERGED * size, self.first)

    def weigh(self, error: float, size: float) -> None:
        """Take note of a point: its squared error, and that of predicting zero, both means over tokens."""
        self.first = self.first or error
        self.bad = self.bad + 1 if error > self.limit(size) else 0

    def dead(self, seen: int, patience: int) -> Tensor:
        """Units without activity in the last `patience` tokens, int64; none before so many were seen."""
        if seen < patience:
            return self.last.new_empty(0)
        return (self.last < seen - patience).nonzero()[:, 0]


class Trainer:
    """The training of one request: what is trained, and how far it is."""

    def __init__(self, request: TrainRequest, stream: Stream, curves: CurveWriter, device: torch.device | str = "cpu") -> None:
        self.request, self.stream, self.curves, self.device = request, stream, curves, torch.device(device)
        self.step = 0
        self.pointed = 0
        """The step of the last point of the curves."""
        self.members: list[Member] = []
        self.how = Prepare(request.centre)
        self.bias_rate = 1.0
        self.screen = False
        self._spread = _Spread(torch.zeros(stream.source.width, dtype=torch.float64, device=self.device))

    @property
    def seen(self) -> int:
        """Activation vectors trained on so far."""
        return self.step * self.request.batch

    @property
    def every(self) -> int:
        """Steps between two points of the curves."""
        return max(1, self.request.steps // POINTS)

    def begin(self) -> None:
        """Choose the scale and make the first weights, from the first filling of the buffer."""
        d = self.stream.source.width
        self.screen = self.device.type == "cpu" and worth_screening(d, self.request.units(d))
        first = prepare(Prepare(self.request.centre), self.stream.first()).x
        size = float(first.norm(dim=-1).mean(dtype=torch.float64))
        if not math.isfinite(size) or size <= 0:
            raise AtlasError("The activations are not finite, or all zero: choose another site, or float32 instead of bfloat16.")
        self.how = Prepare(self.request.centre, scale=self.request.scale or d**0.5 / size)
        self.bias_rate = self.request.bias_rate or size * self.how.scale
        self._make(first.mean(0) * self.how.scale)

    def _make(self, mean: Tensor) -> None:
        request, d = self.request, self.stream.source.width
        units = request.units(d)
        alphas = request.alphas if request.kind == "tied" else (None,)
        # One for all of them: they take their steps in turn, and nothing of a pass is needed after its step.
        on = ActivePass(self.screen) if self.device.type == "cpu" else None
        for name, alpha, beside_sum in zip(request.names(), alphas, request.alphas_beside_sum(d), strict=True):
            if request.kind == "tied":
                learner = Tied(d, units, beside_sum, request.seed, on, self.device, self.bias_rate)
            else:
                k_aux = min(request.k_aux or max(1, d // 2), units)
                learner = TopK(d, units, request.k, k_aux, request.aux_coefficient, request.seed, on, mean.to(self.device), self.bias_rate)
            self.members.append(Member(name, alpha, learner, torch.zeros(units, dtype=torch.int64, device=self.device)))

    def run(self, tick: Callable[[int], None], evaluate: Evaluate) -> None:
        """Train to the end. tick gets the vectors trained on, after every forward pass and every step, and may raise to stop.

        Raises AtlasError when the loss or the weights are no numbers any more, or grow without end.
        """
        while self.step < self.request.steps:
            self.point(evaluate)
            while self.stream.filling:
                self.stream.fill()
                if not self.members and not self.stream.filling:
                    self.begin()  # before anything is kept: what is left of a buffer is kept in another order
                tick(self.seen)
            self.one_step()
            tick(self.seen)
        self.point(evaluate)

    @property
    def looks(self) -> set[int]:
        """The steps after which the loss recovered is looked at."""
        return {round(self.request.steps * (i + 1) / self.request.evaluations) for i in range(self.request.evaluations)}

    def point(self, evaluate: Evaluate) -> None:
        """The point of the curves that the last step has made due, unless it stands there already: looking may be cut off.

        Raises AtlasError when one of the dictionaries diverges.
        """
        looking = self.step in self.looks
        if self.step == self.pointed or not (self.step % self.every == 0 or self.step == self.request.steps or looking):
            return
        found: Sequence[float | str | None] = evaluate(self) if looking else [None] * len(self.members)
        self.pointed = self.step
        self._point(found)

    def one_step(self) -> None:
        """A step of every dictionary on the stream's next batch, with all that is kept count of. `begin` or `load` comes first.

        Raises AtlasError when a loss or weight is no number any more.
        """
        rows = self.stream.next().to(self.device)
        x = prepare(self.how, rows).x.contiguous()
        rate, seen = self.request.rate(self.step), self.seen
        self._spread.add(x)
        for member in self.members:
            learner = member.learner
            dead = member.dead(seen, self.request.patience)
            if self.request.revive and isinstance(learner, Tied) and len(dead) and self.step < _REVIVING * self.request.steps:
                generator = torch.Generator().manual_seed(self.request.seed * 1_000_003 + self.step)
                learner.revive(dead, x, learner.look(x), generator)
                member.last[dead] = seen
            found = learner.step(x, rate, dead)
            member.last[found.fired > 0] = seen + len(x)
            member.sums.add(found, len(x))
            if not math.isfinite(learner.loss(found)) or not learner.finite():
                raise AtlasError(
                    f"The loss of {member.name} stopped being a number at {seen:,} vectors: lower the learning rate ({self.request.lr:g})"
                    " and start again; the last good checkpoint is kept."
                )
        self.step += 1

    def _point(self, recovered: Sequence[float | str | None]) -> None:
        """Add a line of each dictionary to the curves, and look whether one diverges. recovered: None where it was not looked at."""
        d, spread = self.stream.source.width, self._spread
        lines: list[Mapping[str, Any]] = []
        for member, looked in zip(self.members, recovered, strict=True):
            squared, l1, l0 = (value / spread.tokens for value in (member.sums.squared, member.sums.l1, member.sums.l0))
            loss = squared + member.learner.alpha * l1
            lines.append(
                {
                    "name": member.name,
                    "alpha": member.alpha,
                    "tokens": self.seen,
                    "step": self.step,
                    "loss": loss / d if self.request.mse_reduction == "mean" else loss,
                    "mse": squared / d,
                    "l1": l1,
                    "l0": l0,
                    "explained_variance": 1 - squared * spread.tokens / spread.variance if spread.variance > 0 else None,
                    "dead": len(member.dead(self.seen, self.request.patience)) / len(member.last),
                    "rate": self.request.rate(self.step - 1),
                    "loss_recovered": None if isinstance(looked, str) else looked,
                    **({"undefined": {"loss_recovered": looked}} if isinstance(looked, str) else {}),
                }
            )
            member.weigh(squared, spread.squared / spread.tokens)
            member.sums = _Sums()
        self._spread = _Spread(torch.zeros_like(spread.sum))
        self.curves.add(lines)
        for member in self.members:
            if member.bad >= _PATIENCE:
                raise AtlasError(
                    f"The training of {member.name} diverges: its error stays above {_DIVERGED:g} times the size of the activations."
                    f" Lower the learning rate ({self.request.lr:g}) and start again; the last good checkpoint is kept."
                )

    @property
    def healthy(self) -> bool:
        """Whether a checkpoint taken now would be a good one: nothing diverged at the last point, nor since."""
        spread = self._spread
        sizes = spread.squared / max(1, spread.tokens)
        return all(member.bad == 0 and member.sums.squared <= member.limit(sizes) * spread.tokens for member in self.members)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and JSON that `load` goes on from."""
        rows, counters = self.stream.state()
        tensors = {"stream": rows, "spread.sum": self._spread.sum}
        for i, member in enumerate(self.members):
            tensors[f"{i}.last"] = member.last
            tensors |= {f"{i}.{name}": tensor for name, tensor in member.learner.state().items()}
        sums = [[member.sums.squared, member.sums.l1, member.sums.l0, member.first, member.bad] for member in self.members]
        document = {
            "step": self.step,
            "pointed": self.pointed,
            "stream": counters,
            "scale": self.how.scale,
            "bias_rate": self.bias_rate,
            "screen": self.screen,
            "spread": [self._spread.squared, self._spread.tokens],
            "members": sums,
            "curves": self.curves.size,
        }
        return tensors, document

    def load(self, tensors: dict[str, Tensor], document: Mapping[str, Any]) -> None:
        """Go on from what `state` gave. Raises AtlasError for a checkpoint that does not fit the request."""
        try:
            self.stream.load(tensors["stream"], document["stream"])
            self.step, self.screen = int(document["step"]), bool(document["screen"])
            self.pointed = int(document.get("pointed", self.step))
            self.how = Prepare(self.request.centre, scale=float(document["scale"]))
            self.bias_rate = float(document["bias_rate"])
            self._spread = _Spread(tensors["spread.sum"].to(self.device), float(document["spread"][0]), int(document["spread"][1]))
            if document["members"]:
                self._make(torch.zeros(self.stream.source.width))
            for i, (member, sums) in enumerate(zip(self.members, document["members"], strict=True)):
                member.last.copy_(tensors[f"{i}.last"])
                member.learner.load({name.removeprefix(f"{i}."): one for name, one in tensors.items() if name.startswith(f"{i}.")})
                member.sums, member.bad = _Sums(*(float(value) for value in sums[:3])), int(sums[-1])
                member.first = float(sums[3]) if len(sums) > 4 else 0.0  # not in older checkpoints
        except (KeyError, ValueError, TypeError, RuntimeError, IndexError):
            raise AtlasError("The checkpoint does not fit this run's parameters: remove its checkpoints folder to begin anew.") from None
