"""The review queue without a mouse: every press reaches the unit that it was made on, once, and a reload goes on where somebody stopped."""

import re
import statistics
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Locator, expect

from core.findings.findings import Findings
from core.units import UnitName
from core.workspace import Workspace
from tests.browser.server import Server, serving
from tests.browser.view import PATIENCE, View, viewing
from tests.synthetic import write_synthetic_index

TITLE = re.compile(r"(mlp\.\d) / neurons / (\d+)")
_NEXT = """
async (key) => {
  const find = (root) => {
    for (const host of root.querySelectorAll('*')) {
      const found = host.shadowRoot && (host.shadowRoot.querySelector('.review') ?? find(host.shadowRoot));
      if (found) return found;
    }
    return null;
  };
  const review = document.querySelector('.review') ?? find(document);
  const title = review.querySelector('h2').textContent, row = review.querySelector('.row');
  const begin = performance.now();
  document.body.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true, composed: true, cancelable: true }));
  const fresh = () => review.querySelector('h2').textContent !== title && review.querySelector('.row') !== row;
  while (!fresh() && performance.now() - begin < 10000) await new Promise(requestAnimationFrame);
  await new Promise(requestAnimationFrame);
  return performance.now() - begin;
}
"""
"""Press a key; milliseconds until the name and the records of another unit are there and the frame with them is drawn."""


