"""Tokens that break careless pages: markup, bidirectional marks, zero-width characters, null bytes. All must be shown as text."""

from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.contrast import measure
from tests.browser.server import Server
from tests.browser.view import PATIENCE, View, viewing

SCRIPT = "<script>alert(1)</script>"
UNITS = [f"unit?unit=tiny/mlp.{layer}/neurons/{unit}&window=all" for layer in (0, 2) for unit in (0, 8)]
"""Units 0 and 8 of the synthetic index fire on one hostile token each."""


def inert(view: View) -> None:
    """No token became an element, ran, opened a dialog or asked another host for something."""
    scripts = view.page.evaluate("() => [...document.scripts].map((s) => s.textContent).filter((text) => text.includes('alert(1)'))")
    assert scripts == []
    inside = (
        "() => { const all = (root) => [...root.querySelectorAll('*')].flatMap((e) => [e, ...(e.shadowRoot ? all(e.shadowRoot) : [])]);"
    )
    inside += " return all(document.body).filter((e) => e.localName === 'script' && !e.src).map((e) => e.textContent); }"
    assert [text for text in view.page.evaluate(inside) if "alert" in text] == []
    view.check()


@pytest.mark.parametrize("address", UNITS)
def test_hostile_tokens_are_text_on_the_unit_page(browser: Browser, hostile: Server, address: str) -> None:
    with viewing(browser, hostile) as view:
        view.go(address)
        expect(view.page.locator(".row .peak").first).to_be_visible(timeout=PATIENCE)
        inert(view)
        whole = view.page.locator(".row .text").all_inner_texts()
        assert any(SCRIPT in text for text in whole), "the token <script> is not shown as it is"
        assert any("⟨U+202E⟩" in text for text in whole), "the right-to-left mark is invisible"
        assert not any("�" in text for text in whole)
        assert view.overflow() == 0


def test_rows_stay_rows_whatever_their_tokens_are(browser: Browser, hostile: Server) -> None:
    with viewing(browser, hostile) as view:
        view.go(UNITS[0])
        rows = view.page.locator(".row")
        expect(rows.first).to_be_visible(timeout=PATIENCE)
        edges = rows.evaluate_all(
            "(rows) => rows.map((r) => { const b = r.getBoundingClientRect(); return [Math.round(b.left), Math.round(b.width)]; })"
        )
        assert len(edges) > 20
        assert len({tuple(edge) for edge in edges}) == 1, "a token moved its row"
        assert all(each.ratio >= 4.5 for each in measure(view.page.locator(".row .t")))


@pytest.mark.parametrize("path", ["", "explore", "explore?text=%3Cscript%3E", "runs", "try_text"])
@pytest.mark.parametrize("width", [1440, 600])
def test_hostile_tokens_are_text_on_every_other_page(browser: Browser, hostile: Server, path: str, width: int) -> None:
    with viewing(browser, hostile, width=width) as view:
        view.go(path)
        expect(view.page.get_by_role("heading", level=1)).to_be_visible(timeout=PATIENCE)
        inert(view)
        assert view.overflow() == 0


@pytest.mark.parametrize("value", [SCRIPT, "' OR 1=1 --", "\u202e\u200d", "**b** $x^2$ :material/home:"])
@pytest.mark.parametrize("path", ["unit?unit=", "explore?text=", "explore?layer=", "runs?run=", "try_text?unit="])
def test_a_hostile_address_is_text(browser: Browser, hostile: Server, path: str, value: str) -> None:
    with viewing(browser, hostile) as view:
        view.go(path + quote(value))
        expect(view.page.get_by_role("heading", level=1).or_(view.page.get_by_role("alert")).first).to_be_visible(timeout=PATIENCE)
        inert(view)
