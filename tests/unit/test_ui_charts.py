"""The histogram's bars and the tables' numbers: nothing is lost, nothing is said that is not so."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.index.bins import BINS, EDGES, bin_of
from core.ui.bars import Line, Table, pack_tables
from core.ui.charts import BARS, bars, histogram
from core.ui.unit_sections import flatten, significant
from core.ui.unit_tables import number, percent, token_name


def binned(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    counts = np.bincount(bin_of(values), minlength=BINS)
    occupied = np.flatnonzero(counts)
    return EDGES[occupied], EDGES[occupied + 1], counts[occupied]


numbers = st.lists(
    st.one_of(
        st.just(0.0), st.floats(-3e4, 3e4, width=32, allow_subnormal=False), st.floats(-(2**-17), 2**-17, width=32, allow_subnormal=False)
    ),
    min_size=1,
    max_size=60,
)


@given(numbers)
def test_every_token_is_in_one_bar_or_counted_as_zero(values: list[float]) -> None:
    array = np.array(values, np.float32)
    drawn = bars(*binned(array), float(array.min()), float(array.max()))
    assert drawn.zeros == int((array == 0).sum())
    assert drawn.total == len(array)
    assert (drawn.right > drawn.left).all()
    assert (drawn.counts > 0).all()


@given(numbers)
def test_bars_are_in_order_do_not_overlap_and_keep_to_one_side_of_zero(values: list[float]) -> None:
    array = np.array(values, np.float32)
    low, high = float(array.min()), float(array.max())
    drawn = bars(*binned(array), low, high)
    pad = (max(high, 0) - min(low, 0)) / BARS
    assert (drawn.left[1:] >= drawn.right[:-1] - pad).all()
    middle = (drawn.left + drawn.right) / 2
    assert int(drawn.counts[middle < 0].sum()) == int((array < 0).sum())
    assert int(drawn.counts[middle > 0].sum()) == int((array > 0).sum())


def test_a_uniform_spread_has_a_level_density() -> None:
    values = np.random.default_rng(0).uniform(0, 8, 200_000).astype(np.float32)
    drawn = bars(*binned(values), float(values.min()), float(values.max()))
    assert len(drawn.counts) < 2 * BARS
    wide = drawn.right - drawn.left > 0.02
    assert np.allclose(drawn.density[wide], 25_000, rtol=0.12)


def test_positive_bars_are_amber_and_negative_ones_blue_in_both_themes() -> None:
    values = np.array([-1, -0.5, 0.5, 1, 2], np.float32)
    drawn = bars(*binned(values), -1, 2)
    for dark in (False, True):
        figure = histogram(drawn, dark)
        colours = figure.to_dict()["data"][0]["marker"]["color"]
        assert len(set(colours[:2])) == len(set(colours[2:])) == 1
        assert colours[0] != colours[-1]


def test_hostile_cells_are_data() -> None:
    packed = pack_tables([Table("T", columns=[[Line("</script><b>", "1", 1.0)]], csv=[("a",), ("=1+1",)])])
    assert b"</script><b>" in packed


def test_undefined_numbers_leave_an_empty_cell() -> None:
    packed = json.loads(pack_tables([Table("T", csv=[("a", "b"), (float("nan"), 1.5), (float("inf"), None)])]))
    assert packed["tables"][0]["csv"] == [["a", "b"], ["", 1.5], ["", ""]]


@pytest.mark.parametrize(
    ("value", "scale", "text"),
    [
        (24.375, 24.4, "24.38"),
        (-0.0001, 24, "0.00"),
        (-4.84, 24, "−4.84"),
        (float("nan"), 1, "–"),
        (None, 1, "–"),
        (12345.6, 12345, "12,346"),
    ],
)
def test_numbers_are_written_with_a_true_minus_and_no_negative_zero(value: float | None, scale: float, text: str) -> None:
    assert number(value, scale) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(371.2, "371"), (7.904, "7.90"), (0.005631, "0.00563"), (-0.5, "−0.500"), (0, "0"), (1e-7, "1.00e−07"), (float("nan"), "–")],
)
def test_statistics_have_three_significant_digits(value: float, text: str) -> None:
    assert significant(value) == text


@pytest.mark.parametrize(("share", "text"), [(0.0135, "1.35 %"), (1, "100 %"), (0, "0 %"), (1e-7, "< 0.001 %"), (float("nan"), "–")])
def test_shares_are_percentages(share: float, text: str) -> None:
    assert percent(share) == text


@pytest.mark.parametrize(
    ("token", "text"), [(" might", "␣might"), ("\n\n", "↵↵"), ("⟨e2 80⟩", "⟨e2 80⟩"), ("a ⟨e2⟩ b", "a␣⟨e2⟩␣b"), ("\u202e", "⟨U+202E⟩")]
)
def test_tokens_in_lists_have_nothing_invisible(token: str, text: str) -> None:
    assert token_name(token) == text


def test_every_item_of_a_recipe_is_listed() -> None:
    recipe = {"run": "a", "subject": {"revision": None, "hash": "f0"}, "tokens_done": 98304, "bos": True, "seed": 12345, "sites": ["x"]}
    assert flatten(recipe) == [
        ("run", "a"),
        ("subject: revision", "none"),
        ("subject: hash", "f0"),
        ("tokens done", "98,304"),
        ("bos", "yes"),
        ("seed", "12345"),
        ("sites", '["x"]'),
    ]
