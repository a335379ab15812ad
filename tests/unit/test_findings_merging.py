"""Merging workspaces: a union of versions in any order and as often as one likes; both people's words stay; what is not ours is refused."""

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.errors import AtlasError
from core.findings.entry import Entry, Row, canonical, version_id
from core.findings.findings import Findings
from core.units import UnitName
from core.workspace import Workspace

UNITS = [UnitName.parse(f"tiny/mlp.1/neurons/{number}") for number in range(3)]
UNIT, OTHER, THIRD = UNITS

ACTS = st.lists(
    st.tuples(
        st.sampled_from(["note", "edit", "undo", "remove", "rate", "label", "unlabel", "alike", "collect", "move"]), st.integers(0, 4)
    ),
    max_size=8,
)


def act(findings: Findings, acts: list[tuple[str, int]]) -> None:
    """Do what a person might do; what is impossible at that moment is left."""
    for verb, n in acts:
        unit, entries = UNITS[n % 3], findings.entries()
        notes = [entry for entry in entries if entry.kind == "note"]
        if verb == "note":
            findings.save_note(unit, f"note {n}")
        elif verb == "edit" and notes and notes[0].unit:
            findings.save_note(notes[0].unit, f"edited {n}", entry=notes[0].id, base=notes[0].base)
        elif verb == "undo" and entries and len(entries[n % len(entries)].alternatives) == 1:
            findings.undo(entries[n % len(entries)].id)
        elif verb == "remove" and entries:
            findings.remove(entries[n % len(entries)].id)
        elif verb == "rate":
            findings.rate(unit, n or None)
        elif verb == "label":
            findings.label(unit, f"label {n % 2}")
        elif verb == "unlabel" and f"label {n % 2}" in findings.labels(unit):
            findings.unlabel(unit, f"label {n % 2}")
        elif verb == "alike":
            findings.alike(unit, UNITS[(n + 1) % 3])
        elif verb in ("collect", "move"):
            known = findings.collections.list()
            if verb == "collect" or not known:
                made = known[0] if known else findings.collections.create("mine")
                findings.collections.add(made.id, [unit])
            elif unit in known[0].units:
                findings.collections.move(known[0].id, unit, n)


def state(findings: Findings) -> tuple[list[Row], list[Entry]]:
    """All that can be asked of findings: every version, and what holds."""
    entries = findings.entries() + findings.entries(removed=True)
    return findings.rows(), sorted(entries, key=lambda entry: entry.id)


def copy_of(findings: Findings, path: Path) -> Findings:
    copy = Findings(Workspace.open(path), findings.author)
    copy.merge(findings.rows())
    return copy


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(common=ACTS, left=ACTS, right=ACTS, third=ACTS)
def test_merging_is_commutative_associative_and_idempotent(
    tmp_path_factory: pytest.TempPathFactory, common: list[tuple[str, int]], left: list[tuple[str, int]], right: list[tuple[str, int]],
    third: list[tuple[str, int]],
) -> None:  # fmt: skip
    root = tmp_path_factory.mktemp("merge")
    base = Findings(Workspace.open(root / "base"), "Ada")
    act(base, common)
    a, b, c = (copy_of(base, root / name) for name in "abc")
    act(a, left)
    act(b, right)
    act(c, third)
    both, reversed_ = copy_of(a, root / "ab"), copy_of(b, root / "ba")
    both.merge(b.rows())
    reversed_.merge(a.rows())
    assert state(both) == state(reversed_), "commutative"
    again = both.merge([*a.rows(), *b.rows(), *b.rows()])
    assert (again.added, again.forked) == (0, ())
    assert state(both) == state(reversed_), "idempotent"
    both.merge(c.rows())
    right_first = copy_of(c, root / "cb")
    right_first.merge(b.rows())
    right_first.merge(a.rows())
    assert state(both) == state(right_first), "associative"
    everything = {row["version"] for one in (a, b, c) for row in one.rows()}
    assert {row["version"] for row in both.rows()} == everything, "a union: nothing is lost"


