"""The Unit page's explanations: best first, one opened by the address, and every button's run as it is asked for."""

from functools import partial
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from core.autointerp.request import ExplainRequest
from core.runs.registry import Registry, Run
from core.workspace import Workspace
from tests.pages.conftest import OpenPage, alerts, bodies, components, shown
from tests.synthetic import write_synthetic_index
from tests.synthetic_explanations import ENDPOINT, Quality, chat_setting, damage, write_synthetic_explanations

UNIT = "tiny/mlp.1/neurons/0"


@pytest.fixture
def indexed(workspace: Workspace) -> Workspace:
    write_synthetic_index(workspace, n_layers=2, width=8, contexts=96)
    return workspace


@pytest.fixture
def opened(indexed: Workspace, open_page: OpenPage) -> "partial[AppTest]":
    return partial(open_page, indexed, "unit", unit=UNIT)


def rows(page: AppTest) -> list[str]:
    return [body for body in bodies(page) if body.startswith('<div class="nx')]


def tokens(page: AppTest) -> list[Any]:
    """The data of the rows of simulated and true tokens."""
    return [data for data in components(page, "tokens") if data["body"]["title"] == "Simulated against true"]


def act(page: AppTest, action: str) -> AppTest:
    return page.segmented_control(key="explain-action").set_value(action).run()


def asked(workspace: Workspace) -> tuple[Run, ExplainRequest]:
    """The one run that was submitted, as the worker will read it."""
    (run,) = Registry(workspace).list()
    assert (run.kind, run.lane, run.state) == ("explain", "interactive", "queued")
    return run, ExplainRequest.from_params(run.params)


def test_explanations_come_best_first_beside_their_controls(opened: "partial[AppTest]", indexed: Workspace) -> None:
    write_synthetic_explanations(indexed, run="explain-bad", quality=Quality(noise=30.0), text="The bad one.")
    write_synthetic_explanations(indexed, run="explain-good", quality=Quality(noise=0.01), text="The good one.")
    write_synthetic_explanations(indexed, run="explain-flat", quality=Quality(flat=True), text="The flat one.")
    write_synthetic_explanations(indexed, run="explain-failed", failed="the model refused")
    page = opened()
    assert not page.exception
    found = rows(page)
    assert len(found) == 3, "the others are shown on request"
    assert "The good one." in found[0]
    assert 'class="nx best"' in found[0]
    assert "The bad one." in found[1]
    assert "lookup" in found[0]
    assert "shuffled" in found[0]
    page.button(key="explanations-more").click().run()
    found = rows(page)
    assert len(found) == 4
    assert any("Not explained: the model refused" in row for row in found)
    assert not tokens(page), "nothing is opened unless asked for"


def test_opening_one_is_in_the_address_and_shows_simulated_against_true(opened: "partial[AppTest]", indexed: Workspace) -> None:
    (identity,) = write_synthetic_explanations(indexed, quality=Quality(failing=0.3))
    page = opened()
    page.button(key=f"open-{identity}").click().run()
    assert page.query_params["explanation"] in (identity, [identity])
    (data,) = tokens(page)
    assert sum("simulated" in row for row in data["body"]["rows"]) == len(data["body"]["rows"]) // 2
    assert len(page.get("plotly_chart")) == 3, "histogram, scatter, overlay"
    assert "could not be simulated (hatched)" in shown(page)
    order = [band["title"] for band in data["body"]["bands"]]
    page.toggle(key="explanation-worst").set_value(True).run()
    (worst,) = tokens(page)
    assert [band["title"] for band in worst["body"]["bands"]] != order
    assert sorted(band["title"] for band in worst["body"]["bands"]) == sorted(order)
    page.button(key=f"open-{identity}").click().run()
    assert "explanation" not in page.query_params
    assert not tokens(page)


def test_how_an_explanation_is_shown_is_in_the_address(opened: "partial[AppTest]", indexed: Workspace) -> None:
    (identity,) = write_synthetic_explanations(indexed, quality=Quality(failing=0.3))
    page = opened(explanation=identity, worst="1", record="2")
    assert (page.toggle(key="explanation-worst").value, page.selectbox(key="explanation-record").value) == (True, 1)
    page.selectbox(key="explanation-record").set_value(2).run()
    page.toggle(key="explanation-worst").set_value(False).run()
    assert page.query_params["record"] in ("3", ["3"])
    assert "worst" not in page.query_params
    wrong = opened(explanation=identity, split="none<b>", record="99")
    assert not wrong.exception
    assert sorted(alert.partition(" is not")[0] for alert in alerts(wrong)) == ["“99”", "“none<b>”"]
    page.button(key=f"open-{identity}").click().run()
    assert "record" not in page.query_params


