"""Ablate and steer: fields that live in the address, what is queued, and texts as they grow. No model process is started."""

import json
from pathlib import Path
from typing import Any

import pytest

from core.causal.effect_request import EffectRequest
from core.causal.steer_files import Stream
from core.causal.steer_request import SteerRequest
from core.runs.registry import Registry, Run
from core.store.steered import load_steered
from core.store.texts import load_vocab
from core.ui.ablate_section import parse_positions, positions_text
from core.ui.steer_section import to_csv
from core.vocab import Vocab
from core.workspace import Workspace
from tests.pages.conftest import N_LAYERS, WIDTH, OpenPage, alerts, components, shown
from tests.synthetic import write_synthetic_index

UNIT, OTHER = "tiny/mlp.1/neurons/3", "tiny/mlp.2/neurons/7"
TEXT = "the river"
STEPS = [(3, 3), (4, 9), (5, 4), (6, 5)]
"""What both sides write, step by step."""


@pytest.fixture
def here(tmp_path: Path) -> Workspace:
    workspace = Workspace.open(tmp_path / "ws")
    write_synthetic_index(workspace, n_layers=N_LAYERS, width=WIDTH, contexts=24, length=16)
    return workspace


def submitted(workspace: Workspace, **change: Any) -> tuple[Registry, Run]:
    """A run with the parameters that the page's fields give, at work."""
    request = SteerRequest.from_params({"units": [UNIT], "strengths": [2.0], "text": TEXT, **change})
    registry = Registry(workspace)
    registry.submit("steer", request.to_params(), lane="model")
    run = registry.claim_next("model")
    assert run is not None
    return registry, run


def head(run: Run) -> dict[str, Any]:
    named = {"unit": UNIT, "strength": 2.0, "maximum": 2.0, "amount": 4.0, "index": "index-test", "dictionary": {}}
    told = {"schema": 1, "kind": "steer", "run": run.id, "request": run.params, "subject": {"slug": "tiny"}}
    return {**told, "units": [named], "tokens": [0, 7, 8], "first": 1, "provenance": {}}


def step(place: int) -> dict[str, Any]:
    top = [[token, -0.5 - place, -1.0 - place] for token in range(3, 13)]
    one, other = STEPS[place]
    return {"original": {"token": one, "log_p": -0.5, "top": top}, "steered": {"token": other, "log_p": -1.5, "top": top}}


def texts(tested: Any) -> dict[str, Any]:
    return {body["label"]: body for body in components(tested, "marked_text")}


def test_without_a_unit_the_page_says_how_to_come_by_one_and_begins_with_one(here: Workspace, open_page: OpenPage) -> None:
    tested = open_page(here, "ablate_steer")
    assert "No unit yet. Name one of tiny" in shown(tested)
    assert tested.button(key="steer-start").disabled
    assert tested.button(key="ablate-start").disabled
    tested.button(key="chosen-begin").click().run()
    assert tested.query_params["units"].startswith("tiny/mlp.")
    assert not tested.button(key="steer-start").disabled
    assert alerts(tested) == []


def test_units_are_added_by_parts_of_their_names_and_removed(here: Workspace, open_page: OpenPage) -> None:
    tested = open_page(here, "ablate_steer", units=UNIT, text=TEXT)
    tested.text_input(key="chosen-typed").set_value("2/7").run()
    assert tested.query_params["units"] == f"{UNIT},{OTHER}"
    tested.number_input(key=f"chosen-strength-{OTHER}").set_value(-2.5).run()
    assert tested.query_params["strengths"] == "2,-2.5"
    tested.button(key=f"chosen-remove-{UNIT}").click().run()
    assert (tested.query_params["units"], tested.query_params["strengths"]) == (OTHER, "-2.5")
    for typed, sentence in (("9/1", "out of range"), ("7", "is there already"), ("a b", "is not a unit")):
        tested.text_input(key="chosen-typed").set_value(typed).run()
        assert any(sentence in told for told in alerts(tested)), (typed, alerts(tested))
        assert tested.query_params["units"] == OTHER


