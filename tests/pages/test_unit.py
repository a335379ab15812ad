"""The Unit page: a good address shows its unit, a wrong one a sentence and no other unit, whatever the tokens are."""

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from core.errors import AtlasError
from core.runs.registry import Registry
from core.store.units import load_unit
from core.ui.records import record_list
from core.units import UnitName
from core.workspace import Workspace
from tests.pages import conftest
from tests.pages.conftest import OpenPage, alerts
from tests.synthetic import write_synthetic_index
from tests.synthetic_text import HOSTILE

Open = Callable[..., AppTest]


@pytest.fixture
def opened(workspace: Workspace, open_page: OpenPage) -> Open:
    """Open the page with an address over the test's workspace."""
    return partial(open_page, workspace, "unit")


def address(page: AppTest, name: str) -> str:
    """A value in the page's address."""
    value: Any = page.query_params[name]
    return value if isinstance(value, str) else value[-1]


def said(page: AppTest) -> str:
    """All text the page shows as HTML."""
    return "\n".join(element.proto.body for element in page.get("html"))


def components(page: AppTest) -> list[dict[str, Any]]:
    """The data of the records and tables, in the order of the page."""
    return [data for data in conftest.components(page) if "here" not in data]


def records(page: AppTest) -> dict[str, Any]:
    return next(data for data in components(page) if "body" in data)


def test_a_good_address_shows_that_unit(workspace: Workspace, opened: Open) -> None:
    write_synthetic_index(workspace)
    page = opened(unit="tiny/mlp.1/neurons/5")
    assert not page.exception
    assert not alerts(page)
    assert "<h1>mlp.1 / neurons / 5</h1>" in said(page)
    data = records(page)
    assert data["body"]["key"].endswith(":tiny/mlp.1/neurons/5")
    titles = [band["title"] for band in data["body"]["bands"]]
    assert titles == ["Top", "99–99.9 %", "90–99 %", "50–90 %", "0–50 %", "Random", "Most negative"]
    assert len(page.get("plotly_chart")) == 1


def test_an_unsigned_unit_has_no_negative_band_and_no_negative_limit(workspace: Workspace, opened: Open) -> None:
    write_synthetic_index(workspace, signed=False)
    body = records(opened(unit="tiny/mlp.0/neurons/0"))["body"]
    assert "Most negative" not in [band["title"] for band in body["bands"]]
    assert body["low"] == 0


def test_a_dead_unit_is_shown_and_says_so(workspace: Workspace, opened: Open) -> None:
    write_synthetic_index(workspace)
    page = opened(unit="tiny/mlp.0/neurons/15")
    assert not page.exception
    assert not page.get("plotly_chart")
    assert "Exactly zero on every token." in json.dumps(components(page))


def test_the_switches_start_as_the_address_says(workspace: Workspace, opened: Open) -> None:
    write_synthetic_index(workspace)
    page = opened(unit="tiny/mlp.0/neurons/1", window="all", scale="text", curve="log")
    assert records(page)["view"] == {"window": "all", "scale": "text", "curve": "log"}


def test_a_wrong_switch_is_a_sentence_and_the_unit_is_shown(workspace: Workspace, opened: Open) -> None:
    write_synthetic_index(workspace)
    page = opened(unit="tiny/mlp.0/neurons/1", window="7<b>")
    assert alerts(page) == ["“7<b>” is not a window: use 5, 16 or all."]
    assert records(page)["view"]["window"] == "16"


WRONG = {
    "another/mlp.0/neurons/0": "“another” is not indexed",
    "tiny/mlp.99/neurons/5": "Layer 99 is out of range: the model's layers are 0 to 2.",
    "tiny/attn.0/neurons/5": "attn.0 of tiny is not indexed",
    "tiny/mlp.0/neurons/16": "Unit 16 is out of range: mlp.0 has units 0 to 15.",
    "tiny/mlp.0/neurons/-1": "“-1” is not a unit's number",
    "tiny/mlp.0/neurons/abc": "“abc” is not a unit's number",
    "tiny/mlp.0/neurons/٣": "is not a unit's number",
    "tiny/mlp.0/neurons/1e3": "is not a unit's number",
    "tiny/mlp.-1/neurons/0": "is not a site",
    "tiny/mlp.0/pca/0": "is not indexed in the basis “pca”",
    "tiny/mlp.0/neurons": "is not a unit",
    "%3Cscript%3E": "“%3Cscript%3E” is not a unit",
    "<script>alert(1)</script>": "is not a unit",
    "../../etc/passwd": "is not the name of a subject",
    "\x00\u202e": "“··” is not a unit",
}