def test_an_explanation_of_another_unit_leaves_the_address(opened: "partial[AppTest]", indexed: Workspace) -> None:
    _, other = write_synthetic_explanations(indexed, units=[UNIT, "tiny/mlp.0/neurons/1"])
    page = opened(explanation=other)
    assert not page.exception
    assert not alerts(page)
    assert not tokens(page)
    assert "explanation" not in page.query_params


@pytest.mark.parametrize("wrong", ["explain-test.9.0.0", "nothing", "<script>", "../../x.0.0.0"])
def test_a_wrong_identity_is_a_sentence_beside_the_unit(opened: "partial[AppTest]", indexed: Workspace, wrong: str) -> None:
    write_synthetic_explanations(indexed)
    page = opened(explanation=wrong)
    assert not page.exception
    (said,) = alerts(page)
    assert "explanation" in said
    assert len(rows(page)) == 1


def test_a_damaged_file_is_a_sentence_and_the_rest_is_shown(opened: "partial[AppTest]", indexed: Workspace) -> None:
    (identity,) = write_synthetic_explanations(indexed)
    damage(indexed.runs / "explain-test" / "parts" / "000000" / "simulations.parquet", "garbled")
    page = opened(explanation=identity)
    assert not page.exception
    assert any("simulations.parquet is damaged: make it again with python -m core resume explain-test" in said for said in alerts(page))
    assert len(rows(page)) == 1


def test_records_without_their_text_still_show_the_numbers(opened: "partial[AppTest]", indexed: Workspace) -> None:
    (identity,) = write_synthetic_explanations(indexed)
    write_synthetic_index(indexed, run="index-again", n_layers=2, width=8, contexts=96, seed=4)
    (indexed.runs / "index-test" / "manifest.json").unlink()
    page = opened(explanation=identity)
    assert not page.exception
    assert any("text cannot be shown" in said for said in alerts(page))
    assert len(page.get("plotly_chart")) == 3


def test_a_unit_without_explanations_offers_the_pattern_explainer(opened: "partial[AppTest]", indexed: Workspace) -> None:
    page = opened()
    assert "no explanation yet" in shown(page)
    page.button(key="explain-quick").click().run()
    assert not page.exception
    _, request = asked(indexed)
    (setting,) = request.settings
    assert [str(unit) for unit in request.units] == [UNIT]
    assert (setting.explainer.name, setting.simulator.name, setting.controls) == ("pattern", "pattern", ("lookup", "shuffled"))
    assert "waiting for the worker" in shown(page)
    assert "no explanation yet" not in shown(page)


def test_the_run_in_the_address_is_the_one_that_is_explained_from(indexed: Workspace, open_page: OpenPage) -> None:
    write_synthetic_index(indexed, run="index-small", n_layers=2, width=8, contexts=48)
    page = open_page(indexed, "unit", unit=UNIT, run="index-small")
    page.button(key="explain-quick").click().run()
    assert asked(indexed)[1].settings[0].index == "index-small"


def test_my_own_sentence_is_scored_like_any_other(opened: "partial[AppTest]", indexed: Workspace) -> None:
    page = act(opened(), "Write my own")
    assert page.button(key="explain-go").disabled, "not without a sentence"
    page.text_area(key=f"explain-mine-{UNIT}").input("Fires on *market* or *medicine*.").run()
    assert "nothing to pay" in shown(page)
    page.button(key="explain-go").click().run()
    assert not page.exception
    setting = asked(indexed)[1].settings[0]
    assert (setting.explainer.name, setting.explainer.text) == ("by-hand", "Fires on *market* or *medicine*.")
    assert setting.controls == ("lookup", "shuffled")


def test_a_language_model_needs_a_name_and_tells_its_cost_first(opened: "partial[AppTest]", indexed: Workspace) -> None:
    page = act(opened(), "Explain again")
    page.selectbox(key="explain-explainer").set_value("token-activation").run()
    page.selectbox(key="explain-simulator").set_value("chat").run()
    assert not page.exception
    assert page.button(key="explain-go").disabled
    write_synthetic_explanations(indexed, run="explain-earlier", settings=[chat_setting()])
    Registry(indexed).restore()
    page = act(opened(), "Explain again")
    page.selectbox(key="explain-explainer").set_value("token-activation").run()
    assert page.selectbox(key="explain-explainer-address").value == ENDPOINT.base_url, "what was used before is offered first"
    assert page.selectbox(key="explain-explainer-model").value == ENDPOINT.model
    page.selectbox(key="explain-simulator").set_value("chat").run()
    assert "21 calls" in shown(page), "one explanation, ten records for it and ten for the shuffled control"
    page.button(key="explain-go").click().run()
    run = next(run for run in Registry(indexed).list() if run.state == "queued")
    (setting,) = ExplainRequest.from_params(run.params).settings
    assert setting.explainer.endpoint == setting.simulator.endpoint == ENDPOINT


