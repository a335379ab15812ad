"""Simulating over a completions endpoint: a perfect model gets a perfect score, however its tokenizer parts the prompt, or a reason."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import pytest

from core.autointerp.completions import CompletionsSimulator
from core.autointerp.explanation import Explanation, Simulation, Text
from core.autointerp.scoring import score
from core.llm.answers import EchoAnswer
from core.llm.client import Client, NoEcho
from core.llm.endpoint import Endpoint
from core.llm.retry import Retry
from core.units import UnitName
from tests.llm_endpoint import Body, LlmEndpoint, Split, chat_reply, echo_reply, split_words
from tests.scripted_llm import Oracle, known, split_bytes, split_joined_tabs, split_small

T = TypeVar("T")
UNIT = UnitName.parse("planted/mlp.0/neurons/0")
SAID = Explanation(UNIT, "whatever the oracle knows", "by-hand", "test")
RECORDS: dict[tuple[str, ...], tuple[float, ...]] = {
    ("The", " sea", " is", " unknown", ",", " all", " 10", " of", " it", "\n"): (0, 10, 0, 3, 0, 1, 0, 7, 0, 2),
    (" a", "\t", "<start>", "1", "unknown", "\\", " ", "x", "0", "<end>"): (5, 0, 1, 0, 9, 0, 4, 10, 0, 6),
    ("caf", "é", " 🙂", "⟨e2 80⟩", "\u2028", "\r", "日本", "'", '"', "{}"): (0, 8, 2, 1, 0, 0, 10, 0, 3, 0),
}
"""Activations are exact tenths of the greatest. Tokens are as unpleasant as they come."""
QUICK = Retry(attempts=2, paid_attempts=2, seconds=5, first=0.01, longest=0.02)


def text_of(pieces: tuple[str, ...]) -> Text:
    return Text((-1,) * len(pieces), pieces)


def run(answer: Callable[[Body], Body], use: Callable[[Client], Awaitable[T]]) -> T:
    async def inside() -> T:
        with LlmEndpoint(answer=answer) as server:
            async with Client(Endpoint(server.base_url, "tiny", timeout=5), retry=QUICK) as client:
                return await use(client)

    return asyncio.run(inside())


async def simulate_all(client: Client) -> tuple[list[Simulation], CompletionsSimulator]:
    simulator = CompletionsSimulator(client)
    return list(await asyncio.gather(*(simulator.simulate(SAID, text_of(pieces)) for pieces in RECORDS))), simulator


@pytest.mark.parametrize(
    ("split", "digits"),
    [(split_words, False), (split_joined_tabs, False), (split_bytes, False), (split_small, True)],
    ids=["words", "tabs joined to what follows", "bytes", "small pieces, 10 is 1 and 0"],
)
def test_an_oracle_over_http_scores_one(split: Split, digits: bool) -> None:
    simulations, simulator = run(Oracle(known(RECORDS), split, digits).answer, simulate_all)
    assert [simulation.failed for simulation in simulations] == ["", "", ""]
    for simulation, values in zip(simulations, RECORDS.values(), strict=True):
        assert simulation.values == pytest.approx(values, abs=1e-4)
        assert simulation.probabilities is not None
        assert simulation.probabilities.sum(axis=1) == pytest.approx(1)
    true = [np.array(values) * 0.37 for values in RECORDS.values()]
    judged = score("top-and-random", true, [simulation.values for simulation in simulations])
    assert judged.rho > 1 - 1e-9
    assert judged.coverage == 1
    assert simulator.recipe["numbers"] == ("digits" if digits else "whole")
    assert simulator.recipe["model"] == "tiny"


def test_ten_as_two_tokens_costs_a_request_only_where_a_one_is_likely() -> None:
    seen: list[str] = []
    oracle = Oracle(known(RECORDS), split_small, digits=True)

    def answer(body: Body) -> Body:
        seen.append(body["prompt"])
        return oracle.answer(body)

    run(answer, simulate_all)
    # Where the true value is v, the oracle thinks of v − 1 and v + 1, and of 10 as 1 and 0: so a 1 is likely for 2, 9 and 10.
    ones = sum(value in (2, 9, 10) for values in RECORDS.values() for value in values)
    more = [prompt for prompt in seen if not prompt.endswith("<end>\n")]
    assert all(prompt.endswith("\t10") for prompt in more)
    assert len(more) == ones
    assert len(seen) == len(RECORDS) + ones


def test_an_endpoint_that_does_not_echo_stops_the_run_with_one_sentence() -> None:
    def only_generated(body: Body) -> Body:
        return echo_reply({**body, "echo": False})

    with pytest.raises(NoEcho, match="does not give the log probabilities of prompts") as caught:
        run(only_generated, simulate_all)
    assert "\n" not in str(caught.value)


def test_an_endpoint_with_alternatives_for_the_beginning_only_is_found_out_at_first_use() -> None:
    oracle = Oracle(known(RECORDS))

    def beginning(body: Body) -> Body:
        reply = oracle.answer(body)
        logprobs = reply["choices"][0]["logprobs"]
        logprobs["top_logprobs"] = [top if place < 20 else None for place, top in enumerate(logprobs["top_logprobs"])]
        return reply

    with pytest.raises(NoEcho, match="choose the structured chat"):
        run(beginning, simulate_all)


def test_no_number_among_the_likeliest_fails_the_record_and_says_where() -> None:
    simulations, _ = run(Oracle(known(RECORDS), numbers=False).answer, simulate_all)
    assert all(np.isnan(simulation.values).all() for simulation in simulations)
    assert simulations[0].failed == "None of the 1 likeliest tokens at token 0 (“The”) is a number from 0 to 10."


def test_a_text_the_endpoint_cannot_read_fails_alone() -> None:
    def answer(body: Body) -> Body:
        return chat_reply("no completion") if "caf" in body["prompt"] else oracle.answer(body)

    oracle = Oracle(known(RECORDS))

    async def one_after_another(client: Client) -> list[Simulation]:
        simulator = CompletionsSimulator(client)
        return [await simulator.simulate(SAID, text_of(pieces)) for pieces in RECORDS]

    simulations = run(answer, one_after_another)
    assert [bool(simulation.failed) for simulation in simulations] == [False, False, True]


def test_an_empty_text_costs_nothing() -> None:
    async def empty(client: Client) -> tuple[Simulation, int]:
        return await CompletionsSimulator(client).simulate(SAID, text_of(())), client.budget.spent.calls

    simulation, calls = run(Oracle(known(RECORDS)).answer, empty)
    assert (len(simulation.values), simulation.failed, calls) == (0, "", 0)


@dataclass
class Spelling:
    """An echo whose tokens come from a function, with the offsets that this function gives."""

    split: Callable[[str], list[tuple[str, int]]]
    endpoint: Endpoint = field(default_factory=lambda: Endpoint("http://127.0.0.1:1/v1", "odd"))

    async def echo(self, prompt: str, logprobs: int = 20, *, since: int = 0) -> EchoAnswer:
        tokens = self.split(prompt)
        sure = {"4": math.log(0.5), "\t4": math.log(0.5)}
        return EchoAnswer([token for token, _ in tokens], [at for _, at in tokens], [sure] * len(tokens))


def own_spelling(prompt: str) -> list[tuple[str, int]]:
    """GPT-2's letters for bytes, each two characters where UTF-8 has two bytes: what comes after é stands one off."""
    found, at = list[tuple[str, int]](), 0
    for token, _ in split_words(prompt):
        spelt = token.replace(" ", "Ġ").replace("\n", "Ċ").replace("\t", "ĉ").replace("é", "Ã©")
        found.append((spelt, at))
        at += len(spelt)
    return found


