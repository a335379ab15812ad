"""JSON from anywhere: read so that Python can hold it without harm."""

import json
import math
import re
from typing import Any

DEEPEST = 64
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
"""A string, ended or not. Nothing in it is tried twice, so that the time is in proportion to the length whatever stands there."""
_NO_BRACKETS = re.compile(rb"[^\[\]{}]+")


def parse(content: bytes, *, undefined: bool = False) -> Any:
    """The value: no deep nesting, no key twice, no number of thousands of digits or beyond what a double holds.

    undefined: NaN, which some programs write, is null; it is refused otherwise, as infinities are in any case. Raises ValueError.
    """
    if _depth(content) > DEEPEST:
        raise ValueError("nested too deep")

    def constant(text: str) -> Any:
        if undefined and text == "NaN":
            return None
        raise ValueError(text)

    try:
        return json.loads(content.decode("utf8"), parse_constant=constant, object_pairs_hook=_once, parse_int=_integer, parse_float=_finite)
    except RecursionError:
        raise ValueError("nested too deep") from None


def _integer(text: str) -> int:
    if len(text) > 19:
        raise ValueError("a number of too many digits")
    return int(text)


def _finite(text: str) -> float:
    if not math.isfinite(found := float(text)):
        raise ValueError("a number that is too large")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _depth(content: bytes) -> int:
    """The deepest nesting of brackets outside strings; a string that never ends reaches to the end."""
    signs = _NO_BRACKETS.sub(b"", _STRING.sub(b"", content))
    depth = deepest = 0
    for sign in signs:
        depth += 1 if sign in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest
