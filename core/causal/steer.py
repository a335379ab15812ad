"""Writing with some units changed, beside writing as the model does by itself: one token each a step.

Both are rows of one batch, so that the weights are read once a step; the change concerns the second row only. Each row goes on from its own
tokens with its own keys and values.

* add    c′ⱼ = cⱼ + s · mⱼ at every position that is steered, with s the strength and mⱼ the unit's maximum over the text of its index
* clamp  c′ⱼ = s · mⱼ there

The next token t is drawn by argmaxᵥ (log p(v) / T + gᵥ), with g Gumbel noise (so t is distributed as softmax(log p / T)). g is the same for
both rows: where the change leaves the distribution as it is, the token stays as it is, too.
"""

from collections.abc import Generator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from core.bases.basis import Basis
from core.causal.change import UnitChange
from core.causal.steer_request import Mode, Where
from core.errors import AtlasError
from core.subject.subject import Subject
from core.units import in_order

LISTED = 10
"""Next tokens that are kept of each step."""
_STEPS = 1024
"""Steps of a seed that have noise of their own: more than a run has."""

Listed = tuple[tuple[int, float | None, float | None], ...]
"""Tokens with their log-probabilities, original and steered; None for a side that has ended."""


@dataclass(frozen=True)
class Held:
    """Units of one basis, [n], and by how much they are moved or where they are held, in their own activations, [n]."""

    basis: Basis
    units: Tensor
    amounts: Tensor


@dataclass(frozen=True)
class Sampling:
    """temperature: 0 is greedy. top_p: only the likeliest tokens that together have this share of the probability at that temperature."""

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class Written:
    """A token that a side wrote, its log-probability there (at temperature 1), and the side's likeliest tokens."""

    token: int
    log_p: float
    top: Listed


@dataclass(frozen=True)
class Step:
    """What both sides wrote; None for one that has ended."""

    original: Written | None
    steered: Written | None


def write(
    subject: Subject,
    text: Sequence[int],
    first: int,
    held: Sequence[Held],
    mode: Mode,
    where: Where,
    sampling: Sampling,
    steps: int,
    before: Sequence[Step] = (),
    *,
    cached: bool = True,
) -> Generator[Step]:
    """Go on with a text for `steps` tokens, those of `before` included, or until both sides have written an end of text.

    text: its tokens; those before `first` (a BOS) are never steered. before: steps that were written already. cached: keep keys and values;
    without, every step reads everything again, which gives the same and is slower.
    Raises AtlasError when the steered side's output is not a number any more.
    """
    ends = end_tokens(subject)
    rows = [list(text), list(text)]
    running = [True, True]
    for step in before:
        _append(rows, running, (step.original, step.steered), ends)
    past: Any = DynamicCache() if cached else None
    read = 0
    begin = first if where == "all" else len(text)
    for number in range(len(before), steps):
        if not any(running):
            return
        start = read if cached else 0
        tokens = torch.tensor(rows)[:, start:]
        log_p = _next(subject, tokens, _changes(held, mode, begin, start, tokens.shape[1]), past)
        read = len(rows[0])
        if running[1] and bool(log_p[1].isnan().any()):
            raise AtlasError("At this strength the model's output is not a number any more: choose a smaller one.")
        noise = None if sampling.temperature == 0 else _noise(sampling.seed, number, log_p.shape[1])
        step = Step(*(_written(side, log_p, running, sampling, noise) for side in range(2)))
        _append(rows, running, (step.original, step.steered), ends)
        yield step


def end_tokens(subject: Subject) -> frozenset[int]:
    """The tokens with which the model says that its text has ended."""
    configured: Any = getattr(getattr(subject.model, "generation_config", None), "eos_token_id", None)
    listed = configured if isinstance(configured, list | tuple) else [configured]
    return frozenset(int(token) for token in (*listed, subject.tokenizer.eos_token_id) if token is not None)


def choose(log_p: Tensor, sampling: Sampling, noise: Tensor | None) -> int:
    """The next token by log p [vocabulary], in float64. noise: Gumbel, of the same shape; None where the temperature is 0."""
    if noise is None:
        return int(log_p.argmax())
    scaled = (log_p / sampling.temperature).log_softmax(-1)
    if sampling.top_p < 1:
        ordered = scaled.sort(descending=True, stable=True)
        shares = ordered.values.exp()
        left_out = shares.cumsum(-1) - shares >= sampling.top_p  # the likeliest one never
        scaled = scaled.index_fill(0, ordered.indices[left_out], float("-inf"))
    return int((scaled + noise).argmax())


@torch.inference_mode()
def _next(subject: Subject, tokens: Tensor, changes: Sequence[UnitChange], past: Any) -> Tensor:
    """log p [2, vocabulary] of what follows the last token, float64 on the CPU."""
    last = torch.full((len(tokens), 1), tokens.shape[1] - 1)
    with ExitStack() as stack:
        if changes:
            stack.enter_context(subject.edit(changes))
        logits = subject.logits(tokens, last, past=past)[:, 0]
    return logits.cpu().double().log_softmax(-1)


def _changes(held: Sequence[Held], mode: Mode, begin: int, start: int, width: int) -> list[UnitChange]:
    """The interventions of a pass over positions `start` to `start + width`, in the model's order; none where nothing is steered."""
    where = torch.zeros(2, width, dtype=torch.bool)
    where[1] = torch.arange(start, start + width) >= begin
    if not where.any():
        return []
    sites = in_order({one.basis.site for one in held})
    ordered = sorted(held, key=lambda one: sites.index(one.basis.site))
    return [UnitChange(one.basis, one.units, mode, one.amounts, where) for one in ordered]


def _written(side: int, log_p: Tensor, running: Sequence[bool], sampling: Sampling, noise: Tensor | None) -> Written | None:
    if not running[side]:
        return None
    token = choose(log_p[side], sampling, noise)
    likeliest: list[int] = log_p[side].topk(min(LISTED, log_p.shape[1])).indices.tolist()
    top = tuple((each, *(float(log_p[row, each]) if running[row] else None for row in range(2))) for each in likeliest)
    return Written(token, float(log_p[side, token]), top)  # pyright: ignore[reportArgumentType] - a row has two sides


def _append(rows: list[list[int]], running: list[bool], written: Sequence[Written | None], ends: frozenset[int]) -> None:
    """A side that has ended is filled up with any token: its row goes on, and nobody looks at it."""
    for side, one in enumerate(written):
        rows[side].append(0 if one is None else one.token)
        running[side] = one is not None and one.token not in ends


def _noise(seed: int, step: int, size: int) -> Tensor:
    """Gumbel noise [size], float64, that depends on nothing else: a run that goes on draws what it would have drawn."""
    draw = torch.Generator().manual_seed(seed * _STEPS + step)
    return -torch.empty(size, dtype=torch.float64).exponential_(generator=draw).log()
