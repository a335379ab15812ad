"""Simulating by structured chat: graded where log probabilities are given, checked always, repaired once, and else failed."""

import asyncio
import json
import math
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, TypeVar, cast

import numpy as np
import pytest

from core.autointerp.chat_answer import Mistake, expectations, read_activations
from core.autointerp.chat_simulator import ChatSimulator, how_graded
from core.autointerp.explanation import Example, Explanation, Origin, Simulation, Text
from core.autointerp.judging import judge
from core.autointerp.request import Setting
from core.autointerp.scoring import score
from core.llm.answers import TokenLogprobs
from core.llm.client import Client
from core.llm.endpoint import Endpoint
from core.llm.retry import Retry
from core.units import UnitName
from tests.llm_endpoint import Body, LlmEndpoint, Split, chat_reply, split_words
from tests.scripted_llm import Oracle, activations_json, asked_of, known, split_bytes, split_small

T = TypeVar("T")
SAID = Explanation(UnitName.parse("planted/mlp.0/neurons/0"), "whatever the oracle knows", "by-hand", "test")
PIECES = (" a", '"activation": 5', "\n", "é", "🙂", "<end>", "\\", "10", "}", "日本")
VALUES = (0, 10, 0, 3, 0, 1, 0, 7, 9, 2)
TEXT = Text((-1,) * len(PIECES), PIECES)
QUICK = Retry(attempts=2, paid_attempts=2, seconds=5, first=0.01, longest=0.02)


def simulate(answer: Callable[[Body], Body], **server: Any) -> tuple[Simulation, ChatSimulator, list[Body]]:
    async def use(client: Client) -> tuple[Simulation, ChatSimulator]:
        simulator = ChatSimulator(client)
        return await simulator.simulate(SAID, TEXT), simulator

    return with_client(answer, use, **server)


def with_client(answer: Callable[[Body], Body], use: Callable[[Client], Awaitable[tuple[Any, Any]]], **server: Any) -> tuple[Any, Any, Any]:
    async def inside() -> tuple[Any, Any, Any]:
        with LlmEndpoint(answer=answer, **server) as endpoint:
            async with Client(Endpoint(endpoint.base_url, "tiny", timeout=5), retry=QUICK) as client:
                return *await use(client), endpoint.bodies

    return asyncio.run(inside())


def test_a_token_may_lack_the_spaces_around_it_and_nothing_else() -> None:
    pieces = (" Angel", "s", "  ", "\n")

    def said(*tokens: object) -> str:
        return json.dumps({"activations": [{"index": at, "token": token, "activation": at} for at, token in enumerate(tokens)]})

    assert read_activations(said("Angel", " s", "", "\n"), pieces) == [0, 1, 2, 3]
    for wrong_ones in (("angel", "s", "  ", "\n"), (" Angel", "s", "  ", ""), (" Angel", "s", None, "\n"), (" Ang el", "s", "  ", "\n")):
        with pytest.raises(Mistake, match="has the token"):
            read_activations(said(*wrong_ones), pieces)


@pytest.mark.parametrize(
    ("split", "digits"), [(split_words, False), (split_bytes, False), (split_small, True)], ids=["words", "bytes", "small"]
)
def test_an_oracle_over_http_scores_one(split: Split, digits: bool) -> None:
    simulation, _, bodies = simulate(Oracle(known({PIECES: VALUES}), split, digits).answer)
    assert simulation.failed == ""
    assert simulation.probabilities is not None
    # 10 written as 1 and 0 is seen as 10 only where a 1 was written; the oracle thinks of a 10 at 9 too, and writes 9 there.
    expected = [(8 + 1 + 9) / 3 if digits and value == 9 else value for value in VALUES]
    assert simulation.values == pytest.approx(expected, abs=1e-4)
    if not digits:
        judged = score("top-and-random", [np.array(VALUES) * 0.37], [simulation.values])
        assert judged.rho > 1 - 1e-9
    assert how_graded([simulation]) == {"graded": "by log probabilities", "after_1": "where 1 was written"}
    assert len(bodies) == 1
    assert bodies[0]["response_format"]["json_schema"]["schema"]["properties"]["activations"]["minItems"] == len(PIECES)


def test_without_log_probabilities_the_integers_count_and_the_recipe_says_so() -> None:
    oracle = Oracle(known({PIECES: VALUES}))
    simulation, _, _ = simulate(lambda body: oracle.chat({**body, "logprobs": False}))
    assert simulation.values.tolist() == list(VALUES)
    assert simulation.probabilities is None
    assert how_graded([simulation]) == {"graded": "no"}


