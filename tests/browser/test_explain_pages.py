"""Explain, Scores and Studies in the browser: a run from the form to its results, the way to a unit, text that can be read."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from core.autointerp.request import Setting
from core.autointerp.studies import study_settings
from core.runs.registry import Registry
from core.workspace import Workspace
from tests.browser.contrast import measure
from tests.browser.server import Server, serving
from tests.browser.view import PATIENCE, Theme, viewing
from tests.synthetic import write_synthetic_index
from tests.synthetic_explanations import Quality, write_synthetic_explanations

UNITS = [f"tiny/mlp.{layer}/neurons/{unit}" for layer in range(2) for unit in range(1, 6)]
ADDRESSES = ("explain", "scores", "studies", "studies?view=puzzles")
READABLE = 4.5


def write(folder: Path) -> Path:
    """Hostile tokens and words, explained well, badly and not at all, and a study."""
    workspace = Workspace.open(folder / "ws")
    write_synthetic_index(workspace, n_layers=2, width=8, contexts=128, length=32, hostile=True)
    words = "Fires on *<script>alert(1)</script>*, <img src=x onerror=alert(2)> and *{unit}*."
    quality = {name: Quality(noise=0.1 + 0.4 * place) for place, name in enumerate(UNITS)} | {UNITS[0]: Quality(flat=True)}
    write_synthetic_explanations(workspace, units=UNITS, text=words, quality=quality)
    settings = study_settings("simulator", Setting(), [])
    write_synthetic_explanations(workspace, run="explain-study", units=UNITS, settings=settings, study="simulator", text=words)
    Registry(workspace).restore()
    return folder / "ws"


@pytest.fixture(scope="module")
def explained(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A dashboard over them."""
    folder = tmp_path_factory.mktemp("explained")
    with serving(write(folder), folder / "serve.log") as server:
        yield server


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [600, 1440])
@pytest.mark.parametrize("address", ADDRESSES)
def test_a_page_with_hostile_words_is_quiet_fits_and_can_be_read(
    browser: Browser, explained: Server, address: str, theme: Theme, width: int
) -> None:
    with viewing(browser, explained, theme, width) as view:
        view.go(address)
        expect(view.page.locator("tr.row, .nt td, .st-key-start_puzzles").first).to_be_visible(timeout=PATIENCE)
        view.check()
        assert view.overflow() == 0
        found = view.page.locator("tr.row td, .nt td, .nt th, .na-lead, .na-muted, .na-h span, [data-testid='stMain'] button:enabled p")
        worst = min(measure(found), key=lambda one: one.ratio)
        assert worst.ratio >= READABLE, worst


def test_units_are_explained_from_the_form_to_the_unit_s_page(browser: Browser, tmp_path: Path) -> None:
    write_synthetic_index(Workspace.open(tmp_path / "ws"), n_layers=2, width=8, contexts=128, length=32)
    with serving(tmp_path / "ws", tmp_path / "serve.log") as server, viewing(browser, server) as view:
        view.go("explain?sites=mlp.1&sample=3")
        view.see("8 units fit of tiny; 3 units of each site at most are drawn: 3.")
        view.page.get_by_role("button", name="Explain them").click()
        expect(view.page.locator("tr.row")).to_have_count(3, timeout=4 * PATIENCE)
        view.page.wait_for_url(re.compile("run=explain-"))
        view.settled()
        view.page.locator("tr.row td.text").first.click()
        view.page.wait_for_url(re.compile(r"unit\?unit=tiny/mlp\.1/neurons/\d+&explanation=explain-"))
        view.see("Simulated against true")
        view.check()


def test_a_point_of_the_scatter_opens_its_unit(browser: Browser, explained: Server) -> None:
    with viewing(browser, explained) as view:
        view.go("scores?run=explain-test")
        points = view.page.locator(".st-key-score_lookup .scatterlayer .points path")
        expect(points.first).to_be_visible(timeout=PATIENCE)
        view.settled()
        box = points.last.bounding_box()
        assert box is not None
        view.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        view.page.wait_for_url(re.compile(r"unit\?unit=tiny/mlp\.\d/neurons/\d+&explanation=explain-test"), timeout=PATIENCE)
        view.check()


def test_a_heading_sorts_and_a_search_narrows_and_both_are_in_the_address(browser: Browser, explained: Server) -> None:
    with viewing(browser, explained) as view:
        view.go("scores?run=explain-test")
        everything = view.page.locator(".st-key-all_scores")
        everything.get_by_role("button", name="ρ").click()
        view.asks(sort="rho")
        view.settled()
        expect(everything.locator("tr.row").first).to_be_visible(timeout=PATIENCE)
        view.page.get_by_label("Search in the explanations").fill("*3*")
        view.page.keyboard.press("Enter")
        view.asks(q="*3*")
        expect(everything.locator("tr.row")).to_have_count(2, timeout=PATIENCE)
        view.check()


def test_a_figure_can_be_saved_as_a_picture(browser: Browser, explained: Server) -> None:
    with viewing(browser, explained) as view:
        view.go("studies?run=explain-study")
        figure = view.page.locator(".st-key-study_figure")
        expect(figure.locator(".js-plotly-plot")).to_be_visible(timeout=PATIENCE)
        view.settled()
        with view.page.expect_download(timeout=PATIENCE) as saved:
            figure.get_by_role("button", name="png").click()
        assert saved.value.suggested_filename.endswith(".png")
        view.check()
