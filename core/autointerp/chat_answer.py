"""The answer of a structured chat: the activations it says, or the first mistake in it; and how likely each number was."""

import json
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from core.autointerp.expectation import Floats, distribution, numbers_in
from core.autointerp.prompts import without_thoughts
from core.autointerp.scale import TOP
from core.errors import shown
from core.llm.answers import TokenLogprobs

# A quote inside a JSON string has a backslash before it, so this can only be a key.
_NUMBER = re.compile(r'(?<!\\)"activation"\s*:\s*([0-9]+)')
_WINDOW = 8
"""Characters within which the text is found again after a token that holds a part of a character."""


class Mistake(Exception):
    """What is wrong with an answer, as words to the model and to people alike; no capital, no final period."""


def read_activations(text: str, pieces: Sequence[str]) -> list[int]:
    """The activations, 0 to 10, one for each of the text's tokens. Raises Mistake.

    Thoughts, Markdown fences and words around the JSON object are passed over. Nothing else is: index, token and number of every entry have
    to be right.
    """
    entries = _entries(text)
    for at, (entry, piece) in enumerate(zip(entries, pieces, strict=False)):
        _check(entry, at, piece)
    if len(entries) != len(pieces):
        raise Mistake(f"it has {len(entries):,} entries, and the text has {len(pieces):,} tokens")
    return [entry["activation"] for entry in entries]


def expectations(text: str, tokens: Sequence[TokenLogprobs], values: Sequence[int]) -> Floats | None:
    """Probabilities [len(values), 11] over the integers at each activation that was written, or None where the tokens do not show them.

    values: what `read_activations` read from `text`. Where a bare “1” was written, the next token says how likely a 0 behind it was, which
    matters to models that write 10 as 1 and 0, and to no others.
    """
    numbers = [match for match in _NUMBER.finditer(without_thoughts(text, keep_places=True)) if int(match[1]) <= TOP]
    offsets = _offsets(text, tokens)
    if offsets is None or [int(match[1]) for match in numbers] != list(values):
        return None
    holders = {at: number for number, offset in enumerate(offsets) for at in range(offset, offset + len(tokens[number].token))}
    rows = [_row(tokens, offsets, holders.get(match.start(1)), match.start(1)) for match in numbers]
    found = [row for row in rows if row is not None]
    return np.stack(found) if found and len(found) == len(rows) else None


def _row(tokens: Sequence[TokenLogprobs], offsets: Sequence[int], number: int | None, place: int) -> Floats | None:
    if number is None:
        return None
    token = tokens[number]
    head = token.token[: place - offsets[number]]
    follow = 0.0
    if token.token[len(head) :] == "1" and number + 1 < len(tokens):
        follow = math.exp(numbers_in(_with_itself(tokens[number + 1]), json=True).get("0", -math.inf))
    return distribution(numbers_in(_with_itself(token), head, json=True), follow)


def _with_itself(token: TokenLogprobs) -> dict[str, float]:
    return {token.token: token.logprob} | token.top


def _entries(text: str) -> list[Any]:
    text = without_thoughts(text)
    start = text.find("{")
    if start < 0:
        raise Mistake(f"it is not JSON but begins with “{shown(' '.join(text.split()))}”")
    try:
        value, _ = json.JSONDecoder(parse_constant=_no_constant).raw_decode(text, start)
    except (ValueError, RecursionError) as error:
        raise Mistake(f"it is not valid JSON ({str(error)[:100]})") from None
    entries = value.get("activations")
    if not isinstance(entries, list):
        raise Mistake('it has no list under the key "activations"')
    return entries


def _check(entry: Any, at: int, piece: str) -> None:
    if not isinstance(entry, dict) or not {"index", "token", "activation"} <= set(entry):
        raise Mistake(f"entry {at} is not an object with index, token and activation")
    index, token, value = entry["index"], entry["token"], entry["activation"]
    if type(index) is not int or index != at:
        raise Mistake(f"entry {at} has the index {shown(str(index))} instead of {at}")
    # Small models leave the space before a word out, also where a grammar holds them to the rest: the index says which token is meant.
    if not isinstance(token, str) or token.strip(" ") != piece.strip(" "):
        raise Mistake(
            f"entry {at} has the token {json.dumps(token, ensure_ascii=False)[:80]} instead of {json.dumps(piece, ensure_ascii=False)}"
        )
    if type(value) is not int:
        raise Mistake(f"the activation of entry {at}, {shown(json.dumps(value))}, is not a whole number")
    if not 0 <= value <= TOP:
        raise Mistake(f"the activation of entry {at}, {shown(str(value))}, is not between 0 and {TOP}")


def _offsets(text: str, tokens: Sequence[TokenLogprobs]) -> list[int] | None:
    """Where each token stands in the text, up to its end; None when they do not spell it. Tokens that hold parts of characters are passed
    over, each with at most `_WINDOW` characters."""
    offsets: list[int] = []
    at = parts = 0
    for token in tokens:
        if at == len(text):
            break
        if token.token and text.startswith(token.token, at):
            place = at
        elif parts and (place := text.find(token.token, at, at + _WINDOW * parts + len(token.token))) >= 0 and token.token:
            pass
        else:
            # A part of a character: an empty text, U+FFFD, “bytes:\xe2”, or “\xe2” written out.
            if token.token.isascii() and "\\x" not in token.token and token.token:
                return None
            offsets.append(at)
            parts += 1
            continue
        offsets.append(place)
        at, parts = place + len(token.token), 0
    return offsets if at == len(text) else None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number in JSON")
