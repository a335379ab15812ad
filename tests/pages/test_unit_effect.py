"""The Unit page's section “Effect”: what it offers when nothing was ablated, and what it shows of what was."""

import csv
import io
import json
import math
from functools import partial
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from core.runs.registry import Registry
from core.store.effects import load_effect
from core.store.texts import load_vocab
from core.store.units import load_unit
from core.ui.effect_tables import most_moved, pack_rows, positions_csv, vocabulary_csv
from core.units import UnitName
from core.vocab import Vocab
from core.workspace import Workspace
from tests.pages.conftest import OpenPage, alerts, components, shown
from tests.synthetic import write_synthetic_index
from tests.synthetic_effects import write_synthetic_effect
from tests.synthetic_explanations import write_synthetic_explanations

UNIT = "tiny/mlp.1/neurons/5"


@pytest.fixture
def opened(workspace: Workspace, open_page: OpenPage) -> Any:
    write_synthetic_index(workspace, length=16)
    return partial(open_page, workspace, "unit", unit=UNIT)


def tables(page: AppTest) -> dict[str, Any]:
    return {table["title"]: table for data in components(page, "bars") for table in data["tables"]}


def token_rows(page: AppTest) -> dict[str, Any]:
    return next(data["body"] for data in components(page, "tokens") if data["body"]["title"] == "Token by token")


def test_without_a_result_it_says_what_would_fill_it_and_the_button_queues_that(workspace: Workspace, opened: OpenPage) -> None:
    [explanation] = write_synthetic_explanations(workspace, units=[UNIT])
    page = opened()
    assert not page.exception
    assert "Nothing was ablated yet." in shown(page)
    page.selectbox(key="effect-rule").select("mean").run()
    page.button(key="effect-start").click().run()
    assert not page.exception
    run = Registry(workspace).list()[0]
    assert (run.kind, run.lane, run.state) == ("effect", "model", "queued")
    expected = {"units": [UNIT], "rule": "mean", "records": 20, "listed": 10, "index": "index-test", "explanations": [explanation]}
    assert run.params == expected
    assert page.query_params["effect"] in (run.id, [run.id])
    assert any("NEURON_ATLAS_BACKGROUND=off" in sentence for sentence in alerts(page))
    page.button(key=f"effect-cancel-{run.id}").click().run()
    assert Registry(workspace).get(run.id).state == "cancelled"


def test_a_result_shows_the_tokens_lowered_and_raised_most_and_the_records_underlined(workspace: Workspace, opened: OpenPage) -> None:
    write_synthetic_effect(workspace, UNIT, lowered=3)
    page = opened()
    assert not page.exception
    assert not alerts(page)
    vocab = load_vocab(workspace, "tiny")
    lowered, raised = tables(page)["Next tokens where it fires"]["columns"]
    assert lowered[0]["name"] == vocab.pieces([3])[0].replace(" ", "␣")
    assert lowered[0]["value"].startswith("−")
    assert raised[0]["value"].startswith("+")
    body = token_rows(page)
    assert len(body["rows"]) == 8
    assert all("effect" in row for row in body["rows"])
    assert body["most"] > 0
    alts = [element.proto.alt if hasattr(element.proto, "alt") else "" for element in page.get("plotly_chart")]
    assert len(alts) == 3
    assert "set to zero, everywhere" in shown(page)
    assert len(tables(page)["Most affected next tokens"]["columns"][0]) == 6


def test_the_address_names_a_run_and_one_of_another_unit_gives_way(workspace: Workspace, opened: OpenPage) -> None:
    write_synthetic_effect(workspace, UNIT, run="effect-old", rule="mean", records=2)
    write_synthetic_effect(workspace, UNIT, run="effect-new", records=3)
    write_synthetic_effect(workspace, "tiny/mlp.0/neurons/2", run="effect-other")
    assert len(token_rows(opened())["rows"]) == 3
    page = opened(effect="effect-old")
    assert len(token_rows(page)["rows"]) == 2
    assert "set to its mean over the text (" in shown(page)
    page = opened(effect="effect-other")
    assert len(token_rows(page)["rows"]) == 3
    assert "effect" not in page.query_params


