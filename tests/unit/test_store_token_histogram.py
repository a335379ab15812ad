"""The token histogram against a slow and obvious count."""

from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.store.token_histogram import token_histogram

Pairs = list[tuple[int, float]]

FEW = st.lists(st.tuples(st.integers(0, 6), st.floats(0, 4, width=32)), max_size=200)
MANY = st.lists(st.tuples(st.integers(0, 400), st.floats(-3, 90, width=32)), max_size=300)


def slow(pairs: Pairs, edges: list[float]) -> dict[int, Counter[int]]:
    """token -> bin -> how often, one activation after the other."""
    found: dict[int, Counter[int]] = defaultdict(Counter)
    for token, value in pairs:
        if value == 0:
            continue
        inside = [i for i in range(len(edges) - 1) if edges[i] <= value < edges[i + 1]]
        found[token][inside[0] if inside else len(edges) - 2] += 1
    return found


@given(st.one_of(FEW, MANY), st.integers(1, 12), st.integers(0, 8))
def test_every_activation_is_counted_once_for_its_token_and_its_bin(pairs: Pairs, n_bins: int, n_tokens: int) -> None:
    tokens, values = [token for token, _ in pairs], [value for _, value in pairs]
    made = token_histogram(tokens, values, n_bins, n_tokens)
    expected = slow(pairs, made.edges.tolist())
    assert sorted(made.tokens.tolist()) == sorted(expected)
    for token, row in zip(made.tokens.tolist(), made.counts.tolist(), strict=True):
        assert row == [expected[token][i] for i in range(n_bins)]
    nonzero = sum(value != 0 for value in values)
    assert made.counts.sum() == made.stacked.sum() == made.totals.sum() == nonzero
    assert made.stacked.shape == (min(n_tokens, len(expected)) + 1, n_bins)


@given(MANY)
def test_the_tracked_tokens_are_the_most_frequent_and_the_lower_number_of_equals(pairs: Pairs) -> None:
    made = token_histogram([token for token, _ in pairs], [value for _, value in pairs])
    counted = Counter(token for token, value in pairs if value != 0)
    assert made.tokens.tolist() == sorted(counted, key=lambda token: (-counted[token], token))
    assert made.stacked[:-1].sum(axis=1).tolist() == [counted[token] for token in made.tokens[: made.tracked].tolist()]


@given(MANY)
def test_bins_are_of_equal_width_from_zero_to_the_largest(pairs: Pairs) -> None:
    values = [value for _, value in pairs if value != 0]
    edges = token_histogram([token for token, _ in pairs], [value for _, value in pairs]).edges
    assert edges[0] == min([0.0, *values])
    assert edges[-1] == max([0.0, *values])
    assert np.allclose(np.diff(edges), (edges[-1] - edges[0]) / 10)


def test_a_tracked_token_that_comes_eleventh_in_a_bin_is_counted_as_itself() -> None:
    """The paper's code looks at the ten commonest tokens of a bin only, and takes the eleventh for one of the others."""
    weak = [(7, 0.05)] * 100
    strong = [(100 + i, 1.0) for i in range(10) for _ in range(3)] + [(7, 1.0)] * 2
    pairs = weak + strong
    made = token_histogram([token for token, _ in pairs], [value for _, value in pairs])
    assert made.tokens[0] == 7
    assert made.stacked[0].tolist() == [100, 0, 0, 0, 0, 0, 0, 0, 0, 2]
    assert made.totals[-1] == 32


@pytest.mark.parametrize("values", [[], [0.0, 0.0]])
def test_a_feature_that_is_never_active_has_empty_bins(values: list[float]) -> None:
    made = token_histogram([1] * len(values), values)
    assert made.counts.shape == (0, 10)
    assert made.stacked.tolist() == [[0] * 10]
