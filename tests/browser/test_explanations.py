"""Explanations on the Unit page and on Rate: in both themes and widths, by keys, inert whatever words and tokens are, and made for real."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from core.autointerp.request import Setting
from core.findings.ratings import Ratings
from core.workspace import Workspace
from tests.browser.contrast import measure
from tests.browser.server import Server, serving
from tests.browser.view import PATIENCE, Theme, viewing
from tests.synthetic import write_synthetic_index
from tests.synthetic_explanations import Quality, chat_setting, write_synthetic_explanations

UNITS = [f"tiny/mlp.0/neurons/{unit}" for unit in range(1, 7)]
OPENED = f"unit?unit={UNITS[0]}&explanation=explain-chat.0.0.0"
READABLE = 4.5


@pytest.fixture(scope="module")
def explained(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A dashboard over hostile tokens and words, with explanations good, bad, undefined and failed."""
    folder = tmp_path_factory.mktemp("explained")
    workspace = Workspace.open(folder / "ws")
    write_synthetic_index(workspace, n_layers=2, width=8, contexts=128, length=32, hostile=True)
    words = "Fires on *<script>alert(1)</script>*, <img src=x onerror=alert(2)> and *{unit}*."
    write_synthetic_explanations(workspace, run="explain-pattern", units=UNITS, text=words)
    write_synthetic_explanations(
        workspace, run="explain-chat", units=UNITS, settings=[chat_setting()], quality=Quality(0.6, failing=0.4), authors=("<b>model</b>",)
    )
    write_synthetic_explanations(workspace, run="explain-flat", units=UNITS[:1], quality=Quality(flat=True))
    write_synthetic_explanations(workspace, run="explain-failed", units=UNITS[:1], settings=[Setting()], failed="the model <i>refused</i>")
    with serving(folder / "ws", folder / "serve.log") as server:
        yield server


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [600, 1440])
def test_simulated_against_true_is_quiet_fits_and_can_be_read(browser: Browser, explained: Server, theme: Theme, width: int) -> None:
    with viewing(browser, explained, theme, width) as view:
        view.go(OPENED)
        expect(view.page.locator(".row.simulated .t.p").first).to_be_visible(timeout=PATIENCE)
        expect(view.page.locator(".js-plotly-plot")).to_have_count(3, timeout=PATIENCE)
        view.check()
        assert view.overflow() == 0
        rows = view.page.locator(".st-key-explanation-opened .row")
        assert rows.count() == 2 * view.page.locator(".st-key-explanation-opened .row.simulated").count()
        worst = min(measure(view.page.locator(".row.simulated .t.p, .nx .said, .nx .facts span, .nx .none")), key=lambda one: one.ratio)
        assert worst.ratio >= READABLE, worst
        teal = view.page.locator(".row.simulated .t.p").first.evaluate("e => getComputedStyle(e).getPropertyValue('--mark')")
        amber = view.page.locator(".row:not(.simulated) .t.p").first.evaluate("e => getComputedStyle(e).getPropertyValue('--mark')")
        assert teal != amber


def test_a_token_s_distribution_is_under_the_pointer_and_failed_records_are_hatched(browser: Browser, explained: Server) -> None:
    with viewing(browser, explained) as view:
        view.go(OPENED)
        rows = view.page.locator(".st-key-explanation-opened")
        rows.locator(".row.simulated .t.p").first.hover()
        odds = rows.locator(".tip .odds span")
        expect(odds).to_have_count(11, timeout=PATIENCE)
        rows.locator(".row:not(.simulated) .t").first.hover()
        expect(odds).to_have_count(0, timeout=PATIENCE)
        assert rows.locator(".row.simulated .t.x").count() > 0
        expect(rows.get_by_text("not simulated: the answer had the wrong length").first).to_be_visible()
        view.check()


def test_rows_open_close_and_go_with_the_unit(browser: Browser, explained: Server) -> None:
    with viewing(browser, explained) as view:
        view.go(f"unit?unit={UNITS[0]}")
        view.page.get_by_role("button", name="compare").first.click()
        expect(view.page.locator(".row.simulated").first).to_be_visible(timeout=PATIENCE)
        assert view.query()["explanation"].startswith("explain-")
        view.page.get_by_text("worst records first").click()
        expect(view.page.locator(".st-key-explanation-opened .band h3").first).not_to_have_text("Record 1", timeout=PATIENCE)
        view.page.locator("h1").first.click()
        view.page.keyboard.press("j")
        view.asks(unit=UNITS[1])
        expect(view.page.locator(".row.simulated")).to_have_count(0, timeout=PATIENCE)
        view.page.wait_for_url(lambda url: "explanation=" not in url, timeout=PATIENCE)
        view.check()


def test_hostile_words_and_authors_are_text(browser: Browser, explained: Server) -> None:
    with viewing(browser, explained) as view:
        view.go(f"unit?unit={UNITS[0]}")
        view.page.get_by_role("button", name=re.compile("show all")).first.click()
        view.see("<img src=x onerror=alert(2)>")
        view.see("<b>model</b>")
        view.see("Not explained: the model <i>refused</i>")
        view.see("the simulated activations are constant on these records")
        assert view.page.locator(".nx img, .nx script, .nx i:not(.strip i)").count() == 0
        view.check()


def test_ratings_by_keys_are_kept_skipped_and_taken_back(browser: Browser, explained: Server) -> None:
    ratings = Ratings(Workspace.open(explained.workspace))
    with viewing(browser, explained, "dark") as view:
        view.go("rate?seed=3")
        expect(view.page.locator(".row.simulated").first).to_be_visible(timeout=PATIENCE)
        assert not re.search(r"ρ|<b>model</b>", view.page.locator('[data-testid="stMain"]').inner_text().split("Ratings against")[0])
        view.see("0 explanations rated")
        for key, count in (("4", 1), ("2", 2), ("s", 2), ("5", 3)):
            view.page.keyboard.press(key)
            view.see(f"{count} explanation{'s' if count > 1 else ''} rated")
            view.settled()
        assert [one.rating for one in ratings.list()] == [4, 2, 5]
        view.page.keyboard.press("u")
        view.see("2 explanations rated")
        assert [one.rating for one in ratings.list()] == [4, 2]
        expect(view.page.locator(".js-plotly-plot")).to_have_count(1, timeout=PATIENCE)
        assert view.overflow() == 0
        view.check()


def test_a_neuron_is_explained_for_real_by_one_button(browser: Browser, real: Server) -> None:
    with viewing(browser, real) as view:
        view.go("unit?unit=smollm2-135m-instruct/mlp.22/neurons/91")
        view.page.get_by_role("button", name="Explain this unit").click()
        row = view.page.locator(".nx.best")
        expect(row).to_be_visible(timeout=4 * PATIENCE)
        expect(row).to_contain_text(re.compile(r"pattern → pattern\s*ρ 0\.\d\d \["))
        expect(row).to_contain_text("shuffled")
        view.page.get_by_role("button", name="compare").click()
        expect(view.page.locator(".row.simulated .t.p").first).to_be_visible(timeout=PATIENCE)
        view.page.get_by_text("Write my own").click()
        view.page.get_by_role("textbox", name="Your sentence").fill("Fires on *might*, *may* and *could*.")
        view.page.get_by_role("textbox", name="Your sentence").press("Control+Enter")
        view.page.get_by_role("button", name="Score my sentence").click()
        expect(view.page.locator(".nx")).to_have_count(2, timeout=4 * PATIENCE)
        view.see("by hand → pattern")
        view.check()
