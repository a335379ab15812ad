"""The command `findings`: writes what the page writes, lists it with the page's filters, and says in one sentence what it cannot do."""

import io
import json
from typing import Any

import pytest

from core.cli import main
from core.findings.findings import Findings
from core.units import UnitName
from core.workspace import Workspace
from tests.synthetic import write_synthetic_index

UNIT, OTHER = "tiny/mlp.1/neurons/3", "tiny/mlp.0/neurons/1"


@pytest.fixture
def indexed(workspace: Workspace) -> Workspace:
    write_synthetic_index(workspace, n_layers=2, width=8, contexts=16, length=16)
    return workspace


class Command:
    """Runs `findings` on a workspace."""

    def __init__(self, workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
        self.workspace, self.capsys = workspace, capsys

    def say(self, *arguments: str) -> tuple[int, str, str]:
        status = main(["findings", *arguments, "--workspace", str(self.workspace.path)])
        printed = self.capsys.readouterr()
        return status, printed.out, printed.err

    def read(self, *arguments: str) -> Any:
        status, out, err = self.say(*arguments, "--json")
        assert status == 0, err
        return json.loads(out)


@pytest.fixture
def findings(indexed: Workspace, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(indexed, capsys)


def test_what_is_written_is_listed_and_is_what_pages_show(findings: Command) -> None:
    note = findings.read("add", UNIT, "fires on *rivers*", "--author", "Ada")
    assert findings.read("rate", UNIT, "4", "--author", "Ada")["rating"] == 4
    assert findings.read("label", UNIT, "water", "--author", "Ben")["labels"] == ["water"]
    findings.read("add", UNIT, "names of rivers", "--explanation")
    findings.read("add", UNIT, "--alike", OTHER)
    assert findings.read("add", UNIT, "--collection", "Wet")["units"] == [UNIT]
    assert findings.read("add", OTHER, "--collection", "wet")["units"] == [UNIT, OTHER], "the same one, by its title"
    assert [entry.current.text for entry in Findings(findings.workspace).notes(UnitName.parse(UNIT))] == ["fires on *rivers*"]
    everything = findings.read("list")
    assert [one["kind"] for one in everything] == ["member", "member", "collection", "alike", "explanation", "label", "rating", "note"]
    assert everything[-1] == note
    assert note["author"] == "Ada"
    assert [one["id"] for one in findings.read("list", "--kind", "note", "--by", "Ada", "--label", "water", "--rating", "4")] == [
        note["id"]
    ]
    assert len(findings.read("list", "--unit", OTHER)) == 1
    assert len(findings.read("list", "--collection", "Wet")) == 8
    status, out, _ = findings.say("list")
    assert status == 0
    assert "fires on *rivers*" in out
    assert note["id"] in out


def test_a_note_is_saved_over_undone_removed_and_its_history_printed(findings: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    identity = findings.read("add", UNIT, "one")["id"]
    monkeypatch.setattr("sys.stdin", io.StringIO("two\nlines\n"))
    assert findings.read("add", UNIT, "-", "--entry", identity)["text"] == "two\nlines"
    assert findings.read("undo", identity)["text"] == "one"
    assert findings.read("remove", identity)["removed"] is True
    assert findings.read("list") == []
    assert [one["id"] for one in findings.read("list", "--removed")] == [identity]
    assert findings.read("undo", identity)["removed"] is False
    told = findings.read("history", identity)
    assert [(one["text"], one["removed"]) for one in told] == [
        ("one", False), ("one", True), ("one", False), ("two\nlines", False), ("one", False),
    ]  # fmt: skip
    status, out, _ = findings.say("history", identity)
    assert (status, "two↵lines" in out) == (0, True)


def test_the_author_is_set_once_and_stands_with_what_follows(findings: Command) -> None:
    assert findings.read("author", "Ada") == {"author": "Ada"}
    assert findings.read("add", UNIT, "mine")["author"] == "Ada"
    assert findings.read("add", UNIT, "his", "--author", "Ben")["author"] == "Ben"


def test_ratings_and_labels_are_taken_back(findings: Command) -> None:
    findings.read("rate", UNIT, "2")
    assert findings.read("rate", UNIT, "none")["removed"] is True
    findings.read("label", UNIT, "water")
    assert findings.read("label", UNIT, "water", "--remove")["labels"] == []
    assert findings.read("list") == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["add", "tiny/mlp.1/neurons/99", "x"], "out of range"),
        (["add", "nonsense", "x"], "is not a unit"),
        (["add", UNIT], "Nothing is written"),
        (["add", UNIT, " "], "note is empty"),
        (["add", UNIT, "x", "--alike", OTHER], "has no text"),
        (["add", UNIT, "--alike", UNIT], "unit itself"),
        (["add", UNIT, "x", "--entry", "0" * 32], "no finding"),
        (["add", UNIT, "x", "--author", "y" * 81], "at most 80"),
        (["rate", UNIT, "6"], "choose 1 to 5"),
        (["rate", UNIT, "high"], "choose 1 to 5"),
        (["rate", UNIT, "none"], "no rating of yours"),
        (["label", UNIT, "z" * 61], "at most 60"),
        (["label", UNIT, "water", "--remove"], "has no label"),
        (["list", "--kind", "poem"], "is not a kind"),
        (["list", "--collection", "none"], "no collection"),
        (["list", "--rating", "9"], "choose 1 to 5"),
        (["history", "gone"], "no finding"),
        (["undo", "gone"], "no finding"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(findings: Command, arguments: list[str], said: str) -> None:
    status, out, err = findings.say(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert said in err
    assert Findings(findings.workspace).rows() == []
