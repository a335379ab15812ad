"""The Unit page over the embedded model: keys, the address as the whole state, wrong addresses, contrast."""

import re
from collections.abc import Callable
from urllib.parse import unquote

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.contrast import difference, measure
from tests.browser.server import Server
from tests.browser.view import PATIENCE, Theme, View, viewing

SUBJECT = "smollm2-135m-instruct"
UNIT = f"unit?unit={SUBJECT}/mlp.5/neurons/1352"
READABLE = 4.5
"""WCAG 2.1 AA for text of normal size."""


def heading(view: View, site: str, number: int) -> None:
    """Wait for a unit's page: its heading, its records and its address."""
    expect(view.page.get_by_role("heading", level=1)).to_have_text(f"{site} / neurons / {number}", timeout=PATIENCE)
    expect(view.page.locator(".row .peak").first).to_be_visible(timeout=PATIENCE)
    view.asks(unit=f"{SUBJECT}/{site}/neurons/{number}")
    view.settled()


def test_keys_lead_to_the_next_the_previous_and_an_interesting_unit(browser: Browser, real: Server) -> None:
    with viewing(browser, real) as view:
        view.go(UNIT)
        heading(view, "mlp.5", 1352)
        view.page.keyboard.press("j")
        heading(view, "mlp.5", 1353)
        view.page.keyboard.press("k")
        heading(view, "mlp.5", 1352)
        view.page.keyboard.press("i")
        expect(view.page.get_by_role("heading", level=1)).not_to_have_text("mlp.5 / neurons / 1352", timeout=PATIENCE)
        expect(view.page.locator(".row .peak").first).to_be_visible(timeout=PATIENCE)
        view.check()


def test_keys_pressed_faster_than_the_page_follows_all_count(browser: Browser, real: Server) -> None:
    with viewing(browser, real) as view:
        view.go(UNIT)
        heading(view, "mlp.5", 1352)
        for keys, pause, number in (("jjjjj", 0, 1357), ("kkkkkkk", 60, 1350), ("jjkjjkjjj", 90, 1355), ("jkjkj", 35, 1356)):
            for key in keys:
                view.page.keyboard.press(key)
                view.page.wait_for_timeout(pause)
            heading(view, "mlp.5", number)
        for _ in range(4):
            view.page.get_by_role("button", name="next").click(no_wait_after=True)
        heading(view, "mlp.5", 1360)
        view.check()


def test_what_did_not_change_is_sent_again_and_not_as_a_reference_that_the_browser_may_have_dropped(browser: Browser, real: Server) -> None:
    """A browser that is sent a reference to a part it no longer has shows an error and nothing else until it is reloaded."""
    sizes: list[int] = []
    with viewing(browser, real) as view:
        view.page.on("websocket", lambda socket: socket.on("framereceived", lambda frame: sizes.append(len(frame))))
        view.go(UNIT)
        heading(view, "mlp.5", 1352)
        records = max(sizes)
        sizes.clear()
        view.page.get_by_placeholder("jump").fill("5/1352")
        view.page.keyboard.press("Enter")
        expect(view.page.get_by_placeholder("jump")).to_have_value("", timeout=PATIENCE)
        view.settled()
        assert max(sizes) >= records > 20_000


def test_steps_go_on_from_where_a_jump_or_another_page_led(browser: Browser, real: Server) -> None:
    with viewing(browser, real) as view:
        view.go(UNIT)
        heading(view, "mlp.5", 1352)
        for _ in range(3):
            view.page.keyboard.press("j")
        heading(view, "mlp.5", 1355)
        box = view.page.get_by_placeholder("jump")
        box.fill("22/91")
        box.press("Enter")
        heading(view, "mlp.22", 91)
        box.blur()
        for _ in range(2):
            view.page.keyboard.press("k")
        heading(view, "mlp.22", 89)
        view.page.get_by_test_id("stSidebarNavLink").filter(has_text="Explore").click()
        expect(view.page.get_by_role("heading", level=1)).to_have_text("Explore", timeout=PATIENCE)
        view.settled()
        view.page.go_back()
        heading(view, "mlp.22", 89)
        for _ in range(3):
            view.page.keyboard.press("j")
        heading(view, "mlp.22", 92)
        view.check()


