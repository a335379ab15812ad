"""Features, dictionaries side by side: which, their numbers, densities and frontier."""

import csv
import io

import pytest

from core.bases.measure_request import MeasureRequest
from core.bases.metric_names import BY_NAME
from core.runs.registry import Registry
from core.ui.dictionary_charts import Axis, Look, density_figure, frontier_figure, looks
from core.ui.dictionary_compare import chosen, densities, density_csv, points
from core.ui.dictionary_table import entries
from core.workspace import Workspace
from tests.pages.conftest import bodies, shown
from tests.pages.features.conftest import Open, compared, trained
from tests.synthetic_dictionaries import write_dictionary


def test_what_was_measured_together_is_compared_when_that_run_is_shown(workspace: Workspace, full: Open) -> None:
    params = MeasureRequest.from_params({"dictionaries": ["tiny/mlp.1/pca", "tiny/mlp.0/top"]}).params()
    run = Registry(workspace).submit("measure", params)
    assert compared(full(run=run.id)) == ["top", "pca"]


def test_all_of_the_shown_run_are_compared_unless_the_address_says_otherwise(workspace: Workspace, full: Open) -> None:
    assert compared(full()) == ["s-a0.5", "s-a1", "s-a2"]
    assert compared(full(compare="tiny/mlp.0/top,tiny/mlp.1/pca")) == ["top", "pca"]
    page = full(compare="none")
    assert compared(page) == []
    assert "Mark up to six" in shown(page)
    assert len(full(compare=",".join(f"tiny/mlp.1/x{i}" for i in range(8))).get("html")) > 0
    found = entries(workspace)
    side, frontier = chosen(found, "", None)  # no run: all at the site of the newest
    assert {entry.info.name for entry in side} == {"s-a0.5", "s-a1", "s-a2", "pca"}
    assert frontier == side


def test_of_a_run_with_many_alphas_six_are_side_by_side_and_all_on_the_frontier(workspace: Workspace, opened: Open) -> None:
    run = trained(workspace)
    for alpha in range(1, 12):
        write_dictionary(workspace, f"m-a{alpha:02}", alpha=alpha, run=run.id, metrics={"l0": 60.0 / alpha})
    side, frontier = chosen(entries(workspace), "", run)
    assert len(frontier) == 11
    assert [entry.info.name for entry in side] == ["m-a01", "m-a03", "m-a05", "m-a07", "m-a09", "m-a11"]
    assert "6 of 11 side by side" in shown(opened())


def test_the_comparison_has_every_metric_with_its_formula_and_the_conventions(full: Open) -> None:
    page = full()
    table = next(body for body in bodies(page) if 'class="dc"' in body)
    for name in ("l0", "explained_variance", "kl", "shrinkage", "ce_mean"):
        assert BY_NAME[name].label in table
    assert "‖x − x̂‖²" in table
    for text in ("squared error", "per token", "tied ReLU"):
        assert text in table
    assert len(page.get("plotly_chart")) == 6 + 3
    assert page.button(key="alike").label == "Compare the directions of 3 pairs"


def test_different_texts_are_said(workspace: Workspace, full: Open) -> None:
    assert "Measured on 900 held-out tokens" in shown(full())
    write_dictionary(workspace, "s-a1", alpha=1, run=trained(workspace).id, metrics={"text": {"slice": "other", "part": "all"}})
    page = full()
    assert "Not all were measured on the same text" in shown(page)
    assert "s-a0.5, s-a2 on 900 held-out tokens" in shown(page)
    page.button(key="measure_alike").click().run()
    assert {key.rpartition("/")[2] for key in Registry(workspace).list()[0].params["dictionaries"]} == {"s-a0.5", "s-a1", "s-a2"}


def test_the_unmeasured_of_a_comparison_can_be_measured_there(workspace: Workspace, full: Open) -> None:
    page = full(compare="tiny/mlp.1/pca")
    assert "not measured yet" in next(body for body in bodies(page) if 'class="dc"' in body)
    page.button(key="measure_compared").click().run()
    assert Registry(workspace).list()[0].params["dictionaries"] == ["tiny/mlp.1/pca"]


def test_every_unit_is_in_the_density_picture_and_its_csv(workspace: Workspace, full: Open) -> None:
    full()
    side, _ = chosen(entries(workspace), "tiny/mlp.1/s-a0.5,tiny/mlp.1/s-a2", None)
    made = densities(side, dict(zip((entry.key for entry in side), looks(2), strict=True)))
    assert [one.units for one in made] == [48, 48]
    figure = density_figure(made).to_plotly_json()
    steps, dead = figure["data"][0], figure["data"][1]
    assert sum(steps["y"]) + dead["y"][0] == pytest.approx(1)
    assert dead["x"][0] < min(steps["x"])
    lines = list(csv.DictReader(io.StringIO(density_csv(side).decode("utf8"))))
    assert sum(int(line["units"]) for line in lines if line["dictionary"] == "s-a2") == 48


def test_the_frontier_joins_dictionaries_of_a_family_in_the_order_of_l0(workspace: Workspace, full: Open) -> None:
    full()
    some = points(entries(workspace), "explained_variance")
    assert {point.label for point in some} == {"α 0.5", "α 1", "α 2", "k 4"}
    families = {point.family: Look("#000", "solid", "circle") for point in some}
    traces = frontier_figure(some, Axis("explained variance"), families).to_plotly_json()["data"]
    assert [list(trace["x"]) for trace in traces] == [[4.0], [5.0, 12.0, 30.0]]
    assert list(traces[1]["text"]) == ["α 2", "α 1", "α 0.5"]


def test_no_two_of_many_lines_look_the_same() -> None:
    made = looks(28)
    assert len({(look.colour, look.dash) for look in made}) == 28
