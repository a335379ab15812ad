"""Puzzles: the built-in ones can be solved and only by reading them; own ones are read with care."""

import asyncio
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.autointerp.chat_simulator import ChatSimulator
from core.autointerp.completions import CompletionsSimulator
from core.autointerp.explanation import Explanation, Simulation, Text
from core.autointerp.llm_explainers import explain_from_records
from core.autointerp.prompts import Shown
from core.autointerp.puzzles import BUILT_IN, LARGEST, Puzzle, PuzzleResult, built_in, check, check_explainer, load_puzzles, parse_puzzles
from core.errors import AtlasError
from core.llm.client import Client
from core.llm.endpoint import Endpoint
from tests.llm_endpoint import Body, LlmEndpoint, chat_reply
from tests.scripted_llm import Oracle


def solver(explanation: str, pieces: tuple[str, ...]) -> Sequence[float]:
    """Knows the texts of all puzzles, and reads a false explanation as something else, told apart by its words."""
    for puzzle in built_in():
        for shown, values in puzzle.texts:
            if shown == pieces and explanation == puzzle.explanation:
                return values
    digest = hashlib.sha256(explanation.encode()).digest()
    return [10.0 * (hash_of(piece) % 7 == digest[0] % 7) for piece in pieces]


def hash_of(piece: str) -> int:
    return hashlib.sha256(piece.encode()).digest()[0]


class Dumb:
    """A simulator that does not read: `answer` sees the text only."""

    name = "dumb"

    def __init__(self, answer: Callable[[Text], Any]) -> None:
        self.recipe: dict[str, Any] = {}
        self._answer = answer

    async def simulate(self, explanation: Explanation, text: Text) -> Simulation:
        answer = self._answer(text)
        return Simulation.failure(text, answer) if isinstance(answer, str) else Simulation(np.array(answer, np.float64))


@pytest.mark.parametrize("simulator", [CompletionsSimulator, ChatSimulator], ids=["completions", "chat"])
def test_an_oracle_over_http_solves_puzzles(simulator: type[CompletionsSimulator] | type[ChatSimulator]) -> None:
    async def inside() -> list[PuzzleResult]:
        with LlmEndpoint(answer=Oracle(solver).answer) as server:
            async with Client(Endpoint(server.base_url, "tiny")) as client:
                asked = simulator(client)
                return [await check(asked, puzzle) for puzzle in built_in()[:3]]

    for result in asyncio.run(inside()):
        assert result.passed, result.reason
        assert result.true.score.rho > 1 - 1e-9
        assert result.margin > 0.3
        assert result.true.score.coverage == 1


def test_every_true_explanation_scores_one_and_no_false_one_does() -> None:
    class Reads(Dumb):
        async def simulate(self, explanation: Explanation, text: Text) -> Simulation:
            return Simulation(np.array(solver(explanation.text, text.pieces), np.float64))

    results = [asyncio.run(check(Reads(len), puzzle)) for puzzle in built_in()]
    assert all(result.passed and result.true.score.rho == pytest.approx(1) for result in results)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda text: [0] * len(text), "the true explanation has no score: the simulated activations are constant"),
        (lambda text: [len(piece) for piece in text.pieces], "and the best false one"),
        (lambda text: list(range(len(text))), "and the best false one"),
        (lambda text: "there is no model", "no text could be simulated: there is no model"),
    ],
    ids=["zeros", "lengths", "places", "none"],
)
def test_a_simulator_that_does_not_read_passes_no_puzzle(answer: Callable[[Text], Any], reason: str) -> None:
    for puzzle in built_in():
        result = asyncio.run(check(Dumb(answer), puzzle))
        assert not result.passed
        assert reason in result.reason


def test_a_text_that_fails_counts_for_no_explanation() -> None:
    class Stumbles(Dumb):
        async def simulate(self, explanation: Explanation, text: Text) -> Simulation:
            if explanation.text == puzzle.false_explanations[0] and text.pieces == puzzle.texts[1][0]:
                return Simulation.failure(text, "it stumbled")
            return Simulation(np.array(solver(explanation.text, text.pieces), np.float64))

    puzzle = built_in()[0]
    result = asyncio.run(check(Stumbles(len), puzzle))
    assert {verdict.score.n_records for verdict in (result.true, *result.false)} == {len(puzzle.texts) - 1}
    assert result.true.score.coverage == (len(puzzle.texts) - 1) / len(puzzle.texts)


