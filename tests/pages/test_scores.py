"""Scores: what is counted and drawn, the best and the worst to read, the search, and the addresses that are wrong."""

import csv
import io
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from core.runs.registry import Registry
from core.store.cache import Cache
from core.store.explanation_queries import by_layer, scored
from core.store.peaks import peaks
from core.ui.score_charts import against_lookup, layer_boxes
from core.ui.scored_rows import to_csv
from core.workspace import Workspace
from tests.pages.conftest import OpenPage, alerts, bodies, components, shown
from tests.synthetic import write_synthetic_index
from tests.synthetic_explanations import Quality, chat_setting, write_synthetic_explanations

LAYERS, EACH = 3, 4
UNITS = [f"tiny/mlp.{layer}/neurons/{unit}" for layer in range(LAYERS) for unit in range(EACH)]
FLAT = "tiny/mlp.2/neurons/3"
Open = Callable[..., AppTest]


def write(workspace: Workspace) -> Workspace:
    """A run by the pattern explainer, with one undefined score and one explanation that failed, and a study by a model."""
    write_synthetic_index(workspace, n_layers=LAYERS, width=12)
    quality = {name: Quality(noise=0.1 + 0.2 * place) for place, name in enumerate(UNITS)} | {FLAT: Quality(flat=True)}
    write_synthetic_explanations(workspace, units=UNITS, quality=quality, text="Fires on <i>number</i> {unit}.")
    write_synthetic_explanations(workspace, run="explain-failed", units=["tiny/mlp.0/neurons/7"], failed="The model declined.")
    write_synthetic_explanations(
        workspace,
        run="explain-study",
        units=UNITS[:4],
        settings=[chat_setting()],
        study="records",
        text="Something about 100 % of _words_.",
    )
    Registry(workspace).restore()
    return workspace


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """What the pages of this file show."""
    return write(Workspace.open(tmp_path_factory.mktemp("scores") / "ws"))


@pytest.fixture
def opened(written: Workspace, open_page: OpenPage) -> Open:
    return lambda **query: open_page(written, "scores", **query)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cache]:
    """The same in another workspace, whose cache no page owns."""
    found = Cache.open(write(Workspace.open(tmp_path_factory.mktemp("cache") / "ws")))
    found.ingest()
    yield found
    found.close()


def lists(page: AppTest) -> list[list[dict[str, Any]]]:
    return [data["rows"] for data in components(page, "unit_rows")]


def rho(row: dict[str, Any]) -> float:
    return float(row["cells"][0].replace("−", "-"))


def test_an_indexed_workspace_without_scores_offers_to_explain(indexed: Workspace, open_page: OpenPage) -> None:
    page = open_page(indexed, "scores")
    assert not page.exception
    assert "Nothing has been scored yet." in shown(page)
    assert [button.label for button in page.button] == ["Explain units"]


def test_an_empty_workspace_offers_to_index(workspace: Workspace, open_page: OpenPage) -> None:
    page = open_page(workspace, "scores")
    assert "Nothing is indexed yet" in shown(page)


def test_the_summary_counts_units_undefined_scores_and_evidence(opened: Open) -> None:
    said = shown(opened(run="explain-test"))
    assert "12 units scored, each by its best explanation; 1 undefined: left out of the pictures, never zero" in said
    assert " of 12 stand out from their shuffled control." in said


def test_best_and_worst_are_at_the_two_ends_and_no_undefined_score_is_among_them(opened: Open) -> None:
    best, worst, everything = lists(opened(run="explain-test"))
    assert [rho(row) for row in best] == sorted((rho(row) for row in best), reverse=True)
    assert [rho(row) for row in worst] == sorted(rho(row) for row in worst)
    assert min(map(rho, best)) >= max(map(rho, worst))
    assert not {row["name"] for row in best} & {row["name"] for row in worst}
    assert "mlp.2/3" not in {row["label"] for row in [*best, *worst]}
    assert everything[-1]["label"] == "mlp.2/3"
    assert everything[-1]["reason"].startswith("undefined: ")
    assert all("…" in row["reason"] for row in best)


def test_a_row_leads_to_the_unit_at_this_explanation(opened: Open) -> None:
    best, *_ = lists(opened(run="explain-study"))
    assert best[0]["address"].startswith("/unit?unit=tiny/mlp.0/neurons/")
    assert "&explanation=explain-study." in best[0]["address"]


def test_failed_explanations_are_listed_with_their_reason_and_never_scored(opened: Open) -> None:
    *_, everything = lists(opened(explainer="pattern"))
    (failed,) = [row for row in everything if row["label"] == "mlp.0/7"]
    assert failed["snippet"][0] == "not explained: The model declined."
    assert failed["cells"][0] == "–"


