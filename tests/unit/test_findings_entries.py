"""What people write is kept in versions: nothing is overwritten, nothing acknowledged is lost, and every change can be taken back."""

import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.errors import AtlasError
from core.findings.database import MIGRATIONS
from core.findings.entry import Conflict
from core.findings.findings import Findings
from core.findings.ratings import Ratings
from core.store.cache import Cache
from core.units import UnitName
from core.workspace import Workspace

ROOT = Path(__file__).resolve().parents[2]
UNIT = UnitName.parse("tiny/mlp.1/neurons/0")
OTHER = UnitName.parse("tiny/mlp.0/neurons/7")
THIRD = UnitName.parse("tiny/resid.1/sae-x/12")


def test_everything_a_person_writes_comes_back_and_survives_the_cache(workspace: Workspace) -> None:
    findings = Findings(workspace, "Ada")
    note = findings.save_note(UNIT, "Fires on *rivers*.\r\nMostly.")
    findings.rate(UNIT, 4)
    findings.label(UNIT, "  water   words ")
    findings.explain(UNIT, "Names of rivers")
    findings.alike(UNIT, OTHER)
    made = findings.entries()
    cache = Cache.open(workspace)
    cache.rebuild()
    cache.close()
    workspace.cache.unlink()
    again = Findings(workspace)
    assert again.entries() == made
    assert [entry.kind for entry in made] == ["alike", "explanation", "label", "rating", "note"], "the newest first"
    assert again.notes(UNIT) == [note]
    assert note.current.text == "Fires on *rivers*.\nMostly."
    assert (again.labels(UNIT), Findings(workspace, "Ada").rating(UNIT), again.rating(UNIT)) == (["water words"], 4, None)
    assert {entry.current.by for entry in made} == {"Ada"}
    assert again.entries(unit=OTHER) == []


def test_a_file_of_before_keeps_its_ratings(workspace: Workspace) -> None:
    path = workspace.path / "findings.sqlite"
    with sqlite3.connect(path) as connection:
        for statement in MIGRATIONS[0].split(";"):
            connection.execute(statement)
        connection.execute("PRAGMA user_version = 1")
        connection.execute(
            "INSERT INTO ratings (explanation, unit, rating, seconds, created) VALUES ('explain-a.0.0.0', ?, 3, 1, 2)", (str(UNIT),)
        )
    connection.close()
    Findings(workspace).save_note(UNIT, "new")
    assert [one.rating for one in Ratings(workspace).list()] == [3]


def test_the_second_of_two_writers_is_told_and_can_merge(workspace: Workspace) -> None:
    ada, ben = Findings(workspace, "Ada"), Findings(workspace, "Ben")
    first = ada.save_note(UNIT, "one")
    ada.save_note(UNIT, "one, says Ada", entry=first.id, base=first.base)
    with pytest.raises(Conflict, match="Ada saved this note meanwhile") as told:
        ben.save_note(UNIT, "one, says Ben", entry=first.id, base=first.base)
    assert (told.value.mine, told.value.entry.current.text) == ("one, says Ben", "one, says Ada")
    assert [entry.current.text for entry in ben.notes(UNIT)] == ["one, says Ada"], "nothing was overwritten"
    merged = ben.save_note(UNIT, "one, say both", entry=first.id, base=told.value.entry.base)
    assert merged.current.by == "Ben"
    with pytest.raises(Conflict):
        ada.remove(first.id, base=first.base)
    with pytest.raises(Conflict):
        ada.undo(first.id, base=first.base)
    assert [version.text for version in ada.history(first.id)] == ["one, say both", "one, says Ada", "one"]


