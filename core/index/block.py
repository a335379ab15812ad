"""Reading a block of activations once, into every statistic and list of the sketch.

A block is `[contexts, length, units]` float32, straight from the model. It is read a tile at a time (`core.index.lanes`): one context,
TILE units. What is needed of the sketch to refuse a newcomer lies in the tile's own small arrays. Most newcomers are refused there, all
units at once; only what is marked is looked at alone. Everything runs without Python's lock, so that threads share the units.

The sketches of all sites are far larger than any cache. So what will be touched is asked for ahead (`core.index.prefetch`), and token
positions wait in the tile until the block is read.
"""

from typing import Any

import numpy as np

from core.index import lanes
from core.index.exact import add_moved, choose_pivot
from core.index.jit import njit
from core.index.kernels import (
    BOTTOM,
    LOWEST,
    OFFSETS,
    Q0,
    Q1,
    Q2,
    Q3,
    RANDOM,
    SLOTS,
    TILE,
    TOP,
    Positions,
    fetch_positions,
    float_order,
    lottery_key,
    make_key,
    no_waiting,
    note_record,
    offer,
    order_bits,
    push_waiting,
)
from core.index.lanes import MARK_BOTTOM, MARK_QUANTILES, MARK_RANDOM, MARK_SAMPLE, MARK_STRONG, MARK_TOP
from core.index.prefetch import prefetch

_RECORDS = MARK_TOP | MARK_BOTTOM | MARK_RANDOM | MARK_QUANTILES


@njit(inline="always")
def _draw_floor(least: Any) -> Any:
    """log(u)/tokens of a heap's worst draw, −∞ while it has room."""
    return -np.inf if least == LOWEST else np.float64(order_bits(least >> 32))


@njit(inline="always")
def _strong_floor(least: Any) -> Any:
    """The value of a heap's worst position, −∞ while it has room."""
    return np.float32(-np.inf) if least == LOWEST else order_bits(least >> 32)


@njit()
def _add_powers(tile: Any, orders: Any, first: int, end: int, pivots: Any, powers: Any, sums: Any) -> Any:
    """Add a tile's power sums about zero to its units'. Returns how many units have a value that is not finite."""
    moved = False
    for j in range(TILE):
        pivots[j] = choose_pivot(order_bits(orders[j]), order_bits(orders[TILE + j]))
        moved |= pivots[j] != 0.0
    lanes.power_sums(tile, first, end, pivots, powers)
    lanes.add_sums(powers, sums)
    broken = 0
    for j in range(TILE):
        broken += not np.isfinite(powers[TILE + j])
    if moved:
        by_unit = sums.reshape(8, TILE).T
        for j in range(TILE):
            if pivots[j] != 0.0:
                add_moved(by_unit, j, np.float64(end - first), pivots[j], powers[j], powers[TILE + j], powers[2 * TILE + j])
    return broken


@njit()
def _fetch_records(mark: Any, unit: int, keys: Any, values: Any, places: Any, scales: Any) -> None:
    """Ask for the lists that a marked record is offered to (twenty entries: three cache lines of keys, two of values and of scales)."""
    for bit, band in ((MARK_TOP, TOP), (MARK_BOTTOM, BOTTOM), (MARK_RANDOM, RANDOM)):
        if mark & bit:
            at = np.uint64(unit * SLOTS + OFFSETS[band])
            for line in range(3):
                prefetch(keys, at + np.uint64(8 * line))
            for line in range(2):
                prefetch(values, at + np.uint64(16 * line))
                prefetch(scales, at + np.uint64(16 * line))
            prefetch(places, at)


