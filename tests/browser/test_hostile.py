"""Tokens that break careless pages: markup, bidirectional marks, zero-width characters, null bytes. All must be shown as text."""

from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.contrast import measure
from tests.browser.server import Server
from tests.browser.view import PATIENCE, View, viewing

SCRIPT = "<script>alert(1)</script>"
UNITS = [
    ("mlp.0/neurons/0", "\"'&<>"),
    ("mlp.0/neurons/8", SCRIPT),
    ("mlp.1/neurons/0", "⟨U+200D⟩"),
    ("mlp.2/neurons/0", "50%_\\"),
    ("mlp.2/neurons/8", "⟨U+202E⟩"),
]
"""Units of the synthetic index, and the token that each responds to as it must be shown."""


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


@pytest.mark.parametrize(("unit", "token"), UNITS)
def test_a_hostile_token_is_text_on_the_page_of_its_unit(browser: Browser, hostile: Server, unit: str, token: str) -> None:
    with viewing(browser, hostile) as view:
        view.go(f"unit?unit=tiny/{unit}&window=all")
        top = view.page.locator(".row").first
        expect(top.locator(".peak")).to_have_text(token, timeout=PATIENCE)
        expect(top.locator(".chip")).to_have_text(token)
        view.see("Top tokens")
        inert(view)
        assert not any("�" in text for text in view.page.locator(".row .text").all_inner_texts())
        assert view.overflow() == 0


def test_rows_stay_rows_whatever_their_tokens_are(browser: Browser, hostile: Server) -> None:
    with viewing(browser, hostile) as view:
        view.go("unit?unit=tiny/mlp.0/neurons/8&window=all")
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
