"""Bills et al.'s simulator over HTTP, all tokens at once: one completion a record, with the log probabilities of the echoed prompt.

At each “unknown” the alternatives to what the prompt says there are what the model expects. Where the “unknown”s are is known from how the
prompt was put together; the endpoint's tokens have to agree with it, or the record fails. Nothing is searched for.
"""

import asyncio
import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any, Literal, Protocol

import numpy as np

from core.autointerp.expectation import Floats, distribution, numbers_in
from core.autointerp.explanation import DIGITS, Explanation, Simulation, Text
from core.autointerp.fewshot import EXAMPLES
from core.autointerp.prompts import PROMPT_VERSION, Segment, marker_offsets, prefix_segments, simulation_target
from core.autointerp.request import LOGPROBS
from core.autointerp.scale import TOP
from core.errors import shown
from core.llm.answers import EchoAnswer
from core.llm.endpoint import Endpoint
from core.llm.failures import Final, LlmError, NoEcho

Style = Literal["whole", "digits"]
"""Whether the endpoint's tokenizer writes 10 as one token, or as 1 and 0."""
MATERIAL = 0.01
"""Share of the number 1 from which it is asked whether a 0 follows. Below it the mean can be off by at most 0.09."""


class Echoing(Protocol):
    """What is needed of `core.llm.client.Client`."""

    @property
    def endpoint(self) -> Endpoint: ...

    async def echo(self, prompt: str, logprobs: int = 20, *, since: int = 0) -> EchoAnswer: ...


class Unreadable(Exception):
    """Why an endpoint's answer says nothing certain about a record."""


class CompletionsSimulator:
    """One request a record. Where the endpoint writes 10 as 1 and 0, one more for each token that may be a 1 or a 10 (`MATERIAL`).

    An endpoint that does not return the prompt's log probabilities is found out at the first answer: `simulate` raises NoEcho.
    """

    name = "completions"

    def __init__(self, client: Echoing, *, examples: int = EXAMPLES, logprobs: int = LOGPROBS) -> None:
        """examples: how many example neurons the prompt has, at least 1; fewer for a model that reads less.

        logprobs: alternatives at each place."""
        if not 1 <= examples <= EXAMPLES:
            raise ValueError(f"the prompt has 1 to {EXAMPLES} examples")
        self._client, self._examples, self._logprobs = client, examples, logprobs
        segments = prefix_segments(examples)
        self._prefix = "".join(segment.text for segment in segments)
        self._ten = _place_of_ten(segments)
        self._style: Style | None = None
        self.recipe: dict[str, Any] = {
            "prompt": PROMPT_VERSION,
            "examples": examples,
            "logprobs": logprobs,
            "endpoint": client.endpoint.base_url,
            "model": client.endpoint.model,
        }

    async def simulate(self, explanation: Explanation, text: Text) -> Simulation:
        """As the protocol `Simulator` has it. Raises NoEcho, other `Final` errors and BudgetReached."""
        if not len(text):
            return Simulation(np.zeros(0), probabilities=np.zeros((0, DIGITS)))
        segments = simulation_target(explanation.text, text.pieces, self._examples)
        prompt = self._prefix + "".join(segment.text for segment in segments)
        places = marker_offsets(segments, len(self._prefix))
        try:
            found = await self._expect(prompt, places, text.pieces)
        except Final:
            raise
        except (LlmError, Unreadable) as error:
            return Simulation.failure(text, str(error))
        return Simulation(found @ np.arange(DIGITS), probabilities=found)

    async def _expect(self, prompt: str, places: Sequence[int], pieces: Sequence[str]) -> Floats:
        """Probabilities [tokens, 11]. Raises Unreadable."""
        answer = await self._client.echo(prompt, self._logprobs, since=len(self._prefix))
        if self._style is None:
            self._learn(answer, prompt, places)
        check_spelling(answer, prompt, len(self._prefix))
        numbers = [number_at(answer, prompt, place, f"token {at} (“{shown(pieces[at])}”)") for at, place in enumerate(places)]
        follow = [0.0] * len(places)
        if self._style == "digits":
            ones = [at for at, found in enumerate(numbers) if _share(found, "1") >= MATERIAL]
            for at, zero in zip(ones, await asyncio.gather(*(self._zero_after_one(prompt, places[at]) for at in ones)), strict=True):
                follow[at] = zero
        rows = [distribution(found, zero) for found, zero in zip(numbers, follow, strict=True)]
        for piece, row in zip(pieces, rows, strict=True):
            if row is None:
                raise Unreadable(f"At “{shown(piece)}” none of the endpoint's likeliest tokens is a number from 0 to 10.")
        return np.stack([row for row in rows if row is not None])

    def _learn(self, answer: EchoAnswer, prompt: str, places: Sequence[int]) -> None:
        """Look at the first answer: whether there are alternatives at all, and how it writes the number 10 that the examples show."""
        # The client takes alternatives anywhere for an echo; some servers give them for a few of the last tokens only.
        if all(answer.top[at] is None for at, offset in enumerate(answer.offsets) if offset >= places[0]):
            raise NoEcho(
                f"The endpoint {self._client.endpoint.base_url} does not give the log probabilities of prompts: "
                "choose the structured chat or a model loaded here as simulator, or an endpoint that gives them, such as vLLM."
            )
        self._style = style_of_ten(answer, prompt, self._ten)
        self.recipe["numbers"] = self._style
        if self._style == "digits":
            self.recipe["after_1"] = f"asked where P(1) ≥ {MATERIAL:g}"

    async def _zero_after_one(self, prompt: str, place: int) -> float:
        """P(0) right after 1, when the activation at `place` begins with 1."""
        asked = f"{prompt[:place]}{TOP}"
        answer = await self._client.echo(asked, self._logprobs, since=place)
        last = len(answer.tokens) - 1
        top = answer.top[last] if last >= 0 else None
        if top is None or answer.offsets[last] != place + 1 or answer.tokens[last] != "0":
            raise Unreadable("The endpoint writes 10 now as one token and now as two: its numbers cannot be read.")
        return math.exp(numbers_in(top).get("0", -math.inf))


