"""Revision on the planted “not all” unit: the four arms come in the order of Bills et al. 2023, and each step says what it was shown."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from core.autointerp.chat_simulator import ChatSimulator
from core.autointerp.completions import CompletionsSimulator
from core.autointerp.explanation import Example, Explanation, Simulator, Text
from core.autointerp.llm_explainers import explain_from_records
from core.autointerp.request import ARMS, Arm, ExplainerChoice, Setting
from core.autointerp.revision import Record, Step, read_tests, revise, revise_text, write_tests
from core.autointerp.scale import largest, normalise
from core.autointerp.scoring import score
from core.llm.client import Client, LlmError
from core.llm.endpoint import Endpoint
from core.llm.retry import Retry
from core.units import UnitName
from tests.llm_endpoint import Body, LlmEndpoint, chat_reply, split_words
from tests.scripted_llm import Explainer, Oracle, read_sentence

UNIT = UnitName.parse("planted/mlp.0/neurons/1352")
POSITIVE = ("We ate {} the bread.", "In the end {} of them left.", "Please note that not {} rooms have a view.", "After {}, it rained.")
NEGATIVE = ("Nobody came.", "Every guest had left by then.")


def fire(text: str, strength: float = 4.2) -> Record:
    """The planted unit: it fires on “all”, but only right after “not”."""
    pieces = [token for token, _ in split_words(text)]
    words = [piece.strip().casefold() for piece in pieces]
    hits = [at > 0 and words[at] == "all" and words[at - 1] == "not" for at in range(len(words))]
    return tuple(pieces), np.array(hits) * strength


TRAIN = [
    fire("Please note: not all stray animal pictures are posted here."),
    fire("Not all films from our collection are available online.", 4.0),
    fire("Not all handles are shipped in one box."),
    fire("These are custom orders, and not all are shown.", 3.8),
    fire("It turns out that not all of it was lost."),
]
"""The strongest records: nothing in them speaks against “all”."""
RANDOM = [
    fire("The river was high, and the bridge was closed."),
    fire("After all the rain, not all paths were dry, and all of us got wet.", 2.0),
    fire("All boats stay in the harbor; not all captains like it.", 2.5),
    fire("She read the letter twice."),
    fire("All year long they fish here, though not all day.", 1.5),
]
HELD_OUT = [
    fire("You said that not all birds sing at night."),
    fire("Not all that glitters is gold."),
    fire("There were not all that many people, all things considered.", 4.0),
    fire("Why are not all lamps lit, when all shops are open?"),
    fire("They know that not all roads lead home.", 3.9),
    fire("All day we waited for all the others."),
    fire("It is all the same to him, one and all."),
    fire("The cook had gone, and the soup was cold."),
    fire("Is that all? All the doors were shut."),
    fire("A dog slept near the stove all winter."),
]


def answering() -> Explainer:
    return Explainer(Oracle(read_sentence), POSITIVE, NEGATIVE)


async def subject(texts: list[str]) -> list[Record]:
    return [fire(text) for text in texts]


async def rho(simulator: Simulator, text: str) -> float:
    explanation = Explanation(UNIT, text, "token-activation", "script")
    answers = [await simulator.simulate(explanation, Text((-1,) * len(pieces), tuple(pieces))) for pieces, _ in HELD_OUT]
    judged = score("top-and-random", [true for _, true in HELD_OUT], [answer.values for answer in answers])
    assert judged.coverage == 1
    return judged.rho


@pytest.mark.parametrize("simulator", [CompletionsSimulator, ChatSimulator], ids=["completions", "chat"])
def test_the_four_arms_come_in_the_papers_order(simulator: type[CompletionsSimulator] | type[ChatSimulator]) -> None:
    async def arms() -> tuple[dict[Arm | None, float], dict[Arm | None, list[Step]]]:
        with LlmEndpoint(answer=answering().answer) as server:
            async with Client(Endpoint(server.base_url, "script")) as client:
                top = largest([true for _, true in TRAIN])
                first = await explain_from_records(client, [(pieces, normalise(true, top)) for pieces, true in TRAIN])
                steps: dict[Arm | None, list[Step]] = {}
                scores: dict[Arm | None, float] = {}
                for arm in (None, *ARMS):
                    steps[arm] = await revise_text(client, arm, first, TRAIN, read=subject, random=RANDOM)
                    scores[arm] = await rho(simulator(client), steps[arm][-1].text)
                return scores, steps

    scores, steps = asyncio.run(arms())
    assert steps[None] == [Step(0, "the word 'all'")]
    assert scores["re-explanation"] < scores[None] < scores["revision"]
    assert scores["revision"] == pytest.approx(scores["revision with random"], abs=0.02)
    assert scores["revision"] > 0.99
    assert steps["revision"][-1].text == steps["revision with random"][-1].text == "the word 'all' right after 'not'"


def test_each_step_keeps_what_it_was_shown() -> None:
    async def arms() -> dict[Arm, list[Step]]:
        with LlmEndpoint(answer=answering().answer) as server:
            async with Client(Endpoint(server.base_url, "script")) as client:
                return {arm: await revise_text(client, arm, "the word 'all'", TRAIN, read=subject, random=RANDOM) for arm in ARMS}

    steps = asyncio.run(arms())
    assert all(found[0] == Step(0, "the word 'all'") for found in steps.values())
    assert steps["re-explanation"][1].shown == ()
    tested = steps["revision"][1].shown
    assert [one.expected for one in tested] == ["positive"] * 4 + ["negative"] * 2
    assert tested[2].pieces == fire(POSITIVE[2].format("all"))[0]
    assert tested[2].to_json(4.2)["values"] == [0] * 4 + [10] + [0] * 5
    # Only the random records on which the unit fires, on the scale of the training records.
    assert [max(one.to_json(4.2)["values"]) for one in steps["revision with random"][1].shown] == [4, 5, 3]
    assert steps["revision with random"][1].to_json()["step"] == 1


def test_sentences_are_shown_with_true_activations_on_one_scale_with_the_records() -> None:
    prompts: list[str] = []

    def answer(body: Body) -> Body:
        prompts.append(body["messages"][-1]["content"])
        return answering().answer(body)

    async def stronger(texts: list[str]) -> list[Record]:
        return [fire(text, 8.4) for text in texts]

    async def run() -> None:
        with LlmEndpoint(answer=answer) as server:
            async with Client(Endpoint(server.base_url, "script")) as client:
                await revise_text(client, "revision", "the word 'all'", TRAIN, read=stronger)

    asyncio.run(run())
    assert " not\t0\n all\t5\n" in prompts[-1]  # a training record: 4.2 of 8.4
    assert " not\t0\n all\t10\n rooms\t0\n" in prompts[-1]
    assert " ate\t0\n all\t0\n the\t0\n" in prompts[-1]


def test_a_unit_that_is_silent_on_the_random_records_says_so() -> None:
    class Unasked:
        async def chat(self, *_: Any, **__: Any) -> Any:
            raise AssertionError("no model is needed to find this out")

    with pytest.raises(LlmError, match="fires on none of the random records"):
        asyncio.run(revise_text(cast(Any, Unasked()), "revision with random", "x", TRAIN, random=[RANDOM[0], RANDOM[3]]))


def test_tests_that_are_no_json_are_asked_for_again_and_then_given_up() -> None:
    async def run(faulty: int) -> tuple[list[tuple[Any, str]], int]:
        def answer(body: Body) -> Body:
            if server.requests <= faulty:
                return chat_reply("I would rather write a poem.", body=body)
            return chat_reply('{"positive": ["All  went\\nwell."], "negative": ["All went well.", "No."]}', body=body)

        with LlmEndpoint(answer=answer) as server:
            async with Client(Endpoint(server.base_url, "script"), retry=Retry(attempts=1)) as client:
                return await write_tests(client, "the word 'all'"), server.requests

    assert asyncio.run(run(1)) == ([("positive", "All went well."), ("negative", "No.")], 2)
    with pytest.raises(LlmError, match="no sentences that could test"):
        asyncio.run(run(2))


def test_sentences_that_are_none_are_passed_over() -> None:
    assert read_tests('{"positive": ["a", 3, "", null, "b", "a", "c"], "negative": "no list"}', 2) == [("positive", "a"), ("positive", "b")]
    assert read_tests('{"positive": ["' + "x" * 401 + '"], "negative": []}', 2) == []
    assert read_tests('[{"positive": ["a"]}', 2) == [("positive", "a")]
    assert read_tests("no", 2) == []


def test_a_units_explanation_is_revised_on_records_that_are_not_held_out() -> None:
    def examples(records: list[Record], first: int) -> list[Example]:
        texts = [(Text((-1,) * len(pieces), tuple(pieces)), true) for pieces, true in records]
        return [Example("top", first + at, f"d{first + at}", text, true) for at, (text, true) in enumerate(texts)]

    class Shown(SimpleNamespace):
        def shown(self, choice: ExplainerChoice) -> list[Example]:
            # Some of the random records are among the shown ones too.
            return examples(TRAIN, 0) if choice.source == "top" else [*examples(TRAIN[:2], 0), *examples(RANDOM, 100)]

    async def run(arm: Arm | None) -> list[Explanation]:
        with LlmEndpoint(answer=answering().answer) as server:
            endpoint = Endpoint(server.base_url, "script")
            setting = Setting(explainer=ExplainerChoice("token-activation", endpoint), arm=arm)
            first = Explanation(UNIT, "the word 'all'", "token-activation", "script", recipe={"prompt": "1"})
            async with Client(endpoint) as client:
                return await revise(cast(Any, Shown()), setting, first, client, subject, rounds=2 if arm == "revision" else 1)

    assert asyncio.run(run(None)) == []
    once, twice = asyncio.run(run("revision"))
    assert (once.text, twice.text) == ("the word 'all' right after 'not'",) * 2
    assert (once.unit, once.explainer, once.author) == (UNIT, "token-activation", "script")
    assert (once.recipe["prompt"], once.recipe["arm"], once.recipe["step"], twice.recipe["step"]) == ("1", "revision", 1, 2)
    assert len(twice.recipe["shown"]) == 2 * len(once.recipe["shown"])
    (random,) = asyncio.run(run("revision with random"))
    assert [one["pieces"] for one in random.recipe["shown"]] == [list(fire_of(place)) for place in (1, 2, 4)]
    assert once.recipe["contexts"] == list(range(len(TRAIN)))
    assert random.recipe["contexts"] == [*range(len(TRAIN)), 101, 102, 104], "random records that were shown are said, too"


def fire_of(place: int) -> tuple[str, ...]:
    return tuple(RANDOM[place][0])