def line_at_once(prompt: str) -> list[tuple[str, int]]:
    """Every line from its token to its activation as one token."""
    lines = prompt.splitlines(keepends=True)
    starts = np.cumsum([0, *map(len, lines)]).tolist()
    return [(line, start) for line, start in zip(lines, starts[:-1], strict=True)]


def shifted_by_a_line(prompt: str) -> list[tuple[str, int]]:
    """Right tokens whose offsets are one line off, so that each “unknown” seems to stand where another does."""
    return [(token, at + len("a\tunknown\n")) for token, at in split_words(prompt)]


def cut_off(prompt: str) -> list[tuple[str, int]]:
    return split_words(prompt)[:-5]


@pytest.mark.parametrize(
    ("split", "reason"),
    [
        (own_spelling, "do not spell the prompt"),
        (line_at_once, "in one token"),
        (shifted_by_a_line, "do not spell the prompt"),
        (cut_off, "end before the prompt does"),
    ],
    ids=["a spelling of its own", "token and activation joined", "one line off", "cut off"],
)
def test_tokens_that_cannot_be_placed_for_certain_fail_the_record(split: Callable[[str], list[tuple[str, int]]], reason: str) -> None:
    simulator = CompletionsSimulator(Spelling(split))
    simulation = asyncio.run(simulator.simulate(SAID, text_of(("a", "a", "a", "é", "a"))))
    assert reason in simulation.failed
    assert np.isnan(simulation.values).all()


def test_a_tab_expected_by_itself_is_no_statement_about_the_number() -> None:
    class TabAlone(Spelling):
        async def echo(self, prompt: str, logprobs: int = 20, *, since: int = 0) -> EchoAnswer:
            answer = await super().echo(prompt, logprobs, since=since)
            return EchoAnswer(answer.tokens, answer.offsets, [{"\t": math.log(0.6), "\t4": math.log(0.1)}] * len(answer.tokens))

    simulation = asyncio.run(CompletionsSimulator(TabAlone(split_joined_tabs)).simulate(SAID, text_of(("a", "b"))))
    assert "expects a tab by itself" in simulation.failed