@pytest.mark.parametrize("wrong", ["effect-none", "../x", "index-test"])
def test_a_wrong_run_is_a_sentence_and_the_unit_is_shown(opened: OpenPage, wrong: str) -> None:
    page = opened(effect=wrong)
    assert not page.exception
    assert len(alerts(page)) == 1
    assert "<h1>mlp.1 / neurons / 5</h1>" in "".join(element.proto.body for element in page.get("html"))  # type: ignore[attr-defined]


def test_a_unit_that_fires_nowhere_has_no_vocabulary_figure_and_says_why(workspace: Workspace, opened: OpenPage) -> None:
    write_synthetic_effect(workspace, UNIT, silent=True)
    page = opened()
    assert not page.exception
    assert len(page.get("plotly_chart")) == 1
    assert "No unit fires on this text" in json.dumps(components(page), ensure_ascii=False)


def test_an_ablation_score_stands_beside_the_words_it_is_of_and_an_undefined_one_says_why(workspace: Workspace, opened: OpenPage) -> None:
    [one] = write_synthetic_explanations(workspace, units=[UNIT])
    score = {"explanation": one, "score": 0.8, "simulated": 0.002, "mean": 0.01, "tokens": 640, "records": 10, "coverage": 1.0}
    score |= {"contexts": [1, 2], "split": "test", "simulator": "pattern", "reason": ""}
    undefined = {**score, "score": None, "simulated": None, "mean": None, "reason": "fewer than two records", "explanation": f"{one}9"}
    write_synthetic_effect(workspace, UNIT, scores=[score, undefined])
    text = shown(opened())
    assert "0.80  · JSD 0.002 against 0.01 nats · 10 records, 640 tokens, 100 % simulated by pattern" in text
    assert "undefined  · fewer than two records" in text
    assert "which was deleted" in text


def test_csv_has_a_line_a_token_and_a_line_a_position(workspace: Workspace) -> None:
    write_synthetic_index(workspace, length=16)
    write_synthetic_effect(workspace, UNIT)
    view, vocab = load_effect(workspace, "effect-test"), load_vocab(workspace, "tiny")
    rows = list(csv.reader(io.StringIO(vocabulary_csv(view, vocab).decode())))
    assert len(rows) == 1 + vocab.size
    assert int(rows[1][0]) == 3
    changes = [float(row[2]) for row in rows[1:]]
    assert changes == sorted(changes)
    formulas = csv.reader(io.StringIO(vocabulary_csv(view, Vocab([b"@sum"] * vocab.size, [False] * vocab.size)).decode()))
    assert {row[1] for row in list(formulas)[1:]} == {"'@sum"}
    rows = list(csv.DictReader(io.StringIO(positions_csv(view, vocab).decode())))
    assert len(rows) == view.run.positions
    last = [row for row in rows if row["next_token"] == ""]
    assert len(last) == 8
    assert {row["loss_change"] for row in last} == {""}
    assert float(rows[0]["loss_change"]) == -float(rows[0]["log_probability_change"])


def test_the_most_affected_next_tokens_are_those_whose_probability_moves_most(workspace: Workspace) -> None:
    write_synthetic_index(workspace, length=16)
    write_synthetic_effect(workspace, UNIT)
    view = load_effect(workspace, "effect-test")
    found = most_moved(view, 5)
    moves = [abs(one.after - one.before) for one in found]
    assert moves == sorted(moves, reverse=True)
    lists = view.lists["before"]
    row = view.rows_of(found[0].text).start + found[0].position
    expected = max(abs(math.exp(q) - math.exp(p)) for p, q in zip(lists.original[row][:4], lists.ablated[row][:4], strict=True))
    assert moves[0] >= expected - 1e-6


def test_hostile_tokens_are_shown_inert(workspace: Workspace, open_page: OpenPage) -> None:
    write_synthetic_index(workspace, hostile=True, length=32)
    write_synthetic_effect(workspace, UNIT)
    page = open_page(workspace, "unit", unit=UNIT)
    assert not page.exception
    assert "<script" not in "".join(str(element.proto) for element in page.get("plotly_chart"))
    body = json.loads(
        pack_rows(load_effect(workspace, "effect-test"), load_unit(workspace, UnitName.parse(UNIT)), load_vocab(workspace, "tiny"))
    )
    assert "\u202e" not in json.dumps(body, ensure_ascii=False)
