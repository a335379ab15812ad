"""The run that explains: killed, cancelled, damaged, out of budget, without a key; nothing that is finished or paid for is done twice."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.autointerp.files import find_parts
from core.autointerp.request import ExplainerChoice, ExplainRequest, Setting, SimulatorChoice
from core.autointerp.run import run_explain
from core.errors import AtlasError
from core.llm.endpoint import Endpoint
from core.runs.progress import Cancelled
from core.runs.registry import Registry, Run
from core.runs.worker import work
from core.store.explained import load_explained
from core.store.explanation_view import ExplanationView, load_explanation
from core.store.parts import read_columns
from core.units import UnitName
from core.workspace import Workspace, write_json
from tests.llm_endpoint import Body, Fault, LlmEndpoint, chat_reply
from tests.oracle_index import KnowingOracle, naming
from tests.planted import QuietProgress
from tests.synthetic import Recipe

ROOT = Path(__file__).parents[2]
AT_ONCE = 8
KINDS = {"explain": "core.autointerp.run:run_explain"}
RECIPE = Recipe(n_layers=4, width=50, contexts=150, length=14, signed=False)
Place = tuple[Workspace, KnowingOracle]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """An index of 200 units, and an oracle that knows it."""
    workspace = Workspace.open(tmp_path_factory.mktemp("run") / "ws")
    return workspace, KnowingOracle(workspace, RECIPE)


@pytest.fixture
def server(place: Place) -> Iterator[LlmEndpoint]:
    """An endpoint with the oracle, at an address of its own, so that no answer is in the cache."""
    with LlmEndpoint(answer=place[1].answer) as server:
        yield server


def units(count: int) -> tuple[UnitName, ...]:
    return tuple(UnitName.parse(f"tiny/mlp.{unit // 50}/neurons/{unit % 50}") for unit in range(count))


def asking(server: LlmEndpoint, **changes: Any) -> Setting:
    """Explained and simulated over HTTP, on few records."""
    endpoint = Endpoint(server.base_url, "tiny", concurrency=AT_ONCE)
    setting = Setting(
        explainer=ExplainerChoice("token-activation", endpoint), simulator=SimulatorChoice("completions", endpoint), each=1, controls=()
    )
    return replace(setting, **changes)


def submit(workspace: Workspace, request: ExplainRequest) -> Run:
    return Registry(workspace).submit("explain", request.to_params())


def begin(workspace: Workspace) -> subprocess.Popen[bytes]:
    """The worker as a process of its own."""
    told = [sys.executable, "-m", "core.runs.worker", "--workspace", str(workspace.path)]
    return subprocess.Popen(told, cwd=ROOT, stderr=subprocess.DEVNULL)


def wait(condition: Callable[[], object], seconds: float = 40) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def finish(workspace: Workspace, run: Run) -> Run:
    """Do what is queued, in this process."""
    work(workspace, KINDS)
    return Registry(workspace).get(run.id)


def identities(workspace: Workspace, run: str) -> list[str]:
    found = load_explained(workspace, run)
    return [name for part in found.parts for name in read_columns(found.path(part, "explanations"), ["explanation"]).column(0).to_pylist()]


def views(workspace: Workspace, run: str) -> list[ExplanationView]:
    return [load_explanation(workspace, identity) for identity in identities(workspace, run)]


def explain(workspace: Workspace, name: str, request: ExplainRequest) -> list[ExplanationView]:
    """The run in this process, without the registry."""
    folder = workspace.runs / name
    folder.mkdir(exist_ok=True)
    write_json(folder / "params.json", {"run": name, "kind": "explain", "lane": "batch", "created": 0, "params": request.to_params()})
    run_explain(workspace, folder, request.to_params(), QuietProgress())
    return views(workspace, name)


def kept(workspace: Workspace, server: LlmEndpoint) -> int:
    """How many of the endpoint's answers are in the cache."""
    with sqlite3.connect(workspace.path / "llm.sqlite") as connection:
        return connection.execute("SELECT count(*) FROM responses WHERE base_url = ?", (server.base_url,)).fetchone()[0]


def paid_twice(server: LlmEndpoint) -> int:
    """Requests that were made again."""
    bodies = Counter(json.dumps(body, sort_keys=True) for body in server.bodies)
    return sum(bodies.values()) - len(bodies)


