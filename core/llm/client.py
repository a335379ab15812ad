"""Asks one endpoint: a bounded number of calls at once, the cache before the wire, the budget before the call, patience after a failure."""

import asyncio
import random
import re
import time
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import Any, Self
from weakref import WeakValueDictionary

from core.errors import AtlasError
from core.llm.answers import Chat, ChatAnswer, Echo, EchoAnswer, TokenLogprobs, Usage
from core.llm.budget import Budget, BudgetReached, Spend
from core.llm.cache import ResponseCache, request_key
from core.llm.endpoint import Endpoint
from core.llm.estimate import tokens_of
from core.llm.failures import Failure, Final, LlmError, NoEcho
from core.llm.key import Key
from core.llm.parameters import Rejected
from core.llm.replies import Kept, chat_answer, echo_answer, read_chat, read_echo, read_usage
from core.llm.retry import Retry
from core.llm.transport import Transport

__all__ = [
    "BudgetReached",
    "Chat",
    "ChatAnswer",
    "Client",
    "Echo",
    "EchoAnswer",
    "Final",
    "LlmError",
    "NoEcho",
    "TokenLogprobs",
    "Usage",
]

CHAT, ECHO = "/chat/completions", "/completions"
_TOO_MANY = re.compile(r"at most|less than|must be (<=?|between|in)\b|must be <|maximum|max_logprobs|too many|exceed")
"""How endpoints say that they give fewer alternatives at a token than were asked for."""
_JITTER = 0.05
"""Seconds over which calls spread that were all told to come back at the same time."""


