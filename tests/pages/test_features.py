"""Features: the three forms, the runs with their curves, the shelf, and the comparison."""

import csv
import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from core.bases.curves import load_curves
from core.bases.fit_request import FitRequest
from core.bases.formats.bring_request import BringRequest
from core.bases.measure_request import MeasureRequest
from core.bases.metric_names import BY_NAME
from core.bases.shelf import find_named, remove
from core.bases.train_request import TrainRequest
from core.index.request import IndexRequest
from core.runs.registry import Registry, Run
from core.ui.dictionary_charts import Axis, Look, curve_figure, density_figure, frontier_figure, looks
from core.ui.dictionary_charts import Line as Curve
from core.ui.dictionary_compare import chosen, densities, density_csv, points
from core.ui.dictionary_curves import panels
from core.ui.dictionary_curves import to_csv as curves_csv
from core.ui.dictionary_estimate import converted, forward_flops, train_expected, train_flops
from core.ui.dictionary_job import START
from core.ui.dictionary_table import MEASURED, entries, in_order, to_csv
from core.ui.dictionary_work import index_request
from core.workspace import Workspace
from tests.pages.conftest import OpenPage, alerts, bodies, components, shown
from tests.synthetic import write_synthetic_index
from tests.synthetic_dictionaries import write_curves, write_dictionary

Open = Callable[..., AppTest]
SHAPE = {"layers": 2, "mlp": 24, "resid": 8, "attn": 8}


@pytest.fixture
def opened(workspace: Workspace, open_page: OpenPage) -> Open:
    """The page over a small index of the model tiny, whose mlp sites are 24 wide."""
    write_synthetic_index(workspace, n_layers=2, width=24)
    return lambda **query: open_page(workspace, "features", **query)


@pytest.fixture
def full(workspace: Workspace, opened: Open) -> Open:
    """The same with three dictionaries of one training run, an unmeasured PCA at the same site, and a top-k one elsewhere."""
    run = trained(workspace)
    for alpha, l0, variance in ((0.5, 30.0, 0.9), (1.0, 12.0, 0.8), (2.0, 5.0, 0.6)):
        write_dictionary(workspace, f"s-a{alpha:g}", alpha=alpha, run=run.id, metrics={"l0": l0, "explained_variance": variance}, created=5)
    write_dictionary(workspace, "pca", family="pca", alpha=None)
    write_dictionary(workspace, "top", site="mlp.0", rule="topk", k=4, alpha=None, metrics={"l0": 4.0})
    return opened


def trained(workspace: Workspace, names: tuple[str, ...] = ("s-a0.5", "s-a1", "s-a2")) -> Run:
    """A training run in the registry, with curves."""
    registry = Registry(workspace)
    request = TrainRequest(site="mlp.1", name="s", alphas=(0.5, 1.0, 2.0), model="tiny", buffer=65_536)
    run = registry.submit("sae", request.params())
    write_curves(registry.folder(run.id), dict(zip(names, request.alphas, strict=False)))
    return run


def start(page: AppTest) -> Any:
    return page.button(key=START)


def rows(page: AppTest) -> list[Any]:
    (data,) = components(page, "dictionary_rows")
    return data["rows"]


def names(page: AppTest) -> list[str]:
    return [row["key"].rpartition("/")[2] for row in rows(page)]


def compared(page: AppTest) -> list[str]:
    return [row["key"].rpartition("/")[2] for row in rows(page) if row["chosen"]]


def test_an_empty_workspace_offers_the_three_ways(opened: Open) -> None:
    page = opened()
    assert not page.exception
    assert "No dictionary yet." in shown(page)
    assert [page.button(key=f"make_{way}").label for way in ("train", "load", "baselines")] == [
        "Train a dictionary", "Load a published one", "Make baselines",
    ]  # fmt: skip
    page.button(key="make_load").click().run()
    assert page.query_params["make"] == "load"
    assert "Nothing in a file is executed" in shown(page)


