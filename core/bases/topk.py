"""The TopK autoencoder of Gao et al. 2024: c = the k largest of ReLU(E(x − b_dec) + b), x̂ = Dᵀc + b_dec, rows of D of unit norm.

loss = mean ‖x − x̂‖² + coefficient · share · mean ‖e − ê‖². The second term keeps units alive: e = x − x̂, taken as constant, is
reconstructed from the k_aux largest codes of the dead units alone, without b_dec (their appendix A.2); share = min(1, dead units / k_aux).
"""

import torch
from torch import Tensor

from core.bases.adam import Adam
from core.bases.passes import ActivePass, Pass, dense_pass


class TopK:
    """A TopK dictionary in training.

    The decoder begins with random rows, the encoder as the decoder, b_dec as the mean of some activations.
    """

    def __init__(
        self,
        d: int,
        units: int,
        k: int,
        k_aux: int,
        coefficient: float,
        seed: int,
        on: ActivePass | None,
        mean: Tensor,
        bias_rate: float = 1.0,
    ) -> None:
        """mean: [d], of prepared activations; its device is the dictionary's. on: see `Tied`.

        bias_rate: both biases learn so many times as fast as the rows.
        """
        first = torch.randn(units, d, generator=torch.Generator().manual_seed(seed)).to(mean.device)
        self.alpha, self.k, self.k_aux, self.coefficient, self.bias_rate, self._on = 0.0, k, k_aux, coefficient, bias_rate, on
        self.decoder = Adam(first, "unit", on)
        self.encoder = Adam(first.clone(), "free", on)
        self.bias = Adam(torch.zeros(units, device=mean.device), "free", on)
        self.decoder_bias = Adam(mean.clone(), "free", on)
        self._rounded = None if on is None else on.rounded(self.encoder.value)

    def loss(self, found: Pass) -> float:
        """The reconstruction's part."""
        return found.squared

    def look(self, x: Tensor) -> Pass:
        """Codes, errors and gradients of prepared activations [n, d], without what the dead units add; nothing changes."""
        return self._look(x - self.decoder_bias.value)

    def _look(self, x: Tensor) -> Pass:
        if self._on is None or self._rounded is None:
            return dense_pass(x, self.encoder.value, self.decoder.value, self.bias.value, 0.0, self.k)
        return self._on.run(x, self.encoder.value, self.decoder.value, self.bias.value, self._rounded, 0.0, self.k, 0.0)

    def gradients(self, x: Tensor, dead: Tensor) -> tuple[Pass, Tensor]:
        """The pass with what the dead units [n] (int64) add to its gradients, and the gradient of b_dec [d].

        b_dec is added to x̂ and subtracted from what the encoder sees: Σ 2r/n − Σⱼ (∂loss/∂bⱼ) eⱼ.
        """
        x = x - self.decoder_bias.value
        found = self._look(x)
        if len(dead) and self.coefficient > 0:
            self._aid(x, found, dead)
        return found, found.residual.sum(0) - found.bias @ self.encoder.value

    def _aid(self, x: Tensor, found: Pass, dead: Tensor) -> None:
        assert found.decoder is not None
        encoder, decoder, tokens = self.encoder.value[dead], self.decoder.value[dead], len(x)
        codes = torch.addmm(self.bias.value[dead], x, encoder.T).relu_()
        if len(dead) > self.k_aux:
            kept = codes.topk(self.k_aux, dim=-1, sorted=False)
            codes = torch.zeros_like(codes).scatter_(-1, kept.indices, kept.values)
        # ê − e, with e = −r and residual = 2r/n.
        over = torch.addmm(found.residual * (tokens / 2), codes, decoder)
        over *= 2 / tokens * self.coefficient * min(1.0, len(dead) / self.k_aux)
        slope = (over @ decoder.T).mul_(codes > 0)
        found.encoder.index_add_(0, dead, slope.T @ x)
        found.decoder.index_add_(0, dead, codes.T @ over)
        found.bias.index_add_(0, dead, slope.sum(0))

    def step(self, x: Tensor, lr: float, dead: Tensor) -> Pass:
        """One step on prepared activations [n, d]. dead: units that have not fired for long, int64."""
        found, to_bias = self.gradients(x, dead)
        assert found.decoder is not None
        self.decoder.step(found.decoder, lr)
        self.encoder.step(found.encoder, lr)
        self.bias.step(found.bias, lr * self.bias_rate)
        self.decoder_bias.step(to_bias, lr * self.bias_rate)
        self._changed()
        return found

    def finite(self) -> bool:
        held = (self.encoder.value, self.decoder.value, self.bias.value, self.decoder_bias.value)
        return all(bool(torch.isfinite(one.sum())) for one in held)

    def tensors(self) -> dict[str, Tensor]:
        """As `Dictionary` takes them."""
        rows = {"encoder": self.encoder.value, "decoder": self.decoder.value}
        return {**rows, "bias": self.bias.value, "decoder_bias": self.decoder_bias.value}

    def state(self) -> dict[str, Tensor]:
        return (
            self.encoder.state("encoder")
            | self.decoder.state("decoder")
            | self.bias.state("bias")
            | self.decoder_bias.state("decoder_bias")
        )

    def load(self, state: dict[str, Tensor]) -> None:
        for name in ("encoder", "decoder", "bias", "decoder_bias"):
            getattr(self, name).load(name, state)
        self._changed()

    def _changed(self) -> None:
        if self._on is not None and self._rounded is not None:
            self._on.round(self.encoder.value, self._rounded)
