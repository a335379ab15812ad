"""The ruler of the contrast tests, against values known from WCAG."""

import pytest
from playwright.sync_api import Browser

from tests.browser.contrast import difference, measure


@pytest.mark.parametrize(
    ("markup", "ratio"),
    [
        ('<b style="color: #000; background: #fff">x</b>', 21.0),
        ('<b style="color: #777; background: #fff">x</b>', 4.48),
        ('<div style="background: #000"><b style="color: #fff">x</b></div>', 21.0),
        ('<div style="background: #fff"><b style="color: #000; background: rgb(0 0 0 / 50%)">x</b></div>', 5.28),
        ('<b style="color: #000; background: color-mix(in srgb, #fff 100%, #000)">x</b>', 21.0),
        ('<div style="background: #fff; opacity: .5"><b style="color: #000">x</b></div>', 3.98),
    ],
)
def test_measures_the_contrast_that_a_reader_sees(browser: Browser, markup: str, ratio: float) -> None:
    page = browser.new_page()
    page.set_content(markup)
    (found,) = measure(page.locator("b"))
    page.close()
    assert found.ratio == pytest.approx(ratio, abs=0.06)


def test_sees_through_a_shadow_root(browser: Browser) -> None:
    page = browser.new_page()
    page.set_content('<div style="background: #000; color: #fff"><span id="host"></span></div>')
    page.evaluate("document.getElementById('host').attachShadow({mode: 'open'}).innerHTML = '<b>x</b>'")
    (found,) = measure(page.locator("b"))
    page.close()
    assert found.ratio == pytest.approx(21, abs=0.06)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [("rgb(0 0 0)", "rgb(255 255 255)", 1.0), ("rgb(9 9 9)", "rgb(9 9 9)", 0.0), ("rgb(255 0 0)", "rgb(0 0 255)", 0.537)],
)
def test_measures_how_different_two_colours_look(one: str, other: str, expected: float) -> None:
    assert difference(one, other) == pytest.approx(expected, abs=0.002)
