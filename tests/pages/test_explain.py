"""Explain: which units fit, what is asked before the button, the run it queues, and the results below it."""

from collections.abc import Callable
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from core.autointerp.request import ExplainRequest, Setting
from core.runs.registry import Registry
from core.ui.explain_estimate import seconds, title
from core.ui.spreadsheet import inert
from core.units import UnitName
from core.workspace import Workspace
from tests.pages.conftest import OpenPage, alerts, bodies, components, shown
from tests.synthetic import write_synthetic_index
from tests.synthetic_explanations import Quality, write_synthetic_explanations

WIDTH = 12
UNITS = [f"tiny/mlp.{layer}/neurons/{unit}" for layer in range(2) for unit in range(4)]
Open = Callable[..., AppTest]


@pytest.fixture
def opened(workspace: Workspace, open_page: OpenPage) -> Open:
    """The page over a small index."""
    write_synthetic_index(workspace, n_layers=2, width=WIDTH)
    return lambda **query: open_page(workspace, "explain", **query)


@pytest.fixture
def explained(workspace: Workspace, opened: Open) -> Open:
    """The same with one finished run."""
    write_synthetic_explanations(workspace, units=UNITS, text="Fires on <b>*{unit}*</b> =1+1")
    Registry(workspace).restore()
    return opened


def start(page: AppTest) -> Any:
    return page.button(key="start_explaining")


def rows(page: AppTest) -> list[dict[str, Any]]:
    (data,) = components(page, "unit_rows")
    return data["rows"]


def test_an_empty_workspace_says_what_would_fill_it(workspace: Workspace, open_page: OpenPage) -> None:
    page = open_page(workspace, "explain")
    assert "Nothing is indexed yet" in shown(page)
    assert [button.label for button in page.button] == ["Start an index"]


def test_before_the_first_run_the_page_says_what_will_appear(opened: Open) -> None:
    page = opened()
    assert not page.exception
    assert "Nothing has been explained yet." in shown(page)
    assert not start(page).disabled


def test_the_button_queues_what_the_form_says(workspace: Workspace, opened: Open) -> None:
    page = opened(sites="mlp.1", sample="3", seed="7", kinds="top-and-random,random-only", controls="lookup", split="test")
    assert f"{WIDTH} units fit of tiny; 3 units of each site at most are drawn: 3." in shown(page)
    assert "3 explanations" in shown(page)
    assert "No language model is asked: nothing to pay." in shown(page)
    start(page).click().run()
    (run,) = Registry(workspace).list()
    request = ExplainRequest.from_params(run.params)
    assert (run.kind, run.lane, run.state) == ("explain", "batch", "queued")
    assert {unit.site.layer for unit in request.units} == {1}
    assert len(request.units) == 3
    (setting,) = request.settings
    assert (setting.kinds, setting.controls, setting.split) == (("top-and-random", "random-only"), ("lookup",), "test")
    assert page.query_params["run"] == run.id
    assert "waiting for the worker" in shown(page)


def test_another_seed_draws_other_units(workspace: Workspace, opened: Open) -> None:
    for seed in ("1", "2"):
        start(opened(sites="mlp.0", sample="3", seed=seed)).click().run()
    first, second = (set(run.params["units"]) for run in Registry(workspace).list())
    assert first != second


def test_a_pasted_list_takes_both_ways_to_write_a_unit(workspace: Workspace, opened: Open) -> None:
    page = opened(choose="list", units="mlp.1/3, tiny/mlp.0/neurons/2\nmlp.1/3")
    start(page).click().run()
    assert Registry(workspace).list()[0].params["units"] == ["tiny/mlp.1/neurons/3", "tiny/mlp.0/neurons/2"]


def test_what_is_typed_goes_into_the_address(opened: Open) -> None:
    page = opened()
    page.text_input(key="explain_sites").set_value("mlp.1").run()
    assert page.query_params["sites"] == "mlp.1"
    page.number_input(key="explain_sample").set_value(2).run()
    assert page.query_params["sample"] == "2"
    page.selectbox(key="explain-simulator").set_value("sentence").run()
    assert page.query_params["simulator"] == "sentence"
    page.number_input(key="explain_sample").set_value(20).run()
    assert "sample" not in page.query_params