def test_training_is_queued_as_the_address_says(workspace: Workspace, opened: Open) -> None:
    page = opened(
        make="train", model="tiny", at="mlp", layer="1", ratio="2", alphas="0.5, 2", mse="mean", centre="per_token", tokens="5000"
    )
    assert alerts(page) == []
    said = shown(page)
    assert "2 dictionaries of 48 units over 24 numbers" in said
    assert "Beside the sum of the squared errors, as in the paper's equation: α 12, 48 (d = 24)" in said
    start(page).click().run()
    (run,) = [run for run in Registry(workspace).list() if run.kind == "sae"]
    request = TrainRequest.from_params(run.params)
    assert (request.site, request.ratio, request.alphas, request.mse_reduction) == ("mlp.1", 2.0, (0.5, 2.0), "mean")
    assert (request.centre, request.tokens, request.model) == ("per_token", 5000, "tiny")
    assert request.names() == ("tied-r2-a0.5", "tied-r2-a2")
    assert page.query_params["run"] == run.id
    assert "No point of a curve yet" in shown(page)


def test_a_top_k_form_asks_for_k_and_not_for_alphas(workspace: Workspace, opened: Open) -> None:
    page = opened(make="train", model="tiny", at="mlp", kind="topk", k="3")
    assert not [field for field in page.text_input if field.label.startswith("Alpha")]
    start(page).click().run()
    request = TrainRequest.from_params(Registry(workspace).list()[0].params)
    assert (request.kind, request.k, request.name) == ("topk", 3, "topk-r8")


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ({"layer": "7"}, "use a whole number from 0 to 1"),
        ({"alphas": "1, x"}, "“x” is not a number"),
        ({"alphas": "-1"}, "Alpha must be a number from 0"),
        ({"alphas": ""}, "Give one alpha or several"),
        ({"ratio": "0"}, "The ratio must be a number from"),
        ({"ratio": "2 3"}, "more than one number"),
        ({"kind": "topk", "k": "1000"}, "there are only 192 units"),
        ({"kind": "gated"}, "is not a choice for “Kind”"),
        ({"lr": "99"}, "The learning rate must be"),
        ({"warmup": "0.9", "decay": "0.9"}, "together at most 1"),
        ({"text": "/nowhere/at/all"}, "/nowhere/at/all"),
        ({"model": "/nowhere"}, "There is nothing at /nowhere"),
        ({"name": "Bad Name"}, "is not the name of a basis"),
        ({"name": "neurons"}, "is the name of the plain neurons"),
        ({"batch": "60000"}, "is too small to mix batches"),
    ],
    ids=str,
)
def test_a_wrong_value_is_one_sentence_and_cannot_be_started(opened: Open, query: dict[str, str], sentence: str) -> None:
    page = opened(**({"make": "train", "model": "tiny", "at": "mlp"} | query))
    assert not page.exception
    (said,) = alerts(page)
    assert sentence in said
    assert start(page).disabled


def test_a_name_that_is_taken_is_refused_and_the_usual_one_is_free(workspace: Workspace, opened: Open) -> None:
    write_dictionary(workspace, "tied-r4", site="mlp.1")
    page = opened(make="train", model="tiny", at="mlp", layer="1")
    assert alerts(page) == []
    assert "tied-r4-2:" in shown(page)
    page = opened(make="train", model="tiny", at="mlp", layer="1", name="tied-r4")
    assert alerts(page) == ["There is a dictionary “tied-r4” at mlp.1 of tiny already: choose another name, or remove that one."]


def test_loading_is_queued_as_the_address_says(workspace: Workspace, opened: Open) -> None:
    page = opened(make="load", model="tiny", source="owner/name", file="layer_1", srev="main", site="mlp.1", name="mine", any="1")
    assert alerts(page) == []
    start(page).click().run()
    (run,) = Registry(workspace).list()
    request = BringRequest.from_params(run.params)
    assert (run.kind, request.source, request.file, request.source_revision) == ("dictionary", "owner/name", "layer_1", "main")
    assert (request.site, request.name, request.any_model, request.model) == ("mlp.1", "mine", True, "tiny")


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ({}, "No dictionary was named"),
        ({"source": "a/b", "site": "mlp.9"}, "out of range"),
        ({"source": "a/b", "site": "x"}, "is not a site"),
    ],
    ids=str,
)
def test_a_wrong_source_or_site_is_one_sentence(opened: Open, query: dict[str, str], sentence: str) -> None:
    page = opened(make="load", model="tiny", **query)
    (said,) = alerts(page)
    assert sentence in said
    assert start(page).disabled


