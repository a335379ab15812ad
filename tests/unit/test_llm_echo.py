"""The log probabilities of a prompt's own tokens: they stand where they belong, or the endpoint is said not to give them."""

import asyncio
import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.llm.answers import EchoAnswer
from core.llm.cache import ResponseCache
from core.llm.client import Client
from core.llm.endpoint import Endpoint
from core.llm.failures import Final, LlmError, NoEcho
from core.llm.replies import read_echo
from core.llm.retry import Retry
from tests.llm_endpoint import Body, LlmEndpoint, chat_reply, echo_reply, split_words

PROMPT = "<start>\nthe\tunknown\n fight\tunknown\n<end>\n"


def by_place(tokens: list[str], place: int) -> dict[str, float]:
    """Log probabilities that tell their place."""
    return {tokens[place]: -1.0 - place, "10": -0.5 - place}


def echo(server: LlmEndpoint, prompt: str | list[int] = PROMPT, **more: Any) -> EchoAnswer:
    async def run() -> EchoAnswer:
        async with Client(Endpoint(server.base_url, "tiny"), retry=Retry(attempts=1)) as client:
            return await client.echo(prompt, **more)

    return asyncio.run(run())


def ignoring_echo(body: Body) -> Body:
    """What llama-server does: the token it generates, with log probabilities, whatever `echo` says."""
    return {**echo_reply({**body, "echo": False}), "usage": {"prompt_tokens": len(split_words(body["prompt"])), "completion_tokens": 1}}


def test_every_token_of_the_prompt_comes_with_what_was_likely_there() -> None:
    with LlmEndpoint(answer=lambda body: echo_reply(body, top=by_place)) as server:
        answer = echo(server)
    assert "".join(answer.tokens) == PROMPT
    assert [PROMPT[at : at + len(token)] for at, token in zip(answer.offsets, answer.tokens, strict=True)] == answer.tokens
    assert answer.top[0] is None
    expected = [{token: -1.0 - place, "10": -0.5 - place} for place, token in enumerate(answer.tokens)]
    assert answer.top[1:] == expected[1:]
    assert server.bodies[0]["max_tokens"] == 1, "0 means 'without end' to some servers"


def test_a_prompt_of_ids_has_one_entry_an_id() -> None:
    ids = [ord(c) for c in "ab\tc"]
    with LlmEndpoint(answer=lambda body: echo_reply(body, top=by_place)) as server:
        answer = echo(server, ids)
    assert (answer.tokens, answer.offsets) == (["a", "b", "\t", "c"], [0, 1, 2, 3])
    assert server.bodies[0]["prompt"] == ids


def test_a_token_before_the_prompt_shifts_nothing() -> None:
    with LlmEndpoint(answer=lambda body: echo_reply(body, bos="<s>", top=by_place)) as server:
        answer = echo(server)
    assert answer.tokens[:2] == ["<s>", "<"]
    assert answer.offsets[:2] == [0, 0]
    assert PROMPT[answer.offsets[-1] :] == answer.tokens[-1] == "\n"


def test_tokens_that_are_parts_of_a_character_keep_the_rest_in_place() -> None:
    text = "a é\tunknown\n語x"

    def answer(body: Body) -> Body:
        pieces = ["a", " \ufffd", "\ufffd", "\t", "unknown", "\n", "\ufffd", "\ufffd", "\ufffd", "x"]
        return echo_reply(body, split=lambda _: [(piece, 0) for piece in pieces], top=by_place)

    with LlmEndpoint(answer=answer) as server:
        got = echo(server, text)
    assert len(got.tokens) == 10
    assert [got.offsets[place] for place in (0, 3, 4, 5, 9)] == [0, 3, 4, 11, 13]


@given(st.text(alphabet="ab1\t\n é<>", min_size=2, max_size=60), st.data())
def test_offsets_are_right_for_any_cut_of_any_text(text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(1, len(text) - 1))))
    edges = [0, *cuts, len(text)]
    pieces = [text[a:b] for a, b in itertools.pairwise(edges)]
    reply = echo_reply(
        {"prompt": text, "echo": True, "logprobs": 5, "max_tokens": 1}, split=lambda _: [(piece, 0) for piece in pieces], top=by_place
    )
    kept = read_echo(reply, text, 0)
    assert isinstance(kept, dict)
    assert (kept["tokens"], kept["offsets"]) == (pieces, edges[:-1])


def test_tokens_in_a_spelling_of_their_own_are_taken_when_they_are_as_many_as_the_prompt_has() -> None:
    def answer(body: Body) -> Body:
        return echo_reply(body, split=lambda text: [(token.replace(" ", "▁"), at) for token, at in split_words(text)], top=by_place)

    with LlmEndpoint(answer=answer) as server:
        got = echo(server, "one two three")
    assert (got.tokens, got.offsets) == (["one", "▁two", "▁three"], [0, 3, 7])


def wrong_count(body: Body) -> Body:
    reply = echo_reply(body)
    for entries in reply["choices"][0]["logprobs"].values():
        del entries[2:5]
    return reply


def without_alternatives(body: Body) -> Body:
    reply = echo_reply(body)
    reply["choices"][0]["logprobs"]["top_logprobs"] = None
    return reply


