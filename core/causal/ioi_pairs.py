"""What the subject makes of sentences and their counterfactuals: streams at a site, the outputs, and the baseline."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from core.causal.ioi_sentences import ORDERS, EncodedPair
from core.errors import AtlasError
from core.subject.subject import Subject
from core.units import Site

ROWS = 32
"""Texts read at a time."""
Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Answers:
    """What a row's output is held against. target: the counterfactual's logits [pairs, vocabulary], float32, and their log Σ exp, float64.

    io, s, other: tokens [pairs].
    """

    target: Tensor
    target_total: Tensor
    io: Tensor
    s: Tensor
    other: Tensor

    def of(self, logits: Tensor, pairs: Tensor) -> "Measured":
        """Hold logits [rows, vocabulary] of texts of `pairs` [rows] against the answers. In float64. Raises AtlasError for NaN."""
        z, y = _wide(logits), _wide(self.target[pairs])
        total = z.logsumexp(-1)
        divergence = (z.sub(total[:, None]).exp_() * (z - y)).sum(-1) - total + self.target_total[pairs]
        if bool(divergence.isnan().any()):
            raise AtlasError("The model's output is not a number on these sentences: choose another decomposition or number format.")
        rows = torch.arange(len(z), device=z.device)
        s = z[rows, self.s[pairs]]
        divergence = divergence.clamp_min(0.0)  # rounding
        return Measured(_numbers(divergence), _numbers(z[rows, self.io[pairs]] - s), _numbers(z[rows, self.other[pairs]] - s))

    def divergence(self, logits: Tensor, pairs: Tensor) -> Tensor:
        """KL(z‖y) [rows], differentiable by the logits."""
        z = logits.double().log_softmax(-1)
        y = self.target[pairs].double() - self.target_total[pairs][:, None]
        return (z.exp() * (z - y)).sum(-1)


@dataclass(frozen=True)
class Measured:
    """For each row: KL(z‖y) in nats, z its output and y the counterfactual's; the logit of the indirect object, and of the third name, less
    that of the subject."""

    kl: Doubles
    io: Doubles
    other: Doubles


@dataclass(frozen=True)
class PairRuns:
    """Pairs as the subject read them. base, counterfactual: tokens [pairs, longest], padded on the right; lengths, first: [pairs].

    unpatched: the base's own output; its KL is the ceiling. reached: the counterfactual's own.
    """

    encoded: Sequence[EncodedPair]
    base: Tensor
    counterfactual: Tensor
    lengths: npt.NDArray[np.int64]
    first: npt.NDArray[np.int64]
    answers: Answers
    unpatched: Measured
    reached: Measured
    best: npt.NDArray[np.bool_]
    """[2, pairs]: whether the answer is the likeliest of all tokens, of the base and of the counterfactual."""

    def __len__(self) -> int:
        return len(self.encoded)

    @property
    def abba(self) -> npt.NDArray[np.bool_]:
        return np.array([one.pair.order == "ABBA" for one in self.encoded])

    def baseline(self) -> dict[str, Any]:
        """Accuracy and mean logit difference for each kind of text and sentence, and the KL between them."""
        found: dict[str, Any] = {}
        kinds = {"all": np.ones(len(self), dtype=bool), **{order: self.abba == (order == "ABBA") for order in ORDERS}}
        for name, chosen in kinds.items():
            if chosen.any():
                texts = zip(("original", "counterfactual"), (self.unpatched.io, self.reached.other), self.best, strict=True)
                found[name] = {"pairs": int(chosen.sum()), "kl": float(self.unpatched.kl[chosen].mean())} | {
                    text: {
                        "accuracy": float((gap[chosen] > 0).mean()),
                        "logit_difference": float(gap[chosen].mean()),
                        "likeliest": float(best[chosen].mean()),
                    }
                    for text, gap, best in texts
                }
        return found


@dataclass(frozen=True)
class Streams:
    """Residual streams of the pairs at one site, [pairs, longest, d_model], in the subject's own numbers.

    Before the first position where a pair's texts differ the two are the same, as attention is causal; rounding may not say otherwise.
    """

    site: Site
    base: Tensor
    counterfactual: Tensor


def read_pairs(
    subject: Subject, encoded: Sequence[EncodedPair], sites: Sequence[Site], on_pass: Callable[[], None] = lambda: None
) -> tuple[PairRuns, dict[Site, Streams]]:
    """Run the subject over the pairs: once over each text. Raises AtlasError for a site that is not there."""
    lengths = np.array([len(one.base) for one in encoded], dtype=np.int64)
    first = np.array([one.first for one in encoded], dtype=np.int64)
    base, other = padded([one.base for one in encoded]), padded([one.counterfactual for one in encoded])
    base_logits, base_streams = _read(subject, base, lengths, sites, on_pass)
    target, other_streams = _read(subject, other, lengths, sites, on_pass)
    io, s, third = (torch.tensor([getattr(one, name) for one in encoded], device=target.device) for name in ("io", "s", "other"))
    answers = Answers(target, torch.cat([_wide(part).logsumexp(-1) for part in target.split(ROWS)]), io, s, third)
    before = torch.arange(base.shape[1])[None, :, None] < torch.from_numpy(first)[:, None, None]
    streams = {
        site: Streams(site, base_streams[site], torch.where(before.to(base_streams[site].device), base_streams[site], other_streams[site]))
        for site in sites
    }
    best = np.stack([_numbers(base_logits.argmax(-1) == io), _numbers(target.argmax(-1) == third)]).astype(bool)
    runs = PairRuns(encoded, base, other, lengths, first, answers, measured(answers, base_logits), measured(answers, target), best)
    return runs, streams


def measured(answers: Answers, logits: Tensor) -> Measured:
    """All pairs' outputs [pairs, vocabulary], some at a time."""
    places = torch.arange(len(logits), device=logits.device)
    parts = [answers.of(logits[some], some) for some in places.split(ROWS)]
    return Measured(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("kl", "io", "other")))


def padded(texts: Sequence[Sequence[int]]) -> Tensor:
    """Tokens [texts, longest]; shorter texts go on with zeros, which change nothing before them."""
    longest = max(map(len, texts))
    return torch.tensor([[*text, *([0] * (longest - len(text)))] for text in texts])


def _read(
    subject: Subject, tokens: Tensor, lengths: npt.NDArray[np.int64], sites: Sequence[Site], on_pass: Callable[[], None]
) -> tuple[Tensor, dict[Site, Tensor]]:
    """Logits at the last position [pairs, vocabulary], float32, and the streams of each site."""
    logits: list[Tensor] = []
    kept: dict[Site, list[Tensor]] = {site: [] for site in sites}
    for start in range(0, len(tokens), ROWS):
        on_pass()
        some = slice(start, start + ROWS)
        with subject.edit([_Keep(site, kept[site]) for site in sites]):
            at = torch.from_numpy(lengths[some] - 1)[:, None]
            logits.append(subject.logits(tokens[some], at)[:, 0].float().clone())
    return torch.cat(logits), {site: torch.cat(parts) for site, parts in kept.items()}


@dataclass(frozen=True)
class _Keep:
    """Changes nothing, and keeps what goes by."""

    site: Site
    into: list[Tensor]

    def apply(self, activations: Tensor) -> Tensor:
        self.into.append(activations.clone())
        return activations


def _wide(x: Tensor) -> Tensor:
    """float64, on the CPU where the device has no such numbers."""
    return (x.cpu() if x.device.type == "mps" else x).double()


def _numbers(x: Tensor) -> npt.NDArray[Any]:
    return x.cpu().numpy()
