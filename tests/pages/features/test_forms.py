"""Features, the three forms: what is queued, and what is refused in one sentence."""

import pytest

from core.bases.fit_request import FitRequest
from core.bases.formats.bring_request import BringRequest
from core.bases.train_request import TrainRequest
from core.runs.registry import Registry
from core.ui.dictionary_job import START
from core.workspace import Workspace
from tests.pages.conftest import alerts, shown
from tests.pages.features.conftest import Open, start
from tests.synthetic_dictionaries import write_dictionary


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
    assert "In the other convention, beside the sum of the squared errors, as in the paper's equation: α 12, 48 (d = 24)" in said
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


def test_nothing_is_open_to_be_made_when_there_are_dictionaries(full: Open) -> None:
    page = full()
    assert START not in [button.key for button in page.button]
    assert START in [button.key for button in full(make="train").button]
