"""A cap is never passed by more than the calls in flight, and what was spent is what the endpoint counted."""

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from core.errors import AtlasError
from core.llm.answers import ChatAnswer
from core.llm.budget import Budget, BudgetReached, Spend
from core.llm.client import Client
from core.llm.endpoint import Endpoint
from core.llm.retry import Retry
from tests.llm_endpoint import LlmEndpoint, chat_reply

CONCURRENCY = 8
QUICK = Retry(attempts=6, first=0.01, longest=0.02)


@dataclass
class Outcome:
    answers: int
    reached: int
    spent: Spend


def run(server: LlmEndpoint, budget: Budget, calls: int, *, max_tokens: int = 9, **more: Any) -> Outcome:
    async def ask() -> Outcome:
        endpoint = Endpoint(server.base_url, "tiny", concurrency=CONCURRENCY, **more)
        async with Client(endpoint, budget=budget, retry=QUICK) as client:
            questions = [[{"role": "user", "content": f"question {n}"}] for n in range(calls)]
            done = await asyncio.gather(*(client.chat(one, max_tokens=max_tokens) for one in questions), return_exceptions=True)
        answers = sum(isinstance(one, ChatAnswer) for one in done)
        reached = sum(isinstance(one, BudgetReached) for one in done)
        assert answers + reached == calls, done
        return Outcome(answers, reached, budget.spent)

    return asyncio.run(ask())


def long_answer(body: dict[str, Any]) -> dict[str, Any]:
    """Ten tokens read, a hundred written."""
    return {**chat_reply("long"), "usage": {"prompt_tokens": 10, "completion_tokens": 100}}


@pytest.mark.parametrize("cap", [0, 1, 13, 40])
def test_a_cap_on_calls_is_kept_exactly(cap: int) -> None:
    with LlmEndpoint(latency=0.002) as server:
        outcome = run(server, Budget(calls=cap), 40)
    assert (outcome.answers, outcome.reached) == (cap, 40 - cap)
    assert server.answered == outcome.spent.calls == cap


def test_a_cap_on_calls_counts_answers_and_not_the_refusals_of_a_busy_endpoint() -> None:
    with LlmEndpoint(faults=lambda number, body: "429" if number % 3 == 0 else "ok") as server:
        outcome = run(server, Budget(calls=12), 30)
    assert outcome.answers == outcome.spent.calls == server.answered == 12
    assert server.requests > 12


def test_a_cap_on_tokens_is_kept_when_answers_stay_within_their_limit() -> None:
    with LlmEndpoint(answer=long_answer, latency=0.002) as server:
        outcome = run(server, Budget(tokens=1150), 30, max_tokens=100)
    assert outcome.spent.tokens <= 1150
    assert outcome.spent.tokens == 110 * outcome.answers
    assert outcome.answers == 10, "answers may use the room that those in flight turn out not to need"


def test_a_cap_is_passed_by_no_more_than_the_calls_in_flight_when_answers_exceed_all_estimates() -> None:
    with LlmEndpoint(answer=long_answer, latency=0.005) as server:
        outcome = run(server, Budget(tokens=1000), 60, max_tokens=1)
    assert outcome.spent.tokens > 1000
    assert outcome.spent.tokens - 1000 <= CONCURRENCY * 110
    assert outcome.reached > 0


def test_a_cap_in_money_is_kept_and_the_spend_is_the_endpoints_count_at_the_given_prices() -> None:
    with LlmEndpoint(answer=long_answer, latency=0.002) as server:
        outcome = run(server, Budget(money=0.005), 30, max_tokens=100, price_in=2.0, price_out=5.0)
    each = (10 * 2.0 + 100 * 5.0) / 1e6
    assert outcome.spent.money == pytest.approx(outcome.answers * each)
    assert outcome.answers == 9, "a tenth would pass it"
    assert (outcome.spent.tokens_in, outcome.spent.tokens_out) == (90, 900)


def test_the_sentence_says_the_cap_and_what_to_do() -> None:
    async def ask() -> None:
        budget = Budget(calls=3, spent=Spend(calls=3))
        with pytest.raises(BudgetReached, match=r"budget of 3 calls is reached.*Raise it and resume"):
            await budget.reserve(Spend(calls=1))

    asyncio.run(ask())


def test_a_resumed_run_goes_on_from_what_it_has_spent() -> None:
    with LlmEndpoint() as server:
        first = run(server, Budget(calls=6), 10)
        again = run(server, Budget(calls=10, spent=Spend.from_json(first.spent.to_json())), 10)
    assert (first.answers, again.answers, server.answered) == (6, 4, 10)


def test_calls_that_nobody_metered_are_counted_by_estimate_and_marked() -> None:
    def silent(body: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in chat_reply("hello").items() if name != "usage"}

    with LlmEndpoint(answer=silent) as server:
        outcome = run(server, Budget(), 3, max_tokens=50)
    assert (outcome.spent.calls, outcome.spent.unmetered, outcome.spent.tokens_out) == (3, 3, 150)
    assert outcome.spent.tokens_in > 0


def test_answers_that_broke_off_count_as_perhaps_charged_and_those_that_were_refused_do_not() -> None:
    with LlmEndpoint(faults=["disconnect", "429", "500", "bad-json", "ok"]) as server:
        outcome = run(server, Budget(), 1)
    assert (outcome.spent.calls, outcome.spent.unmetered) == (3, 2)


def test_two_clients_share_one_budget() -> None:
    async def ask() -> int:
        budget = Budget(calls=15)
        endpoint = Endpoint(server.base_url, "tiny", concurrency=4)
        async with Client(endpoint, budget=budget) as one, Client(endpoint, budget=budget) as two:
            calls = [client.chat([{"role": "user", "content": f"{n}"}], max_tokens=9) for n in range(20) for client in (one, two)]
            done = await asyncio.gather(*calls, return_exceptions=True)
        return sum(isinstance(answer, ChatAnswer) for answer in done)

    with LlmEndpoint(latency=0.002) as server:
        assert asyncio.run(ask()) == server.answered == 15


def test_a_waiting_call_goes_on_when_one_in_flight_was_not_made_after_all() -> None:
    async def ask() -> None:
        budget = Budget(calls=1)
        held = await budget.reserve(Spend(calls=1))
        waiting = asyncio.create_task(budget.reserve(Spend(calls=1)))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        budget.settle(held, Spend())
        assert await asyncio.wait_for(waiting, 1) == Spend(calls=1)

    asyncio.run(ask())


def test_caps_that_make_no_sense_are_refused() -> None:
    with pytest.raises(AtlasError, match="0 or more"):
        Budget(calls=-1)
    with pytest.raises(AtlasError, match="0 or more"):
        Budget(money=float("nan"))
    with pytest.raises(AtlasError, match="needs prices"):
        Client(Endpoint("http://127.0.0.1:1/v1", "tiny"), budget=Budget(money=1.0))
