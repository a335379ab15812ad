"""A run of puzzles: an oracle passes them all over HTTP, failures are recorded, and what is finished is not asked again."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from core.autointerp.cost import puzzle_cost
from core.autointerp.puzzle_request import PuzzleRequest
from core.autointerp.puzzle_run import run_puzzles
from core.autointerp.puzzles import Puzzle, built_in
from core.autointerp.request import ExplainerChoice, SimulatorChoice
from core.errors import AtlasError
from core.llm.endpoint import Endpoint
from core.runs.progress import Cancelled
from core.store.puzzle_results import load_puzzle_results
from core.workspace import Workspace
from tests.llm_endpoint import LlmEndpoint
from tests.scripted_llm import Oracle
from tests.unit.test_autointerp_puzzles import solver
from tests.unit.test_docs_formats import _keys

TWO = built_in()[:2]


class Watched:
    """A progress that can be told to stop after some puzzles."""

    def __init__(self, stop_after: int = 99) -> None:
        self.seen: list[tuple[int, int]] = []
        self._stop = stop_after

    def update(self, done: int, total: int, message: str = "", unit: str = "contexts") -> None:
        self.seen.append((done, total))
        if done >= self._stop:
            raise Cancelled

    def stage(self, name: str) -> None: ...

    def log(self, line: str) -> None: ...


def own(puzzles: Sequence[Puzzle]) -> list[dict[str, Any]]:
    return [puzzle.to_json() for puzzle in puzzles]


@pytest.fixture
def folder(workspace: Workspace) -> Path:
    path = workspace.runs / "puzzles-test"
    path.mkdir(parents=True)
    return path


def test_an_oracle_passes_and_what_was_finished_is_not_asked_again(workspace: Workspace, folder: Path) -> None:
    with LlmEndpoint(answer=Oracle(solver).answer) as server:
        request = PuzzleRequest(SimulatorChoice("completions", Endpoint(server.base_url, "tiny")), None, own(TWO)).to_params()
        with pytest.raises(Cancelled):
            run_puzzles(workspace, folder, request, Watched(stop_after=1))
        first = load_puzzle_results(workspace, folder.name)
        assert first is not None
        assert (len(first.lines), first.total) == (1, 2)
        asked = server.requests
        watched = Watched()
        run_puzzles(workspace, folder, request, watched)
        texts = len(TWO[1].texts) * (1 + len(TWO[1].false_explanations))
        assert server.requests - asked == texts
    found = load_puzzle_results(workspace, folder.name)
    assert found is not None
    assert (found.passed, len(found.lines), watched.seen[-1]) == (2, 2, (2, 2))
    assert found.lines[0].true is not None
    assert found.lines[0].true.rho == pytest.approx(1.0)
    assert found.spend["calls"] > 0


def test_a_simulator_that_cannot_read_the_words_fails_with_the_reason(workspace: Workspace, folder: Path) -> None:
    run_puzzles(workspace, folder, PuzzleRequest(SimulatorChoice("sentence"), None, own(TWO)).to_params(), Watched())
    found = load_puzzle_results(workspace, folder.name)
    assert found is not None
    assert found.passed == 0
    assert "names no *word*" in found.lines[0].reason
    assert found.lines[0].true is not None
    assert found.lines[0].true.coverage == 0


def test_a_cap_counts_what_was_spent_before_and_a_higher_one_goes_on(workspace: Workspace, folder: Path) -> None:
    with LlmEndpoint(answer=Oracle(solver).answer) as server:
        request = PuzzleRequest(SimulatorChoice("completions", Endpoint(server.base_url, "tiny", concurrency=1)), None, own(TWO))
        least = puzzle_cost(request, TWO).asked.calls
        for _ in range(2):
            with pytest.raises(AtlasError, match=r"budget of 5 calls is reached.* 0 of 2 puzzles are finished"):
                run_puzzles(workspace, folder, replace(request, budget={"calls": 5}).to_params(), Watched())
            assert server.requests == 5, "the second attempt has nothing left to spend"
            assert json.loads((folder / "manifest.json").read_text("utf8"))["spend"]["calls"] == 5
        run_puzzles(workspace, folder, replace(request, budget={"calls": least}).to_params(), Watched())
        assert server.requests == least, "as many as were told before, and none of them twice"
    found = load_puzzle_results(workspace, folder.name)
    assert found is not None
    assert (found.passed, found.spend["calls"]) == (2, least)


def test_results_hold_json_without_nan(workspace: Workspace, folder: Path) -> None:
    run_puzzles(workspace, folder, PuzzleRequest(SimulatorChoice("sentence"), None, own(TWO)).to_params(), Watched())
    text = (folder / "manifest.json").read_text("utf8")
    assert "NaN" not in text
    assert json.loads(text)["state"] == "complete"
    assert set(json.loads(text)) == _keys("`manifest.json` of a run of puzzles:")


def test_what_cannot_be_asked_is_said_before_it_is() -> None:
    endpoint = Endpoint("http://127.0.0.1:9/v1", "m")
    with pytest.raises(AtlasError, match="no token table"):
        PuzzleRequest.from_params({"simulator": {"name": "lookup"}})
    with pytest.raises(AtlasError, match="Only token-activation"):
        PuzzleRequest(SimulatorChoice("sentence"), ExplainerChoice("token-list", endpoint)).checked()
    with pytest.raises(AtlasError, match="has no parameter “colour”"):
        PuzzleRequest.from_params({"simulator": {}, "colour": 1})
    with pytest.raises(AtlasError, match="explanation"):
        PuzzleRequest.from_params({"simulator": {"name": "sentence"}, "own": [{"name": "x"}]})
    request = replace(PuzzleRequest(SimulatorChoice("sentence")), own=own(TWO))
    assert PuzzleRequest.from_params(json.loads(json.dumps(request.to_params()))).puzzles() == TWO