def test_write_queues_exactly_what_the_fields_say_and_the_page_waits_for_it(here: Workspace, open_page: OpenPage) -> None:
    query = {"units": f"{UNIT},{OTHER}", "strengths": "4,-2.5", "text": TEXT, "mode": "clamp", "where": "generated"}
    tested = open_page(here, "ablate_steer", **query, tokens="12", temperature="0.8", top_p="0.9", seed="5")
    assert alerts(tested) == []
    tested.button(key="steer-start").click().run()
    (run,) = Registry(here).list()
    assert (run.kind, run.lane) == ("steer", "model")
    wanted = {"units": [UNIT, OTHER], "strengths": [4.0, -2.5], "text": TEXT, "mode": "clamp", "where": "generated", "tokens": 12}
    assert run.params == {**wanted, "temperature": 0.8, "top_p": 0.9, "seed": 5}
    assert "waiting for the worker" in shown(tested)
    tested.button(key=f"stop-{run.id}").click().run()
    assert Registry(here).get(run.id).state == "cancelled"


def test_what_is_written_so_far_is_shown_side_by_side_and_a_stop_keeps_it(here: Workspace, open_page: OpenPage) -> None:
    registry, run = submitted(here)
    stream = Stream(registry.folder(run.id), head(run))
    for place in range(3):
        stream.add(step(place))
    tested = open_page(here, "ablate_steer", units=UNIT, text=TEXT)
    both = texts(tested)
    original, steered = (both[f"What the model wrote, {side}"] for side in ("original", "steered"))
    vocab = load_vocab(here, "tiny")
    assert original["before"] == steered["before"] == vocab.decode([7, 8])
    assert [len(original["pieces"]), len(steered["pieces"])] == [3, 3]
    assert (original["changed"], steered["changed"]) == ([], [1])
    assert original["picked"] == 2  # the newest while it grows
    tables = [json.loads(data) if isinstance(data, str) else data for data in components(tested, "bars")]
    assert [table["tables"][0]["title"] for table in tables] == ["Next token, original", "Next token, steered"]
    assert len(tables[0]["tables"][0]["columns"][0]) == 10
    tested.button(key=f"stop-{run.id}").click().run()
    registry.cancelled(run.id)
    tested.run()
    assert "It was stopped: what it wrote until then is kept below" in shown(tested)
    assert len(texts(tested)["What the model wrote, steered"]["pieces"]) == 3
    assert tested.button(key="steer-start").label == "Go on"
    tested.button(key="steer-start").click().run()
    assert registry.get(run.id).state == "queued"


def test_a_finished_text_opens_where_the_sides_begin_to_differ_and_is_saved_whole(here: Workspace, open_page: OpenPage) -> None:
    registry, run = submitted(here)
    stream = Stream(registry.folder(run.id), head(run))
    for place in range(4):
        stream.add(step(place))
    stream.complete()
    registry.finish(run.id)
    tested = open_page(here, "ablate_steer", units=UNIT, text=TEXT)
    assert "They differ from token 2 on" in shown(tested)
    assert texts(tested)["What the model wrote, original"]["picked"] == 1
    assert texts(open_page(here, "ablate_steer", units=UNIT, text=TEXT, step="3"))["What the model wrote, steered"]["picked"] == 3
    beyond = open_page(here, "ablate_steer", units=UNIT, text=TEXT, step="4")
    assert any("is not a token of what was written" in told for told in alerts(beyond))
    found = load_steered(here, run.id)
    assert found is not None
    lines = to_csv(found, load_vocab(here, "tiny")).decode().splitlines()
    assert len(lines) == 1 + 2 * 4 * 10
    assert lines[0].startswith('"side","step","token","text","log_probability","changed","rank"')
    formulas = to_csv(found, Vocab([b"=1+1"] * 20, [False] * 20)).decode().splitlines()
    assert all(line.count('"\'=1+1"') == 2 for line in formulas[1:])


def test_a_run_in_the_address_becomes_its_own_fields(here: Workspace, open_page: OpenPage) -> None:
    _, run = submitted(here, strengths=[-3.0], mode="clamp", tokens=9, temperature=0.5, seed=2)
    tested = open_page(here, "ablate_steer", run=run.id)
    query = {name: value if isinstance(value, str) else value[0] for name, value in tested.query_params.items()}
    wanted = {"units": UNIT, "strengths": "-3", "text": TEXT, "mode": "clamp", "tokens": "9", "temperature": "0.5", "seed": "2"}
    assert query == wanted
    assert alerts(tested) == []


