"""IOI in a browser: the sentences, the baseline, a run over neurons with its curves, and a way to a unit's page."""

import re

from playwright.sync_api import Browser, expect

from tests.browser.server import Server
from tests.browser.view import PATIENCE, View, viewing

MODEL_PATIENCE = 6 * PATIENCE
"""The baseline loads the model."""
ASKED = "pairs=3&seeds=2&at=resid.19/neurons&orders=gradient"


def curves_drawn(view: View) -> None:
    expect(view.page.locator(".js-plotly-plot .scatterlayer .trace").first).to_be_visible(timeout=MODEL_PATIENCE)


def test_the_baseline_is_measured_and_features_are_patched(browser: Browser, real: Server) -> None:
    with viewing(browser, real) as view:
        view.go(f"ioi?{ASKED}")
        view.see(re.compile("The first 3 of 3 pairs of seed 0"))
        view.page.get_by_role("button", name="Measure the baseline").click()
        expect(view.page.get_by_role("columnheader", name="accuracy", exact=True).first).to_be_visible(timeout=MODEL_PATIENCE)
        view.see("2 curves")
        view.page.get_by_role("button", name="Patch", exact=True).click()
        curves_drawn(view)
        view.see("2 of 2 finished")
        view.settled()
        expect(view.page.locator(".js-plotly-plot")).to_have_count(2)
        assert "run" in view.query()
        view.page.reload()
        curves_drawn(view)
        view.page.get_by_role("radio", name="linear, to 512").click()
        view.asks(scale="linear")
        with view.page.expect_download(timeout=PATIENCE) as saved:
            view.page.get_by_role("button", name="Save all points as CSV").click()
        assert saved.value.suggested_filename.endswith("-points.csv")
        view.check()


def test_a_wrong_template_is_told_and_nothing_can_be_started(browser: Browser, real: Server) -> None:
    with viewing(browser, real, theme="dark", width=600) as view:
        view.go("ioi?templates=It+rained+on")
        view.see("must have {IO} once and {S} twice")
        expect(view.page.get_by_role("button", name="Patch", exact=True)).to_be_disabled()
        assert view.overflow() == 0
        view.check()