@njit()
def _add_records(
    mark: Any, j: int, unit: int, first: int, end: int, rank: Any, tile: Any, orders: Any, hashes: Any, gates: Any, documents: Any,
    least: Any, sampled: Any, keys: Any, values: Any, places: Any, scales: Any, steps: Any, thresholds: Any,
) -> None:  # fmt: skip
    """Offer a marked context of a unit to the lists of records."""
    low, high = order_bits(orders[j]), order_bits(orders[TILE + j])
    key = lanes.high_key(orders[TILE + j], rank)
    top = key if mark & MARK_TOP else LOWEST
    bottom = make_key(float_order(-low), rank) if mark & MARK_BOTTOM else LOWEST
    drawn = lanes.random_key(hashes[j], rank) if mark & MARK_RANDOM else LOWEST
    q0 = q1 = q2 = q3 = LOWEST
    if mark & MARK_QUANTILES:
        # Which sample a context is in is in its hash; the widest has been counted.
        q3 = key if hashes[j] < gates[2] else LOWEST
        if hashes[j] < gates[1]:
            sampled[unit, 1] += 1
            q2 = key
        if hashes[j] < gates[0]:
            sampled[unit, 0] += 1
            q1 = key
            q0 = make_key(float_order(-high), rank)
    for band, offered in ((TOP, top), (BOTTOM, bottom), (Q0, q0), (Q1, q1), (Q2, q2), (Q3, q3), (RANDOM, drawn)):
        if offered > thresholds[unit, band]:
            note_record(unit, band, offered, tile, j, first, end, low, high, documents, keys, values, places, scales, steps, thresholds)
            least[band, j] = thresholds[unit, band]


@njit()
def _add_strong(tile: Any, j: int, first: int, end: int, rank: Any, waiting: Any, heap: Any, unit: int) -> Any:
    """Offer every token of a unit to its strong positions. Returns whether the heap has changed."""
    floor = _strong_floor(heap.keys[unit, 0])
    changed = False
    for t in range(first, end):
        value = tile[t * TILE + j]
        # Most tokens fall to this plain comparison; what passes is compared in full.
        if value < floor:
            continue
        if offer(waiting, j, heap, unit, make_key(float_order(value), rank), t, value):
            floor = _strong_floor(heap.keys[unit, 0])
            changed = True
    return changed