def number_at(answer: EchoAnswer, prompt: str, place: int, called: str) -> dict[str, float]:
    """The log probability of each number in the place of the character `place` of the prompt; see `numbers_in`.

    The token there begins at `place`, or one character before with the tab, as in a tokenizer that joins tabs to what follows them.
    Raises Unreadable for anything else. called: what the place is called in the reason.
    """
    at, head = _token_at(answer, prompt, place, called)
    top = answer.top[at]
    if top is None:
        raise Unreadable(f"The endpoint gives no alternatives at {called}.")
    numbers = numbers_in(top, head)
    # A tab by itself may be followed by any number, and which one is not said.
    if head and math.exp(top.get(head, -math.inf)) > sum(map(math.exp, numbers.values())):
        raise Unreadable(f"At {called} the endpoint expects a tab by itself, and the prompt's tab is part of a longer token.")
    if not numbers:
        raise Unreadable(f"None of the {len(top)} likeliest tokens at {called} is a number from 0 to {TOP}.")
    return numbers


def style_of_ten(answer: EchoAnswer, prompt: str, place: int) -> Style:
    """How the endpoint wrote the 10 that stands at the character `place`. Raises Unreadable for a third way."""
    at, head = _token_at(answer, prompt, place, f"an example's {TOP}")
    written = answer.tokens[at].removeprefix(head)
    if written == "1":
        return "digits"
    if written.startswith(str(TOP)):
        return "whole"
    raise Unreadable(f"The endpoint writes {TOP} as “{shown(written)}” and more, which is neither one token nor 1 and 0.")


def _token_at(answer: EchoAnswer, prompt: str, place: int, called: str) -> tuple[int, str]:
    """(the token that holds the character `place`, what it holds before: nothing or a tab)"""
    at = bisect_right(answer.offsets, place) - 1
    if at < 0:
        raise Unreadable(f"The endpoint's tokens do not reach {called}.")
    offset, token = answer.offsets[at], answer.tokens[at]
    if not token or not prompt.startswith(token, offset) or offset + len(token) <= place:
        raise Unreadable(f"The endpoint's tokens do not spell the prompt at {called}: it shows “{shown(token)}” there.")
    head = prompt[offset:place]
    if head not in ("", "\t"):
        raise Unreadable(f"The endpoint joins {called} and its activation in one token, “{shown(token)}”.")
    return at, head


def check_spelling(answer: EchoAnswer, prompt: str, since: int) -> None:
    """Whether the tokens spell the prompt from the character `since` to its end, so that each stands where its offset says.

    Tokens in a spelling of their own (Ġ for a space) do not, and their offsets drift. Tokens that hold a part of a character are passed
    over, with the characters they are of, none of which is in ASCII. Raises Unreadable.
    """
    first = bisect_left(answer.offsets, since)
    at, parts = answer.offsets[first] if first < len(answer.offsets) else since, ""
    for token, offset in zip(answer.tokens[first:], answer.offsets[first:], strict=True):
        if _is_spelt(prompt[at:offset], parts):
            at, parts = offset, parts if at == offset else ""
        if token and offset == at and prompt.startswith(token, at):
            at, parts = at + len(token), ""
        elif offset == at and (not token or "\ufffd" in token or token.startswith("bytes:")):
            parts += token or "\ufffd"
        else:
            raise Unreadable(f"The endpoint's tokens do not spell the prompt: “{shown(token)}” stands for “{shown(prompt[at : at + 20])}”.")
    if not _is_spelt(prompt[at:], parts):
        raise Unreadable("The endpoint's tokens end before the prompt does.")


def _is_spelt(text: str, parts: str) -> bool:
    """Whether tokens that hold parts of characters can stand for a stretch of the prompt."""
    return all(parts and (not character.isascii() or character in parts) for character in text)


def _share(numbers: dict[str, float], number: str) -> float:
    masses = {value: math.exp(logprob) for value, logprob in numbers.items()}
    return masses.get(number, 0.0) / (sum(masses.values()) or 1.0)


def _place_of_ten(segments: Sequence[Segment]) -> int:
    """The character at which an example shows the activation 10."""
    starts = accumulate((len(segment.text) for segment in segments), initial=0)
    shown_values = zip(pairwise(segments), list(starts)[1:-1], strict=True)
    return next(start for (before, value), start in shown_values if before.text == "\t" and value.text == str(TOP))
