"""Figures are saved as PNG, SVG and CSV from their corner: files of the chart itself, under its name, in the page's colours."""

import csv
import io
import struct
from pathlib import Path
from xml.etree import ElementTree

import pytest
from playwright.sync_api import Browser, Locator, expect

from core.store.units import load_unit
from core.ui.charts import bars
from core.units import UnitName
from core.workspace import Workspace
from tests.browser.server import Server
from tests.browser.view import PATIENCE, Theme, View, viewing

UNIT = "tiny/mlp.1/neurons/3"
NAME = "mlp.1-neurons-3-histogram"


def chart(view: View, path: str) -> Locator:
    """The first figure of a page, with the pointer on it."""
    view.go(path)
    figure = view.page.locator(".js-plotly-plot").first
    figure.scroll_into_view_if_needed()
    figure.hover()
    expect(figure.get_by_role("button", name="png")).to_be_visible(timeout=PATIENCE)
    return figure


def saved(view: View, figure: Locator, name: str, folder: Path) -> tuple[str, bytes]:
    with view.page.expect_download(timeout=PATIENCE) as caught:
        figure.get_by_role("button", name=name).click()
    path = folder / caught.value.suggested_filename
    caught.value.save_as(path)
    return path.name, path.read_bytes()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_png_and_svg_are_the_chart_in_the_pages_colours(browser: Browser, hostile: Server, tmp_path: Path, theme: Theme) -> None:
    with viewing(browser, hostile, theme) as view:
        figure = chart(view, f"unit?unit={UNIT}")
        box = figure.bounding_box()
        assert box is not None
        file, png = saved(view, figure, "png", tmp_path)
        assert file == f"{NAME}.png"
        assert png[:8] == b"\x89PNG\r\n\x1a\n"
        width, height = struct.unpack(">II", png[16:24])
        assert (width, height) == (round(2 * box["width"]), round(2 * box["height"]))
        file, content = saved(view, figure, "svg", tmp_path)
        assert file == f"{NAME}.svg"
        svg = ElementTree.fromstring(content)
        assert svg.tag == "{http://www.w3.org/2000/svg}svg"
        text = content.decode()
        assert "density of tokens" in text
        assert ("rgb(21, 23, 26)" if theme == "dark" else "rgb(255, 255, 255)") in text
        drawn = figure.locator(".barlayer path").count()
        assert text.count('class="point"') == drawn > 0
        assert not (tmp_path / "newplot.png").exists()
        view.check()


def test_the_csv_has_the_numbers_that_are_drawn(browser: Browser, hostile: Server, tmp_path: Path) -> None:
    with viewing(browser, hostile) as view:
        file, content = saved(view, chart(view, f"unit?unit={UNIT}"), "csv", tmp_path)
        view.check()
    assert file == f"{NAME}.csv"
    rows = list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"))))
    found = load_unit(Workspace.open(hostile.workspace), UnitName.parse(UNIT))
    shown = bars(found.histogram.lows, found.histogram.highs, found.histogram.counts, found.stats["min"], found.stats["max"])
    assert len(rows) == len(shown.counts)
    assert [float(row["y"]) for row in rows] == pytest.approx(shown.density.tolist(), rel=1e-6)
    assert [float(row["width"]) for row in rows] == pytest.approx((shown.right - shown.left).tolist(), rel=1e-6)
    assert all("tokens" in row["said"] and "<" not in row["said"] for row in rows)


def test_a_chart_that_is_drawn_anew_keeps_its_buttons_and_no_click_on_one_opens_a_page(
    browser: Browser, hostile: Server, tmp_path: Path
) -> None:
    with viewing(browser, hostile) as view:
        figure = chart(view, "overview")
        for name in ("svg", "csv"):
            file, content = saved(view, figure, name, tmp_path)
            assert file.endswith(f"-by-layer.{name}")
            assert len(content) > 200
        assert view.query() == {}
        view.go(f"unit?unit={UNIT}")
        view.page.keyboard.press("j")
        expect(view.page.get_by_role("heading", level=1)).to_have_text("mlp.1 / neurons / 4", timeout=PATIENCE)
        view.settled()
        figure = view.page.locator(".js-plotly-plot").first
        figure.hover()
        assert saved(view, figure, "csv", tmp_path)[0] == NAME.replace("-3-", "-4-") + ".csv"
        expect(figure.locator(".na-save")).to_have_count(1)
        view.check()
