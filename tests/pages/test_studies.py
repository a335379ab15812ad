"""Studies: what is varied, the run that is queued, the comparison of its results; and puzzles, checked in a run of their own."""

import csv
import io
import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from core.autointerp import study_tables
from core.autointerp.puzzles import built_in
from core.autointerp.request import ExplainerChoice, ExplainRequest, SimulatorChoice
from core.autointerp.studies import STUDIES, study_settings
from core.errors import AtlasError
from core.runs.registry import Registry
from core.store.cache import Cache
from core.store.explanation_queries import study
from core.ui import study_table
from core.ui.study_charts import study_figure
from core.workspace import Workspace
from tests.pages.conftest import OpenPage, alerts, bodies, shown
from tests.synthetic import write_synthetic_index
from tests.synthetic_explanations import Quality, chat_setting, write_synthetic_explanations

UNITS = [f"tiny/mlp.{layer}/neurons/{unit}" for layer in range(2) for unit in range(5)]
FLAT = UNITS[0]
Open = Callable[..., AppTest]


@pytest.fixture
def opened(workspace: Workspace, open_page: OpenPage) -> Open:
    """The page over a small index."""
    write_synthetic_index(workspace, n_layers=2, width=12)
    return lambda **query: open_page(workspace, "studies", **query)


@pytest.fixture
def studied(workspace: Workspace, opened: Open) -> Open:
    """The same with a finished study of the number of records, in which one unit has no number."""
    settings = study_settings("records", chat_setting(), [])
    quality = {name: Quality(noise=0.4) for name in UNITS} | {FLAT: Quality(flat=True)}
    write_synthetic_explanations(workspace, run="explain-study", units=UNITS, settings=settings, quality=quality, study="records")
    Registry(workspace).restore()
    return opened


def start(page: AppTest) -> Any:
    return page.button(key="start_explaining")


def test_an_empty_workspace_says_what_would_fill_it(workspace: Workspace, open_page: OpenPage) -> None:
    assert "Nothing is indexed yet" in shown(open_page(workspace, "studies"))


@pytest.mark.parametrize("name", list(STUDIES))
def test_every_study_says_what_it_asks(opened: Open, name: str) -> None:
    page = opened(study=name)
    assert not page.exception
    assert STUDIES[name].asks in shown(page)
    if name == "subject":
        assert alerts(page) == ["Comparing subjects needs two indexed models: index another one first."]
    assert start(page).disabled == bool(alerts(page))


def test_the_button_queues_every_setting_over_the_same_units(workspace: Workspace, opened: Open) -> None:
    page = opened(study="simulator", sites="mlp.1", sample="3")
    assert "Compared: pattern, sentence, lookup." in shown(page)
    assert "9 explanations (3 units in 3 ways)" in shown(page)
    start(page).click().run()
    (run,) = Registry(workspace).list()
    request = ExplainRequest.from_params(run.params)
    assert (run.kind, run.lane, request.study) == ("explain", "batch", "simulator")
    assert [setting.label for setting in request.settings] == ["pattern", "sentence", "lookup"]
    assert len(request.units) == 3
    assert page.query_params["run"] == run.id
    assert "Simulators compared" in shown(page)


def test_a_study_of_what_is_shown_offers_only_the_explainer_that_is_shown_it(opened: Open) -> None:
    page = opened(study="length")
    options = next(box for box in page.selectbox if box.label == "Explainer").options
    assert options == ["token–activation pairs"]


@pytest.mark.parametrize("query", [{"study": "nope"}, {"view": "x"}, {"run": "nope"}, {"run": "index-test"}, {"sites": "mlp.7"}], ids=str)
def test_a_wrong_address_is_a_sentence(opened: Open, query: dict[str, str]) -> None:
    page = opened(**query)
    assert not page.exception
    assert len(alerts(page)) == 1


def test_results_are_a_figure_and_a_table_over_the_units_that_all_settings_share(studied: Open) -> None:
    page = studied()
    assert not page.exception
    assert "over the 9 of 10 units that have a number under every setting" in shown(page)
    table = next(body for body in bodies(page) if 'class="nt"' in body)
    assert table.count("<tr>") == 1 + len(study_settings("records", chat_setting(), []))
    assert "less 1" in table
    assert "9 of 10" in table
    assert page.get("plotly_chart")


def records(workspace: Workspace, run: str) -> list[Any]:
    """The rows of a run, of a workspace that no page has opened."""
    cache = Cache.open(workspace)
    cache.ingest()
    found = study(cache, run).to_dict("records")
    cache.close()
    return found


