"""The Unit page's section “Effect” over the embedded model: one click, progress, figures, underlined tokens, the address as it stood."""

import re
import time

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.server import Server
from tests.browser.view import PATIENCE, Theme, viewing

UNIT = "unit?unit=smollm2-135m-instruct/mlp.22/neurons/90"


def test_a_click_ablates_the_unit_and_the_address_shows_it_again(browser: Browser, real: Server, measured: list[str]) -> None:
    with viewing(browser, real) as view:
        view.go(UNIT)
        view.see("Nothing was ablated yet.")
        begun = time.monotonic()
        view.page.get_by_role("button", name="Ablate this unit").click()
        body = view.page.locator(".st-key-effect-body")
        expect(body.locator(".row .u").first).to_be_visible(timeout=4 * PATIENCE)
        measured.append(f"effect of a unit on its 20 records, from the click: {time.monotonic() - begun:.1f} s")
        expect(view.page.locator('[class*="st-key-effect-run-"]')).to_have_count(0, timeout=4 * PATIENCE)
        view.settled()
        assert body.locator(".row").count() == 5
        body.get_by_role("button", name="show all 20").click()
        assert body.locator(".row").count() == 20
        body.locator(".row .u").first.hover()
        expect(body.locator(".tv .tip")).to_contain_text(re.compile(r"[+−]\d+\.\d{3} log-probability"))
        expect(body.locator(".js-plotly-plot")).to_have_count(2)
        lowered = body.locator(".st-key-effect-tokens .line .name").first.inner_text()
        view.check()
        address = view.page.url.removeprefix(f"{real.url}/")
        assert "effect=effect-" in address
    with viewing(browser, real) as view:
        view.go(address)
        expect(view.page.locator(".st-key-effect-tokens .line .name").first).to_have_text(lowered, timeout=PATIENCE)
        view.check()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_section_fits_a_phone_and_both_themes_tell_the_signs_apart(browser: Browser, real: Server, theme: Theme) -> None:
    """After the test above, which leaves the unit's effect in the workspace; alone it makes it."""
    with viewing(browser, real, theme, width=600) as view:
        view.go(UNIT)
        body = view.page.locator(".st-key-effect-body")
        start = view.page.get_by_role("button", name="Ablate this unit")
        expect(start.or_(body).first).to_be_visible(timeout=PATIENCE)
        if start.is_visible():
            start.click()
        expect(body.locator(".row .u.l").first).to_be_visible(timeout=4 * PATIENCE)
        expect(body.locator(".row .u.r").first).to_be_visible(timeout=PATIENCE)
        style = "(e) => [getComputedStyle(e).borderBottomColor, getComputedStyle(e).borderBottomStyle]"
        looks = [body.locator(f".row .u.{sign}").first.evaluate(style) for sign in ("l", "r")]
        assert looks[0][0] != looks[1][0]
        assert [style for _, style in looks] == ["solid", "dashed"]
        assert view.overflow() == 0
        view.check()
