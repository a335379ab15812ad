"""Ratings outlive the cache, are taken back one by one, and their rank correlation is right."""

import itertools
import sqlite3
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import AtlasError
from core.findings.correlation import ranks, spearman
from core.findings.ratings import Ratings
from core.store.cache import Cache
from core.units import UnitName
from core.workspace import Workspace

UNIT = UnitName.parse("tiny/mlp.1/neurons/0")


def test_ratings_come_back_in_order_and_survive_the_cache(workspace: Workspace) -> None:
    made = [Ratings(workspace).add(f"explain-x.0.0.{n}", UNIT, n + 1, 2.5) for n in range(5)]
    cache = Cache.open(workspace)
    cache.rebuild()
    cache.close()
    workspace.cache.unlink()
    assert Ratings(workspace).list() == made
    assert [one.seconds for one in made] == [2.5] * 5


def test_undo_takes_back_the_newest_and_only_it(workspace: Workspace) -> None:
    ratings = Ratings(workspace)
    first, second, third = (ratings.add("explain-x.0.0.0", UNIT, n) for n in (2, 4, 5))
    assert ratings.list(newest_only=True) == [third]
    assert ratings.undo() == third
    assert ratings.list() == [first, second]
    assert ratings.undo(first.id) == first
    assert ratings.undo(first.id) is None
    assert ratings.list() == [second]
    assert ratings.undo() == second
    assert ratings.undo() is None
    assert ratings.add("explain-x.0.0.0", UNIT, 1).id > third.id, "a number is never used again"


@pytest.mark.parametrize("rating", [0, 6, -1])
def test_a_rating_outside_one_to_five_is_refused(workspace: Workspace, rating: int) -> None:
    with pytest.raises(AtlasError, match="choose 1 to 5"):
        Ratings(workspace).add("explain-x.0.0.0", UNIT, rating)
    assert Ratings(workspace).list() == []


def test_many_raters_at_once_lose_nothing(workspace: Workspace) -> None:
    def rate(who: int) -> None:
        for n in range(10):
            Ratings(workspace).add(f"explain-{who}.0.0.{n}", UNIT, 3)

    threads = [threading.Thread(target=rate, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({rating.explanation for rating in Ratings(workspace).list()}) == 40


def test_a_newer_or_damaged_file_is_a_sentence_and_untouched(workspace: Workspace) -> None:
    Ratings(workspace).add("explain-x.0.0.0", UNIT, 3)
    path = workspace.path / "findings.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(AtlasError, match="newer Neuron Atlas"):
        Ratings(workspace).list()
    path.write_bytes(b"not a database at all" * 100)
    for beside in path.parent.glob("findings.sqlite-*"):
        Path(beside).unlink()
    with pytest.raises(AtlasError, match="is damaged"):
        Ratings(workspace).list()
    assert path.read_bytes().startswith(b"not a database")


def slow_spearman(x: list[float], y: list[float]) -> float:
    """From the definition: each value's rank is one more than how many are smaller, plus half of the others that are equal."""

    def rank(values: list[float], at: int) -> float:
        smaller = sum(value < values[at] for value in values)
        equal = sum(value == values[at] for value in values)
        return smaller + (equal + 1) / 2

    a, b = ([rank(values, at) for at in range(len(values))] for values in (x, y))
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    top = sum((p - mean_a) * (q - mean_b) for p, q in zip(a, b, strict=True))
    below = (sum((p - mean_a) ** 2 for p in a) * sum((q - mean_b) ** 2 for q in b)) ** 0.5
    return top / below if below else float("nan")


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 5), st.floats(-1, 1).map(lambda value: round(value, 1))), min_size=2, max_size=30))
def test_spearman_equals_its_definition_ties_included(pairs: list[tuple[int, float]]) -> None:
    x, y = [float(a) for a, _ in pairs], [b for _, b in pairs]
    assert spearman(x, y) == pytest.approx(slow_spearman(x, y), abs=1e-12, nan_ok=True)


def test_spearman_of_known_orders() -> None:
    assert spearman([1, 2, 3, 4], [10, 20, 30, 40]) == 1
    assert spearman([1, 2, 3, 4], [4, 3, 2, 1]) == -1
    assert spearman([1, 2, 3, 4, 5], [5, 6, 7, 8, 7]) == pytest.approx(0.8207826816681233)
    assert np.isnan(spearman([1, 1, 1], [1, 2, 3]))
    assert np.isnan(spearman([1], [1]))
    assert list(ranks([3, 1, 3, 2])) == [3.5, 1, 3.5, 2]
    every = [spearman(list(order), [1, 2, 3, 4]) for order in itertools.permutations(range(4))]
    assert np.mean(every) == pytest.approx(0)
