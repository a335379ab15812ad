"""The compiled inner loops of the sketch: reading a block of activations once, and merging two sketches.

A block is `[contexts, length, units]` float32, straight from the model. The loops take sixteen units at a time (one cache line), turn
them to rows of one unit, and do everything with the row while it is in the first-level cache. They run without Python's lock, so that
threads share the units.

Every list is kept by a 64-bit key whose high half orders by value and whose low half by rank, lower ranks first: one integer comparison
is the total order that makes any order of work give the same lists.
"""

from typing import Any

import numpy as np

from core.index.bands import BANDS
from core.index.bins import BIN_OF_PATTERN, SHIFT
from core.index.exact import add_powers
from core.index.jit import njit

TILE = 16
LOWEST = np.int64(-(2**63))
RANK_MASK = np.int64(0xFFFFFFFF)
STEPS = 32767
"""Steps of a stored activation between zero and its record's largest magnitude."""

TOP, BOTTOM, Q0, Q1, Q2, Q3, RANDOM = range(7)
OFFSETS = np.cumsum([0, *(size for _, size in BANDS)]).astype(np.int64)
SLOTS = int(OFFSETS[-1])
POSITIONS = 256


@njit(inline="always")
def bits_order(bits: Any) -> Any:
    """Map a float32's bits to an int32 that orders as the floats do (Herf 2001), with −0 one below +0."""
    return np.int32(bits ^ ((bits >> np.int32(31)) & np.int32(0x7FFFFFFF)))


@njit(inline="always")
def order_bits(order: Any) -> Any:
    """The float32 of an order: `bits_order` is its own inverse."""
    return bits_order(np.int32(order)).view(np.float32)


@njit(inline="always")
def float_order(value: Any) -> Any:
    """The order of a float32; −0 and +0 are equal."""
    return np.int64(bits_order(np.float32(value + np.float32(0.0)).view(np.int32)))


@njit(inline="always")
def make_key(order: Any, rank: Any) -> Any:
    """Join a 32-bit order and a rank; larger is better, and of equals the lower rank is better."""
    return (np.int64(order) << 32) | (RANK_MASK - np.int64(rank))


@njit(inline="always")
def rank_of(key: Any) -> Any:
    return RANK_MASK - (key & RANK_MASK)


@njit(inline="always")
def mix(value: Any) -> Any:
    """The finaliser of splitmix64 (Steele, Lea and Flood 2014): a 64-bit hash of a 64-bit number."""
    z = value + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@njit()
def extremes(bits: Any, j: int, first: int, end: int) -> Any:
    """Minimum and maximum of row j, found on integers, which the compiler can do eight at a time."""
    low = np.int32(0x7FFFFFFF)
    high = np.int32(-0x80000000)
    for t in range(first, end):
        order = bits_order(bits[j, t])
        low = min(low, order)
        high = max(high, order)
    return order_bits(low), order_bits(high)


@njit()
def find(rows: Any, j: int, first: int, end: int, value: Any) -> Any:
    """The first position at which row j has this value."""
    for t in range(first, end):
        if rows[j, t] == value:
            return t
    return first


@njit()
def count_bins(bits: Any, j: int, first: int, end: int, counts: Any, unit: int) -> None:
    """Count row j into a unit's histogram, by the twelve leading bits of each value."""
    for t in range(first, end):
        counts[unit, BIN_OF_PATTERN[(bits[j, t] >> SHIFT) & 0xFFF]] += np.uint32(1)


@njit()
def admit(keys: Any, unit: int, offset: int, size: int, key: Any, per_document: bool, documents: Any) -> Any:
    """The slot that a record with this key may take, or −1. An empty slot has the lowest key.

    With `per_document` a record competes with the one that its document already has, and only with that.
    """
    worst = offset
    for slot in range(offset, offset + size):
        if keys[unit, slot] == LOWEST:
            worst = slot
            break
        if keys[unit, slot] < keys[unit, worst]:
            worst = slot
    if per_document:
        document = documents[rank_of(key)]
        for slot in range(offset, offset + size):
            if keys[unit, slot] != LOWEST and documents[rank_of(keys[unit, slot])] == document:
                return slot if key > keys[unit, slot] else -1
    return worst if key > keys[unit, worst] else -1


@njit()
def threshold(keys: Any, unit: int, offset: int, size: int) -> Any:
    """The smallest key of a list: what a newcomer has to beat."""
    least = keys[unit, offset]
    for slot in range(offset + 1, offset + size):
        least = min(least, keys[unit, slot])
    return least


@njit()
def pack(rows: Any, j: int, first: int, end: int, low: Any, high: Any, out: Any) -> Any:
    """Store row j as int16 steps of its own scale; what is not zero stays so. Returns the scale."""
    largest = max(abs(low), abs(high))
    scale = np.float32(largest / np.float32(STEPS))
    if scale == 0:
        # Zero, or so small that its step is not a float32: one step for the largest magnitude.
        scale = np.float32(largest)
    out[:first] = 0
    out[end:] = 0
    for t in range(first, end):
        value = rows[j, t]
        if value == 0 or scale == 0:
            out[t] = 0
            continue
        step = np.rint(np.float64(value) / np.float64(scale))
        if step == 0:
            step = 1.0 if value > 0 else -1.0
        out[t] = np.int16(min(max(step, -STEPS), STEPS))
    return scale