def test_what_two_people_changed_apart_is_shown_twice_until_somebody_merges_it(tmp_path: Path) -> None:
    ada = Findings(Workspace.open(tmp_path / "a"), "Ada")
    first = ada.save_note(UNIT, "one")
    ben = copy_of(Findings(Workspace.open(tmp_path / "a"), "Ben"), tmp_path / "b")
    ada.save_note(UNIT, "from Ada", entry=first.id, base=first.base)
    ben.save_note(UNIT, "from Ben", entry=first.id, base=first.base)
    ben.save_note(UNIT, "Ben's own")
    merged = ada.merge(ben.rows())
    assert (merged.added, merged.known, merged.forked) == (2, 1, (first.id,))
    (forked,) = [entry for entry in ada.notes(UNIT) if entry.id == first.id]
    assert {version.text for version in forked.alternatives} == {"from Ada", "from Ben"}
    assert {entry.current.text for entry in ada.notes(UNIT)} >= {"Ben's own"}
    with pytest.raises(AtlasError, match="side by side"):
        ada.undo(first.id)
    whole = ada.save_note(UNIT, "from both", entry=first.id, base=forked.base)
    assert whole.current.parents == tuple(sorted(forked.base))
    ben.merge(ada.rows())
    assert [version.text for version in ben.entry(first.id).alternatives] == ["from both"]
    assert ben.undo(first.id).current.text == "from Ben", "the newer of the two that were merged"


def test_what_one_removed_and_another_changed_stays(tmp_path: Path) -> None:
    ada = Findings(Workspace.open(tmp_path / "a"), "Ada")
    first = ada.save_note(UNIT, "one")
    ben = copy_of(ada, tmp_path / "b")
    ben.save_note(UNIT, "one, and more", entry=first.id, base=first.base)
    ada.remove(first.id)
    ada.merge(ben.rows())
    assert [version.text for version in ada.entry(first.id).alternatives] == ["one, and more"]
    assert not ada.entry(first.id).removed


def test_only_what_belongs_to_the_named_units_and_collections_is_given(workspace: Workspace) -> None:
    findings = Findings(workspace, "Ada")
    for unit in UNITS:
        findings.save_note(unit, f"on {unit}")
        findings.rate(unit, 3)
    inside, outside = findings.collections.create("inside"), findings.collections.create("outside")
    for collection in (inside, outside):
        findings.collections.add(collection.id, [UNIT, OTHER])
    some = findings.rows([UNIT])
    assert {(row["kind"], row["unit"]) for row in some} == {("note", str(UNIT)), ("rating", str(UNIT))}
    more = findings.rows([], [inside.id])
    assert sorted((row["kind"], row["unit"]) for row in more) == [("collection", ""), ("member", str(UNIT)), ("member", str(OTHER))]
    assert len(findings.rows()) == 12
    copy = Findings(Workspace.open(workspace.path.parent / "copy"))
    copy.merge(more)
    assert copy.collections.find("inside").units == [UNIT, OTHER]


def remade(row: Mapping[str, Any], **changed: Any) -> dict[str, Any]:
    """A row with other values and the id that belongs to them: what a hostile writer would make."""
    new = {**row, **changed}
    return {**new, "version": version_id(new)}


