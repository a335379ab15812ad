"""What replacing a site's activations does to the model's predictions: cross-entropy and KL. Logits are looked at in chunks."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from core.bases.reconstruction import widened

LOGITS = 1 << 25
"""Logits of one pass held at once: 128 MB, and twice that as log probabilities of the clean pass."""
_ROWS = 1 << 22
"""Logits widened to float64 at once: 32 MB."""


class Predictions:
    """The model's own log probabilities at the positions of one batch that have a counted token and a next one."""

    def __init__(self, logits: Tensor, tokens: Tensor, counted: Tensor) -> None:
        """logits: [contexts, length, vocabulary]. tokens: int64 [contexts, length]. counted: bool of the same shape."""
        device = logits.device
        # A position predicts when it counts and so does the one after it: what is after the end is padding.
        self._at = (counted[:, :-1] & counted[:, 1:]).to(device)
        self._next = tokens[:, 1:].to(device)[self._at]
        self._clean = torch.cat(list(_log_probabilities(logits[:, :-1][self._at]))) if len(self._next) else None

    @property
    def tokens(self) -> int:
        return len(self._next)

    def clean(self) -> float:
        """Summed cross-entropy of the model as it is, in nats."""
        return 0.0 if self._clean is None else -float(self._clean.gather(-1, self._next.to(self._clean.device)[:, None]).sum())

    def edited(self, logits: Tensor, *, divergence: bool) -> tuple[float, float]:
        """Summed cross-entropy of another pass over the same batch, and summed KL(clean ‖ it), 0 unless asked for."""
        if self._clean is None:
            return 0.0, 0.0
        loss = kl = 0.0
        start = 0
        for new in _log_probabilities(logits[:, :-1][self._at]):
            stop = start + len(new)
            loss -= float(new.gather(-1, self._next[start:stop].to(new.device)[:, None]).sum())
            if divergence:
                old = self._clean[start:stop]
                # Never negative but for rounding.
                kl += float((old.exp() * (old - new)).sum(-1).clamp_min(0).sum())
            start = stop
        return loss, kl


def loss_metrics(tokens: int, sums: Mapping[str, float], kl: float) -> tuple[dict[str, float | None], dict[str, str]]:
    """The metrics from sums over `tokens`: `clean`, `spliced`, `zero` and `mean` are summed cross-entropies. None with why if undefined."""
    names = ("clean", "spliced", "zero", "mean")
    ce = {name: sums[name] / tokens for name in names}
    found: dict[str, float | None] = {f"ce_{name}": ce[name] for name in names}
    undefined: dict[str, str] = {}
    for name, floor, what in (("loss_recovered", "zero", "zeros"), ("loss_recovered_mean", "mean", "the mean")):
        gap = ce[floor] - ce["clean"]
        found[name] = (ce[floor] - ce["spliced"]) / gap if gap > 0 else None
        if found[name] is None:
            undefined[name] = f"Replacing the site by {what} does not make the model worse on this text, so there is nothing to recover."
    found["ce_difference"] = ce["spliced"] - ce["clean"]
    found["kl"] = kl / tokens
    return found, undefined


def contexts_at_once(vocabulary: int, length: int) -> int:
    """How many contexts' logits fit into `LOGITS`."""
    return max(1, LOGITS // (vocabulary * length))


def _log_probabilities(rows: Tensor) -> Iterator[Tensor]:
    """float64 log softmax of logits [n, vocabulary], some rows at a time."""
    pieces: Sequence[Tensor] = rows.split(max(1, _ROWS // rows.shape[-1]))
    for piece in pieces:
        yield torch.log_softmax(widened(piece), -1)
