"""The page Compare in a browser: a neuron beside features, in both themes and widths, and saved as a file."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, expect

from core.runs.registry import Registry
from core.workspace import Workspace
from tests.browser.contrast import measure
from tests.browser.server import Server, serving
from tests.browser.view import PATIENCE, Theme, View, viewing
from tests.shared_bundle import UNITS, fill
from tests.synthetic import write_synthetic_index
from tests.synthetic_explanations import chat_setting, write_synthetic_explanations

NEURON = "tiny/resid.0/neurons/4"
FEATURES = [str(unit) for unit in UNITS[2:]]
ROW = ".row:has(.chip[title])"
"""A row of the shared contexts: its chip says whose it is."""
ADDRESS = f"compare?units={','.join([NEURON, *FEATURES])}"


@pytest.fixture(scope="module")
def server(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Neurons and features of one site over the same text, and more."""
    folder = tmp_path_factory.mktemp("compare")
    workspace = Workspace.open(folder / "ws")
    fill(workspace)
    write_synthetic_index(workspace, run="same-text", n_layers=1, width=16, contexts=48, length=16, kinds=("resid",))
    settings = [chat_setting(label=label) for label in ("1", "5", "20")]
    write_synthetic_explanations(workspace, run="explain-study", units=list(map(str, UNITS[:2])), settings=settings, study="records")
    Registry(workspace).restore()
    with serving(folder / "ws", folder / "serve.log") as running:
        yield running


def heads(view: View) -> Locator:
    return view.page.locator(".nc-head")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [600, 1440])
def test_units_stand_side_by_side_and_stack_where_there_is_no_room(browser: Browser, server: Server, theme: Theme, width: int) -> None:
    with viewing(browser, server, theme, width) as view:
        view.go(ADDRESS)
        expect(heads(view)).to_have_count(3)
        expect(view.page.locator(".nc-pairs td").first).to_be_visible()
        boxes = [box for head in heads(view).all() if (box := head.bounding_box())]
        lefts, tops = {round(box["x"]) for box in boxes}, {round(box["y"]) for box in boxes}
        assert (len(lefts), len(tops)) == ((1, 3) if width == 600 else (3, 1))
        assert view.overflow() == 0
        texts = (
            ".nc-head a, .nc-head p, .nc-mark, .nc-pairs td, .nc-pairs th, .nc-pairs span, .nc-tokens span, .row:has(.chip[title]) .chip"
        )
        assert [one for one in measure(view.page.locator(texts).locator("visible=true")) if one.ratio < 4.5] == []
        view.check()


def test_a_neuron_and_features_of_its_site_share_contexts_with_a_row_for_each(browser: Browser, server: Server) -> None:
    with viewing(browser, server) as view:
        view.go(ADDRESS)
        chips = view.page.locator(".row .chip[title]")
        expect(chips.first).to_be_visible()
        assert chips.all_text_contents()[:3] == ["A 4", "B 5", "C 2"]
        first = view.page.locator(".row:has(.chip[title])").first
        assert (
            first.locator(".t").all_text_contents() == view.page.locator(".row:has(.chip[title])").nth(1).locator(".t").all_text_contents()
        )
        marks = "(row) => [...row.querySelectorAll('.t.p')].map((t) => t.style.getPropertyValue('--share'))"
        own = [row.evaluate(marks) for row in view.page.locator(ROW).all()[:12]]
        view.page.get_by_text("the largest of all", exact=True).click()
        view.asks(colours="one")
        view.settled()
        expect(view.page.get_by_text("on one common scale").first).to_be_visible()
        common = [row.evaluate(marks) for row in view.page.locator(ROW).all()[:12]]
        assert own != common
        assert any(one == other for one, other in zip(own, common, strict=True)), "the largest unit's colours stay"
        view.page.reload()
        view.settled()
        expect(view.page.get_by_text("on one common scale").first).to_be_visible()
        view.check()


def test_a_switch_over_one_units_records_is_that_of_all(browser: Browser, server: Server) -> None:
    with viewing(browser, server) as view:
        view.go(ADDRESS)
        views = view.page.locator(".tv")
        expect(views).to_have_count(4)
        views.last.locator('[data-choice="window-all"]').click()
        view.asks(window="all")
        view.settled()
        for place in (1, 2, 3):
            expect(views.nth(place)).to_have_attribute("data-window", "all", timeout=PATIENCE)
        view.check()


def test_units_are_added_moved_and_removed_and_wrong_ones_are_a_sentence(browser: Browser, server: Server) -> None:
    with viewing(browser, server) as view:
        view.go(f"unit?unit={FEATURES[0]}")
        view.page.get_by_role("link", name="Compare", exact=True).locator("visible=true").last.click()
        view.see("One unit alone is nothing to compare")
        view.page.get_by_role("textbox", name="Add a unit").fill("2")
        view.page.get_by_role("textbox", name="Add a unit").press("Enter")
        view.asks(units=",".join(FEATURES))
        expect(heads(view)).to_have_count(2)
        view.page.get_by_role("button", name="← move").click()
        view.asks(units=",".join(reversed(FEATURES)))
        view.settled()
        expect(heads(view).locator("a")).to_have_text([re.compile("/ 2$"), re.compile("/ 5$")])
        view.page.get_by_role("button", name="remove").first.click()
        view.asks(units=FEATURES[0])
        view.check()
        view.go(f"compare?units={NEURON},tiny/resid.0/neurons/999")
        view.see("Unit 999 is out of range")
        view.page.get_by_role("link", name="Go on without it").click()
        view.see("One unit alone is nothing to compare")
        view.check()


SAVED = {
    ADDRESS: ("h2", ["A resid.0 / neurons / 4", "B resid.0 / planted-r2 / 5", "C resid.0 / planted-r2 / 2"]),
    "studies?run=explain-study": ("text.label", ["1", "5", "20"]),
}
"""A page with the button, and texts of a kind that are in the file."""


@pytest.mark.parametrize("address", list(SAVED))
def test_a_comparison_and_a_study_are_saved_as_files_that_need_nothing(
    browser: Browser, server: Server, tmp_path: Path, address: str
) -> None:
    what, texts = SAVED[address]
    with viewing(browser, server) as view:
        view.go(address)
        with view.page.expect_download(timeout=PATIENCE) as saved:
            view.page.get_by_role("button", name="Save as a page").click()
        path = tmp_path / "saved.html"
        saved.value.save_as(path)
        view.check()
    context = browser.new_context(offline=True)
    try:
        page = context.new_page()
        page.goto(path.as_uri())
        expect(page.locator(what).first).to_be_visible()
        assert page.locator(what).all_text_contents() == texts
    finally:
        context.close()
