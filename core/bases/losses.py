"""What replacing a site's activations does to the model's predictions: cross-entropy and KL. Logits are looked at in chunks."""

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from core.bases.bounds import LOGITS, WIDENED
from core.bases.reconstruction import widened

NOT_FINITE = "The model's output is not finite."


class Predictions:
    """The model's own predictions at the positions of one batch that have a counted token and a next one.

    Memory: its logits as they are, at those positions, and for a moment those of one further pass, which are widened `WIDENED` at a time:
    at most 2 · 4 bytes · max(LOGITS, length · vocabulary) + 5 · 8 bytes · WIDENED, beside what the model's own pass takes.
    """

    def __init__(self, logits: Tensor, tokens: Tensor, counted: Tensor) -> None:
        """logits: [contexts, length, vocabulary]. tokens: int64 [contexts, length]. counted: bool of the same shape."""
        device = logits.device
        # A position predicts when it counts and so does the one after it: what is after the end is padding.
        predicts = counted[:, :-1] & counted[:, 1:]
        self._at = torch.nn.functional.pad(predicts, (0, 1)).flatten().nonzero()[:, 0].to(device)
        self._next = tokens[:, 1:][predicts].to(device)
        self._clean = logits.flatten(0, 1)[self._at]

    @property
    def tokens(self) -> int:
        return len(self._next)

    def clean(self) -> float:
        """Summed cross-entropy of the model as it is, in nats."""
        return sum((self._surprise(old, start) for start, old in self._pieces(self._clean, None)), 0.0)

    def edited(self, logits: Tensor, *, divergence: bool) -> tuple[float, float]:
        """Summed cross-entropy of another pass over the same batch, and summed KL(clean ‖ it), 0 unless asked for."""
        loss = kl = 0.0
        for start, new in self._pieces(logits.flatten(0, 1), self._at):
            loss += self._surprise(new, start)
            if divergence:
                old = _log_probabilities(self._clean[start : start + len(new)])
                # Never negative but for rounding.
                kl += float((old.exp() * (old - new)).sum(-1).clamp_min(0).sum())
        return loss, kl

    def _pieces(self, rows: Tensor, at: Tensor | None) -> Iterator[tuple[int, Tensor]]:
        """Log probabilities of the rows `at` (of all, in order, without), some at a time, and the number of the first of them."""
        step = max(1, WIDENED // rows.shape[-1])
        for start in range(0, self.tokens, step):
            yield start, _log_probabilities(rows[start : start + step] if at is None else rows[at[start : start + step]])

    def _surprise(self, piece: Tensor, start: int) -> float:
        """Summed −log p of what comes next. piece: [n, vocabulary], of the positions from `start` on."""
        return -float(piece.gather(-1, self._next[start : start + len(piece)].to(piece.device)[:, None]).sum())


def loss_metrics(tokens: int, sums: Mapping[str, float], kl: float) -> tuple[dict[str, float | None], dict[str, str]]:
    """The metrics from sums over `tokens`: `clean`, `spliced`, `zero` and `mean` are summed cross-entropies. None with why if undefined."""
    names = ("clean", "spliced", "zero", "mean")
    ce = {name: sums[name] / tokens for name in names}
    found: dict[str, float | None] = {f"ce_{name}": ce[name] for name in names}
    undefined: dict[str, str] = {}
    for name, floor, what in (("loss_recovered", "zero", "zeros"), ("loss_recovered_mean", "mean", "the mean")):
        gap, value = ce[floor] - ce["clean"], ce[floor] - ce["spliced"]
        found[name] = value / gap if gap > 0 and math.isfinite(value) else None
        if not math.isfinite(gap) or not math.isfinite(value):
            undefined[name] = NOT_FINITE
        elif found[name] is None:
            undefined[name] = f"Replacing the site by {what} does not make the model worse on this text, so there is nothing to recover."
    found["ce_difference"] = ce["spliced"] - ce["clean"]
    found["kl"] = kl / tokens
    for name, value in found.items():
        if value is not None and not math.isfinite(value):
            found[name], undefined[name] = None, NOT_FINITE
    return found, undefined


def contexts_at_once(vocabulary: int, length: int) -> int:
    """How many contexts' logits fit into `LOGITS`."""
    return max(1, LOGITS // (vocabulary * length))


def _log_probabilities(rows: Tensor) -> Tensor:
    """float64 log softmax of logits [n, vocabulary]."""
    return torch.log_softmax(widened(rows), -1)
