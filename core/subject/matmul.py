"""Which matrix multiplication float32 runs on: torch's default, or oneDNN where it is both exact and faster.

On CPUs whose default library is slow (AMD with MKL) oneDNN is about twice as fast. The switch that routes to it is
called “bf16”: on a CPU without bfloat16 tiles (AMX) the results are still true float32, on one with them they are not. So it is
turned on only after a measurement on the machine at hand.
"""

import time
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional

MAX_ERROR = 1e-5
"""Largest relative error against float64 that still counts as float32."""
MIN_GAIN = 0.95
"""The switch must take at most this share of the default's time."""
BFLOAT16_GAIN = 2 / 3
"""bfloat16 must take at most this share of float32's time."""
_SHAPES = ((512, 576, 1536), (256, 1536, 576), (128, 64, 256))
"""Rows, inputs and outputs of the products measured: those of a small model's MLP, and a tiny one."""


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
    _, default_time = _measure()
    settings.fp32_precision = "bf16"
    error, time_taken = _measure()
    if error < MAX_ERROR and time_taken < MIN_GAIN * default_time:
        return f"oneDNN (relative error {error:.1e}, {default_time / time_taken:.1f} times as fast as the default)"
    settings.fp32_precision = before
    reason = f"relative error {error:.1e}" if error >= MAX_ERROR else "it is not faster"
    return f"torch default (oneDNN rejected: {reason})"


@cache
def bfloat16_pays() -> bool:
    """Whether this machine's CPU multiplies in bfloat16 much faster than in float32: measured, once a process."""
    return _measure(torch.bfloat16)[1] < BFLOAT16_GAIN * _measure()[1]


@torch.no_grad()
def _measure(dtype: torch.dtype = torch.float32) -> tuple[float, float]:
    """The largest relative error against float64 over the shapes, and the sum of their best times in seconds."""
    generator = torch.Generator().manual_seed(0)
    worst, total = 0.0, 0.0
    for rows, inputs, outputs in _SHAPES:
        x, w = (torch.randn(n, inputs, generator=generator).to(dtype) for n in (rows, outputs))
        exact = functional.linear(x.double(), w.double())
        worst = max(worst, float((functional.linear(x, w).double() - exact).norm() / exact.norm()))
        total += min(_seconds(x, w) for _ in range(5))
    return worst, total


def _seconds(x: Tensor, w: Tensor) -> float:
    start = time.perf_counter()
    functional.linear(x, w)
    return time.perf_counter() - start
