"""Which matrix multiplication float32 runs on: torch's default, or oneDNN where it is exact.

On CPUs whose default library is slow (AMD with MKL) oneDNN is up to twice as fast, elsewhere about as fast. The switch that routes to it
is called “bf16”: on a CPU without bfloat16 tiles (AMX) the results are still true float32, on one with them they are not. So it is
turned on only after a comparison with float64 on the machine at hand.

Nothing here is decided by the clock: the two libraries' last bits differ, and a busy moment must not give a run other numbers than the
same run had yesterday, or than the part of it before a restart.
"""

from functools import cache
from typing import Any, cast

import torch
from torch.nn import functional

MAX_ERROR = 1e-5
"""Largest relative error against float64 that still counts as float32."""
_SHAPES = ((512, 576, 1536), (256, 1536, 576), (128, 64, 256))
"""Rows, inputs and outputs of the products compared: those of a small model's MLP, and a tiny one."""
FAST_BFLOAT16 = ("amx_bf16", "avx512_bf16", "avx10_2")
"""x86 instructions that multiply in bfloat16. ARM's are left out: not every build of torch uses them."""


def choose_matmul(dtype_name: str, device: torch.device) -> str:
    """Set the process's matrix multiplication for a model, once, and name it for provenance."""
    if device.type != "cpu":
        return f"{device.type} default"
    return _float32_on_cpu() if dtype_name == "float32" else "torch default"


@cache
def _float32_on_cpu() -> str:
    if not torch.backends.mkldnn.is_available():
        return "torch default (oneDNN is not available)"
    settings = cast(Any, torch.backends.mkldnn).matmul
    before = settings.fp32_precision
    settings.fp32_precision = "bf16"
    error = _error()
    if error < MAX_ERROR:
        return f"oneDNN (relative error {error:.1e})"
    settings.fp32_precision = before
    return f"torch default (oneDNN rejected: relative error {error:.1e})"


def bfloat16_pays() -> bool:
    """Whether this machine's CPU multiplies in bfloat16 by instructions of its own, much faster than in float32."""
    found = torch.cpu.get_capabilities()
    # Without oneDNN torch does not use these instructions.
    return torch.backends.mkldnn.is_available() and any(found.get(name, False) for name in FAST_BFLOAT16)


@torch.no_grad()
def _error() -> float:
    """The largest relative error against float64 over the shapes, as the process multiplies now."""
    generator = torch.Generator().manual_seed(0)
    worst = 0.0
    for rows, inputs, outputs in _SHAPES:
        x, w = (torch.randn(n, inputs, generator=generator) for n in (rows, outputs))
        exact = functional.linear(x.double(), w.double())
        worst = max(worst, float((functional.linear(x, w).double() - exact).norm() / exact.norm()))
    return worst
