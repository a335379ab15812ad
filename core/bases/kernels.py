"""Compiled loops of a training step over the active units alone: which units are active, their values, and one update a row.

A token has few active units, so after the product of activations and encoder everything costs in proportion to them. Each loop covers a
range of tokens or of rows and writes nothing outside it, so that threads share the work and the sums are the same however many there are.

That product is a screen only, and may be in bfloat16: with x' and e' the rounded vectors, |x·e − x'·e'| ≤ ‖x − x'‖ ‖e‖ + ‖x'‖ ‖e − e'‖
(Cauchy and Schwarz), so a unit that is left out cannot be active. The others are computed again in float32, always by the same sums, so
the codes do not depend on how the product was computed.
"""

from typing import Any

import numpy as np

from core.index.jit import njit

_FAST: Any = {"reassoc", "contract", "nsz"}
"""Sums may be reordered, so that they can be vectorised. NaN and infinity stay what they are."""
_ROUNDED = np.float32(2.0**-8)
"""Twice the relative error of a product that is itself returned in bfloat16."""
_SUMMED = np.float32(5e-5)
"""Relative error of a float32 sum over some thousand products, generously."""


@njit(nogil=True, cache=True, fastmath=_FAST, inline="always")
def _dot(a: Any, b: Any) -> Any:
    total = np.float32(0.0)
    for i in range(a.shape[0]):
        total += a[i] * b[i]
    return total


@njit(nogil=True, cache=True, fastmath=_FAST, inline="always")
def _bounds(product: Any, screened: bool, t: int, bias: Any, token_error: Any, row_error: Any, bits: Any, low: Any, high: Any) -> None:
    """Bounds of what the encoder says of token t for every unit.

    product: uint16 (bfloat16 bits, `screened`) or float32 [tokens, units]. token_error: [tokens, 2], ‖x − x'‖ and ‖x'‖.
    row_error: [2, units], ‖e − e'‖ and ‖e‖.
    """
    lost, size = token_error[t, 0], token_error[t, 1]
    value = bits.view(np.float32)
    if screened:
        for j in range(bias.shape[0]):
            bits[j] = np.uint32(product[t, j]) << np.uint32(16)
    else:
        for j in range(bias.shape[0]):
            value[j] = product[t, j]
    rounded = _ROUNDED if screened else np.float32(0.0)
    for j in range(bias.shape[0]):
        error = lost * row_error[1, j] + size * (row_error[0, j] + _SUMMED * row_error[1, j]) + rounded * abs(value[j])
        low[j] = value[j] + bias[j] - error
        high[j] = value[j] + bias[j] + error


@njit(nogil=True, cache=True, fastmath=_FAST)
def count_possible(product: Any, screened: bool, bias: Any, token_error: Any, row_error: Any, first: int, end: int, counts: Any) -> None:
    """How many units of each token may be active: counts [tokens], int64, of tokens `first` to `end`."""
    units = bias.shape[0]
    bits, low, high = np.empty(units, np.uint32), np.empty(units, np.float32), np.empty(units, np.float32)
    for t in range(first, end):
        _bounds(product, screened, t, bias, token_error, row_error, bits, low, high)
        count = 0
        for j in range(units):
            count += np.int64(high[j] > np.float32(0.0))
        counts[t] = count