def parts(workspace: Workspace, run: Run) -> dict[str, int]:
    """The parts' files with their times: a part that is written again has another."""
    return {str(path): path.stat().st_mtime_ns for path in (workspace.runs / run.id / "parts").glob("[0-9]*/*")}


def test_200_units_cancelled_killed_and_resumed_lose_nothing_and_repeat_nothing(place: Place, server: LlmEndpoint) -> None:
    workspace, _ = place
    server.latency = 0.02
    registry = Registry(workspace)
    run = submit(workspace, ExplainRequest(units(200), (asking(server),)))

    first = begin(workspace)
    wait(lambda: server.answered > 60 and registry.get(run.id).done > 0)
    registry.request_cancel(run.id)
    first.wait(40)
    assert registry.get(run.id).state == "cancelled"
    assert paid_twice(server) == 0
    assert kept(workspace, server) == server.answered  # what was in flight was waited for
    before = parts(workspace, run)
    done = load_explained(workspace, run.id).work_done
    assert 0 < done < 200

    registry.resume(run.id)
    second = begin(workspace)
    wait(lambda: server.answered > 300)
    os.kill(second.pid, signal.SIGKILL)
    second.wait()
    assert registry.get(run.id).interrupted
    known = kept(workspace, server)
    assert server.requests - known <= AT_ONCE

    registry.resume(run.id)
    last = finish(workspace, run)
    assert (last.state, last.error, last.done) == ("done", None, 200)
    assert paid_twice(server) <= AT_ONCE  # what was in flight when it was killed, and nothing else
    assert kept(workspace, server) == server.requests - paid_twice(server)
    assert before.items() <= parts(workspace, run).items()
    names = identities(workspace, run.id)
    assert len(names) == 200
    assert set(names) == {f"{run.id}.{unit}.0.0" for unit in range(200)}
    spend = load_explained(workspace, run.id).spend
    assert spend is not None
    # The last half second before the kill may be missing: at this latency at most so many calls end in it.
    lost = int(0.5 / server.latency) * AT_ONCE
    assert server.requests - lost - AT_ONCE <= spend["calls"] <= server.requests
    scored = [view.score("simulated", "top-and-random", "validation") for view in views(workspace, run.id) if not view.failed]
    assert len(scored) > 190
    assert np.mean([one.score.rho > 0.99 for one in scored if one is not None and one.score.coverage == 1 and not one.score.reason]) > 0.9


