"""Whatever an endpoint does, no simulation hangs, no record becomes zeros, and each that failed says why."""

import asyncio
import time
from typing import Any

import numpy as np
import pytest

from core.autointerp.chat_simulator import ChatSimulator
from core.autointerp.completions import CompletionsSimulator
from core.autointerp.explanation import Explanation, Simulation, Text
from core.autointerp.scoring import score
from core.llm.budget import Budget
from core.llm.client import BudgetReached, Client, Final
from core.llm.endpoint import Endpoint
from core.llm.retry import Retry
from core.units import UnitName
from tests.llm_endpoint import Body, Fault, LlmEndpoint
from tests.scripted_llm import Oracle, known

SAID = Explanation(UnitName.parse("planted/mlp.0/neurons/0"), "whatever the oracle knows", "by-hand", "test")
RECORDS: dict[tuple[str, ...], tuple[float, ...]] = {
    ("one", " good", " record"): (0, 10, 2),
    ("the", " ILL", " one"): (10, 5, 0),
    ("another", " good", " one", "!"): (1, 0, 0, 7),
}
QUICK = Retry(attempts=2, paid_attempts=2, seconds=5, first=0.01, longest=0.02)
REASONS: dict[Fault, str] = {
    "429": "is busy",
    "429-after": "asks to wait",
    "500": "The endpoint failed",
    "stall": "gave no answer within",
    "disconnect": "broke off",
    "bad-json": "is not JSON",
    "html": "is not JSON",
    "no-choices": "without a choice",
    "400": "maximum context length",
}
CHAT_REASONS: dict[Fault, str] = {"refusal": "The model refused", "null": "answered with nothing"}
SIMULATORS = {"completions": CompletionsSimulator, "chat": ChatSimulator}
CASES = [
    *((name, fault, reason) for name in SIMULATORS for fault, reason in REASONS.items()),
    *(("chat", fault, reason) for fault, reason in CHAT_REASONS.items()),
]


def is_ill(body: Body) -> bool:
    return " ILL" in str(body.get("prompt") or body["messages"])


def simulate(
    name: str, faults: Any, budget: Budget | None = None, seconds: float = 20, **server: Any
) -> tuple[list[Simulation], LlmEndpoint]:
    """All records at once. faults: a plan for the endpoint. seconds: what one answer may take."""

    async def inside() -> tuple[list[Simulation], LlmEndpoint]:
        with LlmEndpoint(answer=Oracle(known(RECORDS)).answer, faults=faults, stall=30, **server) as endpoint:
            async with Client(Endpoint(endpoint.base_url, "tiny", timeout=seconds, concurrency=2), None, budget, retry=QUICK) as client:
                simulator = SIMULATORS[name](client)
                texts = [Text((-1,) * len(pieces), pieces) for pieces in RECORDS]
                return list(await asyncio.gather(*(simulator.simulate(SAID, text) for text in texts))), endpoint

    return asyncio.run(inside())


@pytest.mark.parametrize(("name", "fault", "reason"), CASES, ids=[f"{name}, {fault}" for name, fault, _ in CASES])
def test_a_fault_that_stays_costs_its_record_only(name: str, fault: Fault, reason: str) -> None:
    begun = time.monotonic()
    simulations, _ = simulate(name, lambda _, body: fault if is_ill(body) else "ok", seconds=1 if fault == "stall" else 20, retry_after=60)
    assert time.monotonic() - begun < 20
    assert reason in simulations[1].failed
    assert np.isnan(simulations[1].values).all()
    judged = score("top-and-random", [np.array(values) for values in RECORDS.values()], [one.values for one in simulations])
    assert judged.coverage == pytest.approx(2 / 3)
    assert judged.rho > 1 - 1e-9
    assert [one.failed for one in simulations[::2]] == ["", ""]


@pytest.mark.parametrize("name", SIMULATORS)
@pytest.mark.parametrize("fault", ["429", "429-after", "500", "disconnect", "bad-json", "no-choices"])
def test_a_fault_that_passes_costs_nothing(name: str, fault: Fault) -> None:
    simulations, endpoint = simulate(name, [fault], retry_after=0.05)
    assert [one.failed for one in simulations] == ["", "", ""]
    assert endpoint.requests == len(RECORDS) + 1


@pytest.mark.parametrize("name", SIMULATORS)
@pytest.mark.parametrize("fault", ["401", "403", "404"])
def test_what_cannot_succeed_stops_the_run(name: str, fault: Fault) -> None:
    with pytest.raises(Final):
        simulate(name, lambda number, body: fault)


@pytest.mark.parametrize("name", SIMULATORS)
def test_a_budget_that_is_reached_stops_the_run_and_is_no_failed_record(name: str) -> None:
    with pytest.raises(BudgetReached):
        simulate(name, (), Budget(calls=2))