@njit(nogil=True, cache=True)
def _kth_largest(values: Any, n: int, k: int, heap: Any) -> Any:
    """The k-th largest of the first n values, k ≤ n. heap: scratch of k. Values below the least of the heap are passed over in runs."""
    for i in range(k):
        heap[i] = values[i]
    for i in range(k // 2 - 1, -1, -1):
        _sift(heap, i, k)
    i = k
    while i < n:
        end = min(i + 32, n)
        least = heap[0]
        some = False
        for j in range(i, end):
            some |= values[j] > least
        if some:
            for j in range(i, end):
                if values[j] > heap[0]:
                    heap[0] = values[j]
                    _sift(heap, 0, k)
        i = end
    return heap[0]


@njit(nogil=True, cache=True, inline="always")
def _sift(heap: Any, i: int, n: int) -> None:
    while True:
        child = 2 * i + 1
        if child >= n:
            return
        if child + 1 < n and heap[child + 1] < heap[child]:
            child += 1
        if heap[i] <= heap[child]:
            return
        heap[i], heap[child] = heap[child], heap[i]
        i = child


@njit(nogil=True, cache=True, fastmath=_FAST)
def tokens_pass(
    product: Any, screened: bool, k: int, x: Any, encoder: Any, decoder: Any, bias: Any, token_error: Any, row_error: Any, alpha: float,
    first: int, end: int, start: Any, index: Any, code: Any, slope: Any, count: Any, residual: Any, sums: Any,
) -> None:  # fmt: skip
    """Codes, reconstruction and slopes of tokens `first` to `end`. k: 0 for every positive code, else the k largest of them.

    x: [tokens, d], prepared and less the decoder's bias. encoder, decoder: [units, d], the same array when tied. start: [tokens], where a
    token's entries begin in index, code and slope [entries]; count: [tokens], how many it has. With n tokens in all and r = Σ cⱼdⱼ − x,
    residual [tokens, d] is 2r/n, slope is ∂loss/∂(encoder's value) = (2 r·dⱼ + α)/n, and sums [tokens, 2] are ‖r‖² and Σ cⱼ.
    """
    units, tokens, d = bias.shape[0], x.shape[0], x.shape[1]
    bits, low, high = np.empty(units, np.uint32), np.empty(units, np.float32), np.empty(units, np.float32)
    chosen, values, heap = np.empty(units, np.int64), np.empty(units, np.float32), np.empty(max(k, 1), np.float32)
    r = np.empty(d, np.float32)
    zero, two, share = np.float32(0.0), np.float32(2.0 / tokens), np.float32(alpha / tokens)
    for t in range(first, end):
        _bounds(product, screened, t, bias, token_error, row_error, bits, low, high)
        least = np.float32(0.0)
        if k > 0:
            least = max(_kth_largest(low, units, k, heap), least)
        found = 0
        for j in range(units):
            chosen[found] = j
            found += np.int64((high[j] >= least) & (high[j] > zero))
        for i in range(found):
            j = chosen[i]
            values[i] = _dot(x[t], encoder[j]) + bias[j]
        cut, ties = zero, found
        if 0 < k < found:
            cut = _kth_largest(values, found, k, heap)
            ties = k
            for i in range(found):
                ties -= np.int64(values[i] > cut)
        at = start[t]
        for i in range(d):
            r[i] = -x[t, i]
        l1 = zero
        for i in range(found):
            value = values[i]
            if value <= zero or value < cut:
                continue
            if value == cut:
                if ties == 0:
                    continue
                ties -= 1
            j = chosen[i]
            index[at], code[at] = j, value
            at += 1
            l1 += value
            row = decoder[j]
            for m in range(d):
                r[m] += value * row[m]
        count[t] = at - start[t]
        squared = zero
        for i in range(d):
            squared += r[i] * r[i]
            residual[t, i] = two * r[i]
        for e in range(start[t], at):
            slope[e] = two * _dot(r, decoder[index[e]]) + share
        sums[t, 0], sums[t, 1] = squared, l1


@njit(nogil=True, cache=True)
def by_unit(
    start: Any, count: Any, index: Any, code: Any, slope: Any, unit_start: Any, unit_token: Any, unit_code: Any, unit_slope: Any
) -> None:
    """The entries of all tokens in order of their units, and of tokens within a unit. unit_start: [units + 1]."""
    unit_start[:] = 0
    for t in range(start.shape[0]):
        for e in range(start[t], start[t] + count[t]):
            unit_start[index[e] + 1] += 1
    for j in range(unit_start.shape[0] - 1):
        unit_start[j + 1] += unit_start[j]
    place = unit_start[:-1].copy()
    for t in range(start.shape[0]):
        for e in range(start[t], start[t] + count[t]):
            at = place[index[e]]
            place[index[e]] = at + 1
            unit_token[at], unit_code[at], unit_slope[at] = t, code[e], slope[e]


@njit(nogil=True, cache=True, fastmath=_FAST)
def gradients(
    x: Any, residual: Any, unit_start: Any, unit_token: Any, unit_code: Any, unit_slope: Any, first: int, end: int, tied: bool,
    encoder: Any, decoder: Any, bias: Any,
) -> None:  # fmt: skip
    """Gradients of rows `first` to `end`.

    Of the encoder Σ slope·x, of the decoder Σ code·residual, of the bias Σ slope. Tied: both in
    `encoder`.
    """
    d = x.shape[1]
    for j in range(first, end):
        encoder[j, :] = np.float32(0.0)
        if not tied:
            decoder[j, :] = np.float32(0.0)
        total = np.float32(0.0)
        for e in range(unit_start[j], unit_start[j + 1]):
            t, code, slope = unit_token[e], unit_code[e], unit_slope[e]
            total += slope
            if tied:
                for i in range(d):
                    encoder[j, i] += slope * x[t, i] + code * residual[t, i]
            else:
                for i in range(d):
                    encoder[j, i] += slope * x[t, i]
                    decoder[j, i] += code * residual[t, i]
        bias[j] = total


@njit(nogil=True, cache=True, fastmath=_FAST, inline="always")
def _adam(g: Any, mean: Any, square: Any, at: int, rate: Any, eps: Any, scale: Any) -> Any:
    """Adam's step for entry `at` (Kingma and Ba 2015; β₁ = 0.9, β₂ = 0.999). rate: lr / (1 − β₁ᵗ). scale: 1 / √(1 − β₂ᵗ)."""
    mean[at] = np.float32(0.9) * mean[at] + np.float32(0.1) * g
    square[at] = np.float32(0.999) * square[at] + np.float32(0.001) * g * g
    return rate * mean[at] / (np.sqrt(square[at]) * scale + eps)


@njit(nogil=True, cache=True, fastmath=_FAST)
def adam_rows(
    how: int, gradient: Any, row: Any, unit: Any, norm: Any, mean: Any, square: Any, rate: float, scale: float, first: int, end: int
) -> None:
    """One step of Adam on rows `first` to `end`, and what keeps their norm.

    how 0: rows are free. 1: the loss sees row/‖row‖ (`unit`), and the gradient goes through that division: (g − (g·u)u)/‖row‖. 2: rows
    have unit norm; the part of the gradient along the row is dropped and the row is divided by its norm after the step. norm: [rows], of
    `row` after the step.
    """
    d = row.shape[1]
    speed, root, eps = np.float32(rate), np.float32(scale), np.float32(1e-8)
    for j in range(first, end):
        along, inverse = np.float32(0.0), np.float32(1.0)
        if how == 1:
            along, inverse = _dot(gradient[j], unit[j]), np.float32(1.0) / max(norm[j], np.float32(1e-8))
        elif how == 2:
            along = _dot(gradient[j], row[j])
        total = np.float32(0.0)
        for i in range(d):
            towards = unit[j, i] if how == 1 else row[j, i]
            g = (gradient[j, i] - along * towards) * inverse if how > 0 else gradient[j, i]
            row[j, i] -= _adam(g, mean[j], square[j], i, speed, eps, root)
            total += row[j, i] * row[j, i]
        norm[j] = np.sqrt(total)
        if how > 0:
            inverse = np.float32(1.0) / max(norm[j], np.float32(1e-8))
            for i in range(d):
                unit[j, i] = row[j, i] * inverse  # how 2: `unit` is `row`


@njit(nogil=True, cache=True, fastmath=_FAST)
def adam_vector(gradient: Any, value: Any, mean: Any, square: Any, rate: float, scale: float) -> None:
    """One step of Adam on a vector."""
    for i in range(value.shape[0]):
        value[i] -= _adam(gradient[i], mean, square, i, np.float32(rate), np.float32(1e-8), np.float32(scale))


@njit(nogil=True, cache=True, fastmath=_FAST)
def round_rows(rows: Any, bits: Any, rounded: Any, error: Any, first: int, end: int) -> None:
    """Rows `first` to `end` in bfloat16 (uint16, to the nearest, ties to even) and error [2, rows]: ‖row − rounded row‖ and ‖row‖.

    bits: scratch uint32 [2, d] of this range.
    """
    d = rows.shape[1]
    value, back = bits[0].view(np.float32), bits[1].view(np.float32)
    for j in range(first, end):
        for i in range(d):
            value[i] = rows[j, i]
        for i in range(d):
            high = (bits[0, i] + np.uint32(0x7FFF) + ((bits[0, i] >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
            rounded[j, i] = np.uint16(high)
            bits[1, i] = high << np.uint32(16)
        total = np.float32(0.0)
        for i in range(d):
            lost = value[i] - back[i]
            total += lost * lost
        error[0, j], error[1, j] = np.sqrt(total), np.sqrt(_dot(rows[j], rows[j]))
