"""Normalisation, calibration, scores and splits hold the published code's numbers, and what it leaves undefined has a reason.

The vectors V1 to V26 and V31 to V33 were computed once with PyPI neuron-explainer 0.0.1; test_autointerp_parity.py asks it again.
"""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.autointerp.calibration import calibrate
from core.autointerp.scale import largest, nonzero_share, normalise
from core.autointerp.scoring import absolute_deviation_explained, correlation, interval, is_evidence, score, uncentred_r2
from core.autointerp.splits import interleave

TRUE = [0, 1, 0, 3, 0, 0, 8, 2, 0, 0]
SAID = [0, 0.5, 0.2, 2, 0, 0.1, 6, 3, 0, 1]


@pytest.mark.parametrize(
    ("activations", "top", "expected"),
    [
        ([-1, 0, 0.049, 0.05, 0.099, 0.1, 0.25, 0.49999, 0.5, 0.999, 1, 1.2], 0.5, [0, 0, 0, 1, 1, 2, 5, 9, 10, 10, 10, 10]),  # V1
        ([-0.71, 0.44, 2.83, 4.24], 4.24, [0, 1, 6, 10]),  # V2
        ([0.29, 0.57, 0.58, 0.7, 0.6], 1, [2, 5, 5, 7, 6]),  # V3
        ([1, 2], 0, [0, 0]),  # V4
        ([1, 2], -3, [0, 0]),  # V4
        ([math.nan, 1], 1, [0, 10]),  # V4
    ],
)
def test_activations_become_tenths_of_the_maximum_rounded_down(activations: list[float], top: float, expected: list[int]) -> None:
    assert normalise(activations, top) == expected


def test_an_infinite_activation_is_refused() -> None:
    with pytest.raises(OverflowError):
        normalise([math.inf], 1.0)  # V4


def test_the_maximum_of_silent_records_is_zero_and_of_none_an_error() -> None:
    assert largest([[-1, -2], [-0.5]]) == 0.0  # V5
    with pytest.raises(ValueError, match="at least one"):
        largest([])


def test_the_share_of_nonzero_is_taken_after_normalising() -> None:
    assert nonzero_share([normalise([0, 0.05, 0.1, 1, -1], 1)]) == 0.4  # V6


def test_the_three_scores_are_the_published_ones() -> None:
    assert correlation(TRUE, SAID) == pytest.approx(0.956746583933754, abs=1e-12)  # V14
    assert uncentred_r2(TRUE, SAID) == pytest.approx(0.9064102564102564, abs=1e-12)  # V15
    assert absolute_deviation_explained(TRUE, SAID) == pytest.approx(0.5857142857142857, abs=1e-12)  # V15
    assert uncentred_r2([5, 6, 7], [6, 6, 6]) == pytest.approx(0.9818181818, abs=1e-10)  # V16


@pytest.mark.parametrize(("true", "said"), [([1, 1, 1], [1, 2, 3]), ([1, 2, 3], [2, 2, 2]), ([1], [1])])
def test_a_constant_side_or_a_single_value_has_no_correlation(true: list[float], said: list[float]) -> None:
    assert math.isnan(correlation(true, said))  # V17


def test_r2_of_silence_is_minus_infinity_or_undefined() -> None:
    assert uncentred_r2([0, 0, 0], [0, 0, 1]) == -math.inf  # V18
    assert math.isnan(uncentred_r2([0, 0, 0], [0, 0, 0]))


def test_records_are_scored_together_and_not_one_by_one() -> None:
    true = [np.array([0, 0, 5, 1.0]), np.zeros(4), np.array([1, 0, 2, 0.0])]
    said = [np.array([0, 1, 9, 2.0]), np.zeros(4), np.array([0, 5, 3, 0.0])]
    found = score("top-and-random", true, said)  # V19
    assert found.rho == pytest.approx(0.8288991199122343, abs=1e-12)
    assert found.r2 == pytest.approx(-0.4516129032, abs=1e-10)
    assert found.explained == pytest.approx(-0.4444444444, abs=1e-10)
    assert found.record_rho == pytest.approx(0.4973458969, abs=1e-8)
    assert (found.n_tokens, found.n_records, found.coverage, found.reason) == (12, 3, 1.0, "")


SIMS, TRUTHS = np.array([0, 5, 10, 1, 2.0]), np.array([0.1, 0.9, 4, -0.1, 0.3])


def test_linear_calibration_is_least_squares() -> None:
    assert calibrate("linear", SIMS, TRUTHS)([0, 0, 10]) == pytest.approx([-0.41104294, -0.41104294, 3.6196319], abs=1e-7)  # V21


