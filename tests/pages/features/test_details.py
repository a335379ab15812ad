"""Features, one dictionary in full: its conventions, its features' index, and what becomes of a wrong or a removed one."""

import json
from typing import Any

from core.bases.shelf import find_named, remove
from core.index.request import IndexRequest
from core.runs.registry import Registry
from core.ui.dictionary_table import entries
from core.ui.dictionary_work import index_request
from core.workspace import Workspace
from tests.pages.conftest import OpenPage, alerts, shown
from tests.pages.features.conftest import Open, rows
from tests.synthetic import write_synthetic_index
from tests.synthetic_dictionaries import write_dictionary


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


def test_the_opened_dictionary_shows_its_conventions(full: Open) -> None:
    said = shown(full(dictionary="tiny/mlp.1/s-a1"))
    for text in ("sum over d", "0.04167", "per token", "2.5", "tied ReLU", "900 held-out tokens"):
        assert text in said


def test_a_dictionary_that_was_removed_leaves_a_sentence(workspace: Workspace, full: Open) -> None:
    remove(workspace, "top")
    page = full(dictionary="tiny/mlp.0/top")
    assert alerts(page) == ["There is no dictionary “tiny/mlp.0/top” here: choose one of the list."]


def test_the_text_of_an_index_of_features_is_bounded_where_no_index_says_how_much(workspace: Workspace, open_page: OpenPage) -> None:
    write_dictionary(workspace, "alone", subject="stranger")
    page = open_page(workspace, "features", dictionary="stranger/mlp.1/alone")
    assert not page.exception
    server: Any = type("S", (), {"workspace": workspace})
    request = index_request(server, entries(workspace)[0])
    assert (request.corpus.source, request.corpus.contexts, request.model) == ("embedded", 64, "stranger")