class Client:
    """A `Chat` and an `Echo` over HTTP. Used from one event loop; close it there.

    Every answer that was paid for is in the cache before it is returned. Equal requests made at once are sent once. After a `Final`
    failure of a route nothing more is sent to it. Raises AtlasError at once for a cap in money without prices.
    """

    def __init__(
        self, endpoint: Endpoint, cache: ResponseCache | None = None, budget: Budget | None = None, *, retry: Retry | None = None
    ) -> None:
        if endpoint.in_process:
            raise AtlasError("This model is loaded here, not asked over HTTP: give the address of an endpoint.")
        self.endpoint = endpoint
        self.budget = budget or Budget()
        if self.budget.money is not None and endpoint.price_in is None:
            raise AtlasError("A budget in money needs prices: give what a million tokens read and a million tokens written cost.")
        self._cache, self._retry = cache, retry or Retry()
        self._transport = Transport(endpoint, Key.of(endpoint))
        self._slots = asyncio.Semaphore(endpoint.concurrency)
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._rejected = {CHAT: Rejected(), ECHO: Rejected(needed=("logprobs",))}
        self._final: dict[str, Failure] = {}
        self._not_before = 0.0
        self._failed_in_a_row = 0
        self._has_echoed = False

    def __repr__(self) -> str:
        return f"Client({self.endpoint!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections. The cache and the budget belong to the caller."""
        await self._transport.close()

    @property
    def dropped(self) -> dict[str, str]:
        """The parameters that the model was found to reject, each with the endpoint's words: part of a result's recipe."""
        return {name: words for rejected in self._rejected.values() for name, words in rejected.words.items()}

    async def chat(
        self,
        messages: list[dict[str, Any]],
        *,
        max_tokens: int,
        temperature: float = 0.0,
        top_logprobs: int | None = None,
        schema: dict[str, Any] | None = None,
        n_sample: int = 0,
    ) -> ChatAnswer:
        """One answer; see `Chat`. top_logprobs: alternatives for each token of the answer. Raises LlmError and BudgetReached."""
        body: dict[str, Any] = {
            "model": self.endpoint.model,
            "messages": messages,
            "max_tokens": max_tokens,
            "temperature": float(temperature),
        }
        if top_logprobs is not None:
            body |= {"logprobs": True, "top_logprobs": top_logprobs}
        if schema is not None:
            body["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}
        planned = self._plan(sum(len(str(message.get("content", ""))) for message in messages), max_tokens)
        kept, cached = await self._ask(CHAT, body, planned, read_chat, sample=n_sample)
        return chat_answer(kept, _usage(kept), cached)

    async def echo(self, prompt: str | list[int], logprobs: int = 20, *, since: int = 0) -> EchoAnswer:
        """The log probabilities of the prompt's own tokens; see `Echo`. since: alternatives are returned, and take room in the cache,
        only from this character of the prompt on (of ids: this token). Raises NoEcho, other LlmErrors and BudgetReached."""
        body: dict[str, Any] = {
            "model": self.endpoint.model,
            "prompt": prompt,
            # Not 0, which some servers take for "as many as there is room for".
            "max_tokens": 1,
            "temperature": 0.0,
            "logprobs": logprobs,
            "echo": True,
        }
        planned = self._plan(len(prompt), 1) if isinstance(prompt, str) else self._spend(len(prompt), 1)

        def read(value: Any) -> Kept | Failure:
            return self._judge_echo(read_echo(value, prompt, since))

        kept, cached = await self._ask(ECHO, body, planned, read, since=since)
        self._has_echoed = True
        return echo_answer(kept, _usage(kept), cached)

    async def _ask(
        self, route: str, body: dict[str, Any], planned: Spend, read: Callable[[Any], Kept | Failure], **more: int
    ) -> tuple[Kept, bool]:
        """What is kept of the answer, and whether it was in the cache."""
        key = request_key(self.endpoint.base_url, self.endpoint.model, route, body, **more)
        # The second of two equal requests waits here, then finds the first one's answer.
        lock = self._locks.setdefault(key, asyncio.Lock())
        async with lock:
            known = self._cache.get(key) if self._cache is not None else None
            if known is not None:
                self.budget.note_cached()
                return known, True
            kept = await self._pay(route, body, planned, read)
            if self._cache is not None:
                read_tokens, written_tokens, _ = kept["usage"]
                place = {"base_url": self.endpoint.base_url, "model": self.endpoint.model, "route": route}
                self._cache.put(key, kept, **place, tokens_in=read_tokens, tokens_out=written_tokens)
            return kept, False

    async def _pay(self, route: str, body: dict[str, Any], planned: Spend, read: Callable[[Any], Kept | Failure]) -> Kept:
        """Ask until there is an answer or no hope."""
        async with self._slots:
            outcome = await self._persist(route, lambda: self._attempt(route, body, planned, read))
        if not isinstance(outcome, Failure):
            return outcome
        raise outcome.error()

    async def _persist(self, route: str, attempt: Callable[[], Any]) -> Any:
        """Repeat an attempt while it fails in a way that may pass. Returns what it returned, or the last Failure."""
        started, tried, told, paid = time.monotonic(), 0, 0, 0
        while True:
            await self._hold_back()
            if route in self._final:
                return self._final[route]
            outcome = await attempt()
            if not isinstance(outcome, Failure) or not outcome.retry:
                self._failed_in_a_row = 0
                if isinstance(outcome, Failure) and outcome.final:
                    self._final[route] = outcome
                return outcome
            tried, told = tried + (outcome.wait is None), told + (outcome.wait is not None)
            paid += outcome.billed
            wait = self._retry.delay(tried - 1) if outcome.wait is None else max(outcome.wait, self._retry.least(told - 1))
            late = time.monotonic() + wait > started + self._retry.seconds
            if late or tried >= self._retry.attempts or paid >= self._retry.paid_attempts:
                return self._give_up(route, outcome, tried + told)
            if outcome.wait is None:
                await asyncio.sleep(wait)
            else:
                # The endpoint's limit holds for all calls, so all of them keep to it.
                self._not_before = max(self._not_before, time.monotonic() + wait)

    async def _attempt(self, route: str, body: dict[str, Any], planned: Spend, read: Callable[[Any], Kept | Failure]) -> Kept | Failure:
        """One paid call, repeated without a parameter that the model turns out to reject."""
        rejected = self._rejected[route]
        while True:
            sent = rejected.apply(body)
            reserved = await self.budget.reserve(planned)
            # What a call may cost that is cancelled or breaks off: nobody will tell.
            actual = replace(planned, unmetered=1)
            try:
                reply = await self._transport.ask(route, sent)
                if isinstance(reply, Failure):
                    actual = actual if reply.billed else Spend()
                else:
                    usage = read_usage(reply)
                    actual = actual if usage is None else self._spend(*usage)
            finally:
                self.budget.settle(reserved, actual)
            if isinstance(reply, Failure):
                if rejected.learn(reply, sent):
                    continue
                return self._judge_echo(reply) if route == ECHO else reply
            kept = read(reply)
            if isinstance(kept, dict):
                kept["usage"] = [actual.tokens_in, actual.tokens_out, bool(actual.unmetered)]
                kept["dropped"] = rejected.dropped_from(body)
            return kept

    async def _hold_back(self) -> None:
        """Wait until the time that the endpoint last named."""
        while (left := self._not_before - time.monotonic()) > 0:
            await asyncio.sleep(left + random.uniform(0.0, min(_JITTER, left)))

    def _give_up(self, route: str, failure: Failure, attempts: int) -> Failure:
        self._failed_in_a_row += 1
        words = [failure.text]
        if failure.wait is not None:
            words.append(f"It asks to wait {failure.wait:,.0f} seconds.")
        if attempts > 1:
            words.append(f"Asked {attempts} times.")
        ill = self._failed_in_a_row >= self._retry.in_a_row
        if ill:
            words.append(f"{self._failed_in_a_row} requests in a row had no answer: resume when the endpoint is well.")
        final = ill or failure.kind == "missing"
        failure = replace(failure, text=" ".join(words), final=final, retry=False)
        if final:
            self._final[route] = failure
        return failure

    def _judge_echo(self, outcome: Kept | Failure) -> Kept | Failure:
        """Whether a failure says that the endpoint cannot echo at all, or only something about this prompt."""
        if not isinstance(outcome, Failure):
            return outcome
        said = outcome.said.lower()
        if outcome.status in (400, 422) and "logprobs" in said and _TOO_MANY.search(said):
            text = f"{outcome.text} The endpoint gives fewer alternatives: choose fewer log probabilities."
            return replace(outcome, kind="missing", text=text, final=True)
        if outcome.status in (400, 422) and ("echo" in said or "logprobs" in said):
            text = f"{outcome.text} It does not give the log probabilities of prompts: choose another simulator, or an endpoint that does."
            outcome = replace(outcome, kind="missing", text=text, final=True, no_echo=True)
        if outcome.no_echo and self._has_echoed:
            return replace(outcome, kind="broken", final=False, text=f"{outcome.text} It did for other prompts.")
        return outcome

    def _plan(self, chars: int, tokens_out: int) -> Spend:
        return self._spend(tokens_of(chars), tokens_out)

    def _spend(self, tokens_in: int, tokens_out: int) -> Spend:
        money = self.endpoint.cost(tokens_in, tokens_out)
        return Spend(calls=1, tokens_in=tokens_in, tokens_out=tokens_out, money=money or 0.0)


def _usage(kept: Kept) -> Usage:
    read, written, estimated = kept["usage"]
    return Usage(read, written, estimated)