WRONG = [
    ({"sites": "mlp.9"}, "the model's layers are 0 to 1"),
    ({"sites": "<script>"}, "not a choice of sites"),
    ({"density": "abc"}, "not a range of density"),
    ({"density": ">99.99"}, "No unit fits the filter"),
    ({"token": "no such token"}, "No unit fits the filter"),
    ({"sample": "-1"}, "use a whole number from 0"),
    ({"kinds": "all"}, "not a choice for “Kinds of score”"),
    ({"controls": "magic"}, "not a choice for “Controls”"),
    ({"split": "train"}, "not a choice for “Scored on”"),
    ({"active": "yes"}, "use 1, or leave it out"),
    ({"index": "nope"}, "not a choice for “Index”"),
    ({"choose": "list", "units": "mlp.0/99"}, "Unit 99 is out of range"),
    ({"choose": "list", "units": "colour"}, "“colour” is not a unit"),
    ({"choose": "list"}, "Name at least one unit"),
    ({"explainer": "token-list"}, "Name the address of a language model, or choose in-process."),
]


@pytest.mark.parametrize(("query", "said"), WRONG, ids=[str(query) for query, _ in WRONG])
def test_wrong_input_is_one_sentence_and_no_run(
    workspace: Workspace, opened: Open, monkeypatch: pytest.MonkeyPatch, query: dict[str, str], said: str
) -> None:
    monkeypatch.setattr("core.ui.explain_choices.IN_PROCESS", "") if "explainer" in query else None
    page = opened(**query)
    assert not page.exception
    assert len(alerts(page)) == 1
    assert said in alerts(page)[0]
    assert start(page).disabled
    assert Registry(workspace).list() == []


@pytest.mark.parametrize("query", [{"run": "nope"}, {"run": "../x"}, {"sort": "colour"}, {"page": "9"}])
def test_a_wrong_address_of_results_is_a_sentence(explained: Open, query: dict[str, str]) -> None:
    page = explained(**query)
    assert not page.exception
    assert not components(page, "unit_rows")


def test_results_show_the_words_the_score_and_its_controls_and_link_to_the_unit(explained: Open) -> None:
    page = explained()
    found = rows(page)
    assert len(found) == len(UNITS)
    assert {row["address"] for row in found} == {
        f"/unit?unit={name}&explanation=explain-test.{place}.0.0" for place, name in enumerate(UNITS)
    }
    row = found[0]
    assert row["snippet"][0].startswith("Fires on <b>")
    rho, interval, lookup, shuffled, covered = row["cells"]
    assert interval.startswith("[")
    assert float(rho.replace("−", "-")) > float(shuffled.replace("−", "-"))
    assert lookup
    assert covered == "100 %"
    assert "<b>" not in "".join(body for body in bodies(page) if "Fires on" in body)


def test_results_are_in_the_order_of_the_address(explained: Open) -> None:
    def scores(page: AppTest) -> list[float]:
        return [float(row["cells"][0].replace("−", "-")) for row in rows(page)]

    assert scores(explained()) == sorted(scores(explained()), reverse=True)
    assert scores(explained(sort="rho")) == sorted(scores(explained()))
    assert [row["label"] for row in rows(explained(sort="layer"))][:2] == ["mlp.0/0", "mlp.0/1"]


def test_a_score_that_is_undefined_and_one_that_is_no_evidence_say_so(workspace: Workspace, opened: Open) -> None:
    write_synthetic_explanations(
        workspace, units=UNITS[:3], quality={UNITS[0]: Quality(flat=True), UNITS[1]: Quality(noise=60.0), UNITS[2]: Quality(failing=1.0)}
    )
    Registry(workspace).restore()
    said = {row["label"]: (row["cells"][0], row["reason"]) for row in rows(opened())}
    assert said["mlp.0/0"] == ("–", "undefined: the simulated activations are constant on these records")
    assert said["mlp.0/2"][0] == "–"
    assert "no record could be simulated" in said["mlp.0/2"][1]
    assert "no evidence" in said["mlp.0/1"][1]


