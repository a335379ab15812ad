"""Where contexts begin and end in a document's tokens, and the hash that names a context. Plain numbers, no text."""

import hashlib

import numpy as np
import numpy.typing as npt

MIN_TAIL = 8
"""A last, shorter window is kept from this many tokens on: fewer say little and would be counted like a whole context."""
MIN_ALONE = 2
"""A document shorter than one window is kept from this many tokens on."""
FIRST_QUOTA = 32
QUOTA_GROWTH = 16


def windows(tokens: int, body: int, stride: int) -> list[tuple[int, int]]:
    """Windows [start, end) over a document of `tokens` tokens: `body` wide, `stride` apart, the last one up to the document's end.

    Together they cover every token, except that a last window shorter than `MIN_TAIL` (and than `body`) is left out unless it is the
    document's only one, and a document of fewer than `MIN_ALONE` tokens has none. Needs 1 ≤ stride ≤ body.
    """
    if tokens < MIN_ALONE:
        return []
    last = max(0, -(-(tokens - body) // stride))
    spans = [(place * stride, min(place * stride + body, tokens)) for place in range(last + 1)]
    start, end = spans[-1]
    if last > 0 and end - start < min(MIN_TAIL, body):
        spans.pop()
    return spans


def quota(turn: int) -> int:
    """How many contexts a document may have given after pass 0, 1, 2, … over the source: 32, 512, 8192, … (powers of two)."""
    return FIRST_QUOTA * QUOTA_GROWTH**turn


def taken(count: int, turn: int) -> list[int]:
    """Which of a document's `count` windows pass `turn` takes, in the order in which it takes them.

    A document with at most 32 gives them all in pass 0, from first to last. A longer one gives them in van der Corput's order (his 1935
    sequence in base 2: 0, ½, ¼, ¾, …), of which every beginning is spread evenly, so that a slice that fills up in the middle of a
    document holds all of its parts alike. Over all passes every window is taken once.
    """
    if count <= FIRST_QUOTA:
        return list(range(count)) if turn == 0 else []
    bits = (count - 1).bit_length()
    steps = np.arange(1 << bits, dtype=np.int64)
    mirrored = np.zeros_like(steps)
    for bit in range(bits):
        mirrored |= ((steps >> bit) & 1) << (bits - 1 - bit)
    places = mirrored * count >> bits
    first_time = np.sort(np.unique(places, return_index=True)[1])
    return places[first_time][quota(turn - 1) if turn else 0 : quota(turn)].tolist()


def context_key(tokens: npt.NDArray[np.int32]) -> int:
    """The first eight bytes of blake2b over the tokens as little-endian int32, read as a little-endian number."""
    return int.from_bytes(hashlib.blake2b(tokens.astype("<i4").tobytes(), digest_size=8).digest(), "little")
