"""A report as a reader opens it: from a file, with no network, in both themes."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from core.findings.report.comparison import write_comparison
from core.findings.report.page import write_report
from core.findings.report.study import write_study
from core.units import UnitName
from core.workspace import Workspace
from tests.browser.contrast import measure
from tests.browser.view import Theme
from tests.shared_bundle import UNITS, fill
from tests.synthetic import write_synthetic_index
from tests.synthetic_explanations import chat_setting, write_synthetic_explanations

HOSTILE = [UnitName.parse(f"tiny/mlp.{layer}/neurons/{unit}") for layer in range(3) for unit in (0, 8)]


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Reports with something of everything, and full of hostile tokens: of units, of a comparison, of studies."""
    folder = tmp_path_factory.mktemp("reports")
    usual, hostile = Workspace.open(folder / "usual"), Workspace.open(folder / "hostile")
    fill(usual)
    write_synthetic_index(hostile, hostile=True)
    write_report(usual, UNITS, folder / "usual.html", title="Four units")
    write_report(hostile, HOSTILE, folder / "hostile.html", title="<script>alert(1)</script>")
    write_comparison(usual, UNITS, folder / "side.html")
    write_comparison(hostile, HOSTILE[:3], folder / "hostile-side.html")
    settings = [chat_setting(label=label) for label in ("<img src=x onerror=alert(1)>", "one " * 30, "\u202ethree")]
    units = [str(unit) for unit in HOSTILE]
    write_synthetic_explanations(hostile, run="explain-study", units=units, settings=settings, study="records")
    write_synthetic_explanations(hostile, run="explain-bases", units=units, study="interpretability")
    write_study(hostile, "records", folder / "study.html")
    write_study(hostile, "interpretability", folder / "bases.html")
    return {path.stem: path for path in folder.glob("*.html")}


ROOM = {"usual": 4, "hostile": 6, "side": 4, "hostile-side": 3, "study": 1, "bases": 1}
"""Of how many units each report is; of a study of any size it may have one unit's room."""


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("which", list(ROOM))
def test_a_report_opens_from_a_file_without_a_network(browser: Browser, reports: dict[str, Path], which: str, theme: Theme) -> None:
    path = reports[which]
    assert path.stat().st_size < 250_000 * ROOM[which]
    context = browser.new_context(offline=True, color_scheme=theme, viewport={"width": 1280, "height": 900})
    try:
        page = context.new_page()
        said: list[str] = []
        asked: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: said.append(dialog.message))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        expect(page.locator("article").first).to_be_visible()
        page.locator("summary").last.click()
        expect(page.locator(".facts").last).to_be_visible()
        assert asked == [path.as_uri()]
        assert said == []
        assert page.evaluate("document.scripts.length") == 0
        assert page.locator(".k").count() == page.locator(".row").count()
        assert page.locator(".row").count() > 20 or which in ("study", "bases")
        assert page.locator(".tokens i:not([title])").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
        texts = "h1, h2, h3, h4, small, p, a, dt, dd, th, td, .token, .letter, .row > b, .tokens i[class], summary"
        poor = [one for one in measure(page.locator(texts)) if one.ratio < 4.5]
        assert poor == []
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert background == {"light": "rgb(255, 255, 255)", "dark": "rgb(21, 23, 26)"}[theme]
        page.set_viewport_size({"width": 400, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
    finally:
        context.close()


def test_a_comparison_stands_side_by_side_and_below_each_other_where_there_is_no_room(browser: Browser, reports: dict[str, Path]) -> None:
    context = browser.new_context(offline=True, viewport={"width": 1440, "height": 900})
    try:
        page = context.new_page()
        page.goto(reports["side"].as_uri())
        cells = page.locator("header .side > div")
        assert len({round(box["x"]) for cell in cells.all() if (box := cell.bounding_box())}) == 4
        page.set_viewport_size({"width": 600, "height": 900})
        assert len({round(box["x"]) for cell in cells.all() if (box := cell.bounding_box())}) == 1
        expect(page.locator(".letter.small").first).to_be_visible()
    finally:
        context.close()


def test_a_studys_figure_is_seen_and_its_names_are_text(browser: Browser, reports: dict[str, Path]) -> None:
    context = browser.new_context(offline=True, viewport={"width": 1280, "height": 900})
    try:
        page = context.new_page()
        page.goto(reports["study"].as_uri())
        figure = page.locator("article > svg")
        labels = figure.locator("text.label")
        assert labels.count() == 3
        assert labels.first.text_content() == "<img src=x onerror=alert(1)>"
        box = figure.bounding_box()
        assert box is not None
        for mark in figure.locator(".mark.simulated").all():
            inside = mark.bounding_box()
            assert inside is not None
            assert box["x"] <= inside["x"] <= box["x"] + box["width"]
            assert box["y"] <= inside["y"] <= box["y"] + box["height"]
        assert "⟨U+202E⟩" in page.content()
    finally:
        context.close()


def test_hostile_tokens_are_read_as_text(browser: Browser, reports: dict[str, Path]) -> None:
    context = browser.new_context(offline=True)
    try:
        page = context.new_page()
        page.goto(reports["hostile"].as_uri())
        assert page.locator("h1").text_content() == "<script>alert(1)</script>"
        assert any("<script>alert(1)</script>" in text for text in page.locator(".tokens").all_text_contents())
        assert "⟨U+202E⟩" in page.content()
        lefts = page.locator(".row").evaluate_all("(rows) => new Set(rows.map((r) => Math.round(r.getBoundingClientRect().left))).size")
        assert lefts == 1
    finally:
        context.close()
