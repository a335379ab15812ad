"""Explanations as rows, pairs and figures: inert whatever the words are, one joint scale that keeps ρ, failures seen and never zero."""

import csv
import io
import json
import math
from typing import Any

import numpy as np
import pytest

from core.autointerp.comparison import figure
from core.autointerp.scoring import correlation
from core.store.cache import Cache
from core.store.explanation_queries import of_unit
from core.store.explanation_view import ExplanationView, load_explanation
from core.store.texts import load_vocab
from core.ui.explanation_charts import overlay, scatter
from core.ui.explanation_pairs import TOKEN_COLUMNS, answered, joint_top, pack_pairs, pairs, splits_of, tokens_csv
from core.ui.explanation_rows import entry_html, interval
from core.ui.starred import has_numbers, plain, starred
from core.units import UnitName
from core.vocab import Vocab
from core.workspace import Workspace
from tests.synthetic import write_synthetic_index
from tests.synthetic_explanations import Quality, write_synthetic_explanations

UNIT = UnitName.parse("tiny/mlp.1/neurons/0")


@pytest.fixture
def indexed(workspace: Workspace) -> Workspace:
    write_synthetic_index(workspace, n_layers=2, width=8, contexts=96, hostile=True)
    return workspace


def row_of(workspace: Workspace) -> dict[str, Any]:
    cache = Cache.open(workspace)
    cache.ingest()
    (row,) = of_unit(cache, UNIT).to_dict("records")
    cache.close()
    return {str(name): value for name, value in row.items()}


def opened(workspace: Workspace, **options: Any) -> tuple[ExplanationView, Vocab]:
    (identity,) = write_synthetic_explanations(workspace, **options)
    return load_explanation(workspace, identity), load_vocab(workspace, "tiny")


@pytest.mark.parametrize("words", ["<script>alert(1)</script> *<img src=x onerror=alert(1)>*", '"><b onclick=x>*a*', "**\u202e*", "***"])
def test_no_explanation_is_ever_markup(indexed: Workspace, words: str) -> None:
    write_synthetic_explanations(indexed, text=words.replace("{", "").replace("}", ""), authors=("<i>gpt</i>",))
    shown = entry_html(row_of(indexed), best=True)
    for harm in ("<script", "<img", "<i>", "onclick=x>*"):
        assert harm not in shown


def test_stars_become_bold_and_nothing_else_does() -> None:
    assert starred("Fires on *might*, *could be*; 2 * 3 * 4 and a*b") == "Fires on <b>might</b>, <b>could be</b>; 2 * 3 * 4 and a*b"
    unbroken = '<span style="white-space:nowrap">8–3</span>'
    assert starred(r"on *oh/<b>/\/* 8–3, *x* 2.") == f"on <b>oh</b> / <b>&lt;b&gt;</b> / <b>/</b> {unbroken}, <b>x</b> 2."
    assert starred("*and/or* (3), *and/or* 3.5") == "<b>and/or</b> (3), <b>and/or</b> 3.5"
    assert [has_numbers(text) for text in ("*a/b* 8–3.", "*a* 3", "*a* (3)", "*a*")] == [True, True, False, False]
    assert starred(r"*oh\, well*, *\**, *<b>* (3), \*not* it") == r"<b>oh, well</b>, <b>*</b>, <b>&lt;b&gt;</b> (3), \*not* it"
    assert plain("Fires on\n *might*  now") == "Fires on might now"
    assert plain(r"on *oh/\//…s* 8–3, *,* 2.") == "on oh / “/” / …s 8–3, “,” 2."
    assert len(plain("x" * 500, 80)) == 80


def test_a_row_tells_score_interval_coverage_and_controls(indexed: Workspace) -> None:
    write_synthetic_explanations(indexed, quality=Quality(failing=0.4), controls=("lookup", "shuffled", "paraphrase"))
    row = row_of(indexed)
    shown = entry_html(row)
    assert f"ρ {figure(row['rho'])}</b> {interval(row['low'], row['high'])}" in shown
    for role in ("lookup", "shuffled", "paraphrase"):
        assert f"{role} {figure(row[f'{role}_rho'])}" in shown
    asked = round(row["n_records"] / row["coverage"])
    assert f"{row['n_records']} of {asked} records" in shown
    assert f"{row['n_tokens']} tokens" in shown


def test_an_undefined_score_is_its_reason_and_never_a_number(indexed: Workspace) -> None:
    write_synthetic_explanations(indexed, quality=Quality(flat=True))
    shown = entry_html(row_of(indexed))
    assert "undefined</b>: the simulated activations are constant on these records" in shown
    assert "no evidence" in shown
    assert "ρ 0" not in shown
    assert "nan" not in shown.lower()


@pytest.mark.parametrize(("noise", "marked"), [(0.05, False), (80.0, True)])
def test_a_score_like_its_shuffled_control_is_marked(indexed: Workspace, noise: float, marked: bool) -> None:
    write_synthetic_explanations(indexed, quality=Quality(noise=noise))
    assert (">no evidence<" in entry_html(row_of(indexed))) == marked