@njit(inline="always")
def chance_of(again: Any) -> Any:
    """A number in (0, 1) from a hash."""
    return (np.float64(again >> np.uint64(11)) + 0.5) / 9007199254740992.0


@njit()
def lottery_key(again: Any, tokens: Any, rank: Any) -> Any:
    """The key of the weighted draw: log(u) / weight, u uniform in (0, 1) from a hash (Efraimidis and Spirakis 2006)."""
    return make_key(float_order(np.float32(np.log(chance_of(again)) / tokens)), rank)


@njit(inline="always")
def may_be_drawn(again: Any, tokens: Any, least: Any) -> Any:
    """Whether the draw can beat `least`, without the logarithm: log(u) ≤ u − 1, with a margin for rounding to float32."""
    return least == LOWEST or (chance_of(again) - 1.0) * 0.999999 >= np.float64(order_bits(least >> 32)) * tokens


@njit(inline="always")
def worse(key_a: Any, position_a: Any, key_b: Any, position_b: Any) -> Any:
    return key_a < key_b or (key_a == key_b and position_a > position_b)


@njit()
def push(keys: Any, positions: Any, values: Any, unit: int, key: Any, position: Any, value: Any) -> None:
    """Replace the worst of a unit's full min-heap (empty places have the lowest key) and restore the heap."""
    size = keys.shape[1]
    at = 0
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        if child + 1 < size and worse(keys[unit, child + 1], positions[unit, child + 1], keys[unit, child], positions[unit, child]):
            child += 1
        if not worse(keys[unit, child], positions[unit, child], key, position):
            break
        keys[unit, at], positions[unit, at], values[unit, at] = keys[unit, child], positions[unit, child], values[unit, child]
        at = child
    keys[unit, at], positions[unit, at], values[unit, at] = key, position, value


@njit()
def note_record(
    unit: int, band: int, key: Any, rows: Any, j: int, first: int, end: int, low: Any, high: Any, documents: Any,
    keys: Any, values: Any, places: Any, scales: Any, steps: Any, thresholds: Any,
) -> None:  # fmt: skip
    """Offer a record to a list; its activations are copied only when it is taken."""
    offset = OFFSETS[band]
    size = OFFSETS[band + 1] - offset
    slot = admit(keys, unit, offset, size, key, band <= BOTTOM, documents)
    if slot < 0:
        return
    value = low if band == BOTTOM else high
    keys[unit, slot] = key
    values[unit, slot] = value
    places[unit, slot] = find(rows, j, first, end, value)
    scales[unit, slot] = pack(rows, j, first, end, low, high, steps[unit, slot])
    thresholds[unit, band] = threshold(keys, unit, offset, size)


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
    rows = np.empty((TILE, block.shape[1]), np.float32)
    bits = rows.view(np.int32)
    broken = 0
    for base in range(start, stop, TILE):
        width = min(TILE, stop - base)
        for c in range(block.shape[0]):
            end = ends[c]
            rank = ranks[c]
            context_key = context_keys[rank]
            for t in range(end):
                for j in range(width):
                    rows[j, t] = block[c, t, base + j]
            for j in range(width):
                unit = base + j
                low, high = extremes(bits, j, first, end)
                if everything:
                    squares = add_powers(sums, unit, rows, j, first, end, low, high)
                    count_bins(bits, j, first, end, counts, unit)
                    broken += not np.isfinite(squares)
                lows[unit] = min(lows[unit], low)
                highs[unit] = max(highs[unit], high)
                key = make_key(float_order(high), rank)
                if key > thresholds[unit, TOP]:
                    note_record(unit, TOP, key, rows, j, first, end, low, high, documents, keys, values, places, scales, steps, thresholds)
                if low < 0:
                    bottom = make_key(float_order(-low), rank)
                    if bottom > thresholds[unit, BOTTOM]:
                        note_record(
                            unit, BOTTOM, bottom, rows, j, first, end, low, high, documents, keys, values, places, scales, steps, thresholds
                        )
                if not everything:
                    continue
                hashed = mix(context_key ^ seeds[unit])
                lottery = make_key(np.int64(hashed >> np.uint64(33)), rank)
                if lottery > thresholds[unit, RANDOM]:
                    note_record(
                        unit, RANDOM, lottery, rows, j, first, end, low, high, documents, keys, values, places, scales, steps, thresholds
                    )
                if hashed < gates[2]:
                    sampled[unit, 2] += 1
                    if key > thresholds[unit, Q3]:
                        note_record(
                            unit, Q3, key, rows, j, first, end, low, high, documents, keys, values, places, scales, steps, thresholds
                        )
                    if hashed < gates[1]:
                        sampled[unit, 1] += 1
                        if key > thresholds[unit, Q2]:
                            note_record(
                                unit, Q2, key, rows, j, first, end, low, high, documents, keys, values, places, scales, steps, thresholds
                            )
                    if hashed < gates[0]:
                        sampled[unit, 0] += 1
                        if key > thresholds[unit, Q1]:
                            note_record(
                                unit, Q1, key, rows, j, first, end, low, high, documents, keys, values, places, scales, steps, thresholds
                            )
                        least = make_key(float_order(-high), rank)
                        if least > thresholds[unit, Q0]:
                            note_record(
                                unit, Q0, least, rows, j, first, end, low, high, documents, keys, values, places, scales, steps, thresholds
                            )
                if key >= strong_keys[unit, 0]:
                    floor = order_bits(strong_keys[unit, 0] >> 32)
                    for t in range(first, end):
                        # Most tokens fall to this plain comparison; what passes is compared in full.
                        if strong_keys[unit, 0] != LOWEST and rows[j, t] < floor:
                            continue
                        peak = make_key(float_order(rows[j, t]), rank)
                        if worse(strong_keys[unit, 0], strong_places[unit, 0], peak, t):
                            push(strong_keys, strong_places, strong_values, unit, peak, t, rows[j, t])
                # One position of a context; contexts are drawn with weight proportional to their tokens.
                again = mix(hashed)
                tokens = end - first
                if may_be_drawn(again, tokens, sample_keys[unit, 0]):
                    drawn = lottery_key(again, tokens, rank)
                    if drawn > sample_keys[unit, 0]:
                        t = first + np.int64(again % np.uint64(tokens))
                        push(sample_keys, sample_places, sample_values, unit, drawn, t, rows[j, t])
    return broken


