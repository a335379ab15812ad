"""Means over units and their intervals: against plain resampling, paired, and at the edges."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.autointerp import comparison
from core.autointerp.comparison import mean, means, paired


def test_the_interval_covers_the_true_mean_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    found = [mean(rng.normal(0.4, 0.2, 40), seed) for seed in range(150)]
    hits = np.mean([one.low <= 0.4 <= one.high for one in found])
    assert 0.88 <= hits <= 0.99


def test_all_ways_are_drawn_over_the_same_units() -> None:
    """A constant advantage has an interval of no width, however much units differ."""
    units = np.random.default_rng(1).normal(0, 1, 30)
    (difference,) = means([(units + 0.25) - units])
    assert difference.value == pytest.approx(0.25)
    assert difference.low == pytest.approx(0.25)
    assert difference.high == pytest.approx(0.25)
    first, second = means([units, units + 0.25])
    assert second.low - first.low == pytest.approx(0.25)


def test_drawing_in_parts_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(2).normal(0, 1, (2, 50))
    whole = means(values)
    monkeypatch.setattr(comparison, "_AT_ONCE", 170)
    assert means(values) == whole


def test_undefined_scores_are_left_out_and_counted() -> None:
    one = mean([0.5, math.nan, 0.7])
    assert (one.n, one.value) == (2, pytest.approx(0.6))
    assert list(paired([[0.1, math.nan, 0.3], [0.1, 0.2, math.nan]])) == [True, False, False]


def test_none_and_one_unit_have_no_interval() -> None:
    none, single = mean([math.nan]), mean([0.3])
    assert (none.n, math.isnan(none.value)) == (0, True)
    assert (single.n, single.value, math.isnan(single.low)) == (1, 0.3, True)


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=40))
def test_an_interval_lies_within_the_values(values: list[float]) -> None:
    one = mean(values)
    assert min(values) - 1e-9 <= one.low <= one.high <= max(values) + 1e-9