def test_baselines_are_queued_and_say_what_they_replace(workspace: Workspace, opened: Open) -> None:
    write_dictionary(workspace, "pca", family="pca", alpha=None)
    page = opened(make="baselines", model="tiny", families="pca,ica", sites="mlp.0-1")
    assert alerts(page) == []
    assert "4 dictionaries of 192 units in all" in shown(page)
    assert "Made anew: pca at mlp.1." in shown(page)
    start(page).click().run()
    (run,) = Registry(workspace).list()
    request = FitRequest.from_params(run.params)
    assert (run.kind, request.families, request.sites, request.k) == ("basis", ("pca", "ica"), "mlp.0-1", None)
    write_dictionary(workspace, "ica", alpha=None)
    assert (
        "There is a dictionary “ica” at mlp.1 of tiny already"
        in alerts(opened(make="baselines", model="tiny", families="ica", sites="mlp.1"))[0]
    )
    assert alerts(opened(make="baselines", model="tiny", sites="mlp.9"))[0].endswith("the model's layers are 0 to 1.")
    assert alerts(opened(make="baselines", model="tiny", families="none"))[0].startswith("No baseline was chosen")


@pytest.mark.parametrize(
    "query",
    [{"make": "x"}, {"run": "nope"}, {"run": "index-test"}, {"sort": "beauty"}, {"compare": "a/mlp.0/b"}, {"dictionary": "x"}],
    ids=str,
)
def test_a_wrong_address_is_a_sentence(workspace: Workspace, full: Open, query: dict[str, str]) -> None:
    Registry(workspace).restore()
    page = full(**query)
    assert not page.exception
    assert len(alerts(page)) == 1


def test_nothing_is_open_to_be_made_when_there_are_dictionaries(full: Open) -> None:
    page = full()
    assert START not in [button.key for button in page.button]
    assert START in [button.key for button in full(make="train").button]


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


def test_features_are_indexed_over_the_text_of_the_largest_index(workspace: Workspace, full: Open) -> None:
    path = workspace.runs / "index-test" / "manifest.json"
    manifest = json.loads(path.read_text("utf8"))
    manifest["slice"]["spec"] = {"source": "hub:some/text", "contexts": 777, "length": 32}
    path.write_text(json.dumps(manifest), "utf8")
    page = full(dictionary="tiny/mlp.1/pca")
    page.button(key="index_one").click().run()
    assert alerts(page) == []
    (run,) = [run for run in Registry(workspace).list() if run.kind == "index"]
    request = IndexRequest.from_params(run.params)
    assert (request.model, request.sites, request.basis, request.dtype) == ("tiny", "mlp.1", "pca", "float32")
    assert (request.corpus.source, request.corpus.contexts, request.corpus.length) == ("hub:some/text", 777, 32)
    assert page.button(key="index_one").disabled
    entry = next(one for one in entries(workspace) if one.info.name == "pca")
    assert entry.index is None


def test_indexed_features_are_a_link_away(workspace: Workspace, full: Open) -> None:
    one = find_named(workspace, "s-a1")
    write_synthetic_index(workspace, n_layers=2, width=24, run="index-features")
    path = workspace.runs / "index-features" / "manifest.json"
    manifest = json.loads(path.read_text("utf8"))
    manifest |= {"basis": "s-a1", "dictionaries": {"mlp.1": {"weights_sha256": one.hash}}, "units": {"mlp.1": 24}}
    path.write_text(json.dumps(manifest), "utf8")
    row = next(row for row in rows(full()) if row["key"].endswith("s-a1"))
    assert row["actions"][-1]["address"] == "/explore?run=index-features"
    assert full(dictionary="tiny/mlp.1/s-a1").button(key="explore_one").label == "Explore its features"
    # Another dictionary of the same name is not the one that was indexed.
    write_dictionary(workspace, "s-a1", units=32, metrics={})
    row = next(row for row in rows(full()) if row["key"].endswith("s-a1"))
    assert [action["key"] for action in row["actions"]] == ["index"]


