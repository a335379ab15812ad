"""The loops over a tile: TILE neighbouring units of one context, side by side.

A tile is flat: `tile[t * TILE + j]` is token t of unit `base + j`. Nearly all inner loops run over the units, a constant number of them,
so that the compiler does eight or sixteen at a time; tokens are taken four at a time, so that running results are loaded and stored a
fourth as often. A unit's place in its tile never changes, so its results do not depend on how the work is divided.

Scratch arrays hold several rows of TILE numbers in one allocation: the compiler then need not ask whether they overlap.
"""

from typing import Any

import numpy as np

from core.index.bins import BIN_OF_PATTERN, SHIFT, ZERO_BIN
from core.index.jit import njit
from core.index.kernels import TILE, bits_order, chance_of, make_key, mix
from core.index.prefetch import prefetch

BIN = BIN_OF_PATTERN.astype(np.uint16)
MARK_TOP, MARK_BOTTOM, MARK_STRONG, MARK_RANDOM, MARK_QUANTILES, MARK_SAMPLE = 1, 2, 4, 8, 16, 32


@njit()
def copy_tile(block: Any, c: int, end: int, base: int, width: int, tile: Any) -> None:
    """Copy the first tokens of a context: in the block a unit's tokens lie so far apart that the cache would not hold them.

    Asks for the same units of the next context, which would otherwise be waited for a line at a time.
    """
    following = min(c + 1, block.shape[0] - 1)
    for t in range(end):
        row = tile[t * TILE : (t + 1) * TILE]
        if width == TILE:
            ahead = np.uint64((following * block.shape[1] + t) * block.shape[2] + base)
            for line in range(0, TILE, 16):
                prefetch(block, ahead + np.uint64(line))
            source = block[c, t, base : base + TILE]
            for j in range(TILE):
                row[j] = source[j]
        else:
            for j in range(width):
                row[j] = block[c, t, base + j]


@njit()
def extremes(bits: Any, first: int, end: int, orders: Any) -> None:
    """The orders of each unit's minimum (first row of `orders`) and maximum (second row)."""
    for j in range(TILE):
        orders[j] = np.int32(0x7FFFFFFF)
        orders[TILE + j] = np.int32(-0x80000000)
    whole = first + (end - first) // 4 * 4
    for t in range(first, whole, 4):
        four = bits[t * TILE : (t + 4) * TILE]
        for j in range(TILE):
            a = bits_order(four[j])
            b = bits_order(four[TILE + j])
            c = bits_order(four[2 * TILE + j])
            d = bits_order(four[3 * TILE + j])
            orders[j] = min(orders[j], min(min(a, b), min(c, d)))
            orders[TILE + j] = max(orders[TILE + j], max(max(a, b), max(c, d)))
    for t in range(whole, end):
        one = bits[t * TILE : (t + 1) * TILE]
        for j in range(TILE):
            a = bits_order(one[j])
            orders[j] = min(orders[j], a)
            orders[TILE + j] = max(orders[TILE + j], a)


@njit()
def widen(orders: Any, spans: Any) -> None:
    """Extend `spans`, of the same shape, to these extremes."""
    for j in range(TILE):
        spans[j] = min(spans[j], orders[j])
    for j in range(TILE, 2 * TILE):
        spans[j] = max(spans[j], orders[j])


@njit(inline="always")
def leading(bits: Any) -> Any:
    """Sign, exponent and three bits of mantissa."""
    return np.uint32(bits) >> np.uint32(SHIFT)


@njit(inline="always")
def all_zero(orders: Any, j: int) -> Any:
    """Whether a unit is zero on every token. Zeros have the orders −1 and 0, by their sign."""
    return (orders[j] >= -1) & (orders[TILE + j] <= 0)


@njit()
def find_active(orders: Any, width: int, active: Any) -> Any:
    """List the units that are not zero on every token. Returns how many."""
    found = 0
    for j in range(width):
        active[found] = j
        found += not all_zero(orders, j)
    return found


@njit()
def find_marked(marks: Any, width: int, active: Any) -> Any:
    """List the units with a mark. Returns how many."""
    found = 0
    for j in range(width):
        active[found] = j
        found += marks[j] != 0
    return found


@njit()
def count_bins(bits: Any, first: int, end: int, base: int, active: Any, found: int, counts: Any) -> None:
    """Count the active units into their histograms by the twelve leading bits of each value.

    Two units at a time: of one, the next value would often wait for the same counter. Unsigned indices need no test for negative ones.
    """
    for k in range(0, found - 1, 2):
        i, j = np.uint64(active[k]), np.uint64(active[k + 1])
        ours, others = counts[base + active[k]], counts[base + active[k + 1]]
        for t in range(first, end):
            row = np.uint64(t * TILE)
            ours[BIN[leading(bits[row + i])]] += np.uint32(1)
            others[BIN[leading(bits[row + j])]] += np.uint32(1)
    if found % 2:
        j = np.uint64(active[found - 1])
        ours = counts[base + active[found - 1]]
        for t in range(first, end):
            ours[BIN[leading(bits[np.uint64(t * TILE) + j])]] += np.uint32(1)


@njit()
def count_zeros(orders: Any, width: int, base: int, tokens: int, counts: Any) -> None:
    """Count the units that are zero on every token."""
    for j in range(width):
        if all_zero(orders, j):
            counts[base + j, ZERO_BIN] += np.uint32(tokens)