@pytest.mark.parametrize(("unit", "sentence"), WRONG.items())
def test_a_wrong_address_is_one_sentence_and_no_unit(workspace: Workspace, opened: Open, unit: str, sentence: str) -> None:
    write_synthetic_index(workspace)
    page = opened(unit=unit)
    assert not page.exception
    assert len(alerts(page)) == 1
    assert sentence in alerts(page)[0]
    assert not page.get("bidi_component")
    assert not page.selectbox
    assert address(page, "unit") == unit, "the address was changed"


def test_a_wrong_address_offers_units_that_exist(workspace: Workspace, opened: Open) -> None:
    write_synthetic_index(workspace)
    page = opened(unit="tiny/mlp.9/neurons/99")
    assert "/unit?unit=tiny/mlp.2/neurons/15" in said(page)


def test_a_wrong_address_leaves_the_title_and_a_jump_box_that_leads_on(workspace: Workspace, opened: Open) -> None:
    write_synthetic_index(workspace)
    page = opened(unit="tiny/mlp.9/neurons/99", run="other")
    assert [title.value for title in page.title] == ["Unit"]
    page.text_input("unit-jump").set_value("nonsense").run()
    assert "is not a unit's number" in alerts(page)[0]
    page.text_input("unit-jump").set_value("1/5").run()
    assert "<h1>mlp.1 / neurons / 5</h1>" in said(page)
    assert not alerts(page)
    assert "run" not in page.query_params


def test_a_jump_to_another_model_lets_go_of_the_run_that_was_chosen(workspace: Workspace, opened: Open) -> None:
    run = write_synthetic_index(workspace)
    write_synthetic_index(workspace, run="index-other", slug="other", n_layers=2, width=8)
    page = opened(unit="tiny/mlp.1/neurons/5", run=run)
    page.text_input("unit-jump").set_value("1/6").run()
    assert (address(page, "unit"), address(page, "run")) == ("tiny/mlp.1/neurons/6", run)
    page.text_input("unit-jump").set_value("other/mlp.0/neurons/3").run()
    assert address(page, "unit") == "other/mlp.0/neurons/3"
    assert "run" not in page.query_params
    assert not alerts(page)


def test_an_unknown_run_is_a_sentence(workspace: Workspace, opened: Open) -> None:
    run = write_synthetic_index(workspace)
    page = opened(unit="tiny/mlp.0/neurons/0", run="other")
    assert len(alerts(page)) == 1
    assert run in alerts(page)[0]


def test_no_unit_in_the_address_leads_to_one(workspace: Workspace, opened: Open) -> None:
    write_synthetic_index(workspace)
    page = opened()
    name = UnitName.parse(address(page, "unit"))
    assert f"<h1>{name.site} / neurons / {name.index}</h1>" in said(page)


def test_a_number_written_with_zeros_in_front_is_the_same_unit_and_its_right_name_is_told(workspace: Workspace, opened: Open) -> None:
    write_synthetic_index(workspace)
    page = opened(unit="tiny/mlp.01/neurons/007")
    assert "<h1>mlp.1 / neurons / 7</h1>" in said(page)
    (stepper,) = conftest.components(page, "stepper")
    assert (stepper["parameter"], stepper["written"], stepper["here"]) == ("unit", "tiny/mlp.01/neurons/007", "tiny/mlp.1/neurons/7")


def test_the_pickers_follow_the_address_and_write_it(workspace: Workspace, opened: Open) -> None:
    write_synthetic_index(workspace)
    page = opened(unit="tiny/mlp.1/neurons/5")
    assert page.number_input("unit-number").value == 5
    page.number_input("unit-number").set_value(7).run()
    assert address(page, "unit") == "tiny/mlp.1/neurons/7"
    page.text_input("unit-jump").set_value("8").run()
    assert page.number_input("unit-number").value == 8


def test_a_jump_to_nowhere_says_why_and_stays(workspace: Workspace, opened: Open) -> None:
    write_synthetic_index(workspace)
    page = opened(unit="tiny/mlp.1/neurons/5")
    page.text_input("unit-jump").set_value("0/99").run()
    assert "Unit 99 is out of range" in alerts(page)[0]
    assert "<h1>mlp.1 / neurons / 5</h1>" in said(page)
    page.text_input("unit-jump").set_value("0/3").run()
    assert address(page, "unit") == "tiny/mlp.0/neurons/3"
    assert not alerts(page)