def test_a_number_with_zeros_in_front_is_put_right_in_the_address(browser: Browser, real: Server) -> None:
    with viewing(browser, real) as view:
        view.go("explore")
        view.go(f"unit?unit={SUBJECT}/mlp.05/neurons/007&window=all")
        heading(view, "mlp.5", 7)
        assert view.page.url.endswith(f"/unit?unit={SUBJECT}/mlp.5/neurons/7&window=all")
        view.page.keyboard.press("j")
        heading(view, "mlp.5", 8)
        view.page.go_back()
        heading(view, "mlp.5", 7)
        view.page.go_back()
        expect(view.page.get_by_role("heading", level=1)).to_have_text("Explore", timeout=PATIENCE)
        view.check()


def test_next_goes_on_to_the_next_site_after_the_last_unit(browser: Browser, real: Server) -> None:
    with viewing(browser, real) as view:
        view.go(f"unit?unit={SUBJECT}/mlp.5/neurons/1535")
        heading(view, "mlp.5", 1535)
        view.page.get_by_role("button", name="next").click()
        heading(view, "mlp.22", 0)
        view.check()


def test_the_jump_box_takes_a_part_of_a_name(browser: Browser, real: Server) -> None:
    with viewing(browser, real) as view:
        view.go(UNIT)
        heading(view, "mlp.5", 1352)
        box = view.page.get_by_placeholder("jump")
        box.fill("22/91")
        box.press("Enter")
        heading(view, "mlp.22", 91)
        view.check()


def test_typing_in_the_jump_box_is_not_taken_for_keys(browser: Browser, real: Server) -> None:
    with viewing(browser, real) as view:
        view.go(UNIT)
        heading(view, "mlp.5", 1352)
        view.page.get_by_placeholder("jump").press_sequentially("jki")
        view.settled()
        heading(view, "mlp.5", 1352)


def test_the_address_is_the_whole_state(browser: Browser, real: Server) -> None:
    with viewing(browser, real) as view:
        view.go(UNIT)
        heading(view, "mlp.5", 1352)
        for choice in ("window-all", "scale-text", "curve-log"):
            view.page.locator(f'[data-choice="{choice}"]').click()
            name, value = choice.split("-")
            view.asks(**{name: value})
        view.settled()
        address, shown = view.page.url, view.page.locator(".row").all_inner_texts()
        view.page.reload()
        heading(view, "mlp.5", 1352)
        assert view.page.url == address
        for choice in ("window-all", "scale-text", "curve-log"):
            expect(view.page.locator(f'[data-choice="{choice}"]')).to_have_attribute("aria-pressed", "true")
        assert view.page.locator(".row").all_inner_texts() == shown
        view.check()


def test_back_in_the_browser_leads_back_to_the_unit_before(browser: Browser, real: Server) -> None:
    with viewing(browser, real) as view:
        view.go(UNIT)
        heading(view, "mlp.5", 1352)
        view.page.get_by_role("button", name="next").click()
        heading(view, "mlp.5", 1353)
        view.page.go_back()
        heading(view, "mlp.5", 1352)
        view.check()


WRONG = [
    (f"{SUBJECT}/mlp.99/neurons/5", "Layer 99 is out of range"),
    (f"{SUBJECT}/mlp.6/neurons/5", "mlp.6"),
    (f"{SUBJECT}/mlp.5/neurons/1536", "out of range"),
    (f"{SUBJECT}/mlp.5/neurons/-1", "is not a unit's number"),
    (f"{SUBJECT}/mlp.5/neurons/abc", "is not a unit's number"),
    (f"{SUBJECT}/mlp.5/neurons/%D9%A3", "is not a unit's number"),
    (f"{SUBJECT}/mlp.5/nothing/5", "nothing"),
    (f"{SUBJECT}/mlp.five/neurons/5", "is not a site"),
    ("unknown-model/mlp.5/neurons/5", "unknown-model"),
    ("..%2F..%2Fetc/mlp.5/neurons/5", "is not a unit"),
    ("%3Cscript%3Ealert(1)%3C/script%3E", "is not a unit"),
    ("%00%FF%FE", "is not a unit"),
]