@njit(fastmath={"contract"})
def power_sums(tile: Any, first: int, end: int, pivots: Any, powers: Any) -> None:
    """Sums of d, d², d³, d⁴ in float64 (a row of `powers` each), d = x − pivot."""
    powers[:] = 0.0
    whole = first + (end - first) // 4 * 4
    for t in range(first, whole, 4):
        four = tile[t * TILE : (t + 4) * TILE]
        for j in range(TILE):
            p = pivots[j]
            w = np.float64(four[j]) - p
            x = np.float64(four[TILE + j]) - p
            y = np.float64(four[2 * TILE + j]) - p
            z = np.float64(four[3 * TILE + j]) - p
            ww, xx, yy, zz = w * w, x * x, y * y, z * z
            powers[j] += (w + x) + (y + z)
            powers[TILE + j] += (ww + xx) + (yy + zz)
            powers[2 * TILE + j] += (ww * w + xx * x) + (yy * y + zz * z)
            powers[3 * TILE + j] += (ww * ww + xx * xx) + (yy * yy + zz * zz)
    for t in range(whole, end):
        one = tile[t * TILE : (t + 1) * TILE]
        for j in range(TILE):
            x = np.float64(one[j]) - pivots[j]
            xx = x * x
            powers[j] += x
            powers[TILE + j] += xx
            powers[2 * TILE + j] += xx * x
            powers[3 * TILE + j] += xx * xx


@njit()
def add_sums(powers: Any, sums: Any) -> None:
    """Add to the tile's double-doubles [8 · TILE] (see `exact.add_exactly`)."""
    for at in range(4 * TILE):
        high = sums[at]
        value = powers[at]
        total = high + value
        back = total - high
        sums[at] = total
        sums[4 * TILE + at] += (high - (total - back)) + (value - back)


@njit(inline="always")
def high_key(order: Any, rank: Any) -> Any:
    """The key of a maximum, from its order; −0 counts as +0."""
    return make_key(np.int32(0) if order == -1 else order, rank)


@njit()
def mark_top(orders: Any, rank: Any, least: Any, marks: Any) -> None:
    """Set the marks of maxima that beat `least`."""
    for j in range(TILE):
        marks[j] = np.uint8(MARK_TOP) if high_key(orders[TILE + j], rank) > least[j] else np.uint8(0)


@njit()
def mark_bottom(orders: Any, rank: Any, least: Any, marks: Any) -> None:
    """Add the marks of negative minima that beat `least`. Of a negative number's order, −order − 1 is the order of its magnitude."""
    for j in range(TILE):
        order = orders[j]
        beats = (order < -1) & (make_key(-np.int64(order) - 1, rank) > least[j])
        marks[j] |= np.uint8(MARK_BOTTOM) if beats else np.uint8(0)


@njit()
def mark_strong(orders: Any, rank: Any, least: Any, marks: Any) -> None:
    """Add the marks of maxima that may hold strong positions: a tie may win by its position."""
    for j in range(TILE):
        marks[j] |= np.uint8(MARK_STRONG) if high_key(orders[TILE + j], rank) >= least[j] else np.uint8(0)


@njit()
def draw(context_key: Any, seeds: Any, hashes: Any) -> None:
    """Each unit's hash of the context (first row of `hashes`), and the hash of that (second row)."""
    for j in range(TILE):
        hashed = mix(context_key ^ seeds[j])
        hashes[j] = hashed
        hashes[TILE + j] = mix(hashed)


@njit(inline="always")
def random_key(hashed: Any, rank: Any) -> Any:
    """The key of a record in the random sample."""
    return make_key(np.int64(hashed >> np.uint64(33)), rank)


@njit()
def mark_random(hashes: Any, rank: Any, least: Any, marks: Any) -> None:
    """Add the marks of contexts that the random sample takes."""
    for j in range(TILE):
        marks[j] |= np.uint8(MARK_RANDOM) if random_key(hashes[j], rank) > least[j] else np.uint8(0)


@njit()
def mark_quantiles(hashes: Any, orders: Any, rank: Any, gates: Any, least: Any, sampled: Any, marks: Any) -> None:
    """Count the contexts in the largest sample, and mark those whose maximum beats its list, or which are in a smaller sample too."""
    wide, narrow = gates[2], gates[1]
    for j in range(TILE):
        inside = hashes[j] < wide
        sampled[j] += np.int32(inside)
        offered = (inside & (high_key(orders[TILE + j], rank) > least[j])) | (hashes[j] < narrow)
        marks[j] |= np.uint8(MARK_QUANTILES) if offered else np.uint8(0)


@njit()
def mark_sample(hashes: Any, tokens: Any, floors: Any, marks: Any) -> None:
    """Add the marks of contexts whose draw may beat the least so far.

    Without the logarithm: log(u) ≤ u − 1, with a margin for rounding to float32. floors: log(u)/tokens of the least, −∞ where none.
    """
    weight = np.float64(tokens)
    for j in range(TILE):
        may = (chance_of(hashes[TILE + j]) - 1.0) * 0.999999 >= floors[j] * weight
        marks[j] |= np.uint8(MARK_SAMPLE) if may else np.uint8(0)
