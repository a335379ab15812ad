"""Explanations by language models: what is asked, what is made of the answer, and what is no explanation."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from core.autointerp.llm_explainers import (
    ANSWER_TOKENS,
    LONGEST,
    clean_explanation,
    explain_from_logits,
    explain_from_records,
    explain_from_tokens,
    paraphrase,
)
from core.autointerp.models import Models
from core.autointerp.patient import THOUGHTS, PatientChat
from core.autointerp.prompts import LEAD
from core.autointerp.request import ExplainerChoice
from core.llm.client import Client, LlmError
from core.llm.endpoint import Endpoint
from core.workspace import Workspace
from tests.llm_endpoint import Body, LlmEndpoint, chat_reply

RECORDS = [((" a", " heron"), (0, 10)), (("the", " owl", "\n"), (0, 7, 0))]


def ask(use: Callable[[Client], Awaitable[str]], says: str = " names of birds.") -> tuple[str, Body]:
    async def inside() -> tuple[str, Body]:
        with LlmEndpoint(answer=lambda body: chat_reply(says, body=body)) as server:
            async with Client(Endpoint(server.base_url, "tiny")) as client:
                return await use(client), server.bodies[0]

    return asyncio.run(inside())


def test_records_are_shown_with_their_activations_at_the_temperature_asked_for() -> None:
    text, body = ask(lambda client: explain_from_records(client, RECORDS, 0.7))
    assert text == "names of birds"
    assert body["temperature"] == 0.7
    asked = body["messages"][-1]["content"]
    assert " heron\t10\n" in asked
    assert "\\n\t0\n" in asked
    assert asked.endswith(LEAD)


def test_tokens_and_logits_are_shown_as_lists() -> None:
    _, body = ask(lambda client: explain_from_tokens(client, [" heron", '"']))
    assert '" heron", "\\""' in body["messages"][-1]["content"]
    _, body = ask(lambda client: explain_from_logits(client, [" owl"], [" car"]))
    assert 'Promoted: " owl"\nSuppressed: " car"' in body["messages"][-1]["content"]


def test_a_paraphrase_is_asked_for_without_chance() -> None:
    text, body = ask(lambda client: paraphrase(client, "names of birds"), "“Words for birds.”")
    assert text == "Words for birds"
    assert body["temperature"] == 0
    assert "names of birds" in body["messages"][-1]["content"]
    assert "Activations" not in str(body["messages"])


@pytest.mark.parametrize(
    "says",
    ["names of birds.", f'{LEAD} "names of birds".', "<think>owls?</think>\nnames of birds", "**Explanation:** names of birds\n\nIndeed."],
)
def test_only_the_phrase_is_kept(says: str) -> None:
    assert clean_explanation(says) == "names of birds"


def test_a_long_answer_is_cut_between_words() -> None:
    text = clean_explanation("names of birds, " * 50)
    assert len(text) <= LONGEST
    assert text.endswith(("birds…", "names…", "of…"))


@pytest.mark.parametrize(
    "says",
    [
        "I'm sorry, but I can't help with that.",
        "I cannot assist with this request.",
        "Sorry, I am not able to do this.",
        "As an AI language model, I do not look into neurons.",
    ],
)
def test_a_refusal_is_no_explanation(says: str) -> None:
    with pytest.raises(LlmError, match="declined to explain") as caught:
        ask(lambda client: explain_from_records(client, RECORDS), says)
    assert caught.value.kind == "refused"


@pytest.mark.parametrize("says", ["apologies such as 'sorry' and 'I am'", "sorry and other words of regret", "I, me and other pronouns"])
def test_an_explanation_about_apologies_is_no_refusal(says: str) -> None:
    assert clean_explanation(says) == says


@pytest.mark.parametrize("says", [" ", "<think>birds", '""', "."])
def test_nothing_is_no_explanation(says: str) -> None:
    with pytest.raises(LlmError) as caught:
        ask(lambda client: explain_from_records(client, RECORDS), says)
    assert caught.value.kind == "empty"


def test_a_run_finds_out_once_that_a_model_thinks_first(workspace: Workspace) -> None:
    """Every explanation of a run is asked of the same patient chat: a thinking model is not paid twice for each."""
    rooms: list[int] = []

    def answer(body: Body) -> Body:
        rooms.append(body["max_tokens"])
        reply = chat_reply("names of birds" if rooms[-1] > 10_000 else "", body=body)
        reply["choices"][0]["finish_reason"] = "stop" if rooms[-1] > 10_000 else "length"
        return reply

    async def inside() -> None:
        with LlmEndpoint(answer=answer) as server:
            models = Models(workspace)
            choice = ExplainerChoice("token-activation", Endpoint(server.base_url, "tiny"))
            for sample in range(3):
                assert await explain_from_records(models.chat(choice), RECORDS, n_sample=sample) == "names of birds"
            await models.close()

    asyncio.run(inside())
    assert rooms == [ANSWER_TOKENS, *[ANSWER_TOKENS + THOUGHTS] * 3]


def test_a_model_that_thinks_first_is_given_room_when_thoughts_were_all_that_came() -> None:
    rooms: list[int] = []

    def answer(body: Body, thoughts: str) -> Body:
        rooms.append(body["max_tokens"])
        reply = chat_reply("names of birds" if rooms[-1] > 10_000 else thoughts, body=body)
        reply["choices"][0]["finish_reason"] = "stop" if rooms[-1] > 10_000 else "length"
        return reply

    async def inside(thoughts: str) -> list[str]:
        with LlmEndpoint(answer=lambda body: answer(body, thoughts)) as server:
            async with Client(Endpoint(server.base_url, "tiny")) as client:
                patient = PatientChat(client)
                return [(await patient.chat([{"role": "user", "content": words}], max_tokens=50)).text for words in ("a", "b")]

    for thoughts in ("", "<think>Herons, owls"):
        rooms.clear()
        assert asyncio.run(inside(thoughts)) == ["names of birds"] * 2
        assert rooms == [50, 50 + THOUGHTS, 50 + THOUGHTS]