def with_empty_alternatives(body: Body) -> Body:
    reply = echo_reply(body)
    entries = reply["choices"][0]["logprobs"]
    entries["top_logprobs"] = [None] * len(entries["tokens"])
    return reply


def without_logprobs(body: Body) -> Body:
    reply = echo_reply(body)
    del reply["choices"][0]["logprobs"]
    return reply


@pytest.mark.parametrize("answer", [ignoring_echo, wrong_count, without_alternatives, with_empty_alternatives, without_logprobs])
def test_an_endpoint_that_does_not_echo_is_found_out_and_said_to_be_none(answer: Callable[[Body], Body]) -> None:
    with LlmEndpoint(answer=answer) as server, pytest.raises(NoEcho, match="choose another simulator"):
        echo(server)
    assert server.requests == 1


def test_an_endpoint_that_says_it_cannot_echo_is_believed() -> None:
    message = "echo with logprobs is not supported on this model"

    async def run() -> None:
        async with Client(Endpoint(server.base_url, "tiny")) as client:
            with pytest.raises(NoEcho, match=message):
                await client.echo(PROMPT)
            assert server.requests == 1, "an echo without log probabilities is of no use"
            answer = await client.chat([{"role": "user", "content": "hello"}], max_tokens=9, top_logprobs=2)
            assert answer.tokens is not None, "what echo rejects says nothing about chat"

    with LlmEndpoint() as server:
        server.rejects["echo"] = message
        asyncio.run(run())


@pytest.mark.parametrize(
    "message",
    [
        "Requested sample logprobs of 20, which is greater than max allowed: 5; see --max-logprobs: at most 5",
        "logprobs must be between 0 and 5",
        "The logprobs parameter must be <= 5",
        "Requested prompt logprobs of 20, which is greater than the maximum: max_logprobs 5",
    ],
)
def test_an_endpoint_that_gives_fewer_alternatives_says_what_to_choose(message: str) -> None:
    async def run() -> None:
        async with Client(Endpoint(server.base_url, "tiny")) as client:
            for _ in range(2):
                with pytest.raises(Final, match="choose fewer log probabilities") as caught:
                    await client.echo(PROMPT)
                assert not isinstance(caught.value, NoEcho)

    with LlmEndpoint() as server:
        server.rejects["logprobs"] = message
        asyncio.run(run())
    assert server.requests == 1


def test_after_one_good_echo_a_bad_one_is_only_that_prompts_failure() -> None:
    def answer(body: Body) -> Body:
        return ignoring_echo(body) if "odd" in body["prompt"] else echo_reply(body)

    async def run() -> None:
        async with Client(Endpoint(server.base_url, "tiny")) as client:
            await client.echo(PROMPT)
            with pytest.raises(LlmError, match="It did for other prompts") as caught:
                await client.echo("an odd prompt")
            assert not isinstance(caught.value, Final)
            await client.echo("an even prompt")

    with LlmEndpoint(answer=answer) as server:
        asyncio.run(run())


def test_what_stands_before_since_is_neither_returned_nor_stored(tmp_path: Path) -> None:
    async def run(cache: ResponseCache, since: int) -> EchoAnswer:
        async with Client(Endpoint(server.base_url, "tiny"), cache) as client:
            return await client.echo(PROMPT, since=since)

    at = PROMPT.rindex("\tunknown")
    with LlmEndpoint(answer=lambda body: echo_reply(body, top=by_place)) as server, ResponseCache(tmp_path / "llm.sqlite") as cache:
        part = asyncio.run(run(cache, at))
        whole = asyncio.run(run(cache, 0))
        again = asyncio.run(run(cache, at))
    assert part.tokens == whole.tokens
    for offset, some, every in zip(part.offsets, part.top, whole.top, strict=True):
        assert some == (every if offset >= at else None)
    assert (whole.cached, again.cached, again.top) == (False, True, part.top)


def test_a_perfect_simulators_probabilities_arrive_to_a_millionth(tmp_path: Path) -> None:
    def oracle(tokens: list[str], place: int) -> dict[str, float]:
        return {str(n): math.log((n + 1 + place) / sum(m + 1 + place for m in range(11))) for n in range(11)}

    async def run() -> list[EchoAnswer]:
        with ResponseCache(tmp_path / "llm.sqlite") as cache:
            async with Client(Endpoint(server.base_url, "tiny"), cache) as client:
                return [await client.echo(PROMPT), await client.echo(PROMPT)]

    with LlmEndpoint(answer=lambda body: echo_reply(body, top=oracle)) as server:
        first, second = asyncio.run(run())
    assert (first.cached, second.cached) == (False, True)
    assert second.top == first.top
    for place, got in enumerate(first.top[1:], start=1):
        assert got is not None
        for token, logprob in oracle(first.tokens, place).items():
            assert math.exp(got[token]) == pytest.approx(math.exp(logprob), rel=1e-6)


def test_a_chat_answer_in_place_of_a_completion_is_no_echo() -> None:
    with LlmEndpoint(answer=lambda body: chat_reply("hello")) as server, pytest.raises(NoEcho):
        echo(server)
