"""Features, the list: order, numbers, what can be asked for, and its CSV."""

import csv
import io

import pytest

from core.bases.measure_request import MeasureRequest
from core.bases.metric_names import BY_NAME
from core.bases.shelf import find_named
from core.runs.registry import Registry
from core.ui.dictionary_table import MEASURED, entries, in_order, to_csv
from core.workspace import Workspace
from tests.pages.conftest import alerts, components, shown
from tests.pages.features.conftest import Open, names, rows
from tests.synthetic_dictionaries import write_dictionary


def test_the_shelf_is_a_table_with_formulas_as_tooltips(full: Open) -> None:
    page = full()
    assert not page.exception
    (data,) = components(page, "dictionary_rows")
    heads = {column["key"]: column for column in data["columns"]}
    for name in MEASURED:
        assert BY_NAME[name].formula in heads[name]["note"]
    assert "subject" not in heads
    first = next(row for row in data["rows"] if row["key"].endswith("s-a0.5"))
    said = dict(zip(heads, first["cells"], strict=True))
    assert (said["site"], said["kind"], said["units"]) == ("mlp.1", "tied ReLU, α 0.5", "48")
    assert (said["l0"], said["explained_variance"], said["dead"]) == ("30", "0.9", "6.2 %")
    pca = next(row for row in data["rows"] if row["key"].endswith("pca"))
    assert pca["cells"][-1] == "–"
    assert pca["notes"][-1] == "Not measured yet."
    assert [action["key"] for action in pca["actions"]] == ["measure", "index"]


def test_the_order_is_in_the_address_and_what_has_no_number_is_last(workspace: Workspace, full: Open) -> None:
    assert names(full(sort="-l0")) == ["s-a0.5", "s-a1", "s-a2", "top", "pca"]
    assert names(full(sort="l0")) == ["top", "s-a2", "s-a1", "s-a0.5", "pca"]
    assert names(full(sort="site")) == ["top", "pca", "s-a0.5", "s-a1", "s-a2"]
    assert in_order(entries(workspace), "-name")[0].info.name == "top"


def test_numbers_of_other_weights_do_not_count(workspace: Workspace, full: Open) -> None:
    write_dictionary(workspace, "old", metrics={"weights": "0" * 64, "l0": 77.0})
    row = next(row for row in rows(full()) if row["key"].endswith("old"))
    assert "77" not in row["cells"]
    assert row["actions"][0]["key"] == "measure"


def test_what_lacks_numbers_is_measured_by_one_button(workspace: Workspace, full: Open) -> None:
    write_dictionary(workspace, "random", family="random", alpha=None)
    write_dictionary(
        workspace,
        "site-only",
        alpha=1,
        metrics={"output_contexts": 0, "loss_recovered": None, "undefined": {"loss_recovered": "Only the site."}},
    )
    page = full()
    page.button(key="measure_all").click().run()
    (run,) = [run for run in Registry(workspace).list() if run.kind == "measure"]
    request = MeasureRequest.from_params(run.params)
    assert {key.rpartition("/")[2] for key in request.dictionaries} == {"pca", "random", "site-only"}
    assert (request.model, request.corpus.length) == ("tiny", 16)
    assert "measure_all" not in [button.key for button in page.button]
    assert "Measure 3 dictionaries" in shown(page)
    assert all(action["key"] != "measure" for row in rows(page) for action in row["actions"])


def test_a_damaged_description_is_a_sentence_and_the_others_are_shown(workspace: Workspace, full: Open) -> None:
    (find_named(workspace, "pca").folder / "basis.json").write_text("{", "utf8")
    page = full()
    assert "is damaged" in alerts(page)[0]
    assert "pca" not in names(page)
    assert len(names(page)) == 4


def test_the_csv_of_the_shelf_has_the_conventions_and_the_metrics(workspace: Workspace, full: Open) -> None:
    full()
    read = {row["name"]: row for row in csv.DictReader(io.StringIO(to_csv(entries(workspace)).decode("utf8")))}
    assert (read["s-a2"]["alpha"], read["s-a2"]["centre"], read["s-a2"]["explained_variance"]) == ("2.0", "per_token", "0.6")
    assert float(read["s-a2"]["alpha_mean"]) == pytest.approx(2 / 24)
    assert (read["pca"]["alpha"], read["pca"]["l0"]) == ("", "")