def test_the_curves_of_any_dictionary_are_a_button_away(workspace: Workspace, full: Open) -> None:
    page = full(dictionary="tiny/mlp.1/s-a1")
    page.button(key="curves_one").click().run()
    assert page.query_params["run"] == Registry(workspace).list()[0].id
    assert "curves_one" not in [button.key for button in full(dictionary="tiny/mlp.1/pca").button]


def test_what_was_measured_together_is_compared_when_that_run_is_shown(workspace: Workspace, full: Open) -> None:
    params = MeasureRequest.from_params({"dictionaries": ["tiny/mlp.1/pca", "tiny/mlp.0/top"]}).params()
    run = Registry(workspace).submit("measure", params)
    assert compared(full(run=run.id)) == ["top", "pca"]


def test_what_goes_on_comes_first_and_what_there_is_else(workspace: Workspace, full: Open) -> None:
    def order(page: AppTest) -> list[str]:
        heads = [head for body in bodies(page) for head in re.findall(r'class="na-h"[^>]*><b>([^<]*)', body)]
        return [head for head in heads if head in ("Runs", "Dictionaries", "Compare")]

    assert order(full()) == ["Runs", "Dictionaries", "Compare"]
    run = Registry(workspace).list()[0]
    Registry(workspace).request_cancel(run.id)
    assert order(full()) == ["Dictionaries", "Compare", "Runs"]
    assert order(full(run=run.id))[0] == "Runs"


def test_the_opened_dictionary_shows_its_conventions(full: Open) -> None:
    said = shown(full(dictionary="tiny/mlp.1/s-a1"))
    for text in ("sum over d", "0.04167", "per token", "2.5", "tied ReLU", "900 held-out tokens"):
        assert text in said


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
    assert "python -m core sae compare tiny/mlp.1/s-a0.5 tiny/mlp.1/s-a1" in shown(page)


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


def test_the_curves_of_a_run_are_six_pictures_and_a_csv(workspace: Workspace, full: Open) -> None:
    page = full()
    for panel in panels({"kind": "tied"}):
        assert any(panel.title in body for body in bodies(page))
    assert any("s-a0.5 · α 0.5" in body for body in bodies(page) if 'class="dl"' in body)
    registry = Registry(workspace)
    found = load_curves(registry.folder(registry.list()[0].id))
    read = list(csv.DictReader(io.StringIO(curves_csv(found).decode("utf8"))))
    assert len(read) == 60
    assert [row["loss_recovered"] for row in read[:3]] == ["", "", ""]
    assert float(read[-1]["tokens"]) == 20_000


def test_a_run_of_the_page_can_be_cancelled_there(workspace: Workspace, full: Open) -> None:
    page = full()
    run = Registry(workspace).list()[0]
    page.button(key=f"cancel_{run.id}").click().run()
    assert Registry(workspace).get(run.id).state == "cancelled"
    assert page.button(key=f"resume_{run.id}").label == "Resume"


def test_what_a_loaded_file_says_of_itself_is_held_against_what_was_found(workspace: Workspace, opened: Open) -> None:
    registry = Registry(workspace)
    run = registry.submit("dictionary", BringRequest(source="a/<b>", model="tiny").params())
    document: dict[str, Any] = {
        "schema": 1,
        "kind": "dictionary",
        "state": "complete",
        "dictionary": "tiny/mlp.1/x", "metrics": {"explained_variance": 0.31, "l0": 40.0}, "said": {"explained_variance": 0.8},
        "warnings": ["Explained variance here 0.31, the file says 0.80: is it the right model and text?"], "notes": ["<i>folded</i>"],
    }  # fmt: skip
    (registry.folder(run.id) / "manifest.json").write_text(json.dumps(document), "utf8")
    page = opened(run=run.id)
    assert alerts(page) == document["warnings"]
    assert "0.31 (its file says 0.8)" in shown(page)
    assert "<i>folded" not in "".join(bodies(page))
    (registry.folder(run.id) / "manifest.json").write_text("nonsense", "utf8")
    assert "are damaged" in alerts(opened(run=run.id))[0]


