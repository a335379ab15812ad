"""A report as a reader opens it: from a file, with no network, in both themes."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from core.findings.report.page import write_report
from core.units import UnitName
from core.workspace import Workspace
from tests.browser.contrast import measure
from tests.browser.view import Theme
from tests.shared_bundle import UNITS, fill
from tests.synthetic import write_synthetic_index

HOSTILE = [UnitName.parse(f"tiny/mlp.{layer}/neurons/{unit}") for layer in range(3) for unit in (0, 8)]


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A report with something of everything, and one full of hostile tokens."""
    folder = tmp_path_factory.mktemp("reports")
    usual, hostile = Workspace.open(folder / "usual"), Workspace.open(folder / "hostile")
    fill(usual)
    write_synthetic_index(hostile, hostile=True)
    write_report(usual, UNITS, folder / "usual.html", title="Four units")
    write_report(hostile, HOSTILE, folder / "hostile.html", title="<script>alert(1)</script>")
    return {name: folder / f"{name}.html" for name in ("usual", "hostile")}


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("which", ["usual", "hostile"])
def test_a_report_opens_from_a_file_without_a_network(browser: Browser, reports: dict[str, Path], which: str, theme: Theme) -> None:
    path = reports[which]
    assert path.stat().st_size < 250_000 * (len(UNITS) if which == "usual" else len(HOSTILE))
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
        page.locator("summary").first.click()
        expect(page.locator(".facts").first).to_be_visible()
        assert asked == [path.as_uri()]
        assert said == []
        assert page.evaluate("document.scripts.length") == 0
        assert page.locator(".k").count() == page.locator(".row").count() > 20
        assert page.locator(".tokens i:not([title])").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
        texts = "h1, h2, h3, h4, small, p, a, dt, dd, th, td, .token, .row > b, .tokens i[class], summary"
        poor = [one for one in measure(page.locator(texts)) if one.ratio < 4.5]
        assert poor == []
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert background == {"light": "rgb(255, 255, 255)", "dark": "rgb(21, 23, 26)"}[theme]
        page.set_viewport_size({"width": 400, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
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
