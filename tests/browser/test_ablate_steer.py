"""Ablate and steer in a browser: two texts grow side by side, are stopped and come back; a text is read with a unit silenced."""

from playwright.sync_api import Browser, Locator, expect

from tests.browser.server import Server
from tests.browser.view import PATIENCE, View, viewing

UNIT = "smollm2-135m-instruct/mlp.22/neurons/91"
"""Found by its statistics to fire on modal verbs."""
MODEL_PATIENCE = 4 * PATIENCE
"""The first text loads the model."""


def side(view: View, name: str) -> Locator:
    return view.page.get_by_role("group", name=f"What the model wrote, {name}").locator(".t")


def test_texts_grow_are_stopped_and_come_back_with_the_address(browser: Browser, real: Server) -> None:
    with viewing(browser, real) as view:
        view.go(f"unit?unit={UNIT}")
        view.page.get_by_role("link", name="Steer with this unit").click()
        expect(view.page.get_by_role("heading", level=1)).to_have_text("Ablate and steer", timeout=PATIENCE)
        view.go(f"ablate_steer?units={UNIT}&strengths=3&tokens=256&text=She+said+that+it")
        view.page.get_by_role("button", name="Write", exact=True).click()
        expect(side(view, "steered").nth(2)).to_be_visible(timeout=MODEL_PATIENCE)
        before = side(view, "original").count()
        expect(side(view, "original").nth(before + 2)).to_be_visible(timeout=MODEL_PATIENCE)  # it goes on by itself
        view.page.get_by_role("button", name="Stop").click()
        view.see("It was stopped: what it wrote until then is kept below")
        view.settled()
        kept = {name: side(view, name).all_inner_texts() for name in ("original", "steered")}
        assert len(kept["original"]) < 256
        assert kept["original"] != kept["steered"]
        assert view.page.locator(".t.changed").count() > 0
        view.page.reload()
        for name, pieces in kept.items():
            expect(side(view, name)).to_have_text(pieces, timeout=PATIENCE)
        expect(view.page.get_by_role("button", name="Go on")).to_be_visible(timeout=PATIENCE)
        side(view, "steered").nth(1).click()
        view.asks(step="1")
        view.see("for token 2, “")
        with view.page.expect_download(timeout=PATIENCE) as saved:
            view.page.get_by_role("button", name="Save as CSV").click()
        assert saved.value.suggested_filename.startswith("steer-")
        view.check()


def test_a_text_is_read_with_the_unit_silenced_and_a_token_is_looked_at(browser: Browser, real: Server) -> None:
    with viewing(browser, real) as view:
        view.go(f"ablate_steer?units={UNIT}&text=They+could+have+gone%2C+but+they+might+not.")
        view.page.get_by_role("button", name="Ablate", exact=True).click()
        tokens = view.page.get_by_role("group", name="The text, with the change of each token's log-probability").locator(".t")
        expect(tokens.first).to_be_visible(timeout=MODEL_PATIENCE)
        view.settled()
        assert "".join(tokens.all_inner_texts()).strip() == "They could have gone, but they might not."
        assert view.page.locator(".t.down, .t.up").count() > 0
        place = next(i for i, text in enumerate(tokens.all_inner_texts()) if "could" in text)
        tokens.nth(place).click()
        view.asks(at=str(place))
        expect(view.page.get_by_text(f"after “␣could”, token {place + 1}")).to_have_count(2, timeout=PATIENCE)
        view.check()