def test_a_damaged_part_is_made_again_and_the_others_stay(place: Place, server: LlmEndpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace, _ = place
    monkeypatch.setattr("core.autointerp.run.PART", 4)
    run = submit(workspace, ExplainRequest(units(16), (asking(server),), seed=1))
    assert finish(workspace, run).state == "done"
    answered, before = server.requests, parts(workspace, run)
    whole = {view.identity: view for view in views(workspace, run.id)}
    damaged = sorted((workspace.runs / run.id / "parts").glob("[0-9]*/scores.parquet"))[1]
    damaged.write_bytes(damaged.read_bytes()[:-7])
    Registry(workspace).resume(run.id, repair=True)
    assert finish(workspace, run).state == "done"
    assert server.requests == answered  # from the cache
    again = {view.identity: view for view in views(workspace, run.id)}
    assert again.keys() == whole.keys()
    for identity, view in whole.items():
        assert again[identity].text == view.text
        assert repr(again[identity].scores) == repr(view.scores)  # which NaN, unlike itself, is the same in
    untouched = {path: when for path, when in before.items() if damaged.parent.name not in Path(path).parts}
    assert untouched.items() <= parts(workspace, run).items()


def test_a_budget_stops_with_a_sentence_and_a_higher_one_goes_on(place: Place, server: LlmEndpoint) -> None:
    workspace, _ = place
    request = ExplainRequest(units(12), (asking(server),), budget={"calls": 17})
    run = submit(workspace, request)
    stopped = finish(workspace, run)
    assert stopped.state == "failed"
    assert stopped.error is not None
    assert stopped.error.startswith("The budget of 17 calls is reached: 17 were made.")
    assert "of 12 explanations are finished" in stopped.error
    assert server.requests == 17
    assert kept(workspace, server) == 17
    registry = Registry(workspace)
    registry.resume(run.id)
    assert finish(workspace, run).state == "failed"  # the same budget is still spent
    assert server.requests == 17
    again = submit(workspace, replace(request, budget={"calls": 1000}))
    assert again.id == run.id
    assert finish(workspace, run).state == "done"
    assert paid_twice(server) == 0
    assert len(identities(workspace, run.id)) == 12
    spend = load_explained(workspace, run.id).spend
    assert spend is not None
    assert spend["calls"] == server.requests


def test_a_budget_counts_what_was_paid_before_a_kill(place: Place, server: LlmEndpoint) -> None:
    workspace, _ = place
    server.latency = 0.05
    run = submit(workspace, ExplainRequest(units(40), (asking(server),), seed=2, budget={"calls": 80}))
    worker = begin(workspace)
    wait(lambda: server.answered > 30)
    time.sleep(0.7)
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    Registry(workspace).resume(run.id)
    assert finish(workspace, run).state == "failed"
    # Beyond the cap: at most what was in flight, and what was paid in the last moment before the kill.
    assert server.requests <= 80 + AT_ONCE + 0.7 * AT_ONCE / server.latency


@pytest.mark.parametrize("fault", ["401", "403", "404"])
def test_a_final_answer_stops_the_run_at_once(place: Place, fault: Fault) -> None:
    workspace, oracle = place
    with LlmEndpoint(answer=oracle.answer, faults=lambda number, _: fault if number >= 20 else "ok") as server:
        run = submit(workspace, ExplainRequest(units(200), (asking(server),)))
        ended = finish(workspace, run)
        assert ended.state == "failed"
        assert ended.error is not None
        assert fault in ended.error
        assert server.requests <= 20 + AT_ONCE
        assert kept(workspace, server) == 20


def test_a_cancel_in_this_process_keeps_what_is_done_and_waits_for_what_is_paid(place: Place, server: LlmEndpoint) -> None:
    workspace, _ = place
    server.latency = 0.03

    class Impatient(QuietProgress):
        def update(self, done: int, total: int, message: str = "", unit: str = "contexts") -> None:
            if done >= 3:
                raise Cancelled

    request = ExplainRequest(units(30), (asking(server),))
    folder = workspace.runs / "explain-impatient"
    folder.mkdir()
    with pytest.raises(Cancelled):
        run_explain(workspace, folder, request.to_params(), Impatient())
    done = [name for entry in find_parts(folder) for name in entry["work"]]
    assert len(done) >= 3
    assert kept(workspace, server) == server.requests
    explain(workspace, "explain-impatient", request)
    assert paid_twice(server) == 0


def test_a_unit_that_is_not_there_fails_alone(place: Place) -> None:
    workspace, _ = place
    names = (*units(2), UnitName.parse("tiny/mlp.0/neurons/77"), UnitName.parse("tiny/mlp.9/neurons/0"))
    found = explain(workspace, "explain-absent", ExplainRequest(names, (Setting(each=2),)))
    assert [view.unit for view in sorted(found, key=lambda view: view.identity)] == list(names)
    assert [bool(view.failed) for view in sorted(found, key=lambda view: view.identity)] == [False, False, True, True]
    assert "Unit 77 is out of range" in "".join(view.failed for view in found)
    assert "Layer 9 is out of range" in "".join(view.failed for view in found)


def test_a_unit_whose_explainer_declines_fails_alone(place: Place) -> None:
    workspace, oracle = place

    def answer(body: Body) -> Body:
        reply = oracle.answer(body)
        if "messages" in body and naming(1, 0) in str(reply):
            reply = chat_reply("I'm sorry, but I can't help with that.", body=body)
        return reply

    with LlmEndpoint(answer=answer) as server:
        found = explain(workspace, "explain-declined", ExplainRequest(units(3), (asking(server, controls=("shuffled",)),)))
    by_unit = {view.unit.index: view for view in found}
    assert "declined to explain" in by_unit[1].failed
    own, control = (by_unit[0].score(role, "top-and-random", "validation") for role in ("simulated", "shuffled"))
    assert own is not None
    assert own.score.coverage == 1
    assert control is not None
    assert control.score.coverage == 0  # its neighbour has no words: no number, and certainly no zeros
    assert np.isnan(control.score.rho)
    assert "declined to explain" in control.score.reason
    assert by_unit[2].failed == ""


def test_a_parameter_that_the_model_rejects_is_in_the_recipe(place: Place) -> None:
    workspace, oracle = place
    for name, rejects in (("explain-usual", {}), ("explain-warm", {"temperature": "temperature is not supported with this model"})):
        with LlmEndpoint(answer=oracle.answer, rejects=rejects) as server:
            found = explain(workspace, name, ExplainRequest(units(2), (asking(server),)))
        assert [view.recipe.get("dropped", []) for view in found] == [list(rejects)] * 2


def test_an_explanation_is_kept_when_its_revision_fails(place: Place) -> None:
    workspace, oracle = place

    def fault(_: int, body: Body) -> Fault:
        asked = str(body.get("messages", [{}])[-1].get("content", ""))
        return "refusal" if "Reviewed" in asked or "review" in asked.lower() else "ok"

    with LlmEndpoint(answer=oracle.answer, faults=fault) as server:
        found = explain(workspace, "explain-unrevised", ExplainRequest(units(1), (asking(server, arm="re-explanation"),)))
    first, second = sorted(found, key=lambda view: view.step)
    assert (first.step, first.failed, first.text) == (0, "", naming(0, 0))
    assert {score.split for score in first.scores} == {"validation", "test"}
    assert second.step == 1
    assert second.failed


@pytest.mark.parametrize("calibration", ["none", "linear", "percentile"])
def test_controls_and_calibration_stand_beside_every_score(place: Place, calibration: str) -> None:
    workspace, _ = place
    setting = Setting(simulator=SimulatorChoice("pattern", calibration=calibration))
    names = (*units(4), UnitName.parse("tiny/mlp.1/neurons/7"))
    found = explain(workspace, f"explain-{calibration}", ExplainRequest(names, (setting,)))
    texts = {str(view.unit): view.text for view in found}
    for view in found:
        scores = {score.role: score for score in view.scores}
        assert scores.keys() == {"simulated", "lookup", "shuffled"}
        own, lookup, shuffled = (scores[role] for role in ("simulated", "lookup", "shuffled"))
        assert (own.calibration, lookup.calibration, shuffled.calibration) == (calibration, "none", calibration)
        assert (own.simulator, lookup.simulator) == ("pattern", "lookup")
        assert own.contexts == lookup.contexts == shuffled.contexts
        if np.isfinite(own.score.rho):
            assert own.score.low <= own.score.rho <= own.score.high
            assert own.score.n_tokens > own.score.n_records > 1
        # Another unit's words: the next of its site in the run, or, of one that is alone there, some other unit's.
        assert shuffled.said_of != str(view.unit)
        assert shuffled.said_of.rpartition("/")[0] == str(view.unit).rpartition("/")[0]
        assert shuffled.said == texts.get(shuffled.said_of, shuffled.said) != ""
    assert len(found) == 5


def test_progress_without_a_language_model_is_told_often(place: Place) -> None:
    """A cancel is heard only between steps of work: units are not all begun at once when nothing is waited for."""
    workspace, _ = place
    told: list[int] = []

    class Watching(QuietProgress):
        def update(self, done: int, total: int, message: str = "", unit: str = "contexts") -> None:
            told.append(done)

    folder = workspace.runs / "explain-watched"
    folder.mkdir()
    run_explain(workspace, folder, ExplainRequest(units(24)[:20], (Setting(),)).to_params(), Watching())
    assert len(set(told)) > 5
    assert told[-1] == 20


def test_many_units_of_a_model_that_is_gone_are_explained_from_the_index_alone(place: Place) -> None:
    """From 24 units on some text is read again, if it can be; that was nobody's wish, so its failure is no reason to stop."""
    workspace, _ = place
    found = explain(workspace, "explain-gone", ExplainRequest(units(24), (Setting(controls=()),)))
    assert len(found) == 24
    assert not any(view.failed for view in found)
    assert {view.recipe["read_again"] for view in found} == {False}
    wished = Setting(controls=(), explainer=ExplainerChoice(read=1000))
    with pytest.raises(AtlasError):
        explain(workspace, "explain-wished", ExplainRequest(units(2), (wished,)))


def texts(found: Sequence[ExplanationView]) -> dict[str, str]:
    return {str(view.unit): view.text for view in found}


def test_the_same_run_gives_the_same_words_and_scores(place: Place) -> None:
    workspace, _ = place
    request = ExplainRequest(units(5), (Setting(),), seed=3)
    one, two = explain(workspace, "explain-one", request), explain(workspace, "explain-two", request)
    assert texts(one) == texts(two)
    for a, b in zip(one, two, strict=True):
        for first, second in zip(a.scores, b.scores, strict=True):
            assert (first.role, first.contexts) == (second.role, second.contexts)
            np.testing.assert_equal([first.score.rho, first.score.low], [second.score.rho, second.score.low])