@njit(nogil=True, cache=True)
def read_block(
    block: Any, ranks: Any, ends: Any, first: int, context_keys: Any, documents: Any, seeds: Any, gates: Any,
    start: int, stop: int, everything: bool,
    sums: Any, lows: Any, highs: Any, counts: Any, sampled: Any,
    keys: Any, values: Any, places: Any, scales: Any, steps: Any, thresholds: Any,
    strong_keys: Any, strong_places: Any, strong_values: Any, sample_keys: Any, sample_places: Any, sample_values: Any,
) -> int:  # fmt: skip
    """Take units `start` to `stop` of a block into the sketch. Returns the number of records with a value that is not finite.

    block: [contexts, length, units] float32. ranks, ends: [contexts]; tokens `first` to `ends` count. context_keys and documents are of the
    whole slice, by rank. seeds: [units] uint64. gates: [3] uint64, shares of hash space for the quantile samples. `everything` off
    leaves only the records of both ends (for the bench).
    """
    # A tile's own arrays; what has several rows has them in one allocation (see `core.index.lanes`).
    tile = np.zeros(block.shape[1] * TILE, np.float32)
    bits = tile.view(np.int32)
    orders, spans = np.empty(2 * TILE, np.int32), np.empty(2 * TILE, np.int32)
    chosen = np.empty(TILE + 1, np.int64)
    marks = np.empty(TILE, np.uint8)
    pivots, powers, tile_sums = np.empty(TILE), np.empty(4 * TILE), np.zeros(8 * TILE)
    tile_seeds, hashes = np.zeros(TILE, np.uint64), np.empty(2 * TILE, np.uint64)
    tile_sampled = np.empty(TILE, np.int32)
    least = np.zeros((len(OFFSETS) - 1, TILE), np.int64)
    strong_least, sample_floor = np.zeros(TILE, np.int64), np.zeros(TILE)
    strong, sample = Positions(strong_keys, strong_places, strong_values), Positions(sample_keys, sample_places, sample_values)
    strong_waiting, sample_waiting = no_waiting(), no_waiting()
    broken = 0
    for base in range(start, stop, TILE):
        width = min(TILE, stop - base)
        if width < TILE:
            tile[:] = 0
        for j in range(width):
            unit = base + j
            tile_seeds[j] = seeds[unit]
            for at in range(8):
                tile_sums[at * TILE + j] = sums[unit, at]
            for band in range(len(OFFSETS) - 1):
                least[band, j] = thresholds[unit, band]
            strong_least[j] = strong_keys[unit, 0]
            sample_floor[j] = _draw_floor(sample_keys[unit, 0])
        tile_sampled[:] = 0
        spans[:TILE] = 0x7FFFFFFF
        spans[TILE:] = -0x80000000
        for c in range(block.shape[0]):
            end = ends[c]
            rank = ranks[c]
            lanes.copy_tile(block, c, end, base, width, tile)
            lanes.extremes(bits, first, end, orders)
            lanes.widen(orders, spans)
            lanes.mark_top(orders, rank, least[TOP], marks)
            lanes.mark_bottom(orders, rank, least[BOTTOM], marks)
            if everything:
                active = lanes.find_active(orders, width, chosen)
                if active < width:
                    # Of sparse units most contexts are zero throughout: those change no sum, and one bin by the number of tokens.
                    lanes.count_zeros(orders, width, base, end - first, counts)
                if active:
                    lanes.count_bins(bits, first, end, base, chosen, active, counts)
                    broken += _add_powers(tile, orders, first, end, pivots, powers, tile_sums)
                lanes.draw(context_keys[rank], tile_seeds, hashes)
                lanes.mark_strong(orders, rank, strong_least, marks)
                lanes.mark_random(hashes, rank, least[RANDOM], marks)
                lanes.mark_quantiles(hashes, orders, rank, gates, least[Q3], tile_sampled, marks)
                lanes.mark_sample(hashes, end - first, sample_floor, marks)
            found = lanes.find_marked(marks, width, chosen)
            for k in range(found):
                _fetch_records(marks[chosen[k]], base + chosen[k], keys, values, places, scales)
            for k in range(found):
                j = chosen[k]
                mark, unit = marks[j], base + j
                if mark & _RECORDS:
                    _add_records(
                        mark, j, unit, first, end, rank, tile, orders, hashes, gates, documents,
                        least, sampled, keys, values, places, scales, steps, thresholds,
                    )  # fmt: skip
                if mark & MARK_STRONG and _add_strong(tile, j, first, end, rank, strong_waiting, strong, unit):
                    strong_least[j] = strong_keys[unit, 0]
                if mark & MARK_SAMPLE:
                    # One position of a context; contexts are drawn with weight proportional to their tokens.
                    again = hashes[TILE + j]
                    t = first + np.int64(again % np.uint64(end - first))
                    if offer(sample_waiting, j, sample, unit, lottery_key(again, end - first, rank), t, tile[t * TILE + j]):
                        sample_floor[j] = _draw_floor(sample_keys[unit, 0])
        for j in range(width):
            unit = base + j
            lows[unit] = min(lows[unit], order_bits(spans[j]))
            highs[unit] = max(highs[unit], order_bits(spans[TILE + j]))
            if everything:
                ahead = min(j + 2, width - 1)
                fetch_positions(strong_waiting, ahead, strong, base + ahead)
                fetch_positions(sample_waiting, ahead, sample, base + ahead)
                push_waiting(strong_waiting, j, strong, unit)
                push_waiting(sample_waiting, j, sample, unit)
                sampled[unit, 2] += tile_sampled[j]
                for at in range(8):
                    sums[unit, at] = tile_sums[at * TILE + j]
    return broken