def test_how_a_score_was_graded_is_about_its_own_records_only() -> None:
    integers, expectations = Simulation(np.zeros(2)), Simulation(np.zeros(2), probabilities=np.zeros((2, 11)))
    failed = Simulation.failure(TEXT, "no answer")
    assert how_graded([expectations, failed])["graded"] == "by log probabilities"
    assert how_graded([integers, expectations])["graded"] == "some records"
    assert how_graded([integers, failed]) == how_graded([failed]) == {"graded": "no"}

    async def two(client: Client) -> tuple[dict[str, Any], None]:
        """What one record was like is not said of another's score."""
        simulator = ChatSimulator(client)
        await simulator.simulate(SAID, TEXT)
        return dict(simulator.recipe), None

    recipe, _, _ = with_client(Oracle(known({PIECES: VALUES})).answer, two)
    assert not {"graded", "after_1"} & set(recipe)


def test_rejected_parameters_are_dropped_once_and_remembered() -> None:
    async def twice(client: Client) -> tuple[list[Simulation], ChatSimulator]:
        simulator = ChatSimulator(client)
        other = Explanation(SAID.unit, "something else", "by-hand", "test")
        return [await simulator.simulate(SAID, TEXT), await simulator.simulate(other, TEXT)], simulator

    rejects = {"logprobs": "logprobs is not supported with this model", "response_format": "response_format is not supported"}
    simulations, simulator, bodies = with_client(Oracle(known({PIECES: VALUES})).answer, twice, rejects=rejects)
    assert [simulation.values.tolist() for simulation in simulations] == [list(VALUES)] * 2
    assert simulator.recipe["dropped"] == ["logprobs", "response_format", "top_logprobs"]
    assert len(bodies) == 4  # refused twice, answered, and answered at once


def wrong(change: Callable[[list[dict[str, Any]]], Any]) -> Callable[[str], str]:
    def altered(text: str) -> str:
        entries = json.loads(text)["activations"]
        return json.dumps({"activations": change(entries) or entries})

    return altered


