"""Try text: the picture, the list and one unit, from a model process that answers what the test says."""

from collections.abc import Callable
from typing import Any

import pytest

from core.errors import AtlasError
from core.store.catalog import load_index
from core.ui import model_process, tried, words
from core.ui.tried import MAX_CHARACTERS, SAMPLE
from core.workspace import Workspace
from tests.pages.conftest import N_LAYERS, WIDTH, OpenPage, alerts, bodies, components, shown
from tests.synthetic import write_synthetic_index

TOKENS = [3, 4, 5, 6]
Asked = list[tuple[str, dict[str, Any]]]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """A model process that knows four tokens; unit n of mlp.1 is the strongest on token n. What it was asked is returned."""
    log: Asked = []

    def call(workspace: Workspace, op: str, timeout: float, *, on_progress: Callable[[str], None], **args: Any) -> dict[str, Any]:
        log.append((op, args))
        on_progress("loading the model")
        if op == "unit_on_text":
            steps = {"p50": 0.0, "p90": 0.1, "p99": 1.0, "p999": 2.0, "max": 4.0}
            return {"run": args["run"], "tokens": TOKENS, "bos": False, "activations": [0.0, -1.0, 2.5, 0.5], "thresholds": steps}
        sites = [f"mlp.{layer}" for layer in range(N_LAYERS)]
        strongest = [
            [{"site": "mlp.1", "unit": n, "value": 2.5, "percentile_band": "p999", "ratio_to_max": 0.75}] if n else [] for n in range(4)
        ]
        fires = [[layer + 2 * (n == 2) for n in range(4)] for layer in range(N_LAYERS)]
        return {"run": args["run"], "tokens": TOKENS, "bos": False, "sites": sites, "fires": fires, "strongest": strongest}

    monkeypatch.setattr(tried, "call", call)
    monkeypatch.setattr(model_process, "running", lambda _: True)
    return log


def test_the_sample_is_read_and_the_busiest_token_is_picked(indexed: Workspace, open_page: OpenPage, asked: Asked) -> None:
    tested = open_page(indexed, "try_text")
    assert asked == [("try_text", {"subject": "tiny", "run": "index-test", "text": SAMPLE})]
    (grid,) = components(tested, "fire_grid")
    assert (grid["picked"], len(grid["pieces"]), grid["sites"]) == (2, 4, ["mlp.0", "mlp.1", "mlp.2"])
    (rows,) = components(tested, "unit_rows")
    assert [row["name"] for row in rows["rows"]] == ["tiny/mlp.1/neurons/2"]
    assert rows["rows"][0]["cells"] == ["2.5", "75 %", "99.9th"]
    assert "so far" not in shown(tested)
    assert "are early" not in shown(tested)


@pytest.mark.parametrize(
    ("ratio", "text"),
    [(0.0, "0 %"), (0.754, "75 %"), (1.0, "100 %"), (1.004, "100 %"), (1.006, "1.01 ×"), (1.0951, "1.1 ×"),
     (3.34, "3.3 ×"), (9.96, "10 ×"), (1234.5, "1,234 ×")],
)  # fmt: skip
def test_an_activation_beyond_its_maximum_is_not_a_share_of_it(ratio: float, text: str) -> None:
    assert words.against_maximum(ratio) == text


def test_early_statistics_are_said_to_be_early(
    workspace: Workspace, open_page: OpenPage, monkeypatch: pytest.MonkeyPatch, asked: Asked
) -> None:
    write_synthetic_index(workspace, n_layers=N_LAYERS, width=WIDTH, contexts=24, length=16, state="partial")
    answer = tried.call

    def call(*args: Any, **named: Any) -> dict[str, Any]:
        found = answer(*args, **named)
        for strong in (each for token in found.get("strongest", []) for each in token):
            strong.update(percentile_band="max", ratio_to_max=3.34)
        return found

    monkeypatch.setattr(tried, "call", call)
    tested = open_page(workspace, "try_text", unit="tiny/mlp.1/neurons/7")
    (rows,) = components(tested, "unit_rows")
    assert rows["rows"][0]["cells"] == ["2.5", "3.3 ×", "its maximum so far"]
    text = shown(tested)
    assert "against the unit's own maximum so far" in text
    assert "The index has read 24 of 48 contexts: the maxima and percentiles are early" in text
    assert "Over its own text so far:" in text