def test_a_run_with_parameters_of_the_command_line_is_found_again(here: Workspace, open_page: OpenPage) -> None:
    _, run = submitted(here, strengths=[0.12345678901], index="index-test")
    tested = open_page(here, "ablate_steer", run=run.id)
    assert tested.query_params["strengths"] in ("0.12345678901", ["0.12345678901"])
    assert any(one.key == f"stop-{run.id}" for one in tested.button)  # it is the one that the fields ask for
    registry = Registry(here)
    request = EffectRequest((UNIT,), text=TEXT, positions=(0, 2, 3, 4), listed=3, index="index-test")
    other = registry.submit("effect", request.to_params(), lane="model")
    tested = open_page(here, "ablate_steer", run=other.id)
    assert alerts(tested) == [] or all("No worker" in told for told in alerts(tested))
    assert tested.text_input(key="ablate_positions").value == "1, 3-5"
    assert any(one.key == f"stop-{other.id}" for one in tested.button)
    assert "those of index-test" in shown(tested)
    tested.button(key="causal-index-largest").click().run()
    assert "index" not in tested.query_params


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ({"units": "tiny/mlp.1/neurons/999"}, "has units 0 to 23"),
        ({"units": "<script>"}, "is not a unit"),
        ({"units": "other/mlp.1/neurons/1"}, "“other” is not indexed here"),
        ({"units": f"{UNIT},{UNIT}"}, "was named twice"),
        ({"units": ",".join(f"tiny/mlp.1/neurons/{n}" for n in range(9))}, "9 units are too many"),
        ({"units": UNIT, "strengths": "nan"}, "“nan” is not a strength"),
        ({"units": UNIT, "strengths": "1e9"}, "“1e9” is not a strength"),
        ({"units": UNIT, "strengths": "1,2"}, "more strengths than units"),
        ({"units": UNIT, "tokens": "257"}, "“257” is not possible for “Tokens”"),
        ({"units": UNIT, "temperature": "hot"}, "“hot” is not a number for “Temperature”"),
        ({"units": UNIT, "temperature": "9"}, "The temperature must be a number from 0 to 5, not 9.0."),
        ({"units": UNIT, "top_p": "nan"}, "(top-p) must be a number from 0 to 1, not nan."),
        ({"units": UNIT, "mode": "sub"}, "“sub” is not a choice for “How”"),
        ({"units": UNIT, "text": " "}, "The text is empty: write or paste a few words."),
        ({"units": UNIT, "text": "a" * 2001}, "has 2,001 characters; at most 2,000 are taken"),
        ({"units": UNIT, "positions": "0"}, "“0” is not a choice of tokens"),
        ({"units": UNIT, "positions": "300"}, "write numbers from 1 to 256"),
        ({"units": UNIT, "listed": "49152"}, "is not how many tokens can be listed"),
        ({"units": UNIT, "index": "../x"}, "The run “../x” has no index here"),
        ({"units": UNIT, "index": "index-none"}, "index-none"),
        ({"units": UNIT, "rule": "halve"}, "“halve” is not a choice for “Set them to”"),
        ({"run": "no-run"}, "There is no run no-run"),
    ],
)
def test_a_wrong_address_is_one_sentence(indexed: Workspace, open_page: OpenPage, query: dict[str, str], sentence: str) -> None:
    tested = open_page(indexed, "ablate_steer", **query)
    assert not tested.exception
    assert len(alerts(tested)) == 1, alerts(tested)
    assert sentence in alerts(tested)[0]


def test_positions_are_numbered_from_one_with_spans() -> None:
    assert positions_text([4, 2, 0, 3]) == "1, 3-5"
    assert parse_positions(positions_text([7, 1, 2])) == (1, 2, 7)
    assert parse_positions(" 3, 5-7 3") == (2, 4, 5, 6)
    assert parse_positions(" ") is None


def test_ablating_queues_the_text_with_all_units_and_its_results_are_shown(here: Workspace, open_page: OpenPage) -> None:
    tested = open_page(here, "ablate_steer", units=f"{UNIT},{OTHER}", text=TEXT, positions="2", rule="mean")
    tested.button(key="ablate-start").click().run()
    (run,) = Registry(here).list()
    assert (run.kind, run.lane) == ("effect", "model")
    assert run.params == {"units": [UNIT, OTHER], "rule": "mean", "listed": 10, "text": TEXT, "positions": [1]}
    assert "waiting for the worker" in shown(tested)


def test_the_unit_page_leads_here(indexed: Workspace, open_page: OpenPage) -> None:
    assert "Steer with this unit" in shown(open_page(indexed, "unit", unit=UNIT))