def test_an_explainer_sees_half_the_texts_and_is_scored_on_the_others() -> None:
    puzzle = built_in()[0]
    seen: list[str] = []

    def answer(body: Body) -> Body:
        if "\nTokens: " in body["messages"][-1]["content"]:
            return Oracle(solver).answer(body)
        seen.append(body["messages"][-1]["content"])
        return chat_reply(f"{says}.", body=body)

    async def inside() -> PuzzleResult:
        with LlmEndpoint(answer=answer) as server:
            async with Client(Endpoint(server.base_url, "tiny")) as client:

                async def solve(records: Sequence[Shown]) -> str:
                    return await explain_from_records(client, records)

                return await check_explainer(solve, ChatSimulator(client), puzzle)

    says = puzzle.explanation
    result = asyncio.run(inside())
    assert result.passed
    assert result.given is not None
    assert (result.given.text, result.given.score.rho) == (says, result.true.score.rho)
    assert result.given.score.n_records == len(puzzle.texts) // 2
    assert " boxes\t0" in seen[0]
    assert " guests\t0" not in seen[0]
    says = puzzle.false_explanations[0]
    result = asyncio.run(inside())
    assert not result.passed
    assert "the explanation that was given scores" in result.reason


def test_the_built_in_puzzles_are_what_they_say() -> None:
    puzzles = built_in()
    assert len(puzzles) == 12
    for puzzle in puzzles:
        assert 6 <= len(puzzle.texts) <= 10
        assert 3 <= len(puzzle.false_explanations) <= 4
        assert max(value for _, values in puzzle.texts for value in values) == 10
        assert all(len(pieces) <= 30 for pieces, _ in puzzle.texts)
    (not_all,) = [puzzle for puzzle in puzzles if puzzle.name == "not all"]
    for pieces, values in not_all.texts:
        words = [piece.strip().casefold() for piece in pieces]
        assert [value > 0 for value in values] == [word == "all" and words[at - 1] == "not" for at, word in enumerate(words)]
    assert parse_puzzles(json.dumps({"puzzles": [puzzle.to_json() for puzzle in puzzles]}).encode(), "again") == puzzles
    assert built_in()[0].examples()[0].text.ids[0] == -1


def own(**changes: Any) -> bytes:
    puzzle = {
        "name": "mine",
        "explanation": "the letter b",
        "false_explanations": ["the letter a"],
        "texts": [["a", ["b", 10]], ["c", ["b", 2.5], "a"]],
    }
    return json.dumps({"puzzles": [{**puzzle, **changes}]}).encode()


def test_an_own_puzzle_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_bytes(own())
    expected = Puzzle("mine", "the letter b", ("the letter a",), ((("a", "b"), (0.0, 10.0)), (("c", "b", "a"), (0.0, 2.5, 0.0))))
    assert load_puzzles(path) == [expected]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"{", "is not JSON"),
        (b"\xff", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[]", "has no list of 1 to 200 puzzles"),
        (b'{"puzzles": []}', "has no list of 1 to 200 puzzles"),
        (b'{"puzzles": [3]}', "Puzzle 1 of the file “f.json” is not an object"),
        (own(name=""), "lacks its name"),
        (own(explanation=None), "lacks its explanation"),
        (own(explanation="x" * 501), "at most 500 characters"),
        (own(false_explanations=[]), "a list of 1 to 20 false_explanations"),
        (own(false_explanations=["the letter b"]), "the same explanation twice"),
        (own(texts=[["a", ["b", 1]]]), "a list of 2 to 100 texts"),
        (own(texts=[["a", ["b", 1]], []]), "Text 2 of puzzle 1 of the file “f.json” is not a list of 1 to 512 tokens"),
        (own(texts=[["a", ["b", 11]], ["a", ["b", 1]]]), "gives “b” an activation that is not between 0 and 10"),
        (own(texts=[["a", ["b", True]], ["a", ["b", 1]]]), "gives “b” an activation that is not between 0 and 10"),
        (own(texts=[["a", ["b", float("nan")]], ["a", ["b", 1]]]), "gives “b” an activation that is not between 0 and 10"),
        (own(texts=[["a", ["b"]], ["a", ["b", 1]]]), "a token that is neither a text nor [text, activation]"),
        (own(texts=[["a", ""], ["a", ["b", 1]]]), "a token that is neither a text nor [text, activation]"),
        (own(texts=[["a", "b"], ["a", ["b", 1]]]), "both in its odd and in its even texts"),
        (b" " * (LARGEST + 1), "is larger than 1 MB"),
        (own()[:-2] + b"," + own()[13:], "two puzzles with the name “mine”"),
    ],
)
def test_a_file_with_a_mistake_is_refused_in_one_sentence(content: bytes, sentence: str) -> None:
    with pytest.raises(AtlasError) as caught:
        parse_puzzles(content, "f.json")
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")


def test_what_is_no_file_is_refused_without_being_read(tmp_path: Path) -> None:
    for path, sentence in [
        (tmp_path, "is not a file"),
        (Path("/dev/zero"), "is not a file"),
        (tmp_path / "none.json", "There is no file"),
        (tmp_path / "a\0b", "is not a path"),
    ]:
        with pytest.raises(AtlasError, match=sentence):
            load_puzzles(path)
    assert BUILT_IN.stat().st_size < 100_000
