"""The histogram's bars and the tables' numbers: nothing is lost, nothing is said that is not so."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.index.bins import BINS, EDGES, bin_of
from core.store.recipes import flatten
from core.ui.bars import Line, Table, pack_tables
from core.ui.charts import BARS, bars, histogram
from core.ui.layer_charts import MEASURES, Measure, layer_figure
from core.ui.unit_sections import significant
from core.ui.unit_tables import number, percent, token_name

ROOT = Path(__file__).resolve().parents[2]


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


@pytest.mark.parametrize("values", [[0.07], [-0.07], [0.07, 0.0, 3.0], [5.0, 5.0]], ids=str)
def test_zero_and_every_bar_are_on_the_axis_however_few_there_are(values: list[float]) -> None:
    array = np.array(values, np.float32)
    drawn = bars(*binned(array), float(array.min()), float(array.max()))
    figure: Any = histogram(drawn, dark=False)
    low, high = figure.layout.xaxis.range
    assert low < min(0, drawn.left.min()) <= max(0, drawn.right.max()) < high
    assert high - low < 1.1 * (max(0, *values) - min(0, *values))


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


def scale(rows: list[dict[str, float]], measure: Measure) -> dict[str, Any]:
    """The y axis of a picture by layer."""
    figure: Any = layer_figure(rows, measure).to_dict()
    return figure["layout"]["yaxis"]


@given(
    st.sampled_from(MEASURES),
    st.floats(-5, 5),
    st.one_of(st.just(0.0), st.floats(1e-9, 6)),
    st.integers(1, 3),
)
def test_every_picture_by_layer_has_at_least_two_different_labels_on_its_scale(measure: Measure, low: float, spread: float, n: int) -> None:
    at = (lambda value: value) if measure.log else (lambda value: 10**value)
    quantiles = {name: at(low + spread * i / 4) for i, name in enumerate(("q5", "q25", "q50", "q75", "q95"))}
    layout = scale([{"layer": layer, **quantiles} for layer in range(n)], measure)
    bottom, top = layout["range"]
    assert bottom < quantiles["q5"] <= quantiles["q95"] < top
    inside = [text for value, text in zip(layout["tickvals"], layout["ticktext"], strict=True) if bottom <= value <= top]
    assert 2 <= len(set(inside)) == len(inside) == len(layout["tickvals"]) <= 12


@pytest.mark.parametrize(
    ("key", "low", "high", "texts"),
    [
        ("log10 density", -1.5, -1.45, ["3.2 %", "3.4 %", "3.6 %"]),
        ("log10 kurtosis", 0.5, 0.54, ["3.2", "3.4"]),
        ("log10 kurtosis", 0.4, 3.2, ["10", "100", "1,000"]),
        ("max", 7.01, 7.02, ["6.9", "7.0", "7.1"]),
        ("max", 123_456.0, 140_000.0, ["130,000", "140,000"]),
        ("max", 1_234_567.0, 1_400_000.0, ["1.3e6", "1.4e6"]),
    ],
)
def test_labels_on_a_narrow_scale_are_round_numbers(key: str, low: float, high: float, texts: list[str]) -> None:
    measure = next(measure for measure in MEASURES if measure.key == key)
    row = {"layer": 0, "q5": low, "q25": low, "q50": (low + high) / 2, "q75": high, "q95": high}
    assert scale([row], measure)["ticktext"] == texts


def test_every_figure_goes_through_one_place() -> None:
    """`charts.show` gives a figure its file name, and the corner from which it is saved."""
    found = [
        path for part in ("core", "pages") for path in sorted((ROOT / part).rglob("*.py")) if "plotly_chart(" in path.read_text("utf8")
    ]
    assert [str(path.relative_to(ROOT)) for path in found] == ["core/ui/charts.py"]
