"""The Runs page: an index started there goes on through a reload and stops when cancelled."""

import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from core.runs.registry import Registry
from core.workspace import Workspace
from tests.browser.conftest import copy_subjects
from tests.browser.server import Server, serving
from tests.browser.view import PATIENCE, View, viewing

LONG = 20_000
"""Contexts: more than this machine reads while the test looks at it."""
WORKING = re.compile(r"reading the text · ([\d,]+) of [\d,]+ contexts")


@contextmanager
def without_runs(real_workspace: Path, folder: Path) -> Generator[Server]:
    """A dashboard over a workspace that knows the embedded model but has no run, and may be written to."""
    workspace = Workspace.open(folder / "ws")
    copy_subjects(real_workspace, workspace)
    (workspace.scratch / "first-run.json").write_text("{}")
    with serving(workspace.path, folder / "serve.log") as server:
        yield server


@pytest.fixture(scope="module")
def spare(browser: Browser, real_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One for all tests that start nothing."""
    with without_runs(real_workspace, tmp_path_factory.mktemp("spare")) as server:
        yield server


@pytest.fixture
def fresh(browser: Browser, real_workspace: Path, tmp_path: Path) -> Iterator[Server]:
    """One for a test that starts a run, also when it is tried once more."""
    with without_runs(real_workspace, tmp_path) as server:
        yield server


def test_a_run_started_here_survives_a_reload_and_can_be_cancelled(browser: Browser, fresh: Server) -> None:
    with viewing(browser, fresh) as view:
        view.go("runs?new=1")
        view.see("No run yet")
        fill(view, "Sites", "mlp.20")
        fill(view, "Contexts", str(LONG))
        view.see("on disk")
        view.page.get_by_role("button", name="Start the index").click()
        view.see(WORKING)
        expect(view.page.locator(".na-state")).to_have_text("running", timeout=PATIENCE)
        address = view.page.url
        assert view.query()["run"].startswith("index-")
        view.page.wait_for_function(
            "() => Number(/reading the text · ([\\d,]+) of/.exec(document.body.innerText)?.[1].replaceAll(',', '')) > 0"
        )
        before = contexts_done(view.page)

        view.page.reload()
        view.see(WORKING)
        assert view.page.url == address
        assert contexts_done(view.page) >= before > 0
        view.see("attempt 1")  # the log's end is shown for the run in the address

        view.page.get_by_role("button", name="Cancel").click()
        expect(view.page.locator(".na-state")).to_have_text("cancelled", timeout=PATIENCE)
        expect(view.page.get_by_role("button", name="Resume")).to_be_visible()
        view.check()
    (run,) = Registry(Workspace.open(fresh.workspace)).list()
    assert (run.state, run.total) == ("cancelled", LONG)


@pytest.mark.parametrize(
    ("label", "value", "sentence"),
    [
        ("Sites", "mlp.30", "the model's layers are 0 to 29"),
        ("Sites", "<script>alert(1)</script>", "is not a choice of sites"),
    ],
)
def test_a_wrong_choice_is_one_sentence_and_cannot_be_started(
    browser: Browser, spare: Server, label: str, value: str, sentence: str
) -> None:
    with viewing(browser, spare) as view:
        view.go("runs?new=1")
        fill(view, label, value)
        view.see(sentence)
        expect(view.page.get_by_role("button", name="Start the index")).to_be_disabled()
        view.check()


def test_an_unknown_run_in_the_address_is_one_sentence(browser: Browser, spare: Server) -> None:
    with viewing(browser, spare) as view:
        view.go("runs?run=index-never")
        view.see("There is no run index-never")
        view.check()


def fill(view: View, label: str, value: str) -> None:
    """Type into a field and leave it."""
    field = view.page.get_by_label(label, exact=True)
    field.fill(value)
    field.press("Tab")
    view.settled()


def contexts_done(page: Page) -> int:
    """The first number of `reading the text · 1,024 of 20,000 contexts`."""
    found = WORKING.search(page.inner_text("body"))
    assert found is not None
    return int(found[1].replace(",", ""))
