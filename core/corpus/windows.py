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


def spread(count: int, quota: int) -> list[int]:
    """At most `quota` of the numbers 0 … count − 1, evenly spread from the first on."""
    if count <= quota:
        return list(range(count))
    return [place * count // quota for place in range(quota)]


def quota(turn: int) -> int:
    """How many contexts a document may have given after pass 0, 1, 2, … over the source: 32, 512, 8192, …"""
    return FIRST_QUOTA * QUOTA_GROWTH**turn


def context_key(tokens: npt.NDArray[np.int32]) -> int:
    """The first eight bytes of blake2b over the tokens as little-endian int32, read as a little-endian number."""
    return int.from_bytes(hashlib.blake2b(tokens.astype("<i4").tobytes(), digest_size=8).digest(), "little")