def test_of_two_runs_the_chosen_one_is_shown(workspace: Workspace, opened: Open) -> None:
    write_synthetic_index(workspace, run="first", contexts=40)
    write_synthetic_index(workspace, run="second", contexts=60, seed=1)
    page = opened(unit="tiny/mlp.1/neurons/5", run="first")
    assert records(page)["body"]["key"].startswith("first:")
    page.selectbox("unit-run").select("second").run()
    assert records(page)["body"]["key"].startswith("second:")
    assert address(page, "run") == "second"


def test_a_run_under_way_says_how_far_it_is_and_newer_results_are_shown(workspace: Workspace, opened: Open) -> None:
    write_synthetic_index(workspace, state="partial")
    page = opened(unit="tiny/mlp.0/neurons/1")
    assert "64 of 128 contexts" in said(page)
    assert "The run was stopped: Runs resumes it." in said(page)
    write_synthetic_index(workspace, state="complete", contexts=80, generation=2)
    page.run()
    assert "partial" not in said(page).replace(".nu-partial", "")
    assert ":2:" in records(page)["body"]["key"]


def test_a_page_follows_the_run_only_while_it_is_at_work(workspace: Workspace, opened: Open) -> None:
    registry = Registry(workspace)
    run = registry.submit("index", {"model": "tiny"}).id
    write_synthetic_index(workspace, run=run, state="partial")
    assert "The page follows the run." in said(opened(unit="tiny/mlp.0/neurons/1"))
    registry.request_cancel(run)
    assert "The page follows the run." not in said(opened(unit="tiny/mlp.0/neurons/1"))


def test_an_empty_workspace_says_what_would_fill_the_page(opened: Open) -> None:
    page = opened(unit="tiny/mlp.0/neurons/1")
    assert not page.exception
    assert "Nothing is indexed yet" in said(page)
    assert page.button


def test_hostile_tokens_reach_the_browser_as_data_only(workspace: Workspace, opened: Open) -> None:
    write_synthetic_index(workspace, hostile=True)
    for unit in (0, 8):
        page = opened(unit=f"tiny/mlp.0/neurons/{unit}")
        assert not page.exception
        assert "alert(1)" not in said(page)
        pieces = records(page)["body"]["pieces"]
        assert HOSTILE[0].decode() in pieces
        assert "⟨U+202E⟩" in pieces
        assert not any("\u202e" in piece or "\x00" in piece for piece in pieces)
        assert page.get("markdown") == [] or all("alert(1)" not in element.value for element in page.markdown)


def test_provenance_lists_the_recipe_and_offers_every_record(workspace: Workspace, open_page: OpenPage) -> None:
    run = write_synthetic_index(workspace)
    page = open_page(workspace, "unit", unit="tiny/mlp.0/neurons/1")
    assert "weights hash" not in said(page)
    page.session_state["unit-provenance"] = True
    page.run()
    assert not page.exception
    for item in ("weights hash", "slice: hash", "slice: length", "slice: bos", "dtype", "seed", run):
        assert item in said(page)
    record = next(box for box in page.selectbox if box.label == "Record")
    assert len(record.options) == len(records(page)["body"]["rows"])


def test_a_record_that_cannot_be_computed_again_is_a_sentence(
    workspace: Workspace, open_page: OpenPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AtlasError("The model <b>tiny</b> is gone.")

    monkeypatch.setattr("core.ui.unit_recompute.call", refuse)
    write_synthetic_index(workspace)
    page = open_page(workspace, "unit", unit="tiny/mlp.0/neurons/1")
    page.session_state["unit-provenance"] = True
    page.run()
    next(button for button in page.button if button.label == "recompute this record").click().run()
    assert alerts(page) == ["The model <b>tiny</b> is gone."]


def test_a_record_computed_again_is_shown_beside_the_stored_one(
    workspace: Workspace, open_page: OpenPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_synthetic_index(workspace)
    name = UnitName.parse("tiny/mlp.0/neurons/1")
    first = record_list(load_unit(workspace, name))[0]

    def call(_: Workspace, op: str, *, unit: str, run: str, context: int) -> dict[str, Any]:
        assert (op, unit, run, context) == ("recompute", str(name), "index-test", first.context)
        return {"tokens": first.tokens.tolist(), "activations": [None, *(first.activations[1:] + 0.5).tolist()]}

    monkeypatch.setattr("core.ui.unit_recompute.call", call)
    page = open_page(workspace, "unit", unit=str(name))
    page.session_state["unit-provenance"] = True
    page.run()
    next(button for button in page.button if button.label == "recompute this record").click().run()
    assert "Largest difference <b>0.5</b>" in said(page)
    assert [band["title"] for band in components(page)[-1]["body"]["bands"]] == ["Stored", "Fresh"]
