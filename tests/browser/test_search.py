"""Search in the browser: words lead to a unit, the palette leads anywhere by the keyboard alone, and other keys stay theirs."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Locator, expect

from core.workspace import Workspace
from tests.browser.contrast import measure
from tests.browser.server import Server, serving
from tests.browser.view import PATIENCE, View, viewing
from tests.searchable import SENTENCES, UNITS, fill

UNIT = "unit?unit=tiny/mlp.1/neurons/4"


@pytest.fixture(scope="module")
def filled(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A dashboard over a workspace with explanations and findings."""
    folder = tmp_path_factory.mktemp("search")
    fill(Workspace.open(folder / "ws"))
    with serving(folder / "ws", folder / "serve.log") as server:
        yield server


def dialog(view: View) -> Locator:
    return view.page.get_by_role("dialog", name="Go to a page or a unit, or search")


def field(view: View) -> Locator:
    return dialog(view).get_by_role("combobox")


def options(view: View) -> Locator:
    return dialog(view).get_by_role("option")


def chosen(view: View) -> Locator:
    return dialog(view).get_by_role("option", selected=True)


def heading(view: View) -> Locator:
    return view.page.get_by_role("heading", level=1)


def summon(view: View, key: str = "Control+k") -> None:
    view.page.keyboard.press(key)
    expect(field(view)).to_be_focused(timeout=PATIENCE)


def answered(view: View) -> None:
    expect(dialog(view).get_by_role("status")).to_contain_text("to open", timeout=PATIENCE)


def test_words_lead_to_a_unit_and_the_address_keeps_them(browser: Browser, filled: Server) -> None:
    with viewing(browser, filled) as view:
        view.go("search")
        view.see("Searched are")
        box = view.page.get_by_role("textbox", name="Words")
        box.fill("bridges over rivers")
        box.press("Enter")
        view.asks(q="bridges over rivers")
        first = view.page.locator(".nsr tbody tr").first
        expect(first.locator(".said")).to_have_text(SENTENCES[0], timeout=PATIENCE)
        expect(first.locator("mark")).to_have_text(["rivers", "bridges", "over"])
        view.settled()
        assert all(each.ratio >= 4.5 for each in measure(view.page.locator(".nsr td")))
        first.get_by_role("link").click()
        expect(heading(view)).to_have_text("mlp.0 / neurons / 0", timeout=PATIENCE)
        view.asks(unit=str(UNITS[0]), explanation="explain-0.0.0.0")
        view.check()


def test_the_palette_goes_to_a_unit_a_page_and_a_text_by_the_keyboard_alone(browser: Browser, filled: Server) -> None:
    with viewing(browser, filled) as view:
        view.go("")
        keys = view.page.keyboard
        summon(view, "/")
        keys.type("mlp.1/3")
        keys.press("Enter")  # at once: what was typed is waited for
        expect(heading(view)).to_have_text("mlp.1 / neurons / 3", timeout=PATIENCE)
        view.settled()
        expect(dialog(view)).to_have_count(0)
        summon(view)
        keys.type("expl")
        expect(chosen(view)).to_contain_text("Explore", timeout=PATIENCE)
        answered(view)
        keys.press("ArrowDown")
        expect(chosen(view)).to_contain_text(re.compile("^Explain"))
        keys.press("ArrowUp")
        keys.press("Enter")
        expect(heading(view)).to_have_text("Explore", timeout=PATIENCE)
        view.settled()
        summon(view)
        keys.type("riverbank")
        expect(options(view).filter(has_text="riverbank or not")).to_have_count(1, timeout=PATIENCE)
        answered(view)
        keys.press("Enter")
        expect(heading(view)).to_have_text("mlp.0 / neurons / 3", timeout=PATIENCE)
        view.asks(explanation="explain-3.0.0.0")
        view.settled()
        summon(view)
        keys.type("river bridge")
        answered(view)
        keys.press("ArrowUp")  # from the first to the last
        expect(chosen(view)).to_have_text("Search for “river bridge”")
        keys.press("Enter")
        view.asks(q="river bridge")
        expect(heading(view)).to_have_text("Search", timeout=PATIENCE)
        expect(view.page.locator(".nsr mark").first).to_be_visible(timeout=PATIENCE)
        view.check()


