"""Language models by script, for `LlmEndpoint`: an oracle that simulates without fault, and an explainer that reads its prompt by rule.

    with LlmEndpoint(answer=Oracle(known({"she sings": [0, 10]})).answer) as server: ...

Both see nothing but the request: what the tests know, they have to find in the prompt.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from core.autointerp.prompts import LEAD
from tests.llm_endpoint import Body, Split, chat_reply, echo_reply, split_words

Knows = Callable[[str, tuple[str, ...]], Sequence[float]]
"""From an explanation and the tokens of a text to how strongly the unit fires on each, 0 to 10."""
Rows = list[tuple[str, int]]
"""A record as a prompt shows it: tokens with activations 0 to 10."""
_RECORD = re.compile(r"<start>\n(.*?)<end>", re.DOTALL)
_HEAD = re.compile(rf"Explanation(?: of neuron \d+)?: {LEAD} (.*)")


def known(values: Mapping[tuple[str, ...], Sequence[float]]) -> Knows:
    """One unit's activations by the texts' tokens, whatever is said about it. KeyError, and so a broken answer, for any other text."""
    return lambda _, pieces: values[pieces]


def unescape(shown: str) -> str:
    """A token from how a line of a prompt writes it."""

    def one(match: re.Match[str]) -> str:
        return "<" if match[0] == "\\<" else json.loads(f'"{match[0]}"')

    return re.sub(r"\\(u[0-9a-f]{4}|.)", one, shown)


@dataclass
class Oracle:
    """Answers as a perfect simulator would, completions with echo and structured chats alike.

    split: how its tokenizer parts a text. With `digits` it writes 10 as 1 and 0. numbers: False for an answer in which no number is likely.
    """

    knows: Knows
    split: Split = split_words
    digits: bool = False
    numbers: bool = True

    def answer(self, body: Body) -> Body:
        return self.echo(body) if "prompt" in body else self.chat(body)

    def echo(self, body: Body) -> Body:
        """The alternatives at each “unknown” of the last text have the true activation as their mean."""
        prompt: str = body["prompt"]
        start = prompt.rindex("<start>\n")
        explanation = _HEAD.findall(prompt[:start])[-1]
        lines = re.findall(r"[^\n]+\n?", prompt[start:].removeprefix("<start>\n").removesuffix("<end>\n"))
        shown = [line.partition("\t")[0] for line in lines]
        # A prompt that breaks off behind an activation asks what follows a 1: of such a text the oracle knows the beginning.
        values = (
            self.knows(explanation, tuple(map(unescape, shown)))
            if prompt.endswith("<end>\n")
            else self._begun[prompt[: prompt.rindex("\t")]]
        )
        places: dict[int, float] = {}
        at = start + len("<start>\n")
        for piece, line, value in zip(shown, lines, values, strict=False):
            places[at + len(piece) + 1] = value
            self._begun[prompt[: at + len(piece)]] = values
            at += len(line)
        tokens = self.split(prompt)

        def top(_: list[str], place: int) -> dict[str, float]:
            token, offset = tokens[place] if place < len(tokens) else (" end", len(prompt))
            if not self.numbers:
                return {token: -0.1}
            for head in ("", "\t"):
                value = places.get(offset + len(head))
                if value is not None and prompt.startswith(head, offset):
                    return self._likely(value, head, token)
            if self.digits and offset - 1 in places:
                return self._second(places[offset - 1])
            return {token: -0.1}

        return echo_reply(body, split=self.split, top=top)

    def chat(self, body: Body) -> Body:
        """All activations as JSON, rounded, with log probabilities whose mean is the true activation."""
        explanation, pieces = asked_of(body["messages"])
        values = self.knows(explanation, pieces)
        text = activations_json(pieces, [round(value) for value in values])
        at = {match.start(1): value for match, value in zip(re.finditer(r'"activation": (\d+)', text), values, strict=True)}
        tokens = self.split(text)

        def top(_: list[str], place: int) -> dict[str, float]:
            token, offset = tokens[place]
            for head in ("", " "):
                value = at.get(offset + len(head))
                if value is not None and token.startswith(head):
                    return self._likely(value, head, token)
            if self.digits and offset - 1 in at:
                return self._second(at[offset - 1])
            return {token: -0.1}

        return chat_reply(text, body=body, split=self.split, top=top)

    def __post_init__(self) -> None:
        self._begun: dict[str, Sequence[float]] = {}

    def _likely(self, value: float, head: str, token: str) -> dict[str, float]:
        """Two numbers around the value, one of them also in a spelling with a blank; and what is there, which is no number."""
        low, high = max(0, math.ceil(value) - 1), min(10, math.floor(value) + 1)
        share = 0.5 if low == high else (value - low) / (high - low)
        found: dict[str, float] = {}
        for number, mass in ((low, 0.6 * (1 - share)), (high, 0.6 * share)):
            if mass > 0 and self.digits and number == 10:
                found[f"{head}1"] = found.get(f"{head}1", 0.0) + mass
            elif mass > 0:
                found[f"{head}{number}"] = found.get(f"{head}{number}", 0.0) + mass / 2
                found[f"{head} {number}"] = mass / 2
        if head == "\t":
            found["7"] = 0.05  # the token before the tab could go on with a 7: that is no activation
        if token not in found:
            found[token] = 0.3
        return {name: math.log(mass) for name, mass in found.items()}

    def _second(self, value: float) -> dict[str, float]:
        """What stands behind a 1, in shares that make `_likely` right where the number 1 itself is not likely."""
        return {"0": 0.0} if value > 2 else {"0": -40.0, "}": 0.0}


def asked_of(messages: Sequence[Mapping[str, Any]]) -> tuple[str, tuple[str, ...]]:
    """The explanation and the tokens that a structured chat is about."""
    question = [message["content"] for message in messages if "\nTokens: " in message["content"]][-1]
    head, _, listed = question.partition("\nTokens: ")
    return _HEAD.findall(head)[-1], tuple(entry["token"] for entry in json.loads(listed))


def activations_json(pieces: Sequence[str], values: Sequence[Any]) -> str:
    """The answer that a structured chat asks for."""
    entries = [{"index": at, "token": piece, "activation": value} for at, (piece, value) in enumerate(zip(pieces, values, strict=True))]
    return json.dumps({"activations": entries})


def split_joined_tabs(text: str) -> list[tuple[str, int]]:
    """A tab is one token with the word or number behind it."""
    return [(match.group(), match.start()) for match in re.finditer(r"\t\w+| ?[^\W\d_]+| ?\d+|\n| |.", text, re.DOTALL)]


def split_small(text: str) -> list[tuple[str, int]]:
    """At most two letters or one digit a token."""
    return [(match.group(), match.start()) for match in re.finditer(r"[^\W\d_]{1,2}|.", text, re.DOTALL)]


def split_bytes(text: str) -> list[tuple[str, int]]:
    """A character that is not ASCII is as many tokens as it has bytes, none of which is text."""
    found: list[tuple[str, int]] = []
    for token, at in split_words(text):
        if token.isascii():
            found.append((token, at))
            continue
        for character in token:
            parts = [character] if character.isascii() else ["�"] * len(character.encode())
            found += [(part, at) for part in parts]
            at += 1
    return found


def read_sentence(explanation: str, pieces: tuple[str, ...]) -> list[float]:
    """A simulator that understands three kinds of sentences, of the word 'x': alone, “right after 'y'”, “and the words around it”."""
    words = re.findall(r"'(\w+)'", explanation)
    folded = [piece.strip().casefold() for piece in pieces]
    if not words:
        return [0.0] * len(pieces)
    hits = [at for at, word in enumerate(folded) if word == words[0]]
    if "right after" in explanation:
        hits = [at for at in hits if at and folded[at - 1] == words[1]]
    elif "around" in explanation:
        hits = [near for at in hits for near in (at - 2, at - 1, at, at + 1, at + 2)]
    return [10.0 if at in hits else 0.0 for at in range(len(pieces))]


@dataclass
class Explainer:
    """Explains, reviews and writes tests by rule: it names the word with the highest activations; it sees what stands before the word
    only where the word is shown without activation; and asked to review an explanation that nothing speaks against, it makes it vaguer.

    positive, negative: patterns of the sentences it writes, with {} for the word. oracle: answers what else is asked.
    """

    oracle: Oracle
    positive: Sequence[str]
    negative: Sequence[str]

    def answer(self, body: Body) -> Body:
        if "prompt" in body or "\nTokens: " in body["messages"][-1]["content"]:
            return self.oracle.answer(body)
        last: str = body["messages"][-1]["content"]
        if "\nWrite " in last:
            word = re.findall(r"'(\w+)'", last)[0]
            wanted = {"positive": self.positive, "negative": self.negative}
            tests = {kind: [one.format(word) for one in sentences] for kind, sentences in wanted.items()}
            return chat_reply(f"```json\n{json.dumps(tests)}\n```", body=body)
        return chat_reply(f" {_named(_records(last), 'Reviewed' in last)}.", body=body)


def _records(prompt: str) -> list[Rows]:
    rows = [[line.split("\t") for line in block.splitlines()] for block in _RECORD.findall(prompt)]
    return [[(piece, int(value)) for piece, value in record] for record in rows]


def _named(records: Sequence[Rows], reviewing: bool) -> str:
    before: dict[bool, set[str]] = {True: set(), False: set()}
    strong = Counter(piece.strip().casefold() for record in records for piece, value in record if value >= 5)
    word = strong.most_common(1)[0][0]
    for record in records:
        for (left, _), (piece, value) in pairwise(record):
            if piece.strip().casefold() == word:
                before[value > 0].add(left.strip().casefold())
    telling = before[True] - before[False]
    if before[False] and telling:
        return f"the word '{word}' right after '{sorted(telling)[0]}'"
    return f"the word '{word}' and the words around it" if reviewing else f"the word '{word}'"
