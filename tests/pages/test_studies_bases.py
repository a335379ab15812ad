"""The study of interpretability by basis: what is drawn, what is queued, and the figure's numbers."""

import csv
import io
import math
from typing import Any, cast

import numpy as np
import pytest

from core.autointerp import study_tables
from core.autointerp.request import ExplainRequest
from core.autointerp.selection import NoUnit, Selection, select_across
from core.runs.registry import Registry
from core.store.cache import Cache
from core.store.catalog import indexes
from core.store.explanation_queries import study
from core.ui import basis_table
from core.ui.basis_charts import basis_figure
from core.units import NEURONS
from core.workspace import Workspace
from tests.pages.conftest import OpenPage, alerts, bodies, shown
from tests.synthetic import write_synthetic_index
from tests.synthetic_explanations import Quality, write_synthetic_explanations
from tests.synthetic_features import NAME, UNITS, write_synthetic_features

SAMPLE = 5


@pytest.fixture
def two_bases(workspace: Workspace) -> Workspace:
    """Neurons and the features of a dictionary, at the same site."""
    write_synthetic_features(workspace)
    write_synthetic_index(workspace, run="neurons-test", n_layers=1, width=UNITS // 2, kinds=("resid",))
    return workspace


def test_units_of_every_basis_are_drawn_and_none_that_never_fires(two_bases: Workspace) -> None:
    units = select_across(two_bases, indexes(two_bases), Selection(sites="resid.0", sample=100))
    assert {unit.basis for unit in units} == {NEURONS, NAME}
    assert UNITS - 1 not in [unit.index for unit in units if unit.basis == NAME]  # the dictionary's last unit is dead
    few = select_across(two_bases, indexes(two_bases), Selection(sites="resid.0", sample=SAMPLE))
    assert [sum(unit.basis == basis for unit in few) for basis in (NEURONS, NAME)] == [SAMPLE, SAMPLE]


def test_a_second_index_of_the_same_basis_adds_nothing(two_bases: Workspace) -> None:
    once = select_across(two_bases, indexes(two_bases), Selection(sample=SAMPLE))
    write_synthetic_index(two_bases, run="neurons-again", n_layers=1, width=UNITS // 2, kinds=("resid",))
    assert select_across(two_bases, indexes(two_bases), Selection(sample=SAMPLE)) == once


def test_a_site_that_nobody_indexed_is_one_sentence(two_bases: Workspace) -> None:
    with pytest.raises(NoUnit, match="No unit fits at these sites"):
        select_across(two_bases, indexes(two_bases), Selection(sites="attn.0"))


def test_the_button_queues_the_units_of_all_bases(two_bases: Workspace, open_page: OpenPage) -> None:
    page = open_page(two_bases, "studies", study="interpretability", sample=str(SAMPLE))
    assert not page.exception
    assert alerts(page) == []
    assert f"{2 * SAMPLE} units of neurons, {NAME}." in shown(page)
    page.button(key="start_explaining").click().run()
    (run,) = Registry(two_bases).list()
    request = ExplainRequest.from_params(run.params)
    assert request.study == "interpretability"
    assert [sum(unit.basis == basis for unit in request.units) for basis in (NEURONS, NAME)] == [SAMPLE, SAMPLE]


@pytest.mark.parametrize("query", [{"sites": "resid.7"}, {"sites": "nowhere"}, {"sample": "0"}, {"seed": "x"}], ids=str)
def test_a_wrong_choice_is_one_sentence_and_nothing_is_queued(two_bases: Workspace, open_page: OpenPage, query: dict[str, str]) -> None:
    page = open_page(two_bases, "studies", study="interpretability", **query)
    assert not page.exception
    assert len(alerts(page)) == 1
    assert page.button(key="start_explaining").disabled


@pytest.fixture
def studied(two_bases: Workspace) -> Workspace:
    """The study, done: features are simulated better than neurons, and one feature has no number."""
    names = [f"tiny/resid.0/{basis}/{unit}" for basis in (NEURONS, NAME) for unit in range(SAMPLE)]
    quality = {name: Quality(noise=3.0 if NEURONS in name else 0.1) for name in names} | {names[-1]: Quality(flat=True)}
    write_synthetic_explanations(two_bases, run="explain-bases", units=names, quality=quality, study="interpretability")
    Registry(two_bases).restore()
    return two_bases


def rows(workspace: Workspace) -> list[Any]:
    cache = Cache.open(workspace)
    cache.ingest()
    found = study(cache, "explain-bases").to_dict("records")
    cache.close()
    return found


def test_the_figure_has_a_line_a_basis_with_the_means_of_its_scores(studied: Workspace) -> None:
    records = rows(studied)
    series = study_tables.by_basis(records)
    assert [one.label for one in series] == [NAME, NEURONS]  # neurons, what others are compared with, last
    for one in series:
        own = np.array([row["rho"] for row in records if row["basis"] == one.basis], float)
        (cell,) = one.cells
        assert cell.score.value == pytest.approx(np.nanmean(own))
        assert (cell.units, cell.undefined) == (SAMPLE, int(np.isnan(own).sum()))
        assert cell.score.low <= cell.score.value <= cell.score.high
    better, worse = (one.cells[0].score for one in series)
    assert better.low > worse.high
    traces: tuple[Any, ...] = cast(Any, basis_figure(series)).data
    assert [trace.name for trace in traces] == [NAME, NEURONS]
    assert [trace.y[0] for trace in traces] == [pytest.approx(one.cells[0].score.value) for one in series]
    assert len({trace.marker.symbol for trace in traces}) == 2  # told apart without colour


def test_the_control_is_a_line_of_its_own(studied: Workspace) -> None:
    records = [{**row, "subject": "tiny-random"} for row in rows(studied)] + rows(studied)
    series = study_tables.by_basis(records)
    assert [one.label for one in series] == [NAME, NEURONS, f"{NAME}, random weights", f"{NEURONS}, random weights"]
    traces: tuple[Any, ...] = cast(Any, basis_figure(series)).data
    for own, control in zip(traces[:2], traces[2:], strict=True):  # of one basis one colour and one shape
        assert (control.line.color, control.marker.symbol) == (own.line.color, f"{own.marker.symbol}-open")
        assert (own.line.dash, control.line.dash) == ("solid", "dot")
    assert len({trace.line.color for trace in traces}) == 2


def test_the_same_basis_at_two_kinds_of_site_or_in_two_models_is_told_apart(studied: Workspace) -> None:
    records = rows(studied)
    kinds = study_tables.by_basis(records + [{**row, "site_kind": "mlp"} for row in records])
    assert [one.label for one in kinds] == [f"{NAME}, mlp", f"{NAME}, resid", f"{NEURONS}, mlp", f"{NEURONS}, resid"]
    assert len({trace.line.color for trace in cast(Any, basis_figure(kinds)).data}) == 4
    models = study_tables.by_basis(records + [{**row, "subject": "other"} for row in records])
    assert sorted(one.label for one in models) == sorted(f"{basis}, {model}" for basis in (NAME, NEURONS) for model in ("tiny", "other"))


def test_the_figure_says_what_its_axes_are_and_gives_the_interval_of_every_point(studied: Workspace) -> None:
    series = study_tables.by_basis(rows(studied))
    figure: Any = basis_figure(series)
    assert (figure.layout.xaxis.title.text, figure.layout.yaxis.title.text) == ("layer", "mean ρ (correlation)")
    assert figure.layout.showlegend
    for one, trace in zip(series, figure.data, strict=True):
        score = one.cells[0].score
        assert (trace.y[0] - trace.error_y.arrayminus[0], trace.y[0] + trace.error_y.array[0]) == pytest.approx((score.low, score.high))
        assert f"over {score.n} units" in trace.hovertext[0]
        assert "lookup table" in trace.hovertext[0]


def test_the_csv_reads_back_and_leaves_undefined_numbers_empty(studied: Workspace) -> None:
    records = [row if row["basis"] == NAME else {**row, "rho": math.nan} for row in rows(studied)]
    found = list(csv.DictReader(io.StringIO(basis_table.to_csv(study_tables.by_basis(records)).decode())))
    assert [row["basis"] for row in found] == [NAME, NEURONS]
    assert float(found[0]["mean_rho"]) > 0.5
    assert found[1]["mean_rho"] == ""
    assert found[1]["undefined"] == str(SAMPLE)


def test_the_page_shows_the_figure_and_the_table(studied: Workspace, open_page: OpenPage) -> None:
    page = open_page(studied, "studies", run="explain-bases")
    assert not page.exception
    table = next(body for body in bodies(page) if 'class="nt"' in body)
    assert table.count("<tr>") == 3
    assert "n = 4" in table  # one feature has no number
    assert page.get("plotly_chart")