def test_a_damaged_description_is_a_sentence_and_the_others_are_shown(workspace: Workspace, full: Open) -> None:
    (find_named(workspace, "pca").folder / "basis.json").write_text("{", "utf8")
    page = full()
    assert "is damaged" in alerts(page)[0]
    assert "pca" not in names(page)
    assert len(names(page)) == 4


def test_a_dictionary_that_was_removed_leaves_a_sentence(workspace: Workspace, full: Open) -> None:
    remove(workspace, "top")
    page = full(dictionary="tiny/mlp.0/top")
    assert alerts(page) == ["There is no dictionary “tiny/mlp.0/top” here: choose one of the list."]


def test_the_csv_of_the_shelf_has_the_conventions_and_the_metrics(workspace: Workspace, full: Open) -> None:
    full()
    read = {row["name"]: row for row in csv.DictReader(io.StringIO(to_csv(entries(workspace)).decode("utf8")))}
    assert (read["s-a2"]["alpha"], read["s-a2"]["centre"], read["s-a2"]["explained_variance"]) == ("2.0", "per_token", "0.6")
    assert float(read["s-a2"]["alpha_mean"]) == pytest.approx(2 / 24)
    assert (read["pca"]["alpha"], read["pca"]["l0"]) == ("", "")


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


def test_a_curve_leaves_out_what_was_not_looked_at(workspace: Workspace) -> None:
    figure = curve_figure([Curve("<b>", looks(1)[0], [1, 2, 3], [None, 0.5, float("nan")])], Axis("loss recovered")).to_plotly_json()
    (trace,) = figure["data"]
    assert (list(trace["x"]), list(trace["y"])) == ([2], [0.5])
    assert trace["name"] == "&lt;b&gt;"


def test_no_two_of_many_lines_look_the_same() -> None:
    made = looks(28)
    assert len({(look.colour, look.dash) for look in made}) == 28


def test_time_is_told_by_an_earlier_run_of_the_same_model(workspace: Workspace) -> None:
    request = TrainRequest(site="mlp.1", model="tiny", tokens=100_000, ratio=2)
    assert "the time is unknown" in train_expected(request, SHAPE, [])
    done = Registry(workspace).submit("sae", TrainRequest(site="mlp.1", model="tiny", tokens=50_000, ratio=2, name="before").params())
    done = replace(done, state="done", started=100.0, finished=140.0, attempt=1)
    assert f"about 1 min 20 s at the speed of {done.id}" in train_expected(request, SHAPE, [done])
    other = replace(done, params={**done.params, "model": "another"})
    assert "the time is unknown" in train_expected(request, SHAPE, [other])


def test_work_grows_with_the_layer_the_units_and_the_alphas() -> None:
    base = TrainRequest(site="mlp.0", tokens=10_000)
    assert forward_flops(SHAPE, 1) == 2 * forward_flops(SHAPE, 0)
    assert train_flops(TrainRequest(site="mlp.1", tokens=10_000), SHAPE) > train_flops(base, SHAPE)
    assert train_flops(TrainRequest(site="mlp.0", tokens=10_000, alphas=(1.0, 2.0)), SHAPE) > train_flops(base, SHAPE)


def test_both_conventions_say_the_same_alpha() -> None:
    assert "mean of the squared errors, as in the paper's code: α 0.5 (d = 24)" in converted(
        TrainRequest(site="mlp.0", alphas=(12.0,)), SHAPE
    )
    assert "sum of the squared errors" in converted(TrainRequest(site="mlp.0", alphas=(0.5,), mse_reduction="mean"), SHAPE)
    assert converted(TrainRequest(site="mlp.0", kind="topk"), SHAPE) == ""


def test_the_text_of_an_index_of_features_is_bounded_where_no_index_says_how_much(workspace: Workspace, open_page: OpenPage) -> None:
    write_dictionary(workspace, "alone", subject="stranger")
    page = open_page(workspace, "features", dictionary="stranger/mlp.1/alone")
    assert not page.exception
    server: Any = type("S", (), {"workspace": workspace})
    request = index_request(server, entries(workspace)[0])
    assert (request.corpus.source, request.corpus.contexts, request.model) == ("embedded", 64, "stranger")