@pytest.fixture
def shared(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A dashboard whose one author is Ada."""
    folder = tmp_path_factory.mktemp("review")
    workspace = Workspace.open(folder / "ws")
    write_synthetic_index(workspace, n_layers=2, width=24, contexts=24, length=16)
    Findings(workspace).set_usual_author("Ada")
    with serving(folder / "ws", folder / "serve.log") as server:
        yield server


def findings(server: Server) -> Findings:
    return Findings(Workspace.open(server.workspace))


def title(view: View) -> Locator:
    return view.page.locator(".review .rv-head h2")


def opened(view: View, path: str = "review") -> None:
    view.go(path)
    expect(view.page.locator(".review .row .peak").first).to_be_visible(timeout=PATIENCE)


def current(view: View) -> UnitName:
    """The unit whose name is on the screen."""
    found = TITLE.search(title(view).inner_text())
    assert found is not None
    return UnitName.parse(f"tiny/{found[1]}/neurons/{found[2]}")


def press(view: View, key: str, *, wait: bool = True) -> UnitName:
    """Press a key and return the unit that was on the screen then. wait: until it is another one."""
    unit, before = current(view), title(view).inner_text()
    view.page.keyboard.press(key)
    if wait:
        expect(title(view)).not_to_have_text(before, timeout=PATIENCE)
    return unit


def done(view: View, count: int) -> None:
    expect(view.page.locator(".review .rv-progress")).to_have_text(re.compile(rf"^{count} of "), timeout=PATIENCE)


def ratings(server: Server) -> dict[UnitName, int]:
    found = findings(server).entries(kind="rating")
    return {entry.unit: int(entry.current.body["rating"]) for entry in found if entry.unit is not None}


def test_twenty_units_by_keyboard_alone_with_undo_note_and_label_and_a_reload(browser: Browser, shared: Server) -> None:
    given: dict[UnitName, int] = {}
    with viewing(browser, shared) as view:
        opened(view)
        for number in range(10):
            stars = number % 5 + 1
            given[press(view, str(stars))] = stars
        assert len(given) == 10, "every press led on to a unit that was not there before"
        done(view, 10)
        assert ratings(shared) == given
        last = list(given)[-1]
        before = current(view)
        view.page.keyboard.press("u")
        assert current(view) == last
        given.pop(last)
        done(view, 9)
        assert ratings(shared) == given
        given[press(view, "1")] = 1
        assert current(view) == before
        view.page.keyboard.press("n")
        view.page.keyboard.type("1 and n are letters here, not keys")
        view.page.keyboard.press("Control+Shift+Enter")
        view.page.keyboard.press("l")
        view.page.keyboard.type("rivers")
        view.page.keyboard.press("Control+Enter")
        expect(view.page.locator(".review .rv-status")).to_have_text(re.compile("Labelled “rivers”"))
        noted = current(view)
        assert noted != before
        view.page.keyboard.press("n")
        view.page.keyboard.type("a draft")
        view.page.keyboard.press("Escape")
        given[press(view, "2")] = 2
        view.page.keyboard.press("k")
        expect(title(view)).to_have_text(re.compile(rf"/ {noted.index}$"), timeout=PATIENCE)
        expect(view.page.get_by_role("textbox", name="Note")).to_have_value("a draft")
        view.page.keyboard.press("j")
        done(view, 12)
        view.page.reload()
        opened(view)
        done(view, 12)
        assert current(view) not in {*given, before}
        while len(given) < 21:
            given[press(view, "5")] = 5
        done(view, 22)
        known = findings(shared)
        assert ratings(shared) == given
        assert known.labels(before) == ["rivers"]
        assert [note.current.text for note in known.notes(before)] == ["1 and n are letters here, not keys"]
        assert known.notes(noted) == []
        assert all(entry.current.author == "Ada" for entry in known.entries())
        assert [version.text for version in known.history(known.entries(unit=last, kind="rating")[0].id)] == ["1", "5", "5"]
        view.check()


def test_presses_faster_than_the_page_follows_reach_the_units_they_were_made_on(browser: Browser, shared: Server) -> None:
    """Nothing is waited for: once the units that were made ready are used up, the one on the screen stays and takes the presses."""
    given: dict[UnitName, int] = {}
    with viewing(browser, shared) as view:
        opened(view)
        for number in range(24):
            stars = (number * 3) % 5 + 1
            given[press(view, str(stars), wait=False)] = stars
            if number % 7 == 3:
                view.page.keyboard.press("k")
                view.page.keyboard.press("j")
        done(view, len(given))
        assert ratings(shared) == given
        view.check()


def test_every_key_has_a_button_and_what_was_done_is_said(browser: Browser, shared: Server) -> None:
    with viewing(browser, shared) as view:
        opened(view)
        review = view.page.locator(".review")
        first = current(view)
        review.get_by_role("group", name="Your rating").get_by_role("button", name="3").click()
        expect(review.get_by_role("status")).to_have_text(f"Rated 3: mlp.{first.site.layer} / neurons / {first.index}.")
        second = current(view)
        review.get_by_role("button", name="pass over").click()
        expect(review.locator(".rv-progress")).to_have_text(re.compile("1 passed over"), timeout=PATIENCE)
        assert current(view) not in (first, second)
        review.get_by_role("button", name="undo").click()
        assert current(view) == second
        review.get_by_role("button", name="note").click()
        review.get_by_role("textbox", name="Note").fill("by hand")
        review.get_by_role("button", name="save and go on").click()
        expect(review.get_by_role("status")).to_have_text(re.compile("Note saved"))
        review.get_by_role("button", name="label").click()
        review.get_by_role("combobox", name="Label").fill("seas")
        review.get_by_role("button", name="save", exact=True).click()
        labelled = current(view)
        expect(review.locator(".rv-written bdi")).to_have_text(["seas"], timeout=PATIENCE)
        review.get_by_role("button", name="by chance").click()
        expect(title(view)).not_to_have_text(f"mlp.{labelled.site.layer} / neurons / {labelled.index}", timeout=PATIENCE)
        for name in ("next", "previous"):
            here = title(view).inner_text()
            review.get_by_role("button", name=name).click()
            expect(title(view)).not_to_have_text(here, timeout=PATIENCE)
        keys = review.get_by_role("button", name="keys")
        assert keys.get_attribute("aria-expanded") == "false"
        keys.click()
        expect(review.locator(".rv-help")).to_be_visible()
        view.page.keyboard.press("Escape")
        expect(review.locator(".rv-help")).to_be_hidden()
        known = findings(shared)
        assert (known.rating(first), known.rating(second)) == (3, None)
        assert [note.current.text for note in known.notes(second)] == ["by hand"]
        assert known.labels(labelled) == ["seas"]
        view.check()


def test_another_list_is_another_queue_and_the_end_is_said(browser: Browser, shared: Server) -> None:
    known = findings(shared)
    made = known.collections.create("Two")
    known.collections.add(made.id, [UnitName.parse(f"tiny/mlp.1/neurons/{number}") for number in (4, 2)])
    with viewing(browser, shared, "dark", 600) as view:
        opened(view)
        view.page.get_by_role("combobox", name=re.compile("Collection")).click()
        view.page.get_by_role("option", name="Two").click()
        expect(title(view)).to_have_text("mlp.1 / neurons / 4", timeout=PATIENCE)
        view.asks(collection=made.id)
        view.page.locator(".review .rv-progress").click()
        view.page.keyboard.press("4")
        expect(title(view)).to_have_text("mlp.1 / neurons / 2")
        view.page.keyboard.press("Space")
        expect(view.page.locator(".review .rv-status")).to_have_text("Passed over: mlp.1 / neurons / 2.")
        expect(title(view)).to_have_text("mlp.1 / neurons / 2", timeout=PATIENCE)
        view.page.keyboard.press("2")
        expect(title(view)).to_have_text("Every unit of this list is done", timeout=PATIENCE)
        view.page.keyboard.press("3")
        view.page.keyboard.press("u")
        expect(title(view)).to_have_text("mlp.1 / neurons / 2", timeout=PATIENCE)
        done(view, 1)
        assert ratings(shared) == {UnitName.parse("tiny/mlp.1/neurons/4"): 4}
        assert view.overflow() == 0
        view.check()


def test_a_hostile_unit_is_inert(browser: Browser, hostile: Server) -> None:
    with viewing(browser, hostile) as view:
        view.go("review")
        expect(view.page.locator(".review .row").first).to_be_visible(timeout=PATIENCE)
        for _ in range(6):
            view.page.keyboard.press("j")
            view.page.wait_for_timeout(60)
        assert view.page.locator(".review img, .review script").count() == 0
        view.check()


def test_the_next_unit_is_drawn_at_once(browser: Browser, real: Server, measured: list[str]) -> None:
    """Keys that write nothing, so that the workspace stays as others expect it. The median is printed; only a hang fails."""
    with viewing(browser, real) as view:
        opened(view, "review?order=random&seed=5")
        ready: list[float] = []
        for key in "jjjjjjjjrrrrrrrr":
            view.settled()
            view.page.wait_for_timeout(150)
            ready.append(float(view.page.evaluate(_NEXT, key)))
        view.check()
    measured.append(f"review, key to next unit: median {statistics.median(ready):.0f} ms, worst {max(ready):.0f} ms (n = {len(ready)})")
    assert max(ready) < 10_000
