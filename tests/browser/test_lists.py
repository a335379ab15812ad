"""Explore and Overview: lists of units that narrow, sort, change on request, and lead to the unit."""

import re

from playwright.sync_api import Browser, expect

from tests.browser.server import Server
from tests.browser.view import PATIENCE, View, viewing


def names(view: View) -> list[str]:
    """The units listed, in order."""
    return view.page.locator("tr.row td.unit").all_inner_texts()


def total(view: View) -> int:
    """The N of `1–50 of N units`."""
    found = re.search(r"[\d,]+–[\d,]+ of ([\d,]+) units", view.see(re.compile(r"\d+ of [\d,]+ units")).inner_text())
    assert found is not None
    return int(found[1].replace(",", ""))


def test_a_text_search_narrows_the_list_and_a_row_opens_the_unit(browser: Browser, real: Server) -> None:
    with viewing(browser, real) as view:
        view.open("explore")
        everything = total(view)
        view.page.get_by_role("textbox", name="Top token").fill("might")
        view.page.keyboard.press("Enter")
        view.asks(token="might")
        expect(view.page.locator("tr.row").filter(has_text="mlp.22/91").first).to_be_visible(timeout=PATIENCE)
        view.settled()
        assert 0 < total(view) < everything
        view.page.reload()
        expect(view.page.locator("tr.row").filter(has_text="mlp.22/91").first).to_be_visible(timeout=PATIENCE)
        view.page.locator("tr.row").filter(has_text="mlp.22/91").first.locator("td.text").click()
        expect(view.page.get_by_role("heading", level=1)).to_have_text("mlp.22 / neurons / 91", timeout=PATIENCE)
        view.check()


def test_back_and_forward_lead_to_the_list_and_to_the_unit(browser: Browser, real: Server) -> None:
    with viewing(browser, real) as view:
        view.open("explore")
        everything = total(view)
        view.page.locator("tr.row").nth(1).locator("td.text").click()
        title = view.page.get_by_role("heading", level=1)
        expect(title).to_contain_text("/ neurons /", timeout=PATIENCE)
        name = title.inner_text()
        for _ in range(2):
            view.page.go_back()
            expect(title).to_have_text("Explore", timeout=PATIENCE)
            view.settled()
            assert total(view) == everything
            view.page.go_forward()
            expect(title).to_have_text(name, timeout=PATIENCE)
            view.settled()
        view.check()


def test_a_heading_sorts_and_the_address_keeps_it(browser: Browser, real: Server) -> None:
    with viewing(browser, real) as view:
        view.open("explore")
        view.page.locator("th.number button").filter(has_text="max").click()
        expect(view.page.locator('th[aria-sort="descending"]')).to_contain_text("max", timeout=PATIENCE)
        view.settled()
        shown = [float(text.replace(",", "")) for text in view.page.locator("tr.row").locator("td.number:nth-child(5)").all_inner_texts()]
        assert len(shown) == 50
        assert shown == sorted(shown, reverse=True)
        first = names(view)
        view.page.reload()
        expect(view.page.locator('th[aria-sort="descending"]')).to_contain_text("max", timeout=PATIENCE)
        view.settled()
        assert names(view) == first
        view.check()


def test_wrong_filters_are_one_sentence(browser: Browser, real: Server) -> None:
    for query in ("layer=99", "layer=abc", "density=%3C%3C", "sort=nothing", "page=0", "page=99999", "kind=nothing", "run=index-never"):
        with viewing(browser, real) as view:
            view.go(f"explore?{query}")
            expect(view.page.get_by_role("alert").first).to_be_visible(timeout=PATIENCE)
            expect(view.page.locator("tr.row")).to_have_count(0)
            view.check()


def test_show_others_shows_others_and_they_can_be_shared(browser: Browser, real: Server) -> None:
    with viewing(browser, real) as view:
        view.open("overview")
        before = names(view)
        view.page.get_by_role("button", name="Show others").click()
        view.page.wait_for_url(re.compile("seed="))
        # One row may be drawn again by chance; the whole list is not.
        expect(view.page.locator("tr.row td.unit")).not_to_have_text(before, timeout=PATIENCE)
        view.settled()
        after = names(view)
        view.page.reload()
        expect(view.page.locator("tr.row td.unit")).to_have_text(after, timeout=PATIENCE)
        view.settled()
        assert names(view) == after
        view.check()