def test_each_unit_of_the_list_is_the_one_the_index_knows(indexed: Workspace, open_page: OpenPage, asked: Asked) -> None:
    """The chip must be the peak token of that very unit: the ordinals of the cache are worked out from the index."""
    tested = open_page(indexed, "try_text", token="3")
    (rows,) = components(tested, "unit_rows")
    listed = components(open_page(indexed, "explore", layer="1", sort="unit"), "unit_rows")[0]["rows"]
    assert load_index(indexed, "index-test").n_layers == N_LAYERS
    assert rows["rows"][0]["chip"] == listed[3]["chip"]
    assert rows["rows"][0]["snippet"] == listed[3]["snippet"]


def test_the_unit_in_the_address_is_shown_on_the_text(indexed: Workspace, open_page: OpenPage, asked: Asked) -> None:
    tested = open_page(indexed, "try_text", unit="tiny/mlp.1/neurons/7", text="some words")
    assert asked[-1] == ("unit_on_text", {"unit": "tiny/mlp.1/neurons/7", "run": "index-test", "text": "some words"})
    (body,) = [data["body"] for data in components(tested, "neuron_atlas_tokens")]
    assert (body["rows"][0]["n"], body["rows"][0]["peak"], body["limit"]) == (4, 2, 4.0)
    assert "99.9th percentile 2 maximum 4" in " ".join(shown(tested).split())


def test_the_model_is_asked_once_for_a_text(indexed: Workspace, open_page: OpenPage, asked: Asked) -> None:
    tested = open_page(indexed, "try_text")
    tested.query_params["token"] = "1"
    tested.run()
    assert len(asked) == 1


def test_a_typed_text_goes_into_the_address(indexed: Workspace, open_page: OpenPage, asked: Asked) -> None:
    tested = open_page(indexed, "try_text", token="1")
    tested.text_area[0].set_value("A new text <b>")
    tested.button[0].click().run()
    assert tested.query_params["text"] == "A new text <b>"
    assert "token" not in tested.query_params
    assert asked[-1][1]["text"] == "A new text <b>"
    assert "<b> " not in "".join(body for body in bodies(tested) if "new text" in body)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"token": "4"}, "not a token of this text"),
        ({"token": "-1"}, "not a token of this text"),
        ({"token": "x"}, "not a token of this text"),
        ({"unit": "tiny/mlp.1/neurons/-2"}, "not a unit's number"),
        ({"unit": "<script>"}, "is not a unit"),
        ({"unit": "other/mlp.1/neurons/1"}, "not a unit of tiny"),
        ({"text": "x" * (MAX_CHARACTERS + 1)}, "at most 2,000"),
        ({"run": "nope"}, "nope"),
    ],
)
def test_a_wrong_address_is_one_sentence(indexed: Workspace, open_page: OpenPage, asked: Asked, query: dict[str, str], said: str) -> None:
    tested = open_page(indexed, "try_text", **query)
    assert not tested.exception
    assert len(alerts(tested)) == 1
    assert said in alerts(tested)[0]
    assert "<script" not in "".join(bodies(tested))


def test_what_the_model_process_refuses_is_said(indexed: Workspace, open_page: OpenPage, monkeypatch: pytest.MonkeyPatch) -> None:
    def call(*_: Any, **__: Any) -> dict[str, Any]:
        raise AtlasError("The text has 300 tokens and at most 256 can be read at once: shorten it.")

    monkeypatch.setattr(tried, "call", call)
    monkeypatch.setattr(model_process, "running", lambda _: True)
    tested = open_page(indexed, "try_text")
    assert alerts(tested) == ["The text has 300 tokens and at most 256 can be read at once: shorten it."]
    assert tested.text_area[0].value == SAMPLE


def test_a_dashboard_that_starts_no_worker_says_so(indexed: Workspace, open_page: OpenPage) -> None:
    assert "No model process runs" in alerts(open_page(indexed, "try_text"))[0]


def test_a_token_without_active_units_says_so(indexed: Workspace, open_page: OpenPage, asked: Asked) -> None:
    assert "No unit is active on this token" in shown(open_page(indexed, "try_text", token="0"))


def test_an_empty_workspace_says_what_would_fill_it(workspace: Workspace, open_page: OpenPage, asked: Asked) -> None:
    assert "Nothing is indexed yet" in shown(open_page(workspace, "try_text"))
    assert asked == []
