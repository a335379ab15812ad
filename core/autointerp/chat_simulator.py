"""The structured chat: a model writes every activation of a text as JSON, each with its index and token, and every one is checked.

Where the endpoint gives the log probabilities of what it wrote, each activation is what the model expected there; else the integer it
wrote. An answer that cannot be used is asked for once more with the mistake named; after that the record fails.
"""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from core.autointerp.chat_answer import Mistake, expectations, read_activations
from core.autointerp.explanation import DIGITS, Explanation, Simulation, Text
from core.autointerp.patient import PatientChat
from core.autointerp.prompts import PROMPT_VERSION, Message, chat_simulation_messages, simulation_schema
from core.autointerp.request import LOGPROBS
from core.llm.answers import Chat, ChatAnswer
from core.llm.client import Client
from core.llm.failures import Final, LlmError

ENTRY_TOKENS = 24
"""What an entry takes at most, its token aside."""
MORE_TOKENS = 200
"""For a word before and after the JSON."""


class ChatSimulator:
    """One request a record, two when the first answer cannot be used; one more, the first time, to a model that thinks first."""

    name = "chat"

    def __init__(self, chat: Chat, *, logprobs: int = LOGPROBS) -> None:
        """chat: a client, or a model loaded here. logprobs: alternatives to each token of an answer."""
        self._chat = PatientChat(chat)
        self._logprobs = logprobs
        asked = {"endpoint": chat.endpoint.base_url, "model": chat.endpoint.model} if isinstance(chat, Client) else {}
        self.recipe: dict[str, Any] = {"prompt": PROMPT_VERSION, "top_logprobs": logprobs, "model": getattr(chat, "name", "")} | asked

    async def simulate(self, explanation: Explanation, text: Text) -> Simulation:
        """As the protocol `Simulator` has it. Raises `Final` errors and BudgetReached."""
        if not len(text):
            return Simulation(np.zeros(0))
        messages = chat_simulation_messages(explanation.text, text.pieces)
        try:
            answer = await self._ask(messages, text.pieces)
            try:
                values = self._read(answer, text.pieces)
            except Mistake as mistake:
                answer = await self._ask([*messages, *_again(answer, mistake, len(text))], text.pieces)
                values = self._read(answer, text.pieces)
        except Final:
            raise
        except Mistake as mistake:
            return Simulation.failure(text, f"The model's answer cannot be used, asked twice: {mistake}.")
        except LlmError as error:
            return Simulation.failure(text, str(error))
        return _graded(answer, values)

    async def _ask(self, messages: list[Message], pieces: Sequence[str]) -> ChatAnswer:
        room = MORE_TOKENS + sum(ENTRY_TOKENS + len(json.dumps(piece)) for piece in pieces)
        answer = await self._chat.chat(
            messages, max_tokens=room, temperature=0.0, top_logprobs=self._logprobs, schema=simulation_schema(len(pieces))
        )
        if answer.dropped:
            self.recipe["dropped"] = sorted({*self.recipe.get("dropped", ()), *answer.dropped})
        return answer

    def _read(self, answer: ChatAnswer, pieces: Sequence[str]) -> list[int]:
        try:
            return read_activations(answer.text, pieces)
        except Mistake as mistake:
            cut_off = f"it was cut off after {answer.usage.tokens_out:,} tokens, and then {mistake}"
            raise Mistake(cut_off) if answer.finish == "length" else mistake from None


def _graded(answer: ChatAnswer, values: Sequence[int]) -> Simulation:
    """With what the model expected at each number, where its log probabilities tell."""
    found = None if answer.tokens is None else expectations(answer.text, answer.tokens, values)
    if found is None:
        # A record whose numbers are not where its tokens say stays with its integers.
        return Simulation(np.array(values, np.float64))
    return Simulation(found @ np.arange(DIGITS), probabilities=found)


def how_graded(simulations: Sequence[Simulation]) -> dict[str, str]:
    """How the numbers of these records were read, for the recipe of a score over them: failed ones do not count."""
    graded = {one.probabilities is not None for one in simulations if not one.failed}
    if graded == {False} or not graded:
        return {"graded": "no"}
    # Only where a 1 was written is it known whether a 0 was expected behind it, should the model write 10 as 1 and 0.
    return {"graded": "some records" if len(graded) == 2 else "by log probabilities", "after_1": "where 1 was written"}


def _again(answer: ChatAnswer, mistake: Mistake, length: int) -> list[Message]:
    """The one repair: the answer as it was, and what is wrong with it."""
    return [
        {"role": "assistant", "content": answer.text},
        {
            "role": "user",
            "content": f"This cannot be used: {mistake}. Write the whole JSON object again, with one entry for each of the {length} tokens,"
            " in order, and nothing else.",
        },
    ]
