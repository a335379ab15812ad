"""The review queue: its order, what is served next, and a pass in which every act is done once and can be taken back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import AtlasError
from core.findings import review
from core.findings.findings import Findings
from core.findings.review import Queue
from core.findings.reviewing import Act, Pass, read_acts
from core.store.cache import Cache
from core.units import UnitName
from core.workspace import Workspace
from tests.synthetic import write_synthetic_index
from tests.synthetic_explanations import write_synthetic_explanations

NAMES = [f"tiny/mlp.{layer}/neurons/{unit}" for layer in range(2) for unit in range(5)]
QUEUE = Queue.of(NAMES)


@pytest.fixture
def known(workspace: Workspace) -> Findings:
    return Findings(workspace, "Ada")


def hear(now: Pass, known: Findings, workspace: Workspace, *acts: Act, queue: Queue = QUEUE, mount: str = "m") -> None:
    now.hear(mount, acts, known, queue, lambda: review.judged(workspace, known.author))


def begun(workspace: Workspace, known: Findings, queue: Queue = QUEUE) -> Pass:
    now = Pass("key")
    now.settle(queue, review.judged(workspace, known.author))
    return now


def cached(workspace: Workspace) -> Cache:
    write_synthetic_index(workspace, n_layers=3, width=12)
    write_synthetic_explanations(workspace, units=NAMES[:3])
    cache = Cache.open(workspace)
    cache.ingest()
    return cache


def test_interesting_units_come_first_and_the_most_peaked_before_others(workspace: Workspace) -> None:
    cache = cached(workspace)
    queue = review.of_index(cache, "index-test", {})
    assert len(queue.names) == 36
    count = int(queue.interesting.sum())
    assert 0 < count < 36
    assert queue.interesting[:count].all()
    with cache.cursor() as cursor:
        kurtosis = dict(cursor.execute("SELECT 'tiny/' || kind || '.' || layer || '/neurons/' || unit, kurtosis FROM units").fetchall())
    for part in (queue.names[:count], queue.names[count:]):
        values = [kurtosis[name] for name in part if kurtosis[name] is not None]
        assert values == sorted(values, reverse=True)
    only = review.of_index(cache, "index-test", {}, only_interesting=True)
    assert only.names == queue.names[:count]
    cache.close()


def test_a_queue_by_chance_is_the_same_for_a_seed_and_leaves_others_in_place_when_narrowed(workspace: Workspace) -> None:
    cache = cached(workspace)
    whole = review.of_index(cache, "index-test", {}, order="random", seed=7).names
    assert whole == review.of_index(cache, "index-test", {}, order="random", seed=7).names
    assert whole != review.of_index(cache, "index-test", {}, order="random", seed=8).names
    layer = review.of_index(cache, "index-test", {"layers": [1]}, order="random", seed=7).names
    assert layer == tuple(name for name in whole if "/mlp.1/" in name)
    assert len(layer) == 12
    cache.close()


def test_filters_by_explanation_and_label(workspace: Workspace, known: Findings) -> None:
    cache = cached(workspace)
    explained = review.of_index(cache, "index-test", {}, explained=True)
    assert set(explained.names) == set(NAMES[:3])
    without = review.of_index(cache, "index-test", {}, explained=False)
    assert len(without.names) == 33
    assert not set(without.names) & set(explained.names)
    known.label(UnitName.parse(NAMES[1]), "it's")
    known.label(UnitName.parse(NAMES[2]), "other")
    held = review.labelled(workspace, "it's")
    assert review.of_index(cache, "index-test", {}, labelled=held).names == (NAMES[1],)
    with pytest.raises(AtlasError, match="not an order"):
        review.of_index(cache, "index-test", {}, order="x")
    cache.close()


@given(st.sets(st.integers(0, 9)), st.integers(-1, 9), st.integers(1, 12))
def test_what_follows_is_not_done_in_order_round_the_end_and_never_the_unit_itself(gone: set[int], at: int, n: int) -> None:
    name = NAMES[at] if at >= 0 else ""
    found = QUEUE.following(name, {NAMES[place] for place in gone}, n)
    order = [(at + 1 + step) % 10 for step in range(10)] if at >= 0 else list(range(10))
    assert found == [NAMES[place] for place in order if place not in gone and place != at][:n]


def test_chance_takes_interesting_ones_first_then_others_then_none() -> None:
    queue = Queue.of(NAMES, np.array([place < 2 for place in range(10)]))
    rng = np.random.default_rng(0)
    assert {queue.chance((), rng) for _ in range(40)} == set(NAMES[:2])
    assert queue.chance(NAMES[:2], rng) in NAMES[2:]
    assert queue.chance(NAMES, rng) == ""


def test_only_the_authors_own_ratings_and_labels_count_as_done(workspace: Workspace, known: Findings) -> None:
    units = [UnitName.parse(name) for name in NAMES]
    known.rate(units[0], 3)
    known.label(units[1], "a")
    known.save_note(units[2], "a note")
    Findings(workspace, "Ben").rate(units[3], 5)
    known.rate(units[4], 2)
    known.rate(units[4], None)
    assert review.judged(workspace, "Ada") == {NAMES[0], NAMES[1]}
    assert review.judged(workspace, "Ben") == {NAMES[3]}
    assert begun(workspace, known).at == NAMES[2]


def test_an_act_that_is_told_twice_is_done_once_and_none_is_lost(workspace: Workspace, known: Findings) -> None:
    now = begun(workspace, known)
    first = [Act(1, "rate", NAMES[0], "4", NAMES[1]), Act(2, "note", NAMES[1], "hm", NAMES[2])]
    hear(now, known, workspace, first[0])
    hear(now, known, workspace, *first)
    hear(now, known, workspace, *first, Act(3, "label", NAMES[2], "x", NAMES[2]), Act(4, "rate", NAMES[2], "1"))
    assert now.heard == 4
    assert known.rating(UnitName.parse(NAMES[0])) == 4
    assert [len(known.history(note.id)) for note in known.notes(UnitName.parse(NAMES[1]))] == [1]
    assert (known.labels(UnitName.parse(NAMES[2])), known.rating(UnitName.parse(NAMES[2]))) == (["x"], 1)
    assert len(known.rows()) == 4
    assert now.at == NAMES[3], "the browser did not know where to go: to the next one"
    again = begun(workspace, known)
    hear(again, known, workspace, *first)
    assert len(known.rows()) == 4, "heard once more by a session that knows nothing of it, nothing is written twice"


def test_undo_takes_back_the_last_act_through_the_history_and_leads_back(workspace: Workspace, known: Findings) -> None:
    now = begun(workspace, known)
    unit = UnitName.parse(NAMES[0])
    known.rate(unit, 2)
    hear(now, known, workspace, Act(1, "rate", NAMES[0], "5", NAMES[1]), Act(2, "skip", NAMES[1], to=NAMES[2]))
    hear(now, known, workspace, Act(3, "undo", NAMES[1], to=NAMES[1]))
    assert (now.at, list(now.passed)) == (NAMES[1], [])
    hear(now, known, workspace, Act(4, "undo", ""))
    assert (now.at, known.rating(unit)) == (NAMES[0], 2)
    (entry,) = known.entries(unit=unit)
    assert [version.body["rating"] for version in known.history(entry.id)] == [2, 5, 2]
    hear(now, known, workspace, Act(5, "undo", ""))
    assert "nothing to take back" in now.trouble
    hear(now, known, workspace, Act(6, "show", NAMES[0], to=NAMES[3]))
    assert now.trouble == ""


def test_undo_of_what_changed_nothing_leaves_what_was_written_before(workspace: Workspace, known: Findings) -> None:
    unit = UnitName.parse(NAMES[0])
    known.rate(unit, 4)
    now = begun(workspace, known)
    hear(now, known, workspace, Act(1, "rate", NAMES[0], "4", NAMES[1]), Act(2, "undo", NAMES[0], to=NAMES[0]))
    assert known.rating(unit) == 4


def test_undo_does_not_overwrite_what_was_changed_elsewhere_meanwhile(workspace: Workspace, known: Findings) -> None:
    unit = UnitName.parse(NAMES[0])
    now = begun(workspace, known)
    hear(now, known, workspace, Act(1, "rate", NAMES[0], "4", NAMES[1]))
    known.rate(unit, 1)
    hear(now, known, workspace, Act(2, "undo", NAMES[0], to=NAMES[0]))
    assert "meanwhile" in now.trouble
    assert known.rating(unit) == 1


def test_what_cannot_be_done_is_said_and_what_comes_after_is_done(workspace: Workspace, known: Findings) -> None:
    now = begun(workspace, known)
    hear(now, known, workspace, Act(1, "label", NAMES[0], "x" * 61, NAMES[1]), Act(2, "rate", NAMES[1], "9", NAMES[2]))
    assert "is not a rating" in now.trouble
    hear(now, known, workspace, Act(3, "rate", "no unit", "4", NAMES[2]), Act(4, "rate", NAMES[2], "3", NAMES[3]))
    assert "no unit" in now.trouble
    assert review.judged(workspace, "Ada") == {NAMES[2]}
    hear(now, known, workspace, Act(5, "undo", NAMES[2], to=NAMES[2]), Act(6, "undo", NAMES[0], to=NAMES[0]))
    assert "nothing to take back" in now.trouble.lower()


def test_units_that_were_passed_over_or_only_noted_come_again_at_the_end(workspace: Workspace, known: Findings) -> None:
    queue = Queue.of(NAMES[:3])
    now = begun(workspace, known, queue)
    hear(now, known, workspace, Act(1, "skip", NAMES[0]), Act(2, "note", NAMES[1], "a note"), queue=queue)
    assert now.at == NAMES[2]
    hear(now, known, workspace, Act(3, "rate", NAMES[2], "5"), queue=queue)
    assert now.at == NAMES[0]
    hear(now, known, workspace, Act(4, "rate", NAMES[0], "5"), queue=queue)
    assert now.at == NAMES[1]
    hear(now, known, workspace, Act(5, "skip", NAMES[1]), queue=queue)
    assert now.at == NAMES[1], "it is the only one left"
    hear(now, known, workspace, Act(6, "rate", NAMES[1], "5"), queue=queue)
    assert (now.at, now.ahead(queue, review.judged(workspace, "Ada"), 3)) == ("", [])
    assert begun(workspace, known, queue).at == ""
    hear(now, known, workspace, Act(7, "previous", ""), queue=queue)
    assert now.at == NAMES[2], "what is done can be looked at again"


def test_steps_that_are_waited_for_add_up_and_end_at_the_ends(workspace: Workspace, known: Findings) -> None:
    now = begun(workspace, known)
    hear(now, known, workspace, Act(1, "next", NAMES[0]), Act(2, "next", NAMES[0]), Act(3, "previous", NAMES[0]))
    assert now.at == NAMES[1]
    hear(now, known, workspace, *(Act(number, "previous", NAMES[1]) for number in range(4, 9)))
    assert now.at == NAMES[0]
    hear(now, known, workspace, Act(9, "random", NAMES[0]))
    assert now.at in NAMES[1:]


def test_another_tab_counts_its_acts_from_the_beginning(workspace: Workspace, known: Findings) -> None:
    now = begun(workspace, known)
    hear(now, known, workspace, Act(1, "rate", NAMES[0], "4", NAMES[1]))
    hear(now, known, workspace, Act(1, "rate", NAMES[1], "2", NAMES[2]), mount="another")
    assert review.judged(workspace, "Ada") == set(NAMES[:2])


@pytest.mark.parametrize(
    "told",
    [
        {}, {"mount": 1, "acts": []}, {"mount": "m", "acts": "x"}, {"mount": "m", "acts": [1]}, {"mount": "m", "acts": [{"number": 0}]},
        {"mount": "m", "acts": [{"number": 1, "kind": "drop", "unit": "u"}]}, {"mount": "m", "acts": [{"number": 1.5, "kind": "rate"}]},
        {"mount": "m", "acts": [{"number": 1, "kind": "rate", "unit": 3}]}, {"mount": "m" * 101, "acts": []},
    ],
)  # fmt: skip
def test_what_is_no_act_is_refused(told: dict[str, object]) -> None:
    with pytest.raises(AtlasError, match="not understood"):
        read_acts(told)


def test_acts_are_read_as_a_browser_writes_them() -> None:
    told = {"mount": "m", "message": 2, "acts": [{"number": 3.0, "kind": "rate", "unit": "u", "value": "4", "to": "v"}]}
    assert read_acts(told) == ("m", [Act(3, "rate", "u", "4", "v")])


def test_the_pace_leaves_breaks_out() -> None:
    assert review.pace([0.0, 10.0]) is None
    assert review.pace([0.0, 10.0, 20.0]) == 360
    assert review.pace([0.0, 10.0, 5000.0, 5010.0]) == 360
