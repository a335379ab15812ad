"""One pass of a training step: codes, reconstruction and gradients of a batch. Plain and dense for any device, or over active units on
the CPU.

Both compute, for n tokens x [n, d] (prepared, and less the decoder's bias), with value zⱼ = x·eⱼ + bⱼ, code cⱼ = ReLU(zⱼ) (of the k
largest only, when k > 0), r = Σ cⱼdⱼ − x and loss = mean ‖r‖² + α mean Σ cⱼ:

    ∂loss/∂zⱼ = (2 r·dⱼ + α) / n where cⱼ > 0, else 0        ∂loss/∂eⱼ = Σ ∂loss/∂zⱼ x        ∂loss/∂dⱼ = Σ cⱼ 2r / n
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from core.bases import kernels
from core.bases.bounds import BORDER, DENSE_SHARE
from core.subject.matmul import bfloat16_pays

_SMALL = 1 << 18
"""Entries of an encoder whose product takes no time worth sparing."""


@dataclass(frozen=True)
class Pass:
    """What a batch says. Means are over its tokens. The tensors may be overwritten by the next pass of the same maker.

    squared: mean ‖x − x̂‖². l1, l0: mean Σ cⱼ and number of codes that are not zero. fired: int64 [units], tokens on which a unit was
    active.
    each: [n], ‖x − x̂‖² of each token. residual: [n, d], 2r/n. encoder, decoder: gradients [units, d], one of both together (`decoder`
    None) when tied.
    bias: gradient [units].
    """

    squared: float
    l1: float
    l0: float
    fired: Tensor
    each: Tensor
    residual: Tensor
    encoder: Tensor
    decoder: Tensor | None
    bias: Tensor


def dense_pass(x: Tensor, encoder: Tensor, decoder: Tensor | None, bias: Tensor, alpha: float, k: int) -> Pass:
    """The pass by products of whole matrices, on any device, in the dtype of x. decoder: None when tied."""
    tokens = x.shape[0]
    rows = encoder if decoder is None else decoder
    codes = torch.addmm(bias, x, encoder.T).relu_()
    if k:
        kept = codes.topk(k, dim=-1, sorted=False)
        codes = torch.zeros_like(codes).scatter_(-1, kept.indices, kept.values)
    active = codes > 0
    r = torch.addmm(x, codes, rows, beta=-1)
    each = r.square().sum(-1)
    r *= 2 / tokens
    slope = (r @ rows.T).add_(alpha / tokens).mul_(active)
    to_encoder, to_decoder = slope.T @ x, codes.T @ r
    fired = active.sum(0)
    return Pass(
        float(each.mean(dtype=torch.float64)),
        float(codes.sum(dtype=torch.float64)) / tokens,
        float(fired.sum()) / tokens,
        fired,
        each,
        r,
        to_encoder if decoder is not None else to_encoder.add_(to_decoder),
        None if decoder is None else to_decoder,
        slope.sum(0),
    )


class ActivePass:
    """The pass over active units, on the CPU in float32. One at a time; its buffers grow to what the batches need and no further.

    Memory: gradients, 4 bytes · units · d (twice that when not tied), the product, at most 4 bytes · batch · units, 4 bytes · batch · d,
    and ENTRY bytes for each active unit of a token, of which there are at most BORDER · DENSE_SHARE · batch · units (batch · k with a k).
    A dense pass takes for a moment at most 17 bytes · batch · units and two gradients more. One maker serves any number of dictionaries
    in turn.
    """

    def __init__(self, screen: bool) -> None:
        """screen: compute the product of activations and encoder in bfloat16 first, see `worth_screening`."""
        self.screen = screen
        self.threads = max(1, torch.get_num_threads())
        self._pool = ThreadPoolExecutor(self.threads) if self.threads > 1 else None
        self._buffers: dict[str, Tensor] = {}

    def rounded(self, encoder: Tensor) -> tuple[Tensor, Tensor]:
        """As `run` takes them: the encoder's rows in bfloat16 (none without a screen), and [2, units], how far each is off and its norm."""
        made = torch.empty(encoder.shape if self.screen else 0, dtype=torch.bfloat16), torch.zeros(2, encoder.shape[0])
        self.round(encoder, made)
        return made

    def round(self, encoder: Tensor, rounded: tuple[Tensor, Tensor]) -> None:
        """Bring what `rounded` returned up to date."""
        if not self.screen:
            torch.linalg.vector_norm(encoder, dim=-1, out=rounded[1][1])
        else:
            source, bits, error = encoder.numpy(), rounded[0].view(torch.uint16).numpy(), rounded[1].numpy()
            width = source.shape[1]
            self.each(len(source), lambda a, b: kernels.round_rows(source, np.empty((2, width), np.uint32), bits, error, a, b))

    def run(
        self,
        x: Tensor,
        encoder: Tensor,
        decoder: Tensor | None,
        bias: Tensor,
        rounded: tuple[Tensor, Tensor],
        alpha: float,
        k: int,
        expected: float,
    ) -> Pass:
        """See `Pass`. x: [n, d], float32, contiguous. expected: active units a token; many make it a dense pass, unless there is a k."""
        (tokens, d), units = x.shape, len(bias)
        if not k and expected > DENSE_SHARE * units:
            return dense_pass(x, encoder, decoder, bias, alpha, k)
        product, lost = self._product(x, encoder, rounded[0])
        bits = product.view(torch.uint16).numpy() if self.screen else product.numpy()
        error, offsets = rounded[1].numpy(), bias.numpy()
        start = np.arange(tokens, dtype=np.int64) * k
        total = tokens * k
        if not k:
            counts = np.empty(tokens, np.int64)
            self.each(tokens, lambda a, b: kernels.count_possible(bits, self.screen, offsets, lost, error, a, b, counts))
            total = int(counts.sum())
            if total > BORDER * DENSE_SHARE * tokens * units:
                return dense_pass(x, encoder, decoder, bias, alpha, k)
            start[1:] = np.cumsum(counts)[:-1]
        names = ("index", "code", "slope", "token", "unit_code", "unit_slope")
        kinds = (torch.int32, torch.float32, torch.float32, torch.int32, torch.float32, torch.float32)
        entries = [self._buffer(name, total, kind).numpy() for name, kind in zip(names, kinds, strict=True)]
        index, code, slope = entries[:3]
        count, sums = np.empty(tokens, np.int64), np.empty((tokens, 2), np.float32)
        residual = self._buffer("residual", tokens * d, torch.float32).view(tokens, d)
        rows, source = (encoder if decoder is None else decoder).numpy(), x.numpy()
        first, r = encoder.numpy(), residual.numpy()
        self.each(
            tokens,
            lambda a, b: kernels.tokens_pass(
                bits, self.screen, k, source, first, rows, offsets, lost, error, alpha, a, b, start, index, code, slope, count, r, sums
            ),
        )
        ends = np.empty(units + 1, np.int64)
        kernels.by_unit(start, count, index, code, slope, ends, *entries[3:])
        to_encoder = self._buffer("to_encoder", units * d, torch.float32).view(units, d)
        to_decoder = to_encoder if decoder is None else self._buffer("to_decoder", units * d, torch.float32).view(units, d)
        to_bias = torch.empty(units)
        targets = (to_encoder.numpy(), to_decoder.numpy(), to_bias.numpy())
        self.each(units, lambda a, b: kernels.gradients(source, r, ends, *entries[3:], a, b, decoder is None, *targets))
        means = sums.mean(axis=0, dtype=np.float64)
        return Pass(
            float(means[0]),
            float(means[1]),
            float(count.sum()) / tokens,
            torch.from_numpy(np.diff(ends)),
            torch.from_numpy(sums[:, 0]),
            residual,
            to_encoder,
            None if decoder is None else to_decoder,
            to_bias,
        )

    def each(self, n: int, work: Callable[[int, int], None]) -> None:
        """Do `work(first, end)` for ranges that make up 0 to n, one a thread."""
        if self._pool is None:
            work(0, n)
            return
        edges = [n * i // self.threads for i in range(self.threads + 1)]
        asked: list[Future[None]] = [self._pool.submit(work, a, b) for a, b in pairwise(edges)]
        for one in asked:
            one.result()

    def _product(self, x: Tensor, encoder: Tensor, rounded: Tensor) -> tuple[Tensor, np.ndarray]:
        """x·eⱼ [n, units], screened or not, and [n, 2]: ‖x − x'‖ and ‖x'‖."""
        target = self._buffer("product", len(x) * len(encoder), torch.bfloat16 if self.screen else torch.float32)
        target = target.view(len(x), len(encoder))
        if not self.screen:
            norms = x.norm(dim=-1)
            return torch.mm(x, encoder.T, out=target), torch.stack([torch.zeros_like(norms), norms], dim=-1).numpy()
        low = x.bfloat16()
        back = low.float()
        return torch.mm(low, rounded.T, out=target), torch.stack([(x - back).norm(dim=-1), back.norm(dim=-1)], dim=-1).numpy()

    def _buffer(self, name: str, size: int, kind: torch.dtype) -> Tensor:
        """The first `size` entries of a buffer that is kept: fresh memory costs more than what is done with it."""
        held = self._buffers.get(name)
        if held is None or len(held) < size or held.dtype != kind:
            held = self._buffers[name] = torch.empty(size, dtype=kind)
        return held[:size]


def worth_screening(d: int, units: int) -> bool:
    """Whether a product in bfloat16 is so much faster here that screening pays: not by the clock, see `core/subject/matmul.py`."""
    return d * units >= _SMALL and bfloat16_pays()