def test_of_many_who_save_over_the_same_text_at_once_one_wins_and_the_others_are_told(workspace: Workspace) -> None:
    note = Findings(workspace).save_note(UNIT, "begin")
    told: list[Conflict] = []
    ready = threading.Barrier(4)

    def write(text: str, base: tuple[str, ...]) -> None:
        ready.wait()
        try:
            Findings(workspace, text[0]).save_note(UNIT, text, entry=note.id, base=base)
        except Conflict as conflict:
            told.append(conflict)

    for n in range(5):
        base, texts = Findings(workspace).entry(note.id).base, {f"{who}, time {n}" for who in "abcd"}
        told.clear()
        threads = [threading.Thread(target=write, args=(text, base)) for text in texts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        now = Findings(workspace).entry(note.id)
        assert len(told) == 3
        assert {conflict.mine for conflict in told} | {now.current.text} == texts
        assert all(conflict.entry == now for conflict in told)
    assert len(Findings(workspace).history(note.id)) == 6


def test_what_holds_already_is_not_written_again(workspace: Workspace) -> None:
    findings = Findings(workspace)
    note = findings.save_note(UNIT, "one")
    assert findings.save_note(UNIT, " one\n", entry=note.id, base=()) == note, "the same words are no conflict"
    for _ in range(3):
        findings.label(UNIT, "river")
        findings.rate(UNIT, 5)
        findings.alike(UNIT, OTHER)
    assert len(findings.rows()) == 4


def test_undo_goes_back_one_change_at_a_time_and_never_forgets(workspace: Workspace) -> None:
    findings = Findings(workspace)
    note = findings.save_note(UNIT, "1")
    for text in ("2", "3"):
        note = findings.save_note(UNIT, text, entry=note.id, base=note.base)
    assert findings.undo(note.id).current.text == "2"
    assert findings.undo(note.id).current.text == "1"
    assert findings.undo(note.id).removed
    assert findings.notes(UNIT) == []
    assert [entry.id for entry in findings.entries(removed=True)] == [note.id]
    assert findings.undo(note.id).current.text == "1", "a removal is taken back too"
    assert findings.remove(note.id).removed
    assert findings.undo(note.id).current.text == "1"
    assert len(findings.history(note.id)) == 9


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(["a", "b", "c", None]), min_size=1, max_size=6))
def test_as_many_undos_as_changes_lead_back_to_nothing(tmp_path: Path, values: list[str | None]) -> None:
    findings = Findings(Workspace.open(tmp_path / "ws"))
    note = findings.save_note(UNIT, "first")
    shown = ["first"]
    for value in values:
        if value is None and shown[-1]:  # what was removed cannot be removed again
            findings.remove(note.id)
            shown.append("")
        elif value is not None and shown[-1] != value:
            findings.save_note(UNIT, value, entry=note.id, base=findings.entry(note.id).base)
            shown.append(value)
    while shown:
        before = findings.entry(note.id)
        assert ("" if before.removed else before.current.text) == shown.pop()
        findings.undo(note.id)
    assert findings.entry(note.id).removed


def test_a_rating_is_each_persons_own(workspace: Workspace) -> None:
    ada, ben = Findings(workspace, "Ada"), Findings(workspace, "Ben")
    ada.rate(UNIT, 2)
    ben.rate(UNIT, 5)
    ada.rate(UNIT, 3)
    assert (ada.rating(UNIT), ben.rating(UNIT), Findings(workspace).rating(UNIT)) == (3, 5, None)
    assert ada.rate(UNIT, None) is not None
    assert (ada.rating(UNIT), ben.rating(UNIT)) == (None, 5)
    assert ada.rate(OTHER, None) is None


def test_a_label_is_taken_off_whoever_gave_it(workspace: Workspace) -> None:
    ada, ben = Findings(workspace, "Ada"), Findings(workspace, "Ben")
    for who in (ada, ben):
        who.label(UNIT, "river")
    ada.label(UNIT, "water")
    assert ada.labels(UNIT) == ["river", "water"]
    assert len(ben.unlabel(UNIT, "river")) == 2
    assert ada.labels(UNIT) == ["water"]
    with pytest.raises(AtlasError, match="has no label"):
        ben.unlabel(UNIT, "river")


def test_the_author_is_the_workspaces_until_somebody_is_named(workspace: Workspace) -> None:
    assert Findings(workspace).usual_author is None
    assert Findings(workspace).save_note(UNIT, "x").current.by == "someone"
    Findings(workspace).set_usual_author("  Ada  Lovelace ")
    assert Findings(workspace).save_note(UNIT, "y").current.author == "Ada Lovelace"
    assert Findings(workspace, "Ben").save_note(UNIT, "z").current.author == "Ben"
    Findings(workspace).set_usual_author("")
    assert Findings(workspace).usual_author == ""


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda f: f.save_note(UNIT, "  \n "), "note is empty"),
        (lambda f: f.save_note(UNIT, "x" * 20_001), "at most 20,000"),
        (lambda f: f.save_note(UNIT, "a\x00b"), r"U\+0000"),
        (lambda f: f.save_note(UNIT, "a\ud800b"), r"U\+D800"),
        (lambda f: f.label(UNIT, "x" * 61), "at most 60"),
        (lambda f: f.label(UNIT, "x\u202ey"), r"U\+202E"),
        (lambda f: f.explain(UNIT, "x" * 2001), "at most 2,000"),
        (lambda f: f.rate(UNIT, 6), "choose 1 to 5"),
        (lambda f: f.rate(UNIT, True), "choose 1 to 5"),
        (lambda f: f.alike(UNIT, UNIT), "unit itself"),
        (lambda f: f.save_note(UNIT, "x", entry="0" * 32), "There is no finding"),
        (lambda f: f.undo("nonsense"), "There is no finding"),
        (lambda f: f.set_usual_author("x" * 81), "at most 80"),
        (lambda f: f.collections.create(" "), "title is empty"),
        (lambda f: f.collections.find("none"), "no collection"),
    ],
)
def test_what_may_not_be_written_is_a_sentence_and_leaves_nothing(
    workspace: Workspace, write: Callable[[Findings], object], said: str
) -> None:
    findings = Findings(workspace)
    with pytest.raises(AtlasError, match=said):
        write(findings)
    assert findings.rows() == []


