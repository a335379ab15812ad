"""Findings in the browser: two people edit one note and neither loses a word; what a note says is inert; the list leads to it."""

import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, expect

from core.findings.findings import Findings
from core.units import UnitName
from core.workspace import Workspace
from tests.browser.server import Server, serving
from tests.browser.view import PATIENCE, View, viewing
from tests.synthetic import write_synthetic_index

UNIT = "tiny/mlp.1/neurons/4"
PAGE = f"unit?unit={UNIT}"


@contextmanager
def for_two(folder: Path) -> Generator[Server]:
    """A dashboard that two people use."""
    workspace = Workspace.open(folder / "ws")
    write_synthetic_index(workspace, n_layers=2, width=8, contexts=24, length=16)
    Findings(workspace).set_usual_author("Ada")
    with serving(folder / "ws", folder / "serve.log") as server:
        yield server


@pytest.fixture(scope="module")
def shared(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One for all tests that find what they wrote themselves, whatever else is there."""
    with for_two(tmp_path_factory.mktemp("findings")) as server:
        yield server


@pytest.fixture
def untouched(browser: Browser, tmp_path: Path) -> Iterator[Server]:
    """One on which nobody has written, also when a test is tried once more."""
    with for_two(tmp_path) as server:
        yield server


def findings(server: Server) -> Findings:
    return Findings(Workspace.open(server.workspace))


def choose(view: View, action: str) -> None:
    view.page.get_by_role("radio", name=action).or_(view.page.get_by_role("button", name=action)).first.click()


def write(view: View, text: str, save: str = "Save") -> None:
    """Fill the note's field and press its button at once, as a person does."""
    note(view).fill(text)
    view.page.get_by_role("button", name=save, exact=True).click()


def note(view: View) -> Locator:
    return view.page.get_by_role("textbox", name="Note")


def test_two_browsers_edit_one_note_and_the_second_is_told_and_merges(browser: Browser, untouched: Server) -> None:
    with viewing(browser, untouched) as ada, viewing(browser, untouched) as ben:
        ada.go(PAGE)
        choose(ada, "Write a note")
        write(ada, "Fires on **rivers**.")
        expect(ada.page.locator("strong", has_text="rivers")).to_be_visible(timeout=PATIENCE)
        ben.go(PAGE)
        choose(ben, "Your name")
        ben.page.get_by_role("textbox", name="Your name").fill("Ben")
        ben.page.get_by_role("textbox", name="Your name").press("Enter")
        ben.settled()
        for view in (ada, ben):
            view.page.get_by_role("button", name="edit", exact=True).click()
            expect(note(view)).to_have_value("Fires on **rivers**.", timeout=PATIENCE)
        write(ada, "Fires on **rivers** and lakes.")
        expect(note(ada)).to_have_count(0, timeout=PATIENCE)
        ben.see("Ada has saved this since you began")
        write(ben, "Fires on **rivers**, not on seas.")
        ben.see("Ada saved this meanwhile. Nothing was overwritten")
        expect(ben.page.locator(".nf-was")).to_have_text("Fires on **rivers** and lakes.")
        expect(note(ben)).to_have_value("Fires on **rivers** and lakes.\n\nFires on **rivers**, not on seas.", timeout=PATIENCE)
        write(ben, "Fires on **rivers** and lakes, not on seas.", "Save both as one")
        expect(note(ben)).to_have_count(0, timeout=PATIENCE)
        (kept,) = findings(untouched).notes(UnitName.parse(UNIT))
        assert kept.current.text == "Fires on **rivers** and lakes, not on seas."
        told = [(version.author, version.text) for version in findings(untouched).history(kept.id)]
        assert told == [
            ("Ben", "Fires on **rivers** and lakes, not on seas."),
            ("Ada", "Fires on **rivers** and lakes."),
            ("Ada", "Fires on **rivers**."),
        ]
        ada.check()
        ben.check()


def test_rating_label_and_a_new_collection_by_hand(browser: Browser, untouched: Server) -> None:
    unit = UnitName.parse("tiny/mlp.0/neurons/2")
    with viewing(browser, untouched) as view:
        view.go(f"unit?unit={unit}")
        view.page.locator('[class*="st-key-findings-rating"]').get_by_role("radio", name="4").click()
        view.settled()
        box = view.page.get_by_role("combobox", name=re.compile("Labels"))
        box.fill("water words")
        box.press("Enter")
        view.page.keyboard.press("Escape")
        view.settled()
        choose(view, "Add to a collection")
        title = view.page.get_by_role("combobox", name=re.compile("Collection"))
        title.fill("Wet places")
        title.press("Enter")
        view.page.get_by_role("button", name="Add", exact=True).click()
        view.page.get_by_role("link", name="Wet places").wait_for(timeout=PATIENCE)
        known = findings(untouched)
        assert (known.rating(unit), known.labels(unit)) == (4, ["water words"])
        view.page.get_by_role("link", name="Wet places").click()
        view.see("put into")
        assert view.query() == {"collection": known.collections.find("Wet places").id}
        view.page.locator(".nfl").get_by_role("link", name="mlp.0/2").first.click()
        expect(view.page.get_by_role("heading", level=1)).to_have_text("mlp.0 / neurons / 2", timeout=PATIENCE)
        view.check()


HOSTILE = """<img src=x onerror=alert(1)> <script>alert(1)</script> ![a](https://example.com/a.png) ![b][c]

[script](javascript:alert(1)) [entity](javascript&#58;alert(1)) [data](data:text/html,x) <javascript:alert(1)> [good](https://example.com)

[c]: https://example.com/c.png
[d]: javascript:alert(1)

[reference][d]
"""


def test_a_hostile_note_and_title_are_inert_on_both_pages(browser: Browser, shared: Server) -> None:
    unit = UnitName.parse("tiny/mlp.0/neurons/3")
    known = findings(shared)
    known.save_note(unit, HOSTILE)
    known.label(unit, "<b onmouseover=alert(1)>x</b>")
    made = known.collections.create("<script>alert(1)</script>", HOSTILE)
    known.collections.add(made.id, [unit])
    with viewing(browser, shared) as view:
        for address in (f"unit?unit={unit}", "findings", f"findings?collection={made.id}"):
            view.go(address)
            view.see(re.compile("alert"))
            links = [link.get_attribute("href") or "" for link in view.page.locator('[data-testid="stMain"] a').all()]
            assert not [link for link in links if re.match(r"\s*(javascript|data|vbscript):", link, re.I)], links
            assert view.page.locator('[data-testid="stMain"] img').count() == 0
            view.check()


@pytest.mark.parametrize("width", [600, 1440])
def test_the_page_fits(browser: Browser, shared: Server, width: int) -> None:
    with viewing(browser, shared, "dark" if width == 600 else "light", width) as view:
        for address in ("findings", PAGE):
            view.go(address)
            view.see("Findings")
            view.check()
            assert view.overflow() == 0