def test_going_back_after_the_palette_leads_to_where_one_was(browser: Browser, filled: Server) -> None:
    with viewing(browser, filled) as view:
        view.go("explore?text=river")
        summon(view)
        view.page.keyboard.type("mlp.1/3")
        view.page.keyboard.press("Enter")
        expect(heading(view)).to_have_text("mlp.1 / neurons / 3", timeout=PATIENCE)
        view.settled()
        view.page.go_back()
        expect(heading(view)).to_have_text("Explore", timeout=PATIENCE)
        view.asks(text="river")
        view.check()


def test_escape_closes_and_gives_the_focus_back(browser: Browser, filled: Server) -> None:
    with viewing(browser, filled) as view:
        view.go(UNIT)
        box = view.page.get_by_placeholder("jump: 5/1352")
        box.focus()
        view.page.keyboard.press("/")
        expect(box).to_have_value("/")  # a character where somebody types
        expect(dialog(view)).to_have_count(0)
        summon(view)
        view.page.keyboard.press("Tab")
        expect(dialog(view)).to_be_visible()
        view.page.keyboard.press("Escape")
        expect(dialog(view)).to_have_count(0)
        expect(box).to_be_focused()
        summon(view)
        view.page.keyboard.press("Control+k")
        expect(dialog(view)).to_have_count(0)
        view.check()


def test_what_is_typed_in_the_palette_is_no_key_of_the_page_and_those_still_work(browser: Browser, filled: Server) -> None:
    with viewing(browser, filled) as view:
        view.go(UNIT)
        expect(heading(view)).to_have_text("mlp.1 / neurons / 4", timeout=PATIENCE)
        summon(view)
        view.page.keyboard.type("jkir")
        answered(view)
        view.page.keyboard.press("Escape")
        view.settled()
        expect(heading(view)).to_have_text("mlp.1 / neurons / 4")
        view.page.keyboard.press("j")
        expect(heading(view)).to_have_text("mlp.1 / neurons / 5", timeout=PATIENCE)
        view.page.keyboard.press("k")
        expect(heading(view)).to_have_text("mlp.1 / neurons / 4", timeout=PATIENCE)
        view.check()


def test_the_palette_is_a_named_dialog_with_a_combobox_and_a_listbox(browser: Browser, filled: Server) -> None:
    with viewing(browser, filled) as view:
        view.go("explore")
        view.page.get_by_role("button", name="Go to…").click()
        expect(field(view)).to_be_focused(timeout=PATIENCE)
        listed = dialog(view).get_by_role("listbox")
        expect(listed).to_be_visible()
        assert field(view).get_attribute("aria-controls") == listed.get_attribute("id")
        expect(options(view).first).to_have_attribute("aria-selected", "true")
        assert field(view).get_attribute("aria-activedescendant") == options(view).first.get_attribute("id")
        view.page.keyboard.press("ArrowDown")
        assert field(view).get_attribute("aria-activedescendant") == options(view).nth(1).get_attribute("id")
        expect(chosen(view)).to_have_count(1)
        options(view).filter(has_text="Runs").click()
        expect(heading(view)).to_have_text("Runs", timeout=PATIENCE)
        view.check()


@pytest.mark.parametrize(("theme", "width"), [("light", 1440), ("dark", 600)])
def test_hostile_texts_are_text_and_everything_is_legible(browser: Browser, filled: Server, theme: str, width: int) -> None:
    with viewing(browser, filled, "dark" if theme == "dark" else "light", width) as view:
        view.go("search?q=alert")
        expect(view.page.locator(".nsr .said").first).to_have_text(SENTENCES[5], timeout=PATIENCE)
        assert view.overflow() == 0
        summon(view, "/")
        view.page.keyboard.type("<script>alert")
        expect(options(view).first).to_contain_text(SENTENCES[5][:30], timeout=PATIENCE)
        answered(view)
        assert dialog(view).locator("script").count() == 0
        assert all(each.ratio >= 4.5 for each in measure(options(view).locator("span")))
        box = dialog(view).bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
        view.page.keyboard.press("Escape")
        view.check()
