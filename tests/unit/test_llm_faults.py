"""Whatever an endpoint does, a call ends in time: with the answer, or with one sentence of the right kind."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from core.llm.answers import ChatAnswer
from core.llm.budget import Budget
from core.llm.client import Client
from core.llm.endpoint import Endpoint
from core.llm.failures import Final, LlmError
from core.llm.retry import Retry, retry_after
from tests.llm_endpoint import Fault, LlmEndpoint, chat_reply

QUICK = Retry(attempts=5, paid_attempts=3, seconds=5.0, first=0.01, longest=0.05)


def ask(
    server: LlmEndpoint, *, calls: int = 1, retry: Retry = QUICK, timeout: float = 2.0, **more: Any
) -> list[ChatAnswer | BaseException]:
    """So many different questions at once; what became of each."""

    async def run() -> list[ChatAnswer | BaseException]:
        async with Client(Endpoint(server.base_url, "tiny", timeout=timeout, **more), retry=retry) as client:
            questions = [[{"role": "user", "content": f"question {number}"}] for number in range(calls)]
            return await asyncio.gather(*(client.chat(one, max_tokens=9) for one in questions), return_exceptions=True)

    return asyncio.run(run())


def failed(outcome: ChatAnswer | BaseException) -> LlmError:
    assert isinstance(outcome, LlmError), outcome
    return outcome


@pytest.mark.parametrize(
    "faults",
    [
        ("429",),
        ("429-after",),
        ("429-date",),
        ("500", "500", "500"),
        ("disconnect",),
        ("bad-json",),
        ("html",),
        ("no-choices",),
        ("stall",),
    ],
    ids=lambda faults: "+".join(faults),
)
def test_what_may_pass_is_asked_again(faults: Sequence[Fault]) -> None:
    with LlmEndpoint(faults=faults, retry_after=0.1) as server:
        (answer,) = ask(server, timeout=0.3 if "stall" in faults else 2.0)
    assert isinstance(answer, ChatAnswer)
    assert answer.text.startswith("answer ")
    assert server.requests == len(faults) + 1


@pytest.mark.parametrize(
    ("fault", "kind", "words", "attempts"),
    [
        ("429", "busy", "HTTP 429: Rate limit reached.", QUICK.attempts),
        ("500", "broken", "HTTP 500: The server had an error.", QUICK.attempts),
        ("stall", "timeout", "no answer within 0.1 seconds", QUICK.paid_attempts),
        ("disconnect", "broken", "broke off", QUICK.paid_attempts),
        ("bad-json", "broken", "not JSON", QUICK.paid_attempts),
        ("html", "broken", "not JSON", QUICK.paid_attempts),
        ("no-choices", "empty", "without a choice", QUICK.paid_attempts),
        ("400", "refused", "maximum context length", 1),
        ("refusal", "refused", "I can't help with that.", 1),
        ("null", "empty", "answered with nothing", 1),
    ],
)
def test_what_does_not_pass_is_this_calls_failure_with_a_reason(fault: Fault, kind: str, words: str, attempts: int) -> None:
    with LlmEndpoint(faults=lambda number, body: fault) as server:
        started = time.monotonic()
        (outcome,) = ask(server, timeout=0.1 if fault == "stall" else 2.0)
        took = time.monotonic() - started
    error = failed(outcome)
    assert not isinstance(error, Final)
    assert (error.kind, server.requests) == (kind, attempts)
    assert words in str(error)
    assert took < 3.0


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        ("401", "auth", "OPENAI_API_KEY"),
        ("403", "auth", "no access to this model"),
        ("404", "missing", "tiny"),
        ("quota", "auth", "credit"),
        ("redirect", "missing", "http://127.0.0.1:9/v1"),
    ],
)
def test_what_no_call_can_pass_stops_all_at_once(fault: Fault, kind: str, words: str) -> None:
    with LlmEndpoint(faults=lambda number, body: fault) as server:
        outcomes = [failed(outcome) for outcome in ask(server, calls=40, concurrency=4)]
    assert all(isinstance(error, Final) and error.kind == kind and words in str(error) for error in outcomes)
    assert server.requests <= 4, "none but those in flight"


def test_a_rejected_key_stops_a_run_in_its_middle() -> None:
    with LlmEndpoint(faults=lambda number, body: "401" if number == 10 else "ok") as server:
        outcomes = ask(server, calls=60, concurrency=4)
    assert server.requests <= 14
    assert sum(isinstance(outcome, ChatAnswer) for outcome in outcomes) == server.answered
    assert sum(isinstance(outcome, Final) for outcome in outcomes) == 60 - server.answered


def test_retry_after_is_kept_by_all_calls() -> None:
    seen: list[float] = []

    def plan(number: int, body: dict[str, Any]) -> Fault:
        seen.append(time.monotonic())
        return "429-after" if number == 0 else "ok"

    with LlmEndpoint(faults=plan, retry_after=0.6) as server:
        outcomes = ask(server, calls=6, concurrency=2)
    assert all(isinstance(outcome, ChatAnswer) for outcome in outcomes)
    early = [at for at in seen[1:] if at - seen[0] < 0.6]
    assert len(early) <= 1, "only what was in flight already"


def test_a_wait_beyond_all_patience_is_told_and_not_waited_for() -> None:
    with LlmEndpoint(faults=lambda number, body: "429-after", retry_after=3600) as server:
        started = time.monotonic()
        error = failed(ask(server)[0])
    assert time.monotonic() - started < 2.0
    assert error.kind == "busy"
    assert "wait 3,600 seconds" in str(error)


def test_hope_ends_after_the_given_seconds_however_often_the_endpoint_says_soon() -> None:
    with LlmEndpoint(faults=lambda number, body: "429-after", retry_after=0) as server:
        started = time.monotonic()
        error = failed(ask(server, retry=replace(QUICK, seconds=0.5, first=0.05))[0])
    assert 0.3 < time.monotonic() - started < 2.0
    assert error.kind == "busy"
    assert server.requests <= 14, "not hammered"


def test_an_answer_that_trickles_in_is_cut_off_in_time() -> None:
    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n")
        try:
            while True:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.02)
        except ConnectionError:
            return

    async def run() -> None:
        server = await asyncio.start_server(trickle, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with Client(Endpoint(f"http://127.0.0.1:{port}/v1", "tiny", timeout=0.3), retry=Retry(attempts=1)) as client:
            with pytest.raises(LlmError, match=r"no answer within 0\.3 seconds"):
                await client.chat([{"role": "user", "content": "hello"}], max_tokens=9)
        server.close()

    started = time.monotonic()
    asyncio.run(run())
    assert time.monotonic() - started < 2.0


def test_where_nothing_listens_the_run_stops_with_the_address() -> None:
    with LlmEndpoint() as server:
        pass
    (outcome, *_) = ask(server, calls=3)
    error = failed(outcome)
    assert isinstance(error, Final)
    assert server.base_url in str(error)
    assert "start the server" in str(error)


def test_an_endpoint_that_answers_nobody_stops_the_run_after_some_requests() -> None:
    with LlmEndpoint(faults=lambda number, body: "500") as server:
        outcomes = [failed(outcome) for outcome in ask(server, calls=60, retry=replace(QUICK, attempts=2, in_a_row=10), concurrency=2)]
    finals = [error for error in outcomes if isinstance(error, Final)]
    assert 60 - 10 <= len(finals) <= 60 - 9
    assert "10 requests in a row" in str(finals[0])
    assert server.requests <= 2 * 11


def test_failures_with_successes_between_them_do_not_stop_the_run() -> None:
    def plan(number: int, body: dict[str, Any]) -> Fault:
        return "ok" if int(body["messages"][0]["content"].split()[1]) % 3 == 0 else "500"

    with LlmEndpoint(faults=plan) as server:
        outcomes = ask(server, calls=40, retry=replace(QUICK, attempts=1, in_a_row=6), concurrency=1)
    assert sum(isinstance(outcome, ChatAnswer) for outcome in outcomes) == 14
    assert not any(isinstance(outcome, Final) for outcome in outcomes)


def test_a_mixture_of_faults_loses_no_answer_and_never_exceeds_the_concurrency() -> None:
    cycle: list[Fault] = ["ok", "429", "ok", "disconnect", "500", "ok", "bad-json", "ok"]
    with LlmEndpoint(faults=lambda number, body: cycle[number % len(cycle)], latency=0.005) as server:
        outcomes = ask(server, calls=80, concurrency=6, retry=replace(QUICK, attempts=12, paid_attempts=12))
    assert all(isinstance(outcome, ChatAnswer) for outcome in outcomes)
    assert 2 <= server.peak <= 6


def test_parameters_that_the_model_rejects_are_left_out_once_and_for_all_and_said() -> None:
    order: dict[str, Fault] = {
        "logprobs": "no-logprobs",
        "temperature": "no-temperature",
        "max_tokens": "no-max-tokens",
        "response_format": "no-schema",
    }

    def plan(number: int, body: dict[str, Any]) -> Fault:
        left: list[Fault] = [fault for name, fault in order.items() if name in body]
        return left[0] if left else "ok"

    async def run() -> tuple[list[ChatAnswer], dict[str, str]]:
        async with Client(Endpoint(server.base_url, "tiny", concurrency=1), retry=QUICK) as client:
            answers = [
                await client.chat([{"role": "user", "content": f"{n}"}], max_tokens=7, top_logprobs=5, schema={"type": "object"})
                for n in range(3)
            ]
            return answers, client.dropped

    with LlmEndpoint(faults=plan) as server:
        answers, dropped = asyncio.run(run())
    assert server.requests == 4 + 3, "each is tried once"
    assert set(server.bodies[-1]) == {"model", "messages", "max_completion_tokens"}
    assert server.bodies[-1]["max_completion_tokens"] == 7
    assert all(answer.tokens is None for answer in answers)
    assert all(set(answer.dropped) == {"temperature", "logprobs", "top_logprobs", "response_format"} for answer in answers)
    assert "not supported with reasoning models" in dropped["logprobs"]
    assert "max_completion_tokens" in dropped["max_tokens"]


def test_log_probabilities_of_the_answer_are_read() -> None:
    def answer(body: dict[str, Any]) -> dict[str, Any]:
        return chat_reply("7", body=body, top=lambda tokens, place: {"7": -0.25, "8": -1.5, "3": -4.0})

    async def run() -> ChatAnswer:
        async with Client(Endpoint(server.base_url, "tiny")) as client:
            return await client.chat([{"role": "user", "content": "?"}], max_tokens=1, top_logprobs=2)

    with LlmEndpoint(answer=answer) as server:
        got = asyncio.run(run())
    assert got.tokens is not None
    assert [(one.token, one.logprob, one.top) for one in got.tokens] == [("7", -0.25, {"7": -0.25, "8": -1.5})]
    assert (got.finish, got.usage.tokens_out, got.usage.estimated) == ("stop", 1, False)


def test_a_cancelled_call_ends_at_once_and_counts_as_perhaps_paid() -> None:
    async def run() -> Budget:
        budget = Budget(calls=5)
        async with Client(Endpoint(server.base_url, "tiny"), budget=budget) as client:
            task = asyncio.create_task(client.chat([{"role": "user", "content": "hello"}], max_tokens=9))
            while server.requests == 0:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        return budget

    with LlmEndpoint(faults=["stall"]) as server:
        spent = asyncio.run(run()).spent
    assert (spent.calls, spent.unmetered) == (1, 1)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0.25"}, 0.25),
        ({"retry-after": "-5"}, 0.0),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "Thu, 01 Jan 1970 00:02:00 GMT"}, 20.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0.0),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "soon"}, None),
        ({}, None),
    ],
)
def test_retry_after_is_read_as_seconds_or_a_date(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, now=100.0) == seconds


def test_waits_double_up_to_the_longest_with_chance_in_them() -> None:
    retry = Retry(first=1.0, longest=8.0)
    for attempt, most in enumerate([1.0, 2.0, 4.0, 8.0, 8.0, 8.0]):
        drawn = [retry.delay(attempt) for _ in range(50)]
        assert most / 2 <= min(drawn) < max(drawn) <= most
