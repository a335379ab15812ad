"""Going from unit to unit, and a record computed again: what is asked for is what is found, or it is said why not."""

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import AtlasError
from core.store.catalog import indexes
from core.store.units import load_unit
from core.ui.records import record_list, row_of, shown_bands
from core.ui.unit_address import Asked, WrongAddress, jump, near, resolve, step
from core.ui.unit_data import unit_data
from core.ui.unit_recompute import compare
from core.units import UnitName
from core.workspace import Workspace
from tests.synthetic import write_synthetic_index

HERE = UnitName.parse("tiny/mlp.1/neurons/5")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """One workspace for all examples of a property: two sites of four units."""
    workspace = Workspace.open(tmp_path_factory.mktemp("small"))
    write_synthetic_index(workspace, n_layers=2, width=4, contexts=20)
    return workspace


@pytest.mark.parametrize(
    ("typed", "unit"),
    [
        ("7", "tiny/mlp.1/neurons/7"),
        ("2/7", "tiny/mlp.2/neurons/7"),
        (" mlp.0 / 3 ", "tiny/mlp.0/neurons/3"),
        ("attn.0/neurons/3", "tiny/attn.0/neurons/3"),
        ("other/mlp.0/neurons/3", "other/mlp.0/neurons/3"),
    ],
)
def test_a_jump_takes_what_is_left_out_from_the_unit_on_screen(typed: str, unit: str) -> None:
    assert jump(HERE, typed) == unit


@given(st.text(max_size=30))
def test_whatever_is_typed_is_a_unit_or_a_sentence(typed: str) -> None:
    with contextlib.suppress(AtlasError):
        name = jump(HERE, typed)
        assert str(UnitName.parse(name)) == name


def test_steps_go_through_all_units_of_an_index_and_back(workspace: Workspace) -> None:
    write_synthetic_index(workspace, n_layers=2, width=4, contexts=20)
    index = indexes(workspace)[0]
    start = name = UnitName.parse("tiny/mlp.0/neurons/0")
    seen = []
    for _ in range(8):
        seen.append(str(name))
        following = step(Asked(name, index), 1)
        assert step(Asked(following, index), -1) == name
        name = following
    assert name == start
    assert len(set(seen)) == 8
    for by in (2, 5, 11, -3, -20):
        assert str(step(Asked(start, index), by)) == seen[by % 8]


@given(unit=st.one_of(st.text(max_size=40), st.from_regex(r"tiny/(mlp|resid)\.\d{1,12}/neurons/\d{1,12}", fullmatch=True)))
def test_what_is_offered_instead_of_a_wrong_unit_exists(small: Workspace, unit: str) -> None:
    found = indexes(small)
    offered = near(found, unit)
    assert offered
    for name in offered:
        assert resolve(small, found, str(name), None).name == name


def test_a_unit_out_of_range_is_refused_with_its_neighbours(workspace: Workspace) -> None:
    write_synthetic_index(workspace, width=16)
    with pytest.raises(WrongAddress, match="units 0 to 15") as caught:
        resolve(workspace, indexes(workspace), "tiny/mlp.1/neurons/16", None)
    assert str(caught.value.near[0]) == "tiny/mlp.1/neurons/15"


def test_what_was_before_the_text_is_not_shown_as_data(workspace: Workspace) -> None:
    write_synthetic_index(workspace)
    view = load_unit(workspace, HERE)
    records = record_list(view)
    assert records
    for record in records:
        row = row_of(record)
        assert np.isnan(row.activations[: record.first]).all()
        assert np.array_equal(row.activations[record.first :], record.activations[record.first :])
    assert [band for band, _ in shown_bands(view)] == ["top", "q3", "q2", "q1", "q0", "random", "bottom"]


def test_a_newer_generation_replaces_what_was_kept(workspace: Workspace) -> None:
    write_synthetic_index(workspace, contexts=40, state="partial")
    before = unit_data(workspace, indexes(workspace)[0], HERE)
    assert unit_data(workspace, indexes(workspace)[0], HERE) is before
    write_synthetic_index(workspace, contexts=60, generation=2)
    after = unit_data(workspace, indexes(workspace)[0], HERE)
    assert after.view.stats["tokens"] > before.view.stats["tokens"]


def test_a_record_computed_again_is_compared_token_by_token(workspace: Workspace) -> None:
    write_synthetic_index(workspace)
    record = record_list(load_unit(workspace, HERE))[0]
    fresh: list[float | None] = [float(v) for v in record.activations]
    fresh[0] = None
    fresh[3] = float(record.activations[3]) + 0.25
    compared = compare(record, {"tokens": record.tokens.tolist(), "activations": fresh})
    assert compared.difference == pytest.approx(0.25, rel=1e-5)
    assert compared.fresh.value == pytest.approx(record.value, rel=1e-3)


def test_a_record_whose_text_changed_is_not_compared(workspace: Workspace) -> None:
    write_synthetic_index(workspace)
    record = record_list(load_unit(workspace, HERE))[0]
    with pytest.raises(AtlasError, match="other tokens"):
        compare(record, {"tokens": [1, 2], "activations": [0.0, 0.0]})
