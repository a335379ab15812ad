"""The command `ablate`, through the model process: what it prints, and what it says of what cannot be done."""

import json
from collections.abc import Iterator

import pytest

from core.cli import main
from core.commands.ablating import positions
from core.errors import AtlasError
from core.index.indexer import run_index
from core.runs import client
from core.workspace import Workspace
from tests.planted import FIGHT, QuietProgress, plant

UNIT = f"planted/mlp.0/neurons/{FIGHT}"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A model with planted units, indexed, and its model process, which ends with the tests."""
    workspace = Workspace.open(tmp_path_factory.mktemp("ablate") / "ws")
    params = plant(workspace.path.parent)
    (workspace.runs / "index-planted").mkdir()
    run_index(workspace, workspace.runs / "index-planted", params, QuietProgress())
    yield workspace
    client.stop(workspace)


def ask(world: Workspace, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = main(["ablate", *arguments, "--workspace", str(world.path)])
    told = capsys.readouterr()
    return status, told.out, told.err


def test_json_has_the_tokens_that_are_lowered_and_raised_most_and_the_means(world: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = ask(world, capsys, UNIT, "--listed", "3", "--json")
    assert status == 0, err
    found = json.loads(out)
    assert found["rule"] == "zero"
    assert found["kl"] > 0
    assert isinstance(found["loss_change"], float)
    for name, sign in (("lowered", -1), ("raised", 1)):
        deltas = [sign * one["delta"] for one in found[name]]
        assert len(deltas) == 3
        assert deltas == sorted(deltas, reverse=True)
        assert all(isinstance(one["token"], str) for one in found[name])
    status, out, _ = ask(world, capsys, UNIT, "--listed", "3")
    assert status == 0
    assert "LOWERED" in out
    assert f"{found['lowered'][0]['delta']:.3f}" in out


def test_a_text_of_ones_own_takes_positions_and_the_rule(world: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = ask(world, capsys, UNIT, "--text", " the cat fight the dog", "--positions", "2", "--rule", "mean", "--json")
    assert status == 0, err
    found = json.loads(out)
    assert (found["positions"], found["firing"], found["rule"]) == (5, 1, "mean")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["planted/mlp.0/neurons/900"], "out of range"),
        ([UNIT, "--text", ""], "The text is empty"),
        ([UNIT, "--text", " the", "--positions", "4"], "past the end"),
        ([UNIT, "--positions", "4-2"], "is not a position"),
        ([UNIT, "--listed", "49152"], "from 1 to 100"),
        ([UNIT, "--rule", "none"], "not a rule"),
        ([UNIT, "--text", " the \udcff"], "not UTF-8"),
        ([UNIT, "--explanation", "explain-none.0.0.0"], "explain-none"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_status_2(
    world: Workspace, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    status, out, err = ask(world, capsys, *arguments)
    assert (status, out) == (2, "")
    assert sentence in err
    assert "Traceback" not in err
    assert [line for line in err.splitlines() if line.startswith("error: ")] == [err.splitlines()[-1]]


def test_positions_are_read_as_numbers_and_ranges() -> None:
    assert positions("3,5-7 1") == [3, 5, 6, 7, 1]
    for wrong in ("x", "5-3", "-2", "1,,b", "9" * 9):
        with pytest.raises(AtlasError, match="is not a position"):
            positions(wrong)