def test_the_numbers_of_the_table_are_those_of_the_scores(workspace: Workspace, studied: Open) -> None:
    found = records(workspace, "explain-study")
    table = study_tables.by_setting(found)
    assert table.shared == 9
    for line in table.lines:
        own = [row["rho"] for row in found if row["setting"] == line.label and row["name"] != FLAT]
        assert line.score.value == pytest.approx(np.mean(own))
        assert line.score.low < line.score.value < line.score.high
        assert (line.units, line.undefined, line.failed, line.judged) == (10, 1, 0, 10)
    first, second = table.lines[:2]
    assert first.difference is None
    assert second.difference is not None
    assert second.difference.value == pytest.approx(second.score.value - first.score.value)


def test_the_csv_reads_back_as_the_table(workspace: Workspace, studied: Open) -> None:
    table = study_tables.by_setting(records(workspace, "explain-study"))
    read = list(csv.DictReader(io.StringIO(study_table.to_csv(table).decode("utf8"), newline="")))
    assert [row["setting"] for row in read] == ["1", "2", "5", "10", "20"]
    assert read[0]["difference"] == ""
    assert [float(row["mean_rho"]) for row in read] == [line.score.value for line in table.lines]


def test_a_setting_that_never_scores_takes_no_unit_from_the_others(workspace: Workspace, studied: Open) -> None:
    """As when a simulator without a model is given the sentences of one."""
    found = records(workspace, "explain-study")
    silent = [{**row, "rho": math.nan} if row["setting"] == "1" else row for row in found]
    table = study_tables.by_setting(silent)
    never, base, second = table.lines[:3]
    assert (table.shared, table.against, table.without) == (9, "2", ("1",))
    assert (never.undefined, never.score.n, never.difference, base.difference) == (10, 0, None, None)
    own = {row["name"]: row["rho"] for row in found if row["setting"] == "2" and row["name"] != FLAT}
    other = {row["name"]: row["rho"] for row in found if row["setting"] == "5"}
    assert second.difference is not None
    assert second.difference.value == pytest.approx(np.mean([other[name] - own[name] for name in own]))
    assert "less 2" in study_table.to_html(table, "records shown")


def test_controls_are_over_the_units_that_the_scores_are_over(workspace: Workspace, studied: Open) -> None:
    found = [{**row, "lookup_rho": -1.0} if row["name"] == FLAT else row for row in records(workspace, "explain-study")]
    for line in study_tables.by_setting(found).lines:
        assert line.lookup.n == line.shuffled.n == line.score.n == 9
        assert line.lookup.value > -0.5


@pytest.mark.parametrize("explainer", ["token-activation", "token-list"])
def test_simulators_that_read_no_sentence_of_a_model_are_not_compared(explainer: str) -> None:
    base = chat_setting(explainer=replace(chat_setting().explainer, name=explainer))
    with pytest.raises(AtlasError, match="choose the pattern explainer"):
        study_settings("simulator", base, [])
    patterned = replace(base, explainer=ExplainerChoice())
    assert [one.label for one in study_settings("simulator", patterned, [])] == ["pattern", "sentence", "lookup", "chat"]


def test_of_revisions_the_last_step_counts(workspace: Workspace, opened: Open) -> None:
    write_synthetic_explanations(workspace, run="explain-arms", units=UNITS[:3], settings=[chat_setting()], steps=2, study="revision")
    found = records(workspace, "explain-arms")
    (line,) = study_tables.by_setting(found).lines
    assert line.score.value == pytest.approx(np.mean([row["rho"] for row in found if row["step"] == 1]))


def test_scores_by_layer_have_a_line_a_site(workspace: Workspace, opened: Open) -> None:
    write_synthetic_explanations(workspace, run="explain-layers", units=UNITS, study="layer")
    Registry(workspace).restore()
    table = study_tables.by_layer(records(workspace, "explain-layers"))
    assert [line.label for line in table.lines] == ["mlp.0", "mlp.1"]
    assert table.shared is None
    page = opened(run="explain-layers")
    assert "mlp.1" in next(body for body in bodies(page) if 'class="nt"' in body)


def test_the_figure_draws_each_mean_with_its_interval_and_the_controls_beside_it(workspace: Workspace, studied: Open) -> None:
    table = study_tables.by_setting(records(workspace, "explain-study"))
    own, lookup, shuffled = study_figure(table, "records shown", joined=True).to_plotly_json()["data"]
    assert [trace["name"] for trace in (own, lookup, shuffled)] == ["score", "lookup baseline", "shuffled control"]
    assert list(own["y"]) == [line.score.value for line in table.lines]
    assert list(own["error_y"]["array"]) == pytest.approx([line.score.high - line.score.value for line in table.lines])
    assert list(lookup["y"]) == [line.lookup.value for line in table.lines]


