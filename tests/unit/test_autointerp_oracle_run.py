"""From the command line to the cache: an endpoint that knows the truth gives ρ = 1 through HTTP, parsing, expectation, score and store.

The key that was used on the way lies in no file of the workspace and in nothing that was printed.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from core.cli import main
from core.store import explanation_queries
from core.store.cache import Cache
from core.store.explanation_view import load_explanation
from core.store.units import load_unit
from core.units import UnitName
from core.workspace import Workspace
from tests.llm_endpoint import LlmEndpoint
from tests.oracle_index import KnowingOracle, naming
from tests.synthetic import Recipe

KEY = "sk-secret-4f9d2c7be1a05386"
UNITS = ("tiny/mlp.0/neurons/0", "tiny/mlp.0/neurons/1")
Place = tuple[Workspace, LlmEndpoint]
Command = Callable[..., tuple[int, dict[str, Any], str]]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A workspace, and an endpoint that takes one key only and knows its units."""
    workspace = Workspace.open(tmp_path_factory.mktemp("oracle") / "ws")
    oracle = KnowingOracle(workspace, Recipe(n_layers=1, width=8, contexts=320, signed=False, seed=4))
    with LlmEndpoint(answer=oracle.answer, key=KEY) as server:
        yield workspace, server


@pytest.fixture
def command(place: Place, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """A command of the program with a key in its environment, and so in its worker's: status, document, standard error."""
    workspace, server = place

    def run(*arguments: str, key: str = KEY) -> tuple[int, dict[str, Any], str]:
        monkeypatch.setenv("OPENAI_API_KEY", key)
        told = ["--workspace", str(workspace.path), *arguments, "--model", "tiny", "--endpoint", server.base_url, "--json"]
        status = main(told)
        printed = capfd.readouterr()
        assert_key_nowhere(workspace, printed.out + printed.err, key)
        return status, json.loads(printed.out) if printed.out else {}, printed.err

    return run


def assert_key_nowhere(workspace: Workspace, printed: str, key: str) -> None:
    """Neither printed nor in any file: tables, databases with their logs, manifests, parameters, the worker's log."""
    secret = key.removeprefix("sk-secret-")
    assert secret not in printed
    files = [path for path in workspace.path.rglob("*") if path.is_file()]
    assert not [path for path in files if secret.encode() in path.read_bytes()]
    names = {path.name for path in files}
    assert {"registry.sqlite", "params.json", "log.txt"} <= names


@pytest.mark.parametrize("simulator", ["completions", "chat"])
def test_an_oracle_gives_a_correlation_of_one_through_the_whole_path(place: Place, command: Command, simulator: str) -> None:
    workspace, _ = place
    status, document, said = command("explain", *UNITS, "--explainer", "token-activation", "--simulator", simulator)
    assert status == 0, said
    assert [one["unit"] for one in document["explanations"]] == list(UNITS)
    # Two explanations, each simulated on its own unit's records and on the other's; what is asked twice is paid once.
    assert document["spend"]["calls"] + document["spend"]["cached"] == 2 + 2 * sum(
        one["score"]["n_records"] for one in document["explanations"]
    )
    for unit, one in enumerate(document["explanations"]):
        assert one["text"] == naming(unit, 0)
        # Not exactly 1: stored activations have 15 bits and a sign.
        assert one["score"]["rho"] == pytest.approx(1, abs=1e-6)
        assert one["score"]["low"] == pytest.approx(1, abs=1e-5)
        assert (one["score"]["coverage"], one["score"]["reason"]) == (1, "")
        assert one["controls"]["shuffled"]["text"] == naming(1 - unit, 0)
        assert one["controls"]["shuffled"]["rho"] < 0.9
        assert one["controls"]["lookup"]["rho"] < 1
        view, top = load_explanation(workspace, one["id"]), load_unit(workspace, UnitName.parse(one["unit"])).stats["max"]
        assert view.score("simulated", "top-and-random", "validation") is not None
        assert len(view.of_role("simulated")) == one["score"]["n_records"] >= 8
        for record in view.of_role("simulated"):
            np.testing.assert_allclose(record.simulated * top / 10, record.activations, atol=1e-3 * top)
            assert record.probabilities is not None
            np.testing.assert_allclose(record.probabilities.sum(axis=1), 1, atol=1e-5)
    cache = Cache.open(workspace)
    try:
        cache.ingest()
        for unit, one in zip(UNITS, document["explanations"], strict=True):
            rows = [row for row in explanation_queries.rows_of_unit(cache, UnitName.parse(unit)) if row["explanation"] == one["id"]]
            assert [row["rho"] for row in rows] == [pytest.approx(1, abs=1e-6)]
            assert rows[0]["evidence"] is True
    finally:
        cache.close()


def test_a_sentence_written_by_hand_is_simulated_over_http_too(command: Command) -> None:
    status, document, said = command("simulate", UNITS[0], "--say", naming(0, 0), "--simulator", "chat", "--split", "test")
    assert status == 0, said
    [one] = document["explanations"]
    assert one["author"] == "by hand"
    assert one["score"]["rho"] == pytest.approx(1, abs=1e-6)
    assert len(one["records"]) == one["score"]["n_records"] >= 8
    assert {record["split"] for record in one["records"]} == {"test"}


def test_a_wrong_key_stops_the_run_at_once_and_is_written_nowhere(place: Place, command: Command) -> None:
    _, server = place
    before = server.requests
    asked = ("--explainer", "token-activation", "--simulator", "chat", "--split", "test", "--concurrency", "2")
    status, _, said = command("explain", *UNITS, "tiny/mlp.0/neurons/2", *asked, key="sk-secret-wrong81c07e")
    assert status == 2
    assert "401" in said or "key" in said
    assert said.count("\n") < 8
    assert server.requests - before <= 2  # those in flight
