"""Compare: units side by side with what they share, in the address; what is wrong there is a sentence."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from core.findings.findings import Findings
from core.store.compare.compared import compare, load_views
from core.store.texts import load_vocab
from core.ui.tokens import piece_text
from core.units import UnitName
from core.workspace import Workspace
from tests.pages.conftest import OpenPage, alerts, bodies, components, shown
from tests.shared_bundle import UNITS, fill
from tests.synthetic import write_synthetic_index

A, B, C, D = map(str, UNITS)
Open = Callable[..., AppTest]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Two neurons and two features, with explanations, an ablation and a note. Shared: look only."""
    workspace = Workspace.open(tmp_path_factory.mktemp("compare") / "ws")
    fill(workspace)
    return workspace


@pytest.fixture
def opened(filled: Workspace, open_page: OpenPage) -> Open:
    return lambda *units, **query: open_page(filled, "compare", units=",".join(units), **query)


def contexts(page: AppTest) -> dict[str, Any]:
    """The body of the shared contexts."""
    (found,) = [data["body"] for data in components(page, "tokens") if data["body"]["title"] == "Context by context"]
    return found


def test_four_units_stand_side_by_side_with_everything_of_theirs(opened: Open) -> None:
    page = opened(A, B, C, D)
    assert not page.exception
    assert alerts(page) == []
    text = shown(page)
    for said in (
        "Fires on the word number 5.",
        "No explanation yet.",
        "Ablated",
        "What people wrote",
        "Fires in",
        "4 of 5",
        "Shared contexts",
    ):
        assert said in text or said in "".join(element.value for element in page.markdown), said
    assert len(page.get("plotly_chart")) == 4
    heads = [body for body in bodies(page) if 'class="nc-head"' in body]
    assert [A.split("/")[-1] in heads[0], D.split("/")[-1] in heads[3], len(heads)] == [True, True, 4]
    titles = [data["body"]["title"] for data in components(page, "tokens")]
    assert titles == [
        "Context by context of A and B",
        "Context by context of C and D",
        *(f"{letter} · What it responds to" for letter in "ABCD"),
    ]


def test_the_table_says_for_every_pair_what_it_was_computed_over(filled: Workspace, opened: Open) -> None:
    page = opened(C, D, A)
    (table,) = [body for body in bodies(page) if "nc-pairs" in body and "<table" in body]
    compared = compare(filled, load_views(filled, [UnitName.parse(name) for name in (C, D, A)]))
    assert table.count("<tr>") == 1 + sum(max(1, len(pair.together)) for pair in compared.pairs)
    (exact,) = compared.pairs[0].together
    assert exact.told in table
    assert f"{exact.both:,} of {exact.active[0]:,} and {exact.active[1]:,} tokens" in table
    assert "they were read over different texts" in table
    assert compared.apart in shown(page)


def test_a_neuron_and_a_feature_of_one_site_share_contexts(filled: Workspace, opened: Open) -> None:
    page = opened(C, D)
    body = contexts(page)
    assert body["bands"]
    assert [row["label"] for row in body["rows"][:2]] == ["A 5", "B 2"]
    assert body["rows"][0]["limit"] != body["rows"][1]["limit"], "each unit on its own scale"
    assert body["whose"] == "each unit's own"
    common = contexts(opened(C, D, colours="one"))
    assert common["rows"][0]["limit"] == common["rows"][1]["limit"] == max(row["limit"] for row in body["rows"])
    assert [row["peak"] for row in body["rows"][:2]] == [body["rows"][0]["peak"]] * 2, "one position stands in the middle for both"


def test_one_scale_for_all_histograms(opened: Open) -> None:
    def ranges(page: AppTest) -> list[list[float]]:
        charts: list[Any] = list(page.get("plotly_chart"))
        return [json.loads(chart.proto.spec)["layout"]["xaxis"]["range"] for chart in charts]

    own, shared = ranges(opened(A, C)), ranges(opened(A, C, x="shared"))
    assert own[0] != own[1]
    assert shared[0] == shared[1]
    assert shared[0][1] >= max(end for _, end in own) * 0.99