def test_an_explanation_is_scored_on_other_records_and_revised(opened: "partial[AppTest]", indexed: Workspace) -> None:
    (identity,) = write_synthetic_explanations(indexed, split="validation", settings=[chat_setting()])
    Registry(indexed).restore()
    page = act(opened(explanation=identity), "Score this one on other records")
    page.multiselect(key="explain-kinds").set_value(["random-only", "top-only"]).run()
    page.button(key="explain-go").click().run()
    assert not page.exception
    by_state = {run.state: run for run in Registry(indexed).list()}
    (setting,) = ExplainRequest.from_params(by_state["queued"].params).settings
    assert (setting.explainer.name, setting.explainer.given, setting.split) == ("given", identity, "test")
    assert setting.kinds == ("random-only", "top-only")
    Registry(indexed).request_cancel(by_state["queued"].id)
    page = act(opened(explanation=identity), "Revise this one")
    page.button(key="explain-go").click().run()
    assert not page.exception
    queued = next(run for run in Registry(indexed).list() if run.state == "queued")
    (setting,) = ExplainRequest.from_params(queued.params).settings
    assert (setting.arm, setting.explainer.given, setting.explainer.endpoint) == ("revision", identity, ENDPOINT)


@pytest.mark.parametrize(
    ("outcome", "again"), [({}, False), ({"quality": Quality(failing=0.4)}, True), ({"failed": "no answer"}, True)], ids=str
)
def test_what_was_done_before_is_not_done_again_unless_something_failed(
    opened: "partial[AppTest]", indexed: Workspace, outcome: dict[str, Any], again: bool
) -> None:
    page = opened()
    page.button(key="explain-quick").click().run()
    run, _ = asked(indexed)
    registry = Registry(indexed)
    registry.claim_next("interactive")
    write_synthetic_explanations(indexed, run=run.id, units=[UNIT], **outcome)
    registry.finish(run.id)
    page = opened()
    act(page, "Explain again").button(key="explain-go").click().run()
    assert any(f"Exactly this was done before ({run.id})" in said for said in alerts(page)) != again
    assert len(registry.list()) == 1 + again


def test_a_run_under_way_can_be_cancelled_and_a_failed_one_says_why(opened: "partial[AppTest]", indexed: Workspace) -> None:
    page = opened()
    page.button(key="explain-quick").click().run()
    run, _ = asked(indexed)
    page.button(key=f"explain-cancel-{run.id}").click().run()
    assert Registry(indexed).get(run.id).state == "cancelled"
    page.run()
    page.button(key=f"explain-retry-{run.id}").click().run()
    registry = Registry(indexed)
    assert registry.get(run.id).state == "queued"
    registry.claim_next("interactive")
    registry.fail(run.id, "The endpoint refused the key <b>.")
    page.run()
    assert "The endpoint refused the key <b>." in alerts(page)
    page.button(key=f"explain-dismiss-{run.id}").click().run()
    assert not alerts(page)


def test_only_what_i_wrote_alone_can_be_deleted(opened: "partial[AppTest]", indexed: Workspace) -> None:
    from core.autointerp.request import ExplainerChoice, Setting

    mine = Setting(explainer=ExplainerChoice("by-hand", text="My words."))
    (own,) = write_synthetic_explanations(indexed, run="explain-mine", settings=[mine], authors=("by hand",), text="My words.")
    (model,) = write_synthetic_explanations(indexed, run="explain-model", settings=[chat_setting()])
    two = write_synthetic_explanations(indexed, run="explain-two", settings=[mine, mine], authors=("by hand",))
    Registry(indexed).restore()
    for identity in (model, two[0]):
        assert not [button for button in opened(explanation=identity).button if button.key == "explanation-delete"]
    page = opened(explanation=own)
    page.button(key="explanation-delete").click().run()
    page.button(key="explanation-delete-now").click().run()
    assert not page.exception
    assert not (indexed.runs / "explain-mine").exists()
    assert "My words." not in "".join(rows(page))
    assert len(Registry(indexed).list()) == 2
