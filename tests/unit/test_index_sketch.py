"""The sketch equals the slow obvious one, however the work is cut, ordered, merged, written and read back."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import AtlasError
from core.index.bins import BINS, EDGES, bin_of, quantiles
from core.index.derive import Derived
from core.index.files import read_sketch, write_sketch
from core.index.kernels import STEPS, TILE
from core.index.sketch import Contexts, Sketch
from tests.slow_index import Slow, slow_unit

LENGTH = 6
STATS = ("mean", "variance", "skewness", "kurtosis", "min", "max")


def problem(seed: int, contexts: int, units: int, first: int, kind: str) -> tuple[Contexts, np.ndarray]:
    """Random contexts of differing lengths and their activations [contexts, LENGTH, units]."""
    rng = np.random.default_rng(seed)
    about = Contexts(
        keys=rng.integers(0, 2**64, contexts, dtype=np.uint64),
        documents=np.sort(rng.integers(0, max(1, contexts // 2), contexts)).astype(np.int32),
        lengths=rng.integers(first + 1, LENGTH + 1, contexts).astype(np.int16),
        length=LENGTH,
        first=first,
    )
    shape = (contexts, LENGTH, units)
    values = {
        "spread": lambda: rng.standard_normal(shape) * np.exp(rng.uniform(-6, 6, (1, 1, units))),
        "ties": lambda: rng.choice([-1.5, -0.0, 0.0, 0.25, 2.0], shape),
        "relu": lambda: np.maximum(rng.standard_normal(shape) - 1, 0),
        "shifted": lambda: 300 + rng.standard_normal(shape),
        "dead": lambda: np.zeros(shape),
    }[kind]()
    return about, values.astype(np.float32)


def sketch_of(about: Contexts, values: np.ndarray, ranks: list[int], block: int = 5) -> Sketch:
    sketch = Sketch("mlp.0", "neurons", values.shape[2], about)
    for start in range(0, len(ranks), block):
        chosen = ranks[start : start + block]
        sketch.add(np.ascontiguousarray(values[chosen]), chosen)
    return sketch


def plain(sketch: Sketch) -> Derived:
    """Derived columns are not what these tests are about."""
    nothing = np.zeros(0, np.int32)
    zeros = np.zeros(sketch.units, np.int32)
    return Derived(
        zeros,
        zeros,
        zeros,
        [""] * sketch.units,
        np.zeros(sketch.units + 1, np.int32),
        nothing,
        nothing.astype(np.float32),
        nothing,
        nothing,
    )


def tables(folder: Path, sketch: Sketch) -> dict[str, Any]:
    write_sketch(folder / "mlp.0", sketch, plain)
    return {name: pq.read_table(folder / "mlp.0" / f"{name}.parquet") for name in ("units", "records", "positions")}


def assert_equal(found: dict[str, Any], about: Contexts, values: np.ndarray, expected: list[Slow]) -> None:
    units = found["units"].to_pylist()
    records = found["records"].to_pylist()
    positions = found["positions"].to_pylist()
    for unit, slow in enumerate(expected):
        row = units[unit]
        assert row["tokens"] == slow.stats["tokens"]
        assert row["nonzero"] == slow.stats["nonzero"]
        for name in STATS:
            # Means and skewnesses near zero are compared on the scale of the unit's spread.
            scale = {"mean": slow.stats["variance"] ** 0.5, "skewness": 1.0}.get(name, 0.0)
            assert row[name] == pytest.approx(slow.stats[name], rel=1e-5, abs=1e-5 * scale, nan_ok=True), name
        counts = np.zeros(BINS, np.int64)
        counts[row["bins"]] = row["counts"]
        assert (counts == slow.counts).all()
        for band in (row for row in records if row["unit"] == unit):
            wanted = slow.bands[band["band"]]
            assert list(zip(band["contexts"], band["positions"], band["values"], strict=True)) == wanted, band["band"]
            assert (band["shown"], band["sampled"]) == (slow.shown[band["band"]], slow.sampled[band["band"]])
            steps = np.frombuffer(band["activations"], "<i2").reshape(-1, LENGTH)
            for context, scale, stored in zip(band["contexts"], band["scales"], steps, strict=True):
                true = np.zeros(LENGTH, np.float32)
                true[about.first : about.lengths[context]] = values[context, about.first : about.lengths[context], unit]
                assert np.abs(stored * np.float32(scale) - true).max() <= np.abs(true).max() / STEPS
                assert ((stored == 0) == (true == 0)).all()
        for kind, wanted in (("strong", slow.strong), ("sampled", slow.drawn)):
            row = next(row for row in positions if row["unit"] == unit and row["kind"] == kind)
            assert list(zip(row["contexts"], row["positions"], row["values"], strict=True)) == wanted, kind
            assert sum(row["weights"]) == pytest.approx(len(wanted) if kind == "strong" else slow.stats["tokens"], rel=1e-5)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_split_order_and_merge_gives_the_slow_index(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    count = data.draw(st.integers(1, 90))
    units = data.draw(st.sampled_from([1, 3, 16, 19]))
    kind = data.draw(st.sampled_from(["spread", "ties", "relu", "shifted", "dead"]))
    about, values = problem(data.draw(st.integers(0, 10**6)), count, units, data.draw(st.integers(0, 1)), kind)
    cuts = sorted(data.draw(st.sets(st.integers(1, count), max_size=4)) | {count})
    parts = [list(range(low, high)) for low, high in zip([0, *cuts], cuts, strict=False)]
    folder = tmp_path_factory.mktemp("sketch")
    sketches = [sketch_of(about, values, part, data.draw(st.integers(1, 7))) for part in data.draw(st.permutations(parts))]
    if data.draw(st.booleans()):
        for number, sketch in enumerate(sketches):
            tables(folder / str(number), sketch)
        sketches = [read_sketch(folder / str(number) / "mlp.0", "mlp.0", "neurons", about) for number in range(len(sketches))]
    merged = sketches[0]
    for other in sketches[1:]:
        merged.merge(other)
    slow = [slow_unit([values[r, : about.lengths[r], u] for r in range(count)], about, "mlp.0", "neurons", u, units) for u in range(units)]
    assert_equal(tables(folder / "merged", merged), about, values, slow)


@pytest.mark.parametrize("kind", ["spread", "ties", "relu"])
def test_long_slices_equal_the_slow_index(kind: str, tmp_path: Path) -> None:
    about, values = problem(7, 1500, 3, 1, kind)
    sketch = sketch_of(about, values, list(range(1500)), 32)
    slow = [slow_unit([values[r, : about.lengths[r], u] for r in range(1500)], about, "mlp.0", "neurons", u, 3) for u in range(3)]
    assert all(unit.sampled["q3"] > 600 and unit.shown["q3"] for unit in slow)
    assert_equal(tables(tmp_path, sketch), about, values, slow)


@pytest.mark.parametrize("kind", ["spread", "ties", "relu", "shifted", "dead"])
def test_whole_and_partial_tiles_of_units_equal_the_slow_index(kind: str, tmp_path: Path) -> None:
    units = TILE + 6
    about, values = problem(5, 70, units, 1, kind)
    values[:, :, TILE - 3 :: 5] = 0  # some units of both tiles are dead beside others that are not
    slow = [slow_unit([values[r, : about.lengths[r], u] for r in range(70)], about, "mlp.0", "neurons", u, units) for u in range(units)]
    assert_equal(tables(tmp_path, sketch_of(about, values, list(range(70)), 20)), about, values, slow)


def test_threads_that_share_the_units_give_the_same_tables(tmp_path: Path) -> None:
    about, values = problem(9, 60, 2 * TILE + 5, 0, "relu")
    alone = Sketch("mlp.0", "neurons", values.shape[2], about)
    shared = Sketch("mlp.0", "neurons", values.shape[2], about)
    alone.add(values, range(60))
    with ThreadPoolExecutor(2) as pool:
        shared.add(values, range(60), pool, 2)
    first, second = tables(tmp_path / "a", alone), tables(tmp_path / "b", shared)
    assert all(second[name].equals(first[name]) for name in first)


def test_parts_merge_to_tables_that_are_the_same_to_the_bit(tmp_path: Path) -> None:
    about, values = problem(3, 400, 16, 0, "shifted")
    whole = tables(tmp_path / "whole", sketch_of(about, values, list(range(400))))
    rng = np.random.default_rng(0)
    for attempt in range(4):
        cuts = np.sort(rng.choice(np.arange(1, 400), 5, replace=False)).tolist()
        parts = [list(range(low, high)) for low, high in zip([0, *cuts], [*cuts, 400], strict=True)]
        sketches = [sketch_of(about, values, parts[i]) for i in rng.permutation(6)]
        for other in sketches[1:]:
            sketches[0].merge(other)
        found = tables(tmp_path / str(attempt), sketches[0])
        for name in ("records", "positions"):
            assert found[name].equals(whole[name])
        without = [name for name in whole["units"].column_names if name != "sums"]
        assert found["units"].select(without).equals(whole["units"].select(without))


def test_what_is_written_reads_back_as_the_same_state(tmp_path: Path) -> None:
    about, values = problem(11, 300, 20, 1, "ties")
    first = tables(tmp_path / "a", sketch_of(about, values, list(range(150))))
    sketch = read_sketch(tmp_path / "a" / "mlp.0", "mlp.0", "neurons", about)
    again = tables(tmp_path / "b", sketch)
    assert all(again[name].equals(first[name]) for name in first)
    for rank in range(150, 300):
        sketch.add(np.ascontiguousarray(values[[rank]]), [rank])
    uncut = tables(tmp_path / "c", sketch_of(about, values, list(range(300))))
    resumed = tables(tmp_path / "d", sketch)
    assert all(resumed[name].equals(uncut[name]) for name in ("records", "positions"))


def test_activations_that_are_not_finite_stop_the_run_with_a_sentence() -> None:
    about, values = problem(1, 10, 4, 0, "spread")
    values[3, 0, 2] = np.nan
    with pytest.raises(AtlasError, match="not finite"):
        sketch_of(about, values, list(range(10)))


def test_a_damaged_file_is_refused_with_a_sentence(tmp_path: Path) -> None:
    about, values = problem(1, 40, 4, 0, "spread")
    tables(tmp_path, sketch_of(about, values, list(range(40))))
    path = tmp_path / "mlp.0" / "records.parquet"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(AtlasError, match="damaged"):
        read_sketch(tmp_path / "mlp.0", "mlp.0", "neurons", about)


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=50))
def test_every_value_lies_in_its_bin(values: list[float]) -> None:
    array = np.array(values, np.float32)
    bins = bin_of(array)
    assert (array >= EDGES[bins]).all() or (np.abs(array[array < EDGES[bins]]) < 2.0**-129).all()
    assert (array <= EDGES[bins + 1]).all() or (np.abs(array[array > EDGES[bins + 1]]) < 2.0**-129).all()


def test_quantiles_from_bins_are_within_an_eighth_of_an_octave() -> None:
    rng = np.random.default_rng(0)
    values = (rng.standard_normal((3, 20_000)) * [[0.01], [1], [300]]).astype(np.float32)
    counts = np.stack([np.bincount(bin_of(row), minlength=BINS) for row in values])
    found = quantiles(counts, (0.5, 0.9, 0.99, 0.999), values.min(1), values.max(1))
    true = np.quantile(values, (0.5, 0.9, 0.99, 0.999), axis=1).T
    assert (np.abs(found[:, 1:] / true[:, 1:] - 1) < 0.125).all()
    assert (np.abs(found[:, 0]) < 0.02 * values.std(1)).all()
    assert np.isnan(quantiles(np.zeros(BINS, np.int64), (0.5,), 0.0, 0.0)).all()
