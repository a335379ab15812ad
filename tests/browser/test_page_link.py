"""The button “copy link”: on every page, the whole address, also where the browser keeps the clipboard to itself."""

import pytest
from playwright.sync_api import Browser, expect

from core.ui.nav import PAGES
from tests.browser.server import Server
from tests.browser.view import PATIENCE, viewing

NAMES = [name for pages in PAGES.values() for name, _ in pages]
UNIT = "unit?unit=tiny/mlp.1/neurons/3&window=all"
NO_CLIPBOARD = "Object.defineProperty(Navigator.prototype, 'clipboard', { get: () => undefined });"
NO_COPY = "document.execCommand = () => false;"


def test_the_address_with_all_it_says_is_copied_and_said(browser: Browser, hostile: Server) -> None:
    with viewing(browser, hostile) as view:
        view.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        view.go(UNIT)
        view.page.get_by_role("button", name="copy link").click()
        expect(view.page.locator(".page-link").get_by_role("status")).to_have_text("copied")
        assert view.page.evaluate("navigator.clipboard.readText()") == f"{hostile.url}/{UNIT}"
        view.page.keyboard.press("j")
        expect(view.page.get_by_role("heading", level=1)).to_have_text("mlp.1 / neurons / 4", timeout=PATIENCE)
        view.asks(unit="tiny/mlp.1/neurons/4")
        view.page.get_by_role("button", name="copy link").press("Enter")
        expect(view.page.locator(".page-link").get_by_role("status")).to_have_text("copied")
        assert view.page.evaluate("navigator.clipboard.readText()") == f"{hostile.url}/{UNIT.replace('/3', '/4')}"
        view.check()


def test_without_a_clipboard_the_older_way_or_a_selected_field_is_offered(browser: Browser, hostile: Server) -> None:
    with viewing(browser, hostile) as view:
        view.page.add_init_script(NO_CLIPBOARD)
        view.go(UNIT)
        view.page.get_by_role("button", name="copy link").click()
        expect(view.page.locator(".page-link").get_by_role("status")).to_have_text("copied")
        expect(view.page.get_by_role("textbox", name="The address of this page")).to_have_count(0)
        view.page.evaluate(NO_COPY)
        view.page.get_by_role("button", name="copy link").click()
        field = view.page.get_by_role("textbox", name="The address of this page")
        expect(field).to_have_value(f"{hostile.url}/{UNIT}")
        expect(field).to_be_focused()
        assert field.evaluate("(field) => field.value.slice(field.selectionStart, field.selectionEnd)") == f"{hostile.url}/{UNIT}"
        view.check()


@pytest.mark.parametrize("width", [600, 1440])
def test_every_page_has_the_button_where_it_can_be_pressed(browser: Browser, hostile: Server, width: int) -> None:
    with viewing(browser, hostile, width=width) as view:
        view.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        for name in NAMES:
            view.go(name)
            view.page.get_by_role("button", name="copy link").click()
            expect(view.page.locator(".page-link").get_by_role("status")).to_have_text("copied")
            assert view.overflow() == 0, name
        view.check()