def test_search_is_plain_text_over_the_words(opened: Open) -> None:
    (*_, found) = lists(opened(q="100 % of _words_"))
    assert len(found) == 4
    page = opened(q="% of %")
    assert "No explanation says that. Shorten the search." in shown(page)
    page.text_input(key="scores_q").set_value("<i>number</i> 3").run()
    assert page.query_params["q"] == "<i>number</i> 3"
    assert {row["label"] for row in lists(page)[-1]} == {"mlp.0/3", "mlp.1/3", "mlp.2/3"}
    assert "<i>number" not in "".join(bodies(page))


def test_filters_in_the_address_narrow_everything(opened: Open) -> None:
    page = opened(layer="1", run="explain-test")
    assert "4 units scored" in shown(page)
    assert {row["label"].split("/")[0] for rows in lists(page) for row in rows} == {"mlp.1"}
    page = opened(run="study:records")
    assert "4 units scored" in shown(page)
    page = opened(simulator="chat")
    assert "4 units scored" in shown(page)
    assert page.selectbox(key="scores_simulator").value == "chat"


def test_changing_a_filter_changes_the_address(opened: Open) -> None:
    page = opened(page="1")
    page.selectbox(key="scores_explainer").set_value("pattern").run()
    assert page.query_params["explainer"] == "pattern"
    assert "page" not in page.query_params
    page.selectbox(key="scores_explainer").set_value("").run()
    assert "explainer" not in page.query_params


@pytest.mark.parametrize(
    "query",
    [
        *({"subject": "gpt"}, {"run": "nope"}, {"run": "study:"}, {"explainer": "<b>"}, {"kind": "all"}, {"layer": "x"}, {"sort": "?"}),
        *({"page": "0"}, {"q": "x" * 201}, {"kind": "top-only"}, {"layer": "99"}),
    ],
    ids=str,
)
def test_a_wrong_address_is_one_sentence_with_a_way_out(opened: Open, query: dict[str, str]) -> None:
    page = opened(**query)
    assert not page.exception
    assert len(alerts(page)) == 1
    next(button for button in page.button if button.label == "Show all scores").click().run()
    assert alerts(page) == []
    assert lists(page)


def test_the_boxes_are_the_quantiles_of_the_store_and_the_colours_mean_one_thing(cache: Cache) -> None:
    rows = by_layer(cache, subject="tiny", run="explain-test").to_dict("records")
    figure = layer_boxes(rows).to_plotly_json()
    boxes = {trace["name"]: trace for trace in figure["data"] if trace["type"] == "box"}
    assert list(boxes) == ["score", "lookup baseline", "shuffled control"]
    own = [row for row in rows if row["role"] == "simulated"]
    assert list(boxes["score"]["median"]) == [row["q50"] for row in own]
    assert list(boxes["score"]["lowerfence"]) == [row["q5"] for row in own]
    assert list(boxes["score"]["x"]) == ["mlp.0", "mlp.1", "mlp.2"]
    assert len({trace["line"]["color"] for trace in boxes.values()}) == 3
    hover = next(trace for trace in figure["data"] if trace["type"] == "scatter")["hovertext"]
    assert "1 undefined score left out" in hover[2]


def test_points_are_each_score_over_its_baseline_and_hollow_without_evidence(cache: Cache) -> None:
    records = [row for row in scored(cache, run="explain-test")[0].to_dict("records") if row["rho"] == row["rho"]]
    line, points = against_lookup(records).to_plotly_json()["data"]
    assert list(points["x"]) == [row["lookup_rho"] for row in records]
    assert list(points["y"]) == [row["rho"] for row in records]
    assert [symbol == "circle" for symbol in points["marker"]["symbol"]] == [bool(row["evidence"]) for row in records]
    assert list(line["x"]) == list(line["y"])
    assert all("&lt;i&gt;number" in text and "<i>" not in text for text in points["hovertext"])


def test_the_csv_holds_every_explanation_with_its_controls(cache: Cache) -> None:
    frame, total = scored(cache, kind=None, with_failed=True, limit=100)
    read = list(csv.DictReader(io.StringIO(to_csv(frame).decode("utf8"), newline="")))
    assert len(read) == total == len(UNITS) + 5
    by_name = {row["explanation"]: row for row in read}
    flat = by_name["explain-test.11.0.0"]
    assert (flat["rho"], flat["reason"]) == ("", "the simulated activations are constant on these records")
    assert float(by_name["explain-test.0.0.0"]["lookup_rho"]) < float(by_name["explain-test.0.0.0"]["rho"])
    assert by_name["explain-failed.0.0.0"]["failed"] == "The model declined."


def test_peaks_are_those_of_the_index_and_a_unit_without_one_has_none(cache: Cache) -> None:
    found = peaks(cache, [("index-test", "mlp", 1, 0), ("index-test", "mlp", 1, 0), ("gone", "mlp", 1, 1)])
    assert list(found["name"]) == ["tiny/mlp.1/neurons/0"]
