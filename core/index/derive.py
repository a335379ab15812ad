"""What a reader wants to see at a glance, worked out from a sketch when it is written: the peak, a snippet, the top tokens."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from core.index import kernels
from core.index.jit import njit
from core.index.sketch import Array, Sketch

TOP_TOKENS = 20
SEEN = 3
"""A token has to occur this often in the text to be listed, unless the text is too short for it."""
_BEFORE, _AFTER = 10, 5


@dataclass(frozen=True)
class Derived:
    """Columns of units.parquet that describe the peak and the top tokens."""

    peak_token: Array
    peak_context: Array
    peak_position: Array
    snippet: list[str]
    offsets: Array
    tokens: Array
    means: Array
    counts: Array
    totals: Array

    def columns(self) -> dict[str, Any]:
        lists = {"top_tokens": self.tokens, "top_token_means": self.means, "top_token_counts": self.counts, "top_token_totals": self.totals}
        return {
            "peak_token": self.peak_token,
            "peak_context": self.peak_context,
            "peak_position": self.peak_position,
            "snippet": pa.array(self.snippet, pa.string()),
            **{name: pa.ListArray.from_arrays(self.offsets, values) for name, values in lists.items()},
        }


def derive(sketch: Sketch, tokens: Array, totals: Array, decode: Callable[[Sequence[int]], str]) -> Derived:
    """tokens: int32 [contexts, length] of the slice. totals: int64 [vocabulary], how often each token was counted so far.

    A top token's mean is estimated (docs/methods.md): the unit's strongest positions are known exactly; the token's other occurrences
    take the mean of its sampled positions outside of those, shrunk by one observation towards the same mean over all tokens.
    """
    top = sketch.keys[:, : kernels.OFFSETS[1]]
    best = top.argmax(axis=1)
    rows = np.arange(sketch.units)
    context = (kernels.RANK_MASK - (top[rows, best] & kernels.RANK_MASK)).astype(np.int32)
    context[top[rows, best] == kernels.LOWEST] = -1
    position = sketch.places[rows, best]
    found = np.full((sketch.units, TOP_TOKENS), -1, np.int32)
    means = np.zeros((sketch.units, TOP_TOKENS), np.float32)
    counts = np.zeros((sketch.units, TOP_TOKENS), np.int32)
    least = SEEN if (totals >= SEEN).sum() >= TOP_TOKENS else 1
    list_top_tokens(
        tokens, totals, least, sketch.strong.keys, sketch.strong.places, sketch.strong.values,
        sketch.sample.keys, sketch.sample.places, sketch.sample.values, found, means, counts,
    )  # fmt: skip
    listed = found >= 0
    return Derived(
        peak_token=np.where(context >= 0, tokens[context, position], -1).astype(np.int32),
        peak_context=context,
        peak_position=position,
        snippet=[_snippet(sketch, tokens, decode, c, p) for c, p in zip(context.tolist(), position.tolist(), strict=True)],
        offsets=np.concatenate([[0], np.cumsum(listed.sum(axis=1))]).astype(np.int32),
        tokens=found[listed],
        means=means[listed],
        counts=counts[listed],
        totals=totals[found[listed]].astype(np.int32),
    )


def _snippet(sketch: Sketch, tokens: Array, decode: Callable[[Sequence[int]], str], context: int, position: int) -> str:
    if context < 0:
        return ""
    start = max(sketch.contexts.first, position - _BEFORE)
    stop = min(int(sketch.contexts.lengths[context]), position + _AFTER + 1)
    return decode(tokens[context, start:stop].tolist())


@njit(nogil=True, cache=True)
def list_top_tokens(
    tokens: Any, totals: Any, least: int, strong_keys: Any, strong_places: Any, strong_values: Any,
    sample_keys: Any, sample_places: Any, sample_values: Any, found: Any, means: Any, counts: Any,
) -> None:  # fmt: skip
    """Fill `found`, `means` and `counts` ([units, TOP_TOKENS], best first, −1 where there are no more)."""
    vocabulary = len(totals)
    strong_sum = np.zeros(vocabulary)
    strong_count = np.zeros(vocabulary, np.int64)
    other_sum = np.zeros(vocabulary)
    other_count = np.zeros(vocabulary, np.int64)
    for unit in range(strong_keys.shape[0]):
        cut_key, cut_place = strong_keys[unit, 0], strong_places[unit, 0]
        below_sum, below_count = 0.0, 0
        for at in range(strong_keys.shape[1]):
            if strong_keys[unit, at] != kernels.LOWEST:
                token = tokens[kernels.rank_of(strong_keys[unit, at]), strong_places[unit, at]]
                strong_sum[token] += strong_values[unit, at]
                strong_count[token] += 1
            if sample_keys[unit, at] != kernels.LOWEST:
                rank = kernels.rank_of(sample_keys[unit, at])
                key = kernels.make_key(kernels.float_order(sample_values[unit, at]), rank)
                if kernels.worse(key, sample_places[unit, at], cut_key, cut_place):
                    token = tokens[rank, sample_places[unit, at]]
                    other_sum[token] += sample_values[unit, at]
                    other_count[token] += 1
                    below_sum += sample_values[unit, at]
                    below_count += 1
        below = below_sum / below_count if below_count else 0.0
        for at in range(strong_keys.shape[1]):
            if strong_keys[unit, at] == kernels.LOWEST:
                continue
            token = tokens[kernels.rank_of(strong_keys[unit, at]), strong_places[unit, at]]
            known = strong_count[token]
            if known == 0 or totals[token] < least:
                continue
            rest = (other_sum[token] + below) / (other_count[token] + 1)
            mean = (strong_sum[token] + (totals[token] - known) * rest) / totals[token]
            place = found.shape[1]
            while place > 0 and (found[unit, place - 1] < 0 or better(mean, token, means[unit, place - 1], found[unit, place - 1])):
                place -= 1
            if place < found.shape[1]:
                for shift in range(found.shape[1] - 1, place, -1):
                    found[unit, shift], means[unit, shift], counts[unit, shift] = (
                        found[unit, shift - 1],
                        means[unit, shift - 1],
                        counts[unit, shift - 1],
                    )
                found[unit, place], means[unit, place], counts[unit, place] = token, mean, known
            # A token is listed once; its sums are cleared as it is met.
            strong_count[token] = 0
            strong_sum[token] = 0
        for at in range(strong_keys.shape[1]):
            if strong_keys[unit, at] != kernels.LOWEST:
                token = tokens[kernels.rank_of(strong_keys[unit, at]), strong_places[unit, at]]
                strong_count[token] = 0
                strong_sum[token] = 0
            if sample_keys[unit, at] != kernels.LOWEST:
                token = tokens[kernels.rank_of(sample_keys[unit, at]), sample_places[unit, at]]
                other_count[token] = 0
                other_sum[token] = 0


@njit(inline="always")
def better(mean: Any, token: Any, other_mean: Any, other_token: Any) -> Any:
    return np.float32(mean) > other_mean or (np.float32(mean) == other_mean and token < other_token)