def test_a_study_in_which_nothing_has_a_number_says_so_without_a_picture_of_zeros(workspace: Workspace, opened: Open) -> None:
    write_synthetic_explanations(workspace, run="explain-none", units=UNITS[:2], failed="The model declined.", study="layer")
    Registry(workspace).restore()
    table = study_tables.by_layer(records(workspace, "explain-none"))
    assert [line.failed for line in table.lines] == [2]
    assert math.isnan(table.lines[0].score.value)
    page = opened(run="explain-none")
    assert not page.exception
    assert "0 of 2" in next(body for body in bodies(page) if 'class="nt"' in body)


def test_puzzles_are_queued_for_a_worker_and_not_asked_in_the_page(workspace: Workspace, opened: Open) -> None:
    page = opened(view="puzzles")
    assert "Nothing has been checked yet." in shown(page)
    assert built_in()[0].explanation in shown(page)
    page.selectbox(key="puzzles-simulator").set_value("sentence").run()
    assert "12 puzzles. No language model is asked" in shown(page)
    page.button(key="start_puzzles").click().run()
    (run,) = Registry(workspace).list()
    assert (run.kind, run.lane, run.state) == ("puzzles", "interactive", "queued")
    assert run.params["simulator"] == SimulatorChoice("sentence").to_json()
    assert page.query_params["run"] == run.id


def test_own_puzzles_are_checked_before_anything_is_queued(workspace: Workspace, opened: Open) -> None:
    page = opened(view="puzzles", puzzles="own")
    assert alerts(page) == ["Choose a JSON file of your own puzzles, written like the example."]
    page.selectbox(key="puzzles-simulator").set_value("sentence").run()
    page.file_uploader[0].upload("mine.json", b"not json", "application/json").run()
    assert "is not JSON" in alerts(page)[0]
    assert page.button(key="start_puzzles").disabled
    good = json.dumps({"puzzles": [built_in()[0].to_json()]}).encode()
    page.file_uploader[0].upload("mine.json", good, "application/json").run()
    assert alerts(page) == []
    page.button(key="start_puzzles").click().run()
    (run,) = Registry(workspace).list()
    assert [puzzle["name"] for puzzle in run.params["own"]] == [built_in()[0].name]


def test_the_verdicts_of_a_check_are_shown_as_plain_text(workspace: Workspace, opened: Open) -> None:
    registry = Registry(workspace)
    run = registry.submit("puzzles", {"simulator": {"name": "sentence"}, "explainer": None, "own": [], "budget": None}, lane="interactive")
    verdict = {"text": "the <b>word</b>", "rho": 0.9, "low": 0.8, "high": 1.0, "coverage": 1.0, "reason": ""}
    undefined = {"text": "other", "rho": None, "low": None, "high": None, "coverage": 0.5, "reason": "constant"}
    result = {"puzzle": "not all", "passed": True, "margin": 0.9, "reason": "", "true": verdict, "false": [undefined], "given": None}
    manifest = {"schema": 1, "kind": "puzzles", "run": run.id, "state": "complete", "puzzles": 1, "results": [result], "spend": {}}
    (registry.folder(run.id) / "manifest.json").write_text(json.dumps(manifest), "utf8")
    page = opened(view="puzzles", run=run.id)
    assert not page.exception
    said = shown(page)
    assert "1 of 1 puzzle passed by the simulator" in said
    assert "passed by 0.90" in said
    assert "50% covered" in said
    assert "the <b>word</b>" in said
    assert "<b>word" not in "".join(bodies(page))


def test_damaged_results_of_a_check_are_a_sentence(workspace: Workspace, opened: Open) -> None:
    registry = Registry(workspace)
    run = registry.submit("puzzles", {"simulator": {"name": "sentence"}}, lane="interactive")
    (registry.folder(run.id) / "manifest.json").write_text("{}", "utf8")
    page = opened(view="puzzles", run=run.id)
    assert not page.exception
    assert any("is damaged" in alert for alert in alerts(page))


def test_a_check_that_asks_over_http_tells_its_cost_and_can_be_capped(workspace: Workspace, opened: Open) -> None:
    write_synthetic_explanations(workspace, run="explain-earlier", units=UNITS[:1], settings=[chat_setting()])  # its endpoint is offered
    Registry(workspace).restore()
    page = opened(view="puzzles", calls="3")
    assert not page.exception
    assert "tokens read" in shown(page)
    assert any("The limit of calls will probably stop this run" in said for said in alerts(page))
    page.button(key="start_puzzles").click().run()
    (run,) = (run for run in Registry(workspace).list() if run.kind == "puzzles")
    assert run.params["budget"] == {"calls": 3.0}