def test_without_the_shuffled_control_nothing_is_claimed(indexed: Workspace) -> None:
    write_synthetic_explanations(indexed, controls=("lookup",), quality=Quality(noise=80.0))
    shown = entry_html(row_of(indexed))
    assert "shuffled control not made" in shown
    assert ">no evidence<" not in shown


def test_an_explanation_that_failed_says_why(indexed: Workspace) -> None:
    write_synthetic_explanations(indexed, failed="the model refused <b>")
    shown = entry_html(row_of(indexed))
    assert "Not explained: the model refused &lt;b&gt;" in shown
    assert "ρ" not in shown


def test_the_joint_scale_keeps_the_score(indexed: Workspace) -> None:
    view, _ = opened(indexed, quality=Quality(noise=1.0, failing=0.3))
    found = pairs(view, "test")
    score = view.score("simulated", "top-and-random", "test")
    assert score is not None
    true, simulated = answered(found)
    assert correlation(true, simulated) == pytest.approx(score.score.rho, abs=1e-6)
    assert len(true) == score.score.n_tokens
    assert simulated.max() <= joint_top(view, "test") * (1 + 1e-6)
    assert splits_of(view) == ["test"]


def test_the_worst_records_come_first_on_request_and_failures_before_them(indexed: Workspace) -> None:
    view, _ = opened(indexed, quality=Quality(noise=2.0, failing=0.3))
    as_written, worst = pairs(view, "test"), pairs(view, "test", worst_first=True)
    assert [pair.place for pair in as_written] == list(range(len(as_written)))
    assert sorted(pair.place for pair in worst) == [pair.place for pair in as_written]
    failed = [bool(pair.view.failed) for pair in worst]
    assert any(failed)
    assert failed == sorted(failed, reverse=True)
    errors = [float((pair.residual**2).sum()) for pair in worst if not pair.view.failed]
    assert errors == sorted(errors, reverse=True)


def test_every_record_is_two_rows_and_a_failed_one_was_not_computed(indexed: Workspace) -> None:
    view, vocab = opened(indexed, quality=Quality(failing=0.4))
    found = pairs(view, "test")
    body = json.loads(pack_pairs(view, found, vocab))
    assert [band["n"] for band in body["bands"]] == [2] * len(found)
    for place, pair in enumerate(found):
        true, simulated = body["rows"][2 * place : 2 * place + 2]
        assert "simulated" not in true
        assert simulated["simulated"]
        assert true["n"] == simulated["n"] == len(pair.view.tokens)
        assert true["peak"] == simulated["peak"] == int(np.argmax(pair.true))
        assert (simulated["value"] is None) == bool(pair.view.failed)
        assert ("the answer had the wrong length" in body["bands"][place]["note"]) == bool(pair.view.failed)
    assert any(pair.view.failed for pair in found)


def test_blind_rows_tell_nothing_of_the_match(indexed: Workspace) -> None:
    view, vocab = opened(indexed)
    body = json.loads(pack_pairs(view, pairs(view, "test"), vocab, blind=True))
    assert {band["note"] for band in body["bands"]} <= {"one of the strongest", "drawn at random"}
    assert view.identity not in body["file"]


def test_the_table_of_tokens_has_every_token_and_no_formula(indexed: Workspace) -> None:
    view, _ = opened(indexed, quality=Quality(failing=0.3))
    found = pairs(view, "test", worst_first=True)
    lines = list(csv.DictReader(io.StringIO(tokens_csv(view, found))))
    assert tuple(lines[0]) == TOKEN_COLUMNS
    assert len(lines) == sum(len(pair.true) for pair in found)
    for line in lines:
        assert line["text"][:1] not in ("=", "+", "-", "@")
        assert (line["simulated"] == "") == bool(line["failed"])
        if line["simulated"]:
            assert float(line["residual"]) == pytest.approx(float(line["simulated"]) - float(line["true"]), abs=1e-4)
            assert sum(float(line[f"p{n}"]) for n in range(11)) == pytest.approx(1, abs=0.01)


def test_figures_hold_all_tokens_as_text_and_a_failed_record_its_reason(indexed: Workspace) -> None:
    view, _ = opened(indexed, quality=Quality(failing=0.3))
    found = pairs(view, "test")
    for pair in found:
        drawn: Any = overlay(pair, dark=True)
        names = [trace.name for trace in drawn.data]
        assert names == (["true"] if pair.view.failed else ["true", "simulated", "residual"])
        assert len(drawn.data[0].y) == len(pair.true)
        assert not any("<script" in text for text in [*drawn.data[0].hovertext, *drawn.layout.xaxis.ticktext])
        said = [annotation.text for annotation in drawn.layout.annotations]
        assert said == (["Not simulated: the answer had the wrong length"] if pair.view.failed else [])
    points: Any = scatter(found, 0.5, "", dark=False)
    assert sum(len(trace.x) for trace in points.data) == len(answered(found)[0])
    assert points.layout.annotations[0].text == "ρ 0.50"
    undefined: Any = scatter([], math.nan, "no record could be simulated", dark=False)
    assert undefined.layout.annotations[0].text == "ρ undefined: no record could be simulated"