def test_a_running_run_can_be_cancelled_and_one_that_failed_resumed(workspace: Workspace, opened: Open) -> None:
    registry = Registry(workspace)
    run = registry.submit("explain", ExplainRequest(tuple(map(UnitName.parse, UNITS)), (Setting(),)).to_params())
    registry.claim_next("batch")
    registry.update(run.id, done=2, total=8, unit="explanations", stage="explaining", message="4 calls, 900 tokens", rate=2.0)
    page = opened(run=run.id)
    assert "2 of 8 explanations · 2.0 a second · 3 s left · 4 calls, 900 tokens" in shown(page)
    page.button(key=f"cancel_{run.id}").click().run()
    assert registry.get(run.id).cancel_requested
    registry.cancelled(run.id)
    page = opened(run=run.id)
    page.button(key=f"resume_{run.id}").click().run()
    assert registry.get(run.id).state == "queued"


def test_what_a_run_has_spent_is_shown(workspace: Workspace, opened: Open) -> None:
    spend = {"calls": 12, "cached": 3, "tokens_in": 4000, "tokens_out": 500, "money": 0.25}
    write_synthetic_explanations(workspace, units=UNITS[:2], spend=spend)
    Registry(workspace).restore()
    assert "spent 12 calls, 4,500 tokens, price 0.25, 3 answers kept from before" in shown(opened())


def test_a_model_at_an_address_has_a_price_and_a_budget(workspace: Workspace, opened: Open) -> None:
    write_synthetic_explanations(workspace, units=UNITS[:2], settings=[chat()])
    Registry(workspace).restore()
    page = opened(explainer="token-activation", simulator="chat", sample="2", calls="5")
    assert not page.exception
    assert "Answers kept from earlier runs cost nothing" in shown(page)
    assert "The limit of calls will probably stop this run before its end" in alerts(page)[0]
    page = opened(explainer="token-activation", simulator="chat", sample="2", money="5")
    assert alerts(page) == ["A limit in money needs the model's prices: give both beside its address, or limit calls or tokens."]
    assert start(page).disabled


def chat() -> Setting:
    from tests.synthetic_explanations import chat_setting

    return chat_setting()


def test_the_time_comes_from_an_earlier_run_by_the_same_models(workspace: Workspace) -> None:
    from dataclasses import replace

    registry = Registry(workspace)
    units = tuple(map(UnitName.parse, UNITS))
    request = ExplainRequest(units, (Setting(),))
    run = registry.submit("explain", request.to_params())
    registry.claim_next("batch")
    registry.update(run.id, done=8, total=8, unit="explanations", stage="", message="", rate=None)
    registry.finish(run.id)
    done = replace(registry.get(run.id), started=1000.0, finished=1016.0)
    told = seconds(ExplainRequest(units[:4], (Setting(),)), [done])
    assert told == (8.0, run.id)
    assert seconds(ExplainRequest(units[:4], (chat(),)), [done]) is None
    # A run over many units reads the text again, 2,048 tokens for each, which that one did not; 200 take as long as one explanation.
    many = tuple(replace(units[0], index=number) for number in range(100))
    assert seconds(ExplainRequest(many, (Setting(),)), [done]) == (2.0 * (100 + 2048 * 100 / 200), run.id)
    # Inputs that the index has kept are read forty times as fast.
    assert seconds(ExplainRequest(many, (Setting(),)), [done], kept=10**6) == (
        pytest.approx(16.0 * (100 + 900_000 / 8000) / (8 + 900_000 / 8000)), run.id,
    )  # fmt: skip
    unread = replace(Setting(), explainer=replace(Setting().explainer, read=0))
    assert seconds(ExplainRequest(many, (unread,)), [done]) == (200.0, run.id)


def test_titles_say_who_and_how_many() -> None:
    units = tuple(map(UnitName.parse, UNITS))
    assert title(ExplainRequest(units, (Setting(),)).to_params()) == "pattern → pattern · 8 units"
    assert title(ExplainRequest(units[:1], (Setting(),)).to_params()) == f"pattern → pattern · {UNITS[0].partition('/')[2]}"
    assert title(ExplainRequest(units, (chat(),)).to_params()) == "token-activation by test-model → chat by test-model · 8 units"


def test_a_spreadsheet_computes_no_cell() -> None:
    assert [inert(value) for value in ("=1+1", "+1", "-1", "@x", "plain", 3.0)] == ["'=1+1", "'+1", "'-1", "'@x", "plain", 3.0]