WRONG: dict[str, tuple[Callable[[str], str], str]] = {
    "too short": (wrong(lambda entries: entries[:-1]), "it has 9 entries, and the text has 10 tokens"),
    "too long": (wrong(lambda entries: [*entries, {**entries[-1], "index": 10}]), "it has 11 entries"),
    "token": (wrong(lambda entries: entries[3].update(token="e")), 'entry 3 has the token "e" instead of "é"'),
    "order": (wrong(lambda entries: entries[::-1]), "entry 0 has the index 9 instead of 0"),
    "above": (wrong(lambda entries: entries[2].update(activation=11)), "the activation of entry 2, 11, is not between 0 and 10"),
    "below": (wrong(lambda entries: entries[2].update(activation=-1)), "the activation of entry 2, -1, is not between 0 and 10"),
    "fraction": (wrong(lambda entries: entries[2].update(activation=2.5)), "the activation of entry 2, 2.5, is not a whole number"),
    "null": (wrong(lambda entries: entries[2].update(activation=None)), "the activation of entry 2, null, is not a whole number"),
    "true": (wrong(lambda entries: entries[2].update(activation=True)), "the activation of entry 2, true, is not a whole number"),
    "missing": (wrong(lambda entries: entries[2].pop("activation") and None), "entry 2 is not an object with index, token and activation"),
    "half": (lambda text: text[: len(text) // 2], "it is not valid JSON"),
    "nan": (lambda text: text.replace('"activation": 10', '"activation": NaN'), "it is not valid JSON"),
    "list": (lambda text: json.dumps(json.loads(text)["activations"]), "it has no list under the key"),
    "refusal": (lambda _: "I'm sorry, but I can't help with that.", "it is not JSON but begins with “I'm sorry, but I can't help"),
    "deep": (lambda _: '{"activations": ' + "[" * 1500, "it is not valid JSON"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_answer_is_repaired_once_naming_the_mistake_and_then_fails(kind: str) -> None:
    spoil, reason = WRONG[kind]
    oracle = Oracle(known({PIECES: VALUES}))

    def always(body: Body) -> Body:
        return chat_reply(spoil(oracle.chat(body)["choices"][0]["message"]["content"]), body=body)

    def at_first(body: Body) -> Body:
        return (
            always(body)
            if body["messages"][-2]["role"] == "assistant" and "Tokens: " in body["messages"][-1]["content"]
            else oracle.chat(body)
        )

    failed, _, bodies = simulate(always)
    assert failed.failed.startswith("The model's answer cannot be used, asked twice: ")
    assert reason in failed.failed
    assert np.isnan(failed.values).all()
    assert len(bodies) == 2
    repaired, _, bodies = simulate(at_first)
    assert repaired.failed == ""
    assert repaired.values == pytest.approx(VALUES, abs=1e-4)
    assert reason in bodies[1]["messages"][-1]["content"]
    assert bodies[1]["messages"][:-2] == bodies[0]["messages"]


def test_an_answer_that_was_cut_off_says_so() -> None:
    def cut_off(body: Body) -> Body:
        reply = chat_reply(activations_json(PIECES, VALUES)[:100], body=body)
        reply["choices"][0]["finish_reason"] = "length"
        return reply

    simulation, _, _ = simulate(cut_off)
    assert "it was cut off after" in simulation.failed


@pytest.mark.parametrize(
    "around",
    ["{}", "```json\n{}\n```", "Here you are:\n```\n{}\n```\nAnything else?", '<think>{{so "activation": 3}} or so</think>\n{}'],
    ids=["bare", "fence", "words and a fence", "thoughts"],
)
def test_what_stands_around_the_json_is_passed_over(around: str) -> None:
    text = around.format(activations_json(PIECES, VALUES))
    assert read_activations(text, PIECES) == list(VALUES)
    tokens = [TokenLogprobs(token, -0.1, {token: -0.1}) for token, _ in split_words(text)]
    found = expectations(text, tokens, VALUES)
    assert found is not None
    assert (found @ np.arange(11)).tolist() == list(VALUES)


def test_ten_in_two_tokens_is_read_as_ten_and_one_as_one() -> None:
    text = activations_json(("x", "y"), (10, 1))
    pieces = [token for token, _ in split_small(text)]
    behind = {place + 1 for place, token in enumerate(pieces) if token == "1" and pieces[place - 2] == ":"}
    likely = {"1": math.log(0.5), "9": math.log(0.25)}
    tokens = [
        TokenLogprobs(token, -0.1, likely if place + 1 in behind else {"0": math.log(0.8), "}": math.log(0.2)} if place in behind else {})
        for place, token in enumerate(pieces)
    ]
    found = expectations(text, tokens, (10, 1))
    assert found is not None
    assert found[:, [1, 9, 10]] == pytest.approx(np.array([[2 / 3 * 0.2, 1 / 3, 2 / 3 * 0.8]] * 2))


def test_tokens_that_do_not_spell_the_answer_leave_it_ungraded() -> None:
    text = activations_json(("x", "y"), (3, 0))
    tokens = [TokenLogprobs(token, -0.1, {"7": 0.0}) for token, _ in split_words(text)]
    assert expectations(text, tokens[1:], (3, 0)) is None
    assert expectations(text, tokens[:-1], (3, 0)) is None
    assert expectations(text, [*tokens, TokenLogprobs("<|end|>", 0.0, {})], (3, 0)) is not None


def test_a_token_that_looks_like_a_key_confuses_nothing() -> None:
    pieces = ('"activation": 5, ', '\\"activation": 6', '"', "activation", ": 7")
    text = activations_json(pieces, (1, 2, 3, 4, 5))
    tokens = [TokenLogprobs(token, -0.1, {}) for token, _ in split_words(text)]
    found = expectations(text, tokens, (1, 2, 3, 4, 5))
    assert found is not None
    assert (found @ np.arange(11)).tolist() == [1, 2, 3, 4, 5]


def test_the_question_holds_the_tokens_and_the_explanation_only() -> None:
    _, _, bodies = simulate(Oracle(known({PIECES: VALUES})).answer)
    assert asked_of(bodies[0]["messages"]) == (SAID.text, PIECES)


def test_nothing_but_the_right_entries_is_accepted() -> None:
    with pytest.raises(Mistake, match="no list"):
        read_activations('{"values": []}', ("a",))


def test_each_kind_of_score_says_how_its_own_records_were_graded() -> None:
    def example(origin: Origin, place: int) -> Example:
        return Example(origin, place, f"d{place}", TEXT, np.array(VALUES, np.float64))

    class Held(SimpleNamespace):
        def scored_on(self, _: str) -> list[Example]:
            return [example("top", 0), example("random", 1)]

    class Answering:
        def __init__(self) -> None:
            self.name = ChatSimulator.name
            self.recipe: dict[str, Any] = {"prompt": "1"}
            self.asked = 0

        async def simulate(self, explanation: Explanation, text: Text) -> Simulation:
            self.asked += 1
            return Simulation(np.array(VALUES, np.float64), probabilities=np.zeros((len(text), 11)) if self.asked == 1 else None)

    setting = Setting(kinds=("top-only", "random-only", "top-and-random"), controls=())
    scores, _ = asyncio.run(judge(cast(Any, Held()), SAID, setting, Answering(), "test", (), 0))
    recipes = {one.score.kind: one.recipe for one in scores}
    assert {kind: recipe["graded"] for kind, recipe in recipes.items()} == {
        "top-only": "by log probabilities", "random-only": "no", "top-and-random": "some records",
    }  # fmt: skip
    assert "after_1" not in recipes["random-only"]