def test_a_note_of_one_unit_is_not_saved_over_another_units(workspace: Workspace) -> None:
    findings = Findings(workspace)
    note = findings.save_note(UNIT, "x")
    for bad in (lambda: findings.save_note(OTHER, "y", entry=note.id, base=note.base), lambda: findings.explain(UNIT, "y", entry=note.id)):
        with pytest.raises(AtlasError, match="is no"):
            bad()
    assert len(findings.rows()) == 1


def test_collections_keep_their_order_through_every_move(workspace: Workspace) -> None:
    collections = Findings(workspace, "Ada").collections
    made = collections.create("Rivers", "All *wet* units")
    assert collections.add(made.id, [UNIT, OTHER, UNIT]) == 2
    assert collections.add(made.id, [THIRD, OTHER]) == 1
    assert collections.find("rivers").units == [UNIT, OTHER, THIRD]
    collections.move(made.id, THIRD, 0)
    assert collections.find(made.id).units == [THIRD, UNIT, OTHER]
    for _ in range(60):  # halves the gap each time, beyond what a float can tell apart
        collections.move(made.id, OTHER, 1)
        collections.move(made.id, UNIT, 1)
    assert collections.find(made.id).units == [THIRD, UNIT, OTHER]
    collections.move(made.id, THIRD, 99)
    assert collections.find(made.id).units == [UNIT, OTHER, THIRD]
    collections.take_out(made.id, OTHER)
    assert collections.find(made.id).units == [UNIT, THIRD]
    collections.add(made.id, [OTHER])
    assert collections.find(made.id).units == [UNIT, THIRD, OTHER]
    with pytest.raises(Conflict):
        collections.describe(made.id, "Brooks", "", base=())
    collections.describe(made.id, "Brooks", "small", base=made.entry.base)
    assert (collections.find("Brooks").description, Findings(workspace).undo(made.id).current.text) == ("small", "Rivers")
    second = collections.create("rivers")
    with pytest.raises(AtlasError, match="2 collections are called"):
        collections.find("RIVERS")
    Findings(workspace).remove(second.id)
    assert [one.id for one in collections.list()] == [made.id]


def test_what_changed_is_told_once(workspace: Workspace) -> None:
    findings = Findings(workspace)
    assert findings.changed_since(0) == ([], 0)
    note = findings.save_note(UNIT, "x")
    changed, number = findings.changed_since(0)
    assert changed == [note]
    assert findings.changed_since(number) == ([], number)
    gone = findings.remove(note.id)
    assert findings.changed_since(number) == ([gone], number + 1)


def test_many_writers_at_once_lose_nothing(workspace: Workspace) -> None:
    def write(who: int) -> None:
        findings = Findings(workspace, f"w{who}")
        for n in range(8):
            findings.save_note(UNIT, f"{who}.{n}")
            findings.label(UNIT, f"l{n}")

    threads = [threading.Thread(target=write, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    findings = Findings(workspace)
    assert {entry.current.text for entry in findings.notes(UNIT)} == {f"{who}.{n}" for who in range(4) for n in range(8)}
    assert len(findings.entries(kind="label")) == 32
    assert len(findings.labels(UNIT)) == 8


SAVE_FOREVER = """
import itertools, sys
from core.findings.findings import Findings
from core.units import UnitName
from core.workspace import Workspace
unit = UnitName.parse("tiny/mlp.1/neurons/0")
findings = Findings(Workspace.open(sys.argv[1]), "Ada")
note = findings.save_note(unit, "begin")
for n in itertools.count():
    note = findings.save_note(unit, f"text {n}", entry=note.id, base=note.base)
    other = findings.save_note(unit, f"other {n}")
    print(note.current.id, other.current.id, flush=True)
"""


def test_kill_9_loses_nothing_that_was_acknowledged(workspace: Workspace) -> None:
    acknowledged: list[str] = []
    for _ in range(3):
        command = [sys.executable, "-c", SAVE_FOREVER, str(workspace.path)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for _ in range(40):
                acknowledged += process.stdout.readline().split()
            process.send_signal(signal.SIGKILL)
            # What was printed before the end counts too; half a line does not.
            acknowledged += [one for line in process.stdout if line.endswith("\n") for one in line.split()]
    assert len(acknowledged) >= 240
    kept = {row["version"] for row in Findings(workspace).rows()}
    assert set(acknowledged) <= kept
    assert len(kept) <= len(acknowledged) + 3 * 3, "what is there beyond them was under way"
    assert all(len(entry.tips) == 1 for entry in Findings(workspace).entries())
