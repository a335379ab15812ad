"""The Unit page of a feature, over the embedded model: what is drawn and saved, where it leads, and a record computed again."""

import csv
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from core.workspace import Workspace
from tests.browser.conftest import copy_subjects
from tests.browser.server import Server, command, serving
from tests.browser.view import PATIENCE, Theme, View, viewing

SUBJECT, SITE, NAME, K = "smollm2-135m-instruct", "resid.9", "random-k32", 32
ADDRESS = f"unit?unit={SUBJECT}/{SITE}/{NAME}"


@pytest.fixture(scope="module")
def features(browser: Browser, real_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A dashboard over the features of a dictionary: random directions of which the 32 largest of a token are kept."""
    workspace = tmp_path_factory.mktemp("features") / "ws"
    copy_subjects(real_workspace, Workspace.open(workspace))
    command(workspace, "basis", "fit", "random", "--site", SITE, "--k", str(K), "--contexts", "64")
    command(workspace, "index", "--basis", NAME, "--contexts", "128")
    with serving(workspace, workspace.parent / "serve.log") as server:
        yield server


def opened(view: View, number: int) -> None:
    """Wait for a feature's page and its token histogram."""
    expect(view.page.get_by_role("heading", level=1)).to_have_text(f"{SITE} / {NAME} / {number}", timeout=PATIENCE)
    expect(view.page.locator(".st-key-feature-tokens .ytitle").first).to_be_visible(timeout=PATIENCE)
    view.asks(unit=f"{SUBJECT}/{SITE}/{NAME}/{number}")
    view.settled()


def drawn_as(view: View, title: str) -> None:
    """Wait until the bars have this title alone: for a moment the chart before stands beside the one that takes its place."""
    expect(view.page.locator(".st-key-feature-tokens .ytitle")).to_have_text([title], timeout=PATIENCE)


def in_all(view: View) -> int:
    """How many tokens the heading says are counted."""
    said = view.page.get_by_text(re.compile("^every token counted")).inner_text()
    return int(re.sub(r"\D", "", said.splitlines()[0]))


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 600])
def test_a_feature_is_drawn_in_both_themes_and_widths(browser: Browser, features: Server, theme: Theme, width: int) -> None:
    with viewing(browser, features, theme, width) as view:
        view.go(f"{ADDRESS}/7")
        opened(view, 7)
        for title in ("Tokens by activation", "Active together", "Dictionary", "Similar write directions"):
            expect(view.page.get_by_role("heading", name=title)).to_be_visible()
        assert view.overflow() == 0
        view.check()


def test_the_saved_tokens_are_all_that_are_counted(browser: Browser, features: Server, tmp_path: Path) -> None:
    with viewing(browser, features) as view:
        view.go(f"{ADDRESS}/7")
        opened(view, 7)
        with view.page.expect_download() as download:
            view.page.get_by_role("button", name="Save as CSV").click()
        download.value.save_as(tmp_path / "tokens.csv")
        head, *rows = list(csv.reader((tmp_path / "tokens.csv").read_text("utf8").splitlines()))
        assert len(head) == 13
        assert sum(int(row[2]) for row in rows) == sum(int(count) for row in rows for count in row[3:]) == in_all(view) > 0
        view.check()


def test_how_bars_are_drawn_stays_in_the_address_from_feature_to_feature(browser: Browser, features: Server) -> None:
    with viewing(browser, features) as view:
        view.go(f"{ADDRESS}/7")
        opened(view, 7)
        view.page.get_by_role("radio", name="shares").click()
        view.asks(counts="share")
        drawn_as(view, "share of the bin")
        view.page.keyboard.press("j")
        opened(view, 8)
        view.asks(counts="share")
        drawn_as(view, "share of the bin")
        view.page.get_by_role("radio", name="counts", exact=True).click()
        view.page.wait_for_url(lambda url: "counts" not in url)
        view.check()


def test_a_co_active_feature_is_a_click_away(browser: Browser, features: Server) -> None:
    with viewing(browser, features) as view:
        view.go(f"{ADDRESS}/7")
        opened(view, 7)
        link = view.page.locator("section", has=view.page.get_by_role("heading", name="Active together")).locator(".line a").first
        number = int(link.inner_text().rpartition("/")[2])
        link.click()
        opened(view, number)
        view.check()


def test_a_record_of_a_feature_is_computed_again_through_its_dictionary(browser: Browser, features: Server) -> None:
    with viewing(browser, features) as view:
        view.go(f"{ADDRESS}/7")
        opened(view, 7)
        view.page.get_by_text("Provenance: where these numbers come from").click()
        view.page.get_by_role("button", name="recompute this record").click()
        said = view.page.get_by_text(re.compile("^Largest difference"))
        expect(said).to_be_visible(timeout=4 * PATIENCE)
        difference = float(re.findall(r"difference ([\d.e-]+)", said.inner_text())[0])
        assert difference < 0.01
        view.see("dictionary: weights sha256")
        view.check()