def test_percentile_calibration_matches_ranks_and_holds_at_the_ends() -> None:
    probe = [-5, 0, 0.5, 1, 1.5, 3, 7.5, 10, 99]
    expected = [-0.1, -0.1, 0, 0.1, 0.2, 0.5, 2.45, 4, 4]
    assert calibrate("percentile", SIMS, TRUTHS)(probe) == pytest.approx(expected)  # V22


def test_of_tied_simulations_percentile_calibration_takes_the_last() -> None:
    map_ = calibrate("percentile", [0, 0, 0, 0, 5, 10], [0, 1, 2, 3, 4, 5])
    assert map_([0, 0.0001, 2.5, 5, 10]) == pytest.approx([3, 3.00002, 3.5, 4, 5])  # V23


def test_records_are_dealt_out_in_turn() -> None:
    assert interleave(20, 4, 5) == [[0, 4, 8, 12, 16], [1, 5, 9, 13, 17], [2, 6, 10, 14, 18], [3, 7, 11, 15, 19]]  # V24
    assert interleave(20, 3, 5)[1] == [1, 4, 7, 10, 13]
    assert interleave(10, 3, 5) == [[0, 3, 6, 9], [1, 4, 7], [2, 5, 8]]  # V25: fewer records are fewer, not an error


def test_a_failed_record_lowers_the_coverage_and_nothing_else() -> None:
    true = [np.array([0, 1, 2.0]), np.array([2, 0, 1.0]), np.array([9, 9, 0.0])]
    said = [np.array([0, 1, 3.0]), np.array([2, 1, 1.0]), np.full(3, np.nan)]
    with_failure, without = score("top-only", true, said), score("top-only", true[:2], said[:2])
    assert with_failure.rho == without.rho
    assert (with_failure.coverage, with_failure.n_records, with_failure.n_tokens) == (2 / 3, 2, 6)


def test_what_cannot_be_scored_says_why() -> None:
    flat, wavy = [np.ones(3)], [np.array([0, 1, 2.0])]
    assert "true activations are constant" in score("top-only", flat, wavy).reason
    assert "simulated activations are constant" in score("top-only", wavy, flat).reason
    assert score("top-only", wavy, [np.full(3, np.nan)]).reason == "no record could be simulated"
    assert score("top-only", [], []).reason == "no record to score"
    assert math.isnan(score("top-only", wavy, [np.full(3, np.nan)]).rho)


records = st.lists(st.lists(st.floats(-100, 100), min_size=2, max_size=12), min_size=2, max_size=6)


@settings(max_examples=60, deadline=None)
@given(records, st.integers(0, 1000), st.floats(0.01, 50), st.floats(-20, 20))
def test_rho_and_its_interval_do_not_change_with_scale_and_offset(texts: list[list[float]], seed: int, scale: float, offset: float) -> None:
    true = [np.array(text) for text in texts]
    rng = np.random.default_rng(seed)
    said = [values + rng.normal(0, 5, len(values)) for values in true]
    one, other = score("top-only", true, said, seed), score("top-only", true, [scale * values + offset for values in said], seed)
    if math.isfinite(one.rho) and math.isfinite(other.rho):
        assert other.rho == pytest.approx(one.rho, abs=1e-6)
        if math.isfinite(one.low) and math.isfinite(other.low):
            assert (other.low, other.high) == pytest.approx((one.low, one.high), abs=1e-4)


def test_the_interval_is_that_of_a_plain_bootstrap_over_records() -> None:
    rng = np.random.default_rng(3)
    true = [rng.gamma(0.4, 2.0, 30) for _ in range(10)]
    said = [values + rng.normal(0, 1, 30) for values in true]
    draws = np.random.default_rng(7).integers(0, 10, (1000, 10))
    slow = [correlation(np.concatenate([true[i] for i in draw]), np.concatenate([said[i] for i in draw])) for draw in draws]
    assert interval(true, said, 7) == pytest.approx(tuple(np.percentile(slow, [2.5, 97.5])), abs=1e-9)


def test_a_score_is_evidence_only_above_its_shuffled_control() -> None:
    rng = np.random.default_rng(0)
    true = [rng.gamma(0.3, 3.0, 40) for _ in range(10)]
    noise = [rng.normal(0, 1, 40) for _ in range(10)]
    good, bad = score("top-only", true, [values + 0.1 for values in true]), score("top-only", true, noise)
    silent = score("top-only", true, [np.zeros(40)] * 10)
    assert is_evidence(good, bad)
    assert is_evidence(good, silent)
    assert not is_evidence(bad, bad)
    assert not is_evidence(silent, bad)