def test_units_are_added_moved_and_taken_out_in_the_address(opened: Open) -> None:
    page = opened(A)
    assert "One unit alone is nothing to compare" in shown(page)
    assert "writes in a similar direction" in shown(page)
    page.text_input(key="compare-typed").set_value(B.partition("/")[2]).run()
    assert page.query_params["units"] == f"{A},{B}"
    page.button(key=f"compare-move-{B}").click().run()
    assert page.query_params["units"] == f"{B},{A}"
    page.text_input(key="compare-typed").set_value("nonsense").run()
    assert len(alerts(page)) == 1
    page.text_input(key="compare-typed").set_value(A).run()
    assert alerts(page) == [f"{A} is there already."]
    page.button(key=f"compare-remove-{B}").click().run()
    assert page.query_params["units"] == A
    assert not page.exception


def test_without_units_there_is_a_way_to_begin(opened: Open) -> None:
    page = opened()
    assert "No unit is named yet" in shown(page)
    page.button(key="compare-begin").click().run()
    assert UnitName.parse(page.query_params["units"])
    assert not page.exception


@pytest.mark.parametrize(
    ("units", "said"),
    [
        ((A, "nonsense"), "is not a unit"),
        ((A, "tiny/mlp.1/neurons/99"), "out of range"),
        ((A, A), "named twice"),
        ((A, B, C, D, "tiny/mlp.0/neurons/0"), "Two to four units"),
        ((A, "<script>alert(1)</script>/a/b/c"), "is not a unit: write"),
        ((A, "other/mlp.1/neurons/1"), "is not indexed"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_wrong_units_are_one_sentence_and_a_way_on(opened: Open, units: tuple[str, ...], said: str) -> None:
    page = opened(*units)
    assert not page.exception
    assert len(alerts(page)) == 1
    assert said in alerts(page)[0]
    (link,) = [body for body in bodies(page) if "Go on without it" in body]
    assert 'href="/compare?units=' in link


@pytest.mark.parametrize("query", [{"x": "no"}, {"colours": "no"}, {"contexts": "no"}, {"window": "no"}, {"run": "no"}], ids=str)
def test_a_wrong_choice_is_a_sentence(opened: Open, query: dict[str, str]) -> None:
    page = opened(C, D, **query)
    assert not page.exception
    assert len(alerts(page)) >= 1


def test_the_unit_page_and_a_finding_lead_here(filled: Workspace, workspace: Workspace, open_page: OpenPage) -> None:
    fill(workspace)
    Findings(workspace, "Ada").alike(UNITS[0], UNITS[1])
    page = open_page(workspace, "unit", unit=A)
    links = "".join(bodies(page))
    assert f"/compare?units={A}" in links
    assert f"/compare?units={A}%2C{B}" in links
    similar = next(table for data in components(page, "bars") for table in data["tables"] if table["title"] == "Similar write directions")
    assert all(line["compare"].startswith(f"/compare?units={A}%2Ctiny/") for line in similar["columns"][0])


def test_contexts_of_two_texts_are_shown_apart_with_their_own_tokens(workspace: Workspace, open_page: OpenPage) -> None:
    write_synthetic_index(workspace, n_layers=1, contexts=48)
    write_synthetic_index(workspace, run="other", slug="large", n_layers=1, contexts=64, hostile=True)
    units = ("tiny/mlp.0/neurons/1", "large/mlp.0/neurons/1", "tiny/mlp.0/neurons/2", "large/mlp.0/neurons/2")
    page = open_page(workspace, "compare", units=",".join(units), contexts="all")
    assert not page.exception
    bodies_of = {data["body"]["title"]: data["body"] for data in components(page, "tokens")}
    for title, letters, subject in (("A and C", "AC", "tiny"), ("B and D", "BD", "large")):
        body = bodies_of[f"Context by context of {title}"]
        assert {row["label"][0] for row in body["rows"]} == set(letters)
        vocab = load_vocab(workspace, subject)
        assert body["pieces"] == [piece_text(piece) for piece in vocab.pieces(body["ids"])]
    assert "The models of A and B, A and D, B and C, C and D have different tokens, whose lists do not compare." in shown(page)


def test_an_empty_workspace_says_what_would_fill_it(workspace: Workspace, open_page: OpenPage) -> None:
    assert "Nothing is indexed yet" in shown(open_page(workspace, "compare"))


def test_hostile_tokens_are_inert(hostile: Workspace, open_page: OpenPage) -> None:
    page = open_page(hostile, "compare", units="tiny/mlp.0/neurons/0,tiny/mlp.1/neurons/8,tiny/mlp.0/neurons/8")
    assert not page.exception
    assert not [body for body in bodies(page) if "<script" in body or "<img" in body]