@pytest.mark.parametrize(("name", "sentence"), WRONG)
def test_a_wrong_address_says_what_is_wrong_and_shows_no_other_unit(browser: Browser, real: Server, name: str, sentence: str) -> None:
    with viewing(browser, real) as view:
        view.go(f"unit?unit={name}")
        alert = view.page.get_by_role("alert").first
        expect(alert).to_contain_text(sentence, timeout=PATIENCE)
        expect(view.page.locator(".row")).to_have_count(0)
        assert view.query()["unit"] == unquote(name), "the address was changed"
        view.check()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("unit", ["mlp.0/neurons/3", "mlp.22/neurons/91"])
def test_every_token_is_readable_over_its_highlight(browser: Browser, real: Server, theme: Theme, unit: str) -> None:
    with viewing(browser, real, theme) as view:
        view.go(f"unit?unit={SUBJECT}/{unit}&window=all&scale=text&curve=log")
        expect(view.page.locator(".row .peak").first).to_be_visible(timeout=PATIENCE)
        view.settled()
        for selector, least in ((".row .t", 1000), (".row .chip", 20)):
            found = measure(view.page.locator(selector))
            assert len(found) >= least
            faint = [each for each in found if each.ratio < READABLE]
            assert faint == [], f"{len(faint)} of {len(found)}"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_weak_activations_can_be_seen_and_zero_is_the_background(browser: Browser, real: Server, theme: Theme) -> None:
    with viewing(browser, real, theme) as view:
        view.go(f"unit?unit={SUBJECT}/mlp.22/neurons/91")
        expect(view.page.locator(".row .peak").first).to_be_visible(timeout=PATIENCE)
        view.settled()
        (page,) = measure(view.page.locator(".tv"))
        chips = measure(view.page.locator(".row .chip"))
        assert min(difference(chip.background, page.background) for chip in chips) > 0.06
        assert chips[0].background != chips[-1].background
        tokens = view.page.locator(".row .t.p, .row .t.n")
        shares = [float(share) for share in tokens.evaluate_all("(all) => all.map((one) => one.style.getPropertyValue('--share'))")]
        seen = [difference(token.background, page.background) for token in measure(tokens)]
        weak = [difference for share, difference in zip(shares, seen, strict=True) if 0.06 <= share <= 0.1]
        assert len(weak) > 3
        assert min(weak) > 0.02
        assert max(difference for share, difference in zip(shares, seen, strict=True) if share < 0.002) < 0.01


def test_the_theme_of_the_browser_is_followed(browser: Browser, real: Server) -> None:
    luminance: Callable[[str], int] = lambda colour: sum(int(part) for part in re.findall(r"\d+", colour)[:3])  # noqa: E731
    found = {}
    for theme in ("light", "dark"):
        with viewing(browser, real, theme) as view:
            view.go(UNIT)
            heading(view, "mlp.5", 1352)
            found[theme] = luminance(measure(view.page.locator(".row .t").first)[0].background)
    assert found["light"] > 600 > 200 > found["dark"]


def test_hovering_a_token_shows_its_value(browser: Browser, real: Server) -> None:
    with viewing(browser, real) as view:
        view.go(UNIT)
        heading(view, "mlp.5", 1352)
        row = view.page.locator(".row").first
        row.locator(".peak").hover()
        tip = view.page.locator(".tip:visible").first
        expect(tip).to_contain_text("position")
        expect(tip).to_contain_text(row.locator(".value").inner_text())


def test_a_record_computed_again_agrees_with_the_stored_one(browser: Browser, real: Server) -> None:
    with viewing(browser, real) as view:
        view.go(UNIT)
        heading(view, "mlp.5", 1352)
        view.page.get_by_text("Provenance").click()
        view.page.get_by_role("button", name="recompute this record").click()
        said = view.page.get_by_text("Largest difference")
        expect(said).to_be_visible(timeout=3 * PATIENCE)
        value = re.search(r"Largest difference ([\d.e-]+)", said.inner_text())
        largest = view.page.locator(".row .value").first.inner_text()
        assert value is not None
        assert float(value[1]) < 1e-3 * abs(float(largest.replace("−", "-"))) + 1e-3
        view.check()