@njit(nogil=True, cache=True)
def merge_lists(
    documents: Any,
    keys: Any, values: Any, places: Any, scales: Any, steps: Any, thresholds: Any,
    other_keys: Any, other_values: Any, other_places: Any, other_scales: Any, other_steps: Any,
) -> None:  # fmt: skip
    """Offer every record of another sketch to this one's lists."""
    for unit in range(keys.shape[0]):
        for band in range(len(OFFSETS) - 1):
            offset = OFFSETS[band]
            size = OFFSETS[band + 1] - offset
            for taken in range(offset, offset + size):
                key = other_keys[unit, taken]
                if key == LOWEST:
                    continue
                slot = admit(keys, unit, offset, size, key, band <= BOTTOM, documents)
                if slot >= 0:
                    keys[unit, slot] = key
                    values[unit, slot] = other_values[unit, taken]
                    places[unit, slot] = other_places[unit, taken]
                    scales[unit, slot] = other_scales[unit, taken]
                    steps[unit, slot] = other_steps[unit, taken]
            thresholds[unit, band] = threshold(keys, unit, offset, size)


@njit(nogil=True, cache=True)
def merge_heaps(keys: Any, places: Any, values: Any, other_keys: Any, other_places: Any, other_values: Any) -> None:
    """Offer every token position of another sketch to this one's heap."""
    for unit in range(keys.shape[0]):
        for at in range(keys.shape[1]):
            key = other_keys[unit, at]
            if key != LOWEST and worse(keys[unit, 0], places[unit, 0], key, other_places[unit, at]):
                push(keys, places, values, unit, key, other_places[unit, at], other_values[unit, at])


@njit(nogil=True, cache=True)
def restore_keys(
    context_keys: Any, ends: Any, first: int, seeds: Any, keys: Any, values: Any,
    strong_keys: Any, strong_values: Any, sample_keys: Any,
) -> None:  # fmt: skip
    """Work out the keys of lists read from a file, whose low half (the rank) is given, lists in heap order stay heaps."""
    for unit in range(keys.shape[0]):
        for band in range(len(OFFSETS) - 1):
            for slot in range(OFFSETS[band], OFFSETS[band + 1]):
                if keys[unit, slot] == LOWEST:
                    continue
                rank = rank_of(keys[unit, slot])
                if band == RANDOM:
                    order = np.int64(mix(context_keys[rank] ^ seeds[unit]) >> np.uint64(33))
                elif band in (BOTTOM, Q0):
                    order = float_order(-values[unit, slot])
                else:
                    order = float_order(values[unit, slot])
                keys[unit, slot] = make_key(order, rank)
        for at in range(strong_keys.shape[1]):
            if strong_keys[unit, at] != LOWEST:
                strong_keys[unit, at] = make_key(float_order(strong_values[unit, at]), rank_of(strong_keys[unit, at]))
            if sample_keys[unit, at] != LOWEST:
                rank = rank_of(sample_keys[unit, at])
                sample_keys[unit, at] = lottery_key(mix(mix(context_keys[rank] ^ seeds[unit])), ends[rank] - first, rank)
