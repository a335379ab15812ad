"""Adam (Kingma and Ba 2015) on rows and vectors, with what keeps the norm of rows. β₁ = 0.9, β₂ = 0.999, ε = 10⁻⁸, no weight decay.

Rows are free, normalised by the loss, or of unit norm. In the first case of the last two the gradient g of the loss by u = row/‖row‖
becomes (g − (g·u)u)/‖row‖ by the row; in the second the part of g along the row is dropped before the step, and the row is divided by its
norm after it (Bricken et al. 2023; Gao et al. 2024).
"""

from typing import Literal

import torch
from torch import Tensor

from core.bases import kernels
from core.bases.passes import ActivePass

Norm = Literal["free", "inside", "unit"]
_HOW: dict[Norm, int] = {"free": 0, "inside": 1, "unit": 2}
_BETA1, _BETA2, _EPS = 0.9, 0.999, 1e-8
_TINY = 1e-8


class Adam:
    """The state of one parameter, [rows, d] or [n], which is changed in place."""

    def __init__(self, value: Tensor, norm: Norm = "free", on: ActivePass | None = None) -> None:
        """on: whose threads do the work; None for plain torch, on any device. A vector's norm is free."""
        self.value, self._on = value, on
        self.how: Norm = norm
        self.mean, self.square = torch.zeros_like(value), torch.zeros_like(value)
        self.steps = 0
        self._norms = value.norm(dim=-1) if value.ndim == 2 else value.new_zeros(0)
        self.unit = value
        """Rows as the loss sees them; another tensor than `value` only when they are normalised inside the loss."""
        if norm == "unit":
            value /= self._norms.clamp_min(_TINY)[:, None]
        elif norm == "inside":
            self.unit = value / self._norms.clamp_min(_TINY)[:, None]

    def step(self, gradient: Tensor, lr: float) -> None:
        self.steps += 1
        rate, scale = lr / (1 - _BETA1**self.steps), (1 - _BETA2**self.steps) ** -0.5
        if self._on is None:
            self._plain(gradient, rate, scale)
        elif self.value.ndim == 1:
            kernels.adam_vector(gradient.numpy(), self.value.numpy(), self.mean.numpy(), self.square.numpy(), rate, scale)
        else:
            held = [one.numpy() for one in (gradient, self.value, self.unit, self._norms, self.mean, self.square)]
            self._on.each(len(self.value), lambda a, b: kernels.adam_rows(_HOW[self.how], *held, rate, scale, a, b))

    def forget(self, rows: Tensor) -> None:
        """Rows that were written anew: no momentum, and their norm is another."""
        self.mean[rows], self.square[rows] = 0, 0
        if self.value.ndim == 2:
            self._norms[rows] = self.value[rows].norm(dim=-1)
            if self.how == "inside":
                self.unit[rows] = self.value[rows] / self._norms[rows].clamp_min(_TINY)[:, None]

    def state(self, name: str) -> dict[str, Tensor]:
        """Everything that the next step depends on, `steps` included."""
        count = torch.tensor([self.steps])
        return {name: self.value, f"{name}.mean": self.mean, f"{name}.square": self.square, f"{name}.steps": count, **self._rows(name)}

    def load(self, name: str, state: dict[str, Tensor]) -> None:
        """Go on from what `state` gave. Raises KeyError or RuntimeError for what does not fit."""
        for mine, saved in self.state(name).items():
            if mine.endswith(".steps"):
                self.steps = int(state[mine])
            else:
                saved.copy_(state[mine])

    def _rows(self, name: str) -> dict[str, Tensor]:
        found = {f"{name}.norms": self._norms} if self.value.ndim == 2 else {}
        return found | ({f"{name}.unit": self.unit} if self.how == "inside" else {})

    def _plain(self, gradient: Tensor, rate: float, scale: float) -> None:
        if self.how != "free":
            towards = self.unit
            gradient = gradient - (gradient * towards).sum(-1, keepdim=True) * towards
            if self.how == "inside":
                gradient = gradient / self._norms.clamp_min(_TINY)[:, None]
        self.mean.lerp_(gradient, 1 - _BETA1)
        self.square.mul_(_BETA2).addcmul_(gradient, gradient, value=1 - _BETA2)
        self.value.addcdiv_(self.mean, self.square.sqrt().mul_(scale).add_(_EPS), value=-rate)
        if self.value.ndim == 2:
            self._norms.copy_(self.value.norm(dim=-1))
        if self.how != "free":
            torch.div(self.value, self._norms.clamp_min(_TINY)[:, None], out=self.unit)
