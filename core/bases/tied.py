"""The tied sparse autoencoder of Cunningham et al. 2023: c = ReLU(M̂x + b), x̂ = M̂ᵀc, where M̂ is M with rows divided by their norm.

loss = mean over tokens of ‖x − x̂‖² + α ‖c‖₁ (their eq. 4). The division happens inside the loss, so the gradient goes through it; M
begins as Xavier-uniform, b as zero. There is no decoder bias.
"""

import torch
from torch import Tensor

from core.bases.adam import Adam
from core.bases.passes import ActivePass, Pass, dense_pass


class Tied:
    """A tied dictionary in training. `rows` and `bias` with their optimisers."""

    def __init__(
        self,
        d: int,
        units: int,
        alpha: float,
        seed: int,
        on: ActivePass | None,
        device: torch.device | str = "cpu",
        bias_rate: float = 1.0,
    ) -> None:
        """alpha: beside the summed squared error. on: compute over active units, on the CPU; None for dense products on `device`.

        bias_rate: the bias learns so many times as fast as the rows.
        """
        bound = (6 / (d + units)) ** 0.5
        first = torch.empty(units, d).uniform_(-bound, bound, generator=torch.Generator().manual_seed(seed))
        self.alpha, self.k, self.bias_rate, self._on = alpha, 0, bias_rate, on
        self.rows = Adam(first.to(device), "inside", on)
        self.bias = Adam(torch.zeros(units, device=device), "free", on)
        self._l0 = torch.full((), float(units), dtype=torch.float64)
        self._rounded = None if on is None else on.rounded(self.rows.unit)

    def loss(self, found: Pass) -> float:
        return found.squared + self.alpha * found.l1

    def look(self, x: Tensor) -> Pass:
        """Codes, errors and gradients of prepared activations [n, d]; nothing changes."""
        if self._on is None or self._rounded is None:
            return dense_pass(x, self.rows.unit, None, self.bias.value, self.alpha, 0)
        return self._on.run(x, self.rows.unit, None, self.bias.value, self._rounded, self.alpha, 0, float(self._l0))

    def step(self, x: Tensor, lr: float, dead: Tensor) -> Pass:
        """One step on prepared activations [n, d]. dead: not used, see `revive`."""
        found = self.look(x)
        self._l0.fill_(found.l0)
        self.rows.step(found.encoder, lr)
        self.bias.step(found.bias, lr * self.bias_rate)
        self._changed()
        return found

    def revive(self, units: Tensor, x: Tensor, found: Pass, generator: torch.Generator) -> None:
        """Write rows of `units` [n] (int64) anew: the residuals of tokens drawn by their squared error, bias zero, momentum gone.

        Not in the paper, which leaves dead units to later work; after Bricken et al. 2023.
        """
        drawn = torch.multinomial(found.each.double().cpu() + 1e-30, len(units), replacement=True, generator=generator).to(x.device)
        towards = -found.residual[drawn]
        length = self.rows.value.norm(dim=-1).mean()
        self.rows.value[units] = towards / towards.norm(dim=-1, keepdim=True).clamp_min(1e-12) * length
        self.bias.value[units] = 0
        self.rows.forget(units)
        self.bias.forget(units)
        self._changed()

    def finite(self) -> bool:
        return bool(torch.isfinite(self.rows.unit.sum() + self.bias.value.sum()))

    def tensors(self) -> dict[str, Tensor]:
        """As `Dictionary` takes them."""
        return {"encoder": self.rows.unit, "bias": self.bias.value}

    def state(self) -> dict[str, Tensor]:
        return {**self.rows.state("rows"), **self.bias.state("bias"), "l0": self._l0}

    def load(self, state: dict[str, Tensor]) -> None:
        self.rows.load("rows", state)
        self.bias.load("bias", state)
        self._l0.copy_(state.get("l0", self._l0))  # not in older checkpoints: then one step more is dense
        self._changed()

    def _changed(self) -> None:
        if self._on is not None and self._rounded is not None:
            self._on.round(self.rows.unit, self._rounded)
