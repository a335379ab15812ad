"""The sketch's lists: records of a band, and the heaps of token positions. How an entry is ordered, admitted, merged and restored.

Every list is kept by a 64-bit key whose high half orders by value and whose low half by rank, lower ranks first: one integer comparison
is the total order that makes any order of work give the same lists.
"""

from typing import Any, NamedTuple

import numpy as np

from core.index.bands import BANDS
from core.index.jit import njit
from core.index.prefetch import prefetch

TILE = 64
"""Units that are read together, side by side: `tile[t * TILE + j]` is token t of the tile's unit j (see `core.index.lanes`)."""
LOWEST = np.int64(-(2**63))
RANK_MASK = np.int64(0xFFFFFFFF)
STEPS = 32767
"""Steps of a stored activation between zero and its record's largest magnitude."""

TOP, BOTTOM, Q0, Q1, Q2, Q3, RANDOM = range(7)
OFFSETS = np.cumsum([0, *(size for _, size in BANDS)]).astype(np.int64)
SLOTS = int(OFFSETS[-1])
POSITIONS = 256
WAITING = 32
"""Positions of one unit that may wait while a block is read."""


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
def find(tile: Any, j: int, first: int, end: int, value: Any) -> Any:
    """The first position at which unit j of a tile has this value."""
    for t in range(first, end):
        if tile[t * TILE + j] == value:
            return t
    return first


@njit()
def admit(keys: Any, unit: int, offset: int, size: int, key: Any, per_document: bool, documents: Any) -> Any:
    """The slot that a record with this key may take, or −1. An empty slot has the lowest key.

    With `per_document` a record competes with the one that its document already has, and only with that.
    """
    held = keys[unit, offset : offset + size]
    worst = 0
    for slot in range(size):
        worst = slot if held[slot] < held[worst] else worst
    if key <= held[worst]:
        # Nor can it replace the record of its own document, which is no worse than the worst.
        return -1
    if per_document:
        document = documents[rank_of(key)]
        for slot in range(size):
            if held[slot] != LOWEST and documents[rank_of(held[slot])] == document:
                return offset + slot if key > held[slot] else -1
    return offset + worst


@njit()
def threshold(keys: Any, unit: int, offset: int, size: int) -> Any:
    """The smallest key of a list: what a newcomer has to beat."""
    held = keys[unit, offset : offset + size]
    least = held[0]
    for slot in range(size):
        least = min(least, held[slot])
    return least


@njit()
def pack(tile: Any, j: int, first: int, end: int, low: Any, high: Any, out: Any) -> Any:
    """Store unit j of a tile as int16 steps of its own scale; what is not zero stays so. Returns the scale."""
    largest = max(abs(low), abs(high))
    scale = np.float32(largest / np.float32(STEPS))
    if scale == 0:
        # Zero, or so small that its step is not a float32: one step for the largest magnitude.
        scale = np.float32(largest)
    out[:] = 0
    if scale == 0:
        return scale
    unit_tokens = tile[j::TILE][first:end]
    stored = out[first:end]
    for t in range(len(stored)):
        value = np.float64(unit_tokens[t])
        step = np.rint(value / np.float64(scale))
        if step == 0:
            step = np.float64(value > 0) - np.float64(value < 0)
        stored[t] = np.int16(np.int32(min(max(step, -STEPS), STEPS)))
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


class Positions(NamedTuple):
    """Token positions as arrays [units, POSITIONS]; each unit's are a min-heap."""

    keys: Any
    places: Any
    values: Any


class Waiting(NamedTuple):
    """Positions of a tile's units that go to a heap together: the heap lies far away in memory, and is so fetched once a block."""

    counts: Any
    """int64 [TILE]; the others are [TILE, WAITING]."""
    keys: Any
    places: Any
    values: Any


@njit()
def no_waiting() -> Any:
    return Waiting(
        np.zeros(TILE, np.int64),
        np.empty((TILE, WAITING), np.int64),
        np.empty((TILE, WAITING), np.int16),
        np.empty((TILE, WAITING), np.float32),
    )


@njit()
def fetch_positions(waiting: Any, j: int, heap: Any, unit: int) -> None:
    """Ask for the heap that something of unit j of a tile waits for."""
    if waiting.counts[j]:
        start = np.uint64(unit * POSITIONS)
        for at in range(0, POSITIONS, 8):
            prefetch(heap.keys, start + np.uint64(at))
        for at in range(0, POSITIONS, 16):
            prefetch(heap.values, start + np.uint64(at))
        for at in range(0, POSITIONS, 32):
            prefetch(heap.places, start + np.uint64(at))


@njit()
def push_waiting(waiting: Any, j: int, heap: Any, unit: int) -> None:
    """Put what waits of unit j of a tile into its heap."""
    for at in range(waiting.counts[j]):
        key, place = waiting.keys[j, at], waiting.places[j, at]
        if worse(heap.keys[unit, 0], heap.places[unit, 0], key, place):
            push(heap.keys, heap.places, heap.values, unit, key, place, waiting.values[j, at])
    waiting.counts[j] = 0


@njit()
def offer(waiting: Any, j: int, heap: Any, unit: int, key: Any, place: Any, value: Any) -> Any:
    """Let a position wait if it beats the heap's worst. Returns whether the heap has changed."""
    if not worse(heap.keys[unit, 0], heap.places[unit, 0], key, place):
        return False
    at = waiting.counts[j]
    waiting.keys[j, at], waiting.places[j, at], waiting.values[j, at] = key, place, value
    waiting.counts[j] = at + 1
    if at + 1 < WAITING:
        return False
    push_waiting(waiting, j, heap, unit)
    return True


@njit()
def note_record(
    unit: int, band: int, key: Any, tile: Any, j: int, first: int, end: int, low: Any, high: Any, documents: Any,
    keys: Any, values: Any, places: Any, scales: Any, steps: Any, thresholds: Any,
) -> None:  # fmt: skip
    """Offer a record (unit j of a tile) to a list; its activations are copied only when it is taken."""
    offset = OFFSETS[band]
    size = OFFSETS[band + 1] - offset
    slot = admit(keys, unit, offset, size, key, band <= BOTTOM, documents)
    if slot < 0:
        return
    value = low if band == BOTTOM else high
    keys[unit, slot] = key
    values[unit, slot] = value
    places[unit, slot] = find(tile, j, first, end, value)
    scales[unit, slot] = pack(tile, j, first, end, low, high, steps[unit, slot])
    thresholds[unit, band] = threshold(keys, unit, offset, size)


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
