"""The queue of the Rate page: everything once, unseen first, evenly over the range of scores, the same for the same seed."""

import time
from collections import Counter
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from core.findings.ratings import Rating
from core.ui.rating import BINS, Rated, chart, counts, queue, to_csv
from core.units import UnitName

UNIT = UnitName.parse("tiny/mlp.1/neurons/0")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1, 1), max_size=60), st.integers(0, 1000), st.integers(0, 60))
def test_everything_comes_once_and_what_was_rated_comes_last(rhos: list[float], seed: int, rated: int) -> None:
    names = [str(n) for n in range(len(rhos))]
    seen = set(names[:rated])
    order = queue(names, rhos, seen, seed)
    assert sorted(order) == sorted(names)
    unseen = len(names) - len(seen)
    assert not set(order[:unseen]) & seen
    assert order == queue(names, rhos, seen, seed)


def test_rare_scores_are_drawn_as_often_as_common_ones() -> None:
    """Of a thousand explanations nearly all score low; the first hundred to rate still span the range evenly."""
    rng = np.random.default_rng(0)
    rhos = np.concatenate([rng.uniform(0, 0.1, 900), np.linspace(0.1, 1.0, 100)])
    names = [str(n) for n in range(len(rhos))]
    first = [rhos[int(name)] for name in queue(names, rhos.tolist(), (), seed=1)[: 10 * BINS]]
    found = Counter(min(BINS - 1, int(rho * BINS)) for rho in first)
    assert max(found.values()) - min(found[bin] for bin in range(BINS)) <= 2


def test_a_large_workspace_is_drawn_from_quickly() -> None:
    rng = np.random.default_rng(0)
    rhos = rng.uniform(-0.2, 1, 100_000).tolist()
    began = time.monotonic()
    assert len(queue([str(n) for n in range(100_000)], rhos, (), 0)) == 200
    assert time.monotonic() - began < 3


def test_ratings_are_counted_drawn_and_saved_with_their_scores() -> None:
    row = dict.fromkeys(("rho", "low", "high", "kind", "split", "simulator", "author", "text"), None)
    rated = [
        Rated(Rating(n, f"e.0.0.{n}", UNIT, 1 + n % 5, 2.0, 0.0), None if n == 7 else {**row, "rho": n / 10, "text": "=1+1"})
        for n in range(8)
    ]
    assert counts(rated) == {1: 2, 2: 2, 3: 2, 4: 1, 5: 1}
    points: Any = chart(rated, dark=False).data[0]
    assert len(points.x) == 7, "what is gone has no score to draw"
    lines = to_csv(rated).splitlines()
    assert len(lines) == 9
    assert lines[1].endswith(",'=1+1"), "a spreadsheet must not compute it"
