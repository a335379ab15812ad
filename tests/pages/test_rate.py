"""The Rate page: blind, one at a time, by buttons that keep, skip and take back; and what the ratings say about the scores."""

from functools import partial
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from core.findings.ratings import Ratings
from core.store.explanation_view import load_explanation
from core.units import UnitName
from core.workspace import Workspace
from tests.pages.conftest import OpenPage, alerts, components, shown
from tests.synthetic import write_synthetic_index
from tests.synthetic_explanations import Quality, chat_setting, write_synthetic_explanations

UNITS = [f"tiny/mlp.{layer}/neurons/{unit}" for layer in range(2) for unit in range(4)]


@pytest.fixture
def explained(workspace: Workspace) -> Workspace:
    write_synthetic_index(workspace, n_layers=2, width=8)
    quality = {name: Quality(noise=0.1 + 0.5 * place) for place, name in enumerate(UNITS)}
    write_synthetic_explanations(workspace, units=UNITS, settings=[chat_setting()], quality=quality, authors=("secret-author",))
    return workspace


@pytest.fixture
def opened(explained: Workspace, open_page: OpenPage) -> "partial[AppTest]":
    return partial(open_page, explained, "rate")


def press(page: AppTest, key: str) -> AppTest:
    return page.button(key=key).click().run()


def current(page: AppTest) -> str:
    """The identity of the explanation on the page, from the key of its rows."""
    (data,) = components(page, "tokens")
    return str(data["body"]["key"]).split(":")[0]


def test_nothing_tells_the_score_or_the_author(opened: "partial[AppTest]") -> None:
    page = opened()
    assert not page.exception
    text = shown(page).lower()
    assert "secret-author" not in text
    assert "fires on the word" not in text, "not even the words, unless asked for"
    (data,) = components(page, "tokens")
    assert not any("ρ" in band["note"] or "difference" in band["note"] for band in data["body"]["bands"])
    assert sum("simulated" in row for row in data["body"]["rows"]) == len(data["body"]["rows"]) / 2
    page.toggle(key="rate-words").set_value(True).run()
    assert "fires on the word" in shown(page).lower()
    assert "secret-author" not in shown(page).lower()


def test_a_rating_is_kept_and_the_next_one_comes(opened: "partial[AppTest]", explained: Workspace) -> None:
    page = opened()
    first = current(page)
    press(page, "rate-4")
    assert not page.exception
    assert current(page) != first
    (kept,) = Ratings(explained).list()
    assert (kept.explanation, kept.rating) == (first, 4)
    assert str(kept.unit) in UNITS
    assert 0 <= kept.seconds < 60
    assert "1 explanation rated, 7 to go" in shown(page)


def test_skip_comes_back_at_the_end_and_undo_brings_the_last_one_back(opened: "partial[AppTest]", explained: Workspace) -> None:
    page = opened()
    first = current(page)
    press(page, "rate-skip")
    second = current(page)
    assert second != first
    press(page, "rate-2")
    press(page, "rate-undo")
    assert current(page) == second
    assert Ratings(explained).list() == []
    for _ in range(7):
        press(page, "rate-3")
    assert current(page) == first, "what was skipped is the last one"
    press(page, "rate-3")
    assert len(Ratings(explained).list()) == 8
    assert "8 explanations rated, 0 to go" in shown(page)


def test_a_seed_gives_the_same_order_and_another_seed_another(opened: "partial[AppTest]") -> None:
    def order(seed: str) -> list[str]:
        page = opened(seed=seed)
        found: list[str] = []
        for _ in range(4):
            found.append(current(page))
            press(page, "rate-skip")
        return found

    assert order("7") == order("7")
    assert len({tuple(order(seed)) for seed in ("1", "2", "3")}) > 1


def test_what_was_rated_before_comes_last_and_is_compared_with_the_scores(opened: "partial[AppTest]", explained: Workspace) -> None:
    rated = [load_explanation(explained, f"explain-test.{n}.0.0") for n in (0, 3, 7)]
    rated.sort(key=lambda view: view.scores[0].score.rho)
    for view, rating in zip(rated, (2, 4, 5), strict=True):
        Ratings(explained).add(view.identity, view.unit, rating)
    Ratings(explained).add("explain-gone.0.0.0", UnitName.parse(UNITS[0]), 1)
    page = opened()
    said = " ".join(shown(page).split())
    assert "Spearman 1.00 over 3 explanations · 1 rating of explanations that are no longer here" in said
    assert current(page) not in {view.identity for view in rated}
    charts: list[Any] = list(page.get("plotly_chart"))
    assert len(charts) == 1


@pytest.mark.parametrize(
    ("query", "said"),
    [({"seed": "-1"}, "is not a seed"), ({"subject": "x<b>"}, "is not a model"), ({"simulator": "zz"}, "is not a simulator")],
)
def test_a_wrong_address_is_a_sentence(opened: "partial[AppTest]", query: dict[str, str], said: str) -> None:
    page = opened(**query)
    assert not page.exception
    (alert,) = alerts(page)
    assert said in alert


def test_without_explanations_the_page_says_what_would_fill_it(workspace: Workspace, open_page: OpenPage) -> None:
    page = open_page(workspace, "rate")
    assert not page.exception
    assert "explain units first" in shown(page)
    assert [button.label for button in page.button] == ["Explain units"]
