"""The expectation over number tokens, held to the reference's numbers (Bills et al. 2023; vectors computed with their code)."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.autointerp.expectation import distribution, expected, numbers_in

LN = math.log


def test_the_expectation_renormalises_over_the_numbers_present() -> None:
    shares, value = expected({"0": LN(0.5), "1": LN(0.2), "10": LN(0.1), "unknown": LN(0.2)})
    assert shares == pytest.approx({0: 0.625, 1: 0.25, 10: 0.125})
    assert value == pytest.approx(1.5, abs=1e-12)


@pytest.mark.parametrize("logprobs", [{" 0": LN(0.5), " 7": LN(0.3)}, {"unknown": 0.0}, {}])
def test_without_an_exact_number_it_is_the_references_empty_zero(logprobs: dict[str, float]) -> None:
    assert expected(logprobs) == ({}, 0.0)


def test_what_is_no_number_from_0_to_10_is_left_out() -> None:
    assert expected({"11": -0.1, "3": -2, "00": -1}) == ({3: 1.0}, 3.0)


def test_numbers_with_tiny_mass_still_renormalise() -> None:
    assert expected({"unknown": LN(0.999), "10": LN(1e-5), "0": LN(1e-6)})[1] == pytest.approx(9.0909090909, abs=1e-9)


def test_two_positions_as_in_an_all_at_once_answer() -> None:
    tops = [{"0": LN(0.6), "10": LN(0.2)}, {"3": LN(0.3), "4": LN(0.1)}]
    assert [expected(top)[1] for top in tops] == pytest.approx([2.5, 3.25])


def test_impossible_numbers_alone_give_nan_and_no_distribution() -> None:
    assert math.isnan(expected({"0": -math.inf, "4": -math.inf})[1])
    assert distribution({"0": -math.inf, "4": -math.inf}) is None
    assert distribution({}) is None


def test_spaces_around_a_number_are_added_to_it() -> None:
    found = numbers_in({"3": LN(0.2), " 3": LN(0.1), "3\n": LN(0.1), "3x": LN(0.3), " 10": LN(0.2), "٣": LN(0.1)})
    assert found == pytest.approx({"3": LN(0.4), "10": LN(0.2)})


def test_a_head_has_to_be_there_and_json_may_follow() -> None:
    top = {": 4": LN(0.5), ": 5},": LN(0.2), ": 5}": LN(0.1), "4": LN(0.1), ": 4.5": LN(0.05), ": 11}": LN(0.05)}
    assert numbers_in(top, ":") == pytest.approx({"4": LN(0.5)})
    assert numbers_in(top, ":", json=True) == pytest.approx({"4": LN(0.5), "5": LN(0.3)})


def test_10_takes_its_share_of_1_where_a_zero_may_follow() -> None:
    found = distribution({"1": LN(0.4), "2": LN(0.4)}, zero_after_one=0.75)
    assert found is not None
    assert found[[1, 2, 10]] == pytest.approx([0.125, 0.5, 0.375])
    assert found.sum() == pytest.approx(1)


@given(st.dictionaries(st.sampled_from([str(n) for n in range(12)] + [" 4", "x"]), st.floats(-30, 0)))
def test_a_distribution_sums_to_one_and_has_the_expectation_as_its_mean(logprobs: dict[str, float]) -> None:
    row, (shares, value) = distribution(logprobs), expected(logprobs)
    assert (row is None) == (not shares)
    if row is not None:
        assert row.sum() == pytest.approx(1)
        assert row @ np.arange(11) == pytest.approx(value)