BAD: list[tuple[dict[str, Any], str]] = [
    ({"body": '{"text":"changed"}', "version": "0" * 32}, "not what its id says"),
    ({"body": '{"text":"a","more":1}'}, "not as this program writes it"),
    ({"body": '{"text": "spaced"}'}, "not as this program writes it"),
    ({"body": '{"text":3}'}, "not as this program writes it"),
    ({"body": '{"text":""}'}, "not as this program writes it"),
    ({"body": '{"text":" blank"}'}, "not as this program writes it"),
    ({"body": "[" * 100_000}, "not as this program writes it"),
    ({"body": '{"text":NaN}'}, "not as this program writes it"),
    ({"body": canonical({"text": "x" * 20_001})}, "at most 20,000"),
    ({"body": canonical({"text": "x\x00"})}, "U\\+0000"),
    ({"created": float("nan")}, "time is not one"),
    ({"created": float("inf")}, "time is not one"),
    ({"created": -1.0}, "time is not one"),
    ({"created": 5}, "time is not one"),
    ({"author": "  two  blanks"}, "not written as this program writes names"),
    ({"author": "x" * 100}, "at most 80"),
    ({"author": None}, "missing or of the wrong type"),
    ({"kind": "spell"}, "not a kind of finding"),
    ({"kind": "rating", "body": '{"rating":6}'}, "not as this program writes it"),
    ({"kind": "rating", "body": '{"rating":true}'}, "not as this program writes it"),
    ({"kind": "alike", "body": '{"unit":"../../etc"}'}, "is not a unit"),
    ({"kind": "collection", "body": '{"description":"","title":"t"}'}, "belongs to no unit"),
    ({"kind": "member", "body": canonical({"collection": "0" * 32, "place": 1})}, "not as this program writes it"),
    ({"unit": "tiny/mlp.01/neurons/0"}, "is not written as"),
    ({"unit": "'; DROP TABLE versions; --"}, "is not a unit"),
    ({"unit": ""}, "is not a unit"),
    ({"entry": "short"}, "ids are not"),
    ({"parents": "0" * 32 + " " + "0" * 32}, "ids are not"),
    ({"restores": "x"}, "ids are not"),
    ({"removed": 2}, "neither there nor removed"),
    ({"removed": True}, "missing or of the wrong type"),
]


@pytest.mark.parametrize(("changed", "said"), BAD)
def test_a_row_that_this_program_would_not_write_is_refused_whole(workspace: Workspace, changed: dict[str, Any], said: str) -> None:
    source = Findings(Workspace.open(workspace.path.parent / "source"))
    source.save_note(UNIT, "good")
    (good,) = source.rows()
    other = source.save_note(OTHER, "also good").current
    bad = {**good, **changed} if "version" in changed or "created" in changed else remade(good, **changed)
    findings = Findings(workspace)
    with pytest.raises(AtlasError, match=said):
        findings.merge([row for row in source.rows() if row["version"] == other.id] + [bad])
    assert findings.rows() == []


def test_an_id_cannot_be_taken_over_by_another_unit_or_kind(workspace: Workspace) -> None:
    findings = Findings(workspace)
    note = findings.save_note(UNIT, "mine")
    (row,) = findings.rows()
    for changed in ({"unit": str(OTHER)}, {"kind": "explanation"}):
        with pytest.raises(AtlasError, match="id of one of another kind or unit"):
            findings.merge([remade(row, parents=note.current.id, **changed)])
        with pytest.raises(AtlasError, match="id of one of another kind or unit"):
            Findings(Workspace.open(workspace.path.parent / "empty")).merge([row, remade(row, **changed)])
    assert findings.entries() == [note]


JUNK = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.binary(max_size=5)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(sorted(Row.__annotations__)), value=JUNK, rehash=st.booleans())
def test_no_junk_in_any_field_does_more_than_a_sentence(workspace: Workspace, name: str, value: object, rehash: bool) -> None:
    findings = Findings(workspace)
    row: dict[str, Any] = {
        "version": "", "entry": "1" * 32, "parents": "", "kind": "note", "unit": str(UNIT), "author": "", "created": 1.5, "removed": 0,
        "restores": "", "body": '{"text":"x"}', name: value,
    }  # fmt: skip
    if rehash and name != "version":
        try:
            row["version"] = version_id(row)
        except (TypeError, ValueError):
            row["version"] = "2" * 32
    with contextlib.suppress(AtlasError):  # and nothing else
        findings.merge([row])
        (kept,) = [one for one in findings.rows() if one["version"] == row["version"]]
        assert kept == row, "what is taken in comes out the same"
        assert json.loads(kept["body"])
