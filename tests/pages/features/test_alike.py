"""Features, how alike directions are: which pairs, what is asked of the model process and what is remembered, the matrix and its CSV."""

import csv
import io
import re
from typing import Any

import pytest

from core.bases.page_limits import products
from core.bases.shelf import find_named
from core.errors import AtlasError
from core.ui import dictionary_alike
from core.ui.dictionary_alike import groups, matrix_html, missing, to_csv, too_large, value
from core.ui.dictionary_table import Entry, entries
from core.workspace import Workspace
from tests.pages.conftest import alerts, bodies, shown
from tests.pages.features.conftest import Open
from tests.synthetic_dictionaries import write_dictionary

Asked = list[tuple[str, dict[str, Any]]]
THREE = "tiny/mlp.1/s-a0.5,tiny/mlp.1/s-a1,tiny/mlp.1/pca"


def matrix(page: Any) -> list[list[str]]:
    """The numbers of the only matrix."""
    (body,) = [body for body in bodies(page) if 'class="da"' in body]
    return [re.findall(r"<td[^>]*>([^<]*)</td>", line) for line in body.split("<tr>")[2:]]


def test_a_button_compares_every_pair_once_and_the_matrix_stays(full: Open, model_process_answers: Asked) -> None:
    page = full(compare=THREE)
    assert not [body for body in bodies(page) if 'class="da"' in body]
    button = page.button(key="alike")
    assert button.label == "Compare the directions of 3 pairs"
    button.click().run()
    assert not page.exception
    assert alerts(page) == []
    found = matrix(page)
    assert [row[place] for place, row in enumerate(found)] == ["1", "1", "1"]
    assert all(re.fullmatch(r"[01]\.\d\d", cell) for row, line in enumerate(found) for place, cell in enumerate(line) if place != row)
    assert len(model_process_answers) == 3
    again = full(compare=THREE)  # another view, another session
    assert matrix(again) == found
    assert "alike" not in [one.key for one in again.button]
    assert len(model_process_answers) == 3


def test_other_weights_of_the_same_name_are_compared_again(workspace: Workspace, full: Open, model_process_answers: Asked) -> None:
    full(compare=THREE).button(key="alike").click().run()
    write_dictionary(workspace, "pca", family="pca", alpha=None, units=40)
    page = full(compare=THREE)
    assert page.button(key="alike").label == "Compare the directions of 2 pairs"
    assert matrix(page)[2] == ["–", "–", "1"]


def test_only_those_at_one_place_are_compared(workspace: Workspace, full: Open) -> None:
    write_dictionary(workspace, "elsewhere", site="mlp.0")
    found = groups(entries(workspace))
    assert [[entry.info.name for entry in group] for group in found] == [["elsewhere", "top"], ["pca", "s-a0.5", "s-a1", "s-a2"]]
    page = full(compare="tiny/mlp.0/top,tiny/mlp.1/pca")
    assert "Only dictionaries of one model at one site can be compared so" in shown(page)
    assert "alike" not in [one.key for one in page.button]
    assert "How alike" not in shown(full(compare="tiny/mlp.1/pca"))


def test_the_csv_has_both_ways_of_every_pair(workspace: Workspace, full: Open, model_process_answers: Asked) -> None:
    full(compare=THREE).button(key="alike").click().run()
    group = [entry for entry in entries(workspace) if entry.info.name in ("pca", "s-a1")]
    read = list(csv.DictReader(io.StringIO(to_csv([group]).decode("utf8"))))
    assert [(row["one"], row["other"]) for row in read] == [("pca", "s-a1"), ("s-a1", "pca")]
    known = value(*group)
    assert known is not None
    assert float(read[0]["mmcs"]) == known.mean
    assert float(read[0]["share_above_0.9"]) == known.above
    assert read[0]["weights_one"] == find_named(workspace, "pca").hash


def test_the_tooltips_have_the_formula_and_the_whole_number(workspace: Workspace, full: Open, model_process_answers: Asked) -> None:
    page = full(compare=THREE)
    page.button(key="alike").click().run()
    group = [entry for entry in entries(workspace) if entry.info.name in ("pca", "s-a1")]
    body = matrix_html(group)
    assert "1/|D| Σ over d in D of max over d′ in D′ of cos(d, d′)" in body
    known = value(*group)
    assert known is not None
    assert f"pca in s-a1: MMCS {known.mean:.4f}" in body
    assert "of its 48 directions have one with a cosine above 0.9 among 48" in body


def test_what_the_model_process_refuses_is_one_sentence_and_what_was_found_stays(
    workspace: Workspace, full: Open, model_process_answers: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_named(workspace, "pca").weights.write_bytes(b"nonsense")
    page = full(compare="tiny/mlp.1/s-a0.5,tiny/mlp.1/s-a1,tiny/mlp.1/pca")
    page.button(key="alike").click().run()
    assert not page.exception
    assert alerts(page) == ["The weights of tiny/mlp.1/pca are missing or damaged: train or import the dictionary again."]
    assert matrix(page)[0][1] != "–"

    def busy(*_: Any, **__: Any) -> dict[str, Any]:
        raise AtlasError("The model process did not answer within 300 seconds.")

    monkeypatch.setattr(dictionary_alike, "call", busy)
    page.button(key="alike").click().run()
    assert alerts(page) == ["The model process did not answer within 300 seconds."]


def test_without_a_model_process_the_page_says_so(full: Open) -> None:
    page = full(compare="tiny/mlp.1/s-a0.5,tiny/mlp.1/pca")
    page.button(key="alike").click().run()
    assert "start it without that to compare directions" in alerts(page)[0]


def test_pairs_that_are_too_large_are_not_asked_for(workspace: Workspace, full: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    write_dictionary(workspace, "wide", units=400)
    group: list[Entry] = [entry for entry in entries(workspace) if entry.info.name in ("pca", "s-a1", "wide")]
    small, large = products(group[0].info, group[1].info), products(group[0].info, group[2].info)
    assert small < large
    monkeypatch.setattr(dictionary_alike, "MAX_PRODUCTS", small)
    assert [(a.info.name, b.info.name) for a, b in missing(group)] == [("pca", "s-a1")]
    assert [(a.info.name, b.info.name) for a, b in too_large(group)] == [("pca", "wide"), ("s-a1", "wide")]
    page = full(compare="tiny/mlp.1/pca,tiny/mlp.1/wide")
    assert "Too large for this page: python -m core sae compare tiny/mlp.1/pca tiny/mlp.1/wide" in shown(page)
    assert "alike" not in [one.key for one in page.button]
