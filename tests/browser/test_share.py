"""Sharing in the browser: a file is made on the click and saved, a failure is a sentence on the page, an upload comes in and merges."""

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from core.findings.findings import Findings
from core.ui.share_files import Choice, make
from core.units import UnitName
from core.workspace import Workspace
from tests.browser.server import Server, serving
from tests.browser.view import PATIENCE, View, viewing
from tests.synthetic import write_synthetic_index

UNIT = UnitName.parse("tiny/mlp.1/neurons/4")
GONE = UnitName.parse("tiny/mlp.1/neurons/777")


def index(folder: Path) -> Workspace:
    workspace = Workspace.open(folder)
    write_synthetic_index(workspace, n_layers=2, width=8, contexts=24, length=16)
    return workspace


@pytest.fixture(scope="module")
def shared(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A dashboard with a note on a unit, and one on a unit that is not here."""
    folder = tmp_path_factory.mktemp("share")
    known = Findings(index(folder / "ws"), "Ada")
    known.save_note(UNIT, "Ada's note")
    known.label(GONE, "gone")
    with serving(folder / "ws", folder / "serve.log") as server:
        yield server


def fold(view: View, name: str | re.Pattern[str]) -> None:
    view.page.locator('[data-testid="stExpander"] summary', has_text=name).click()
    view.settled()


def left(server: Server) -> list[str]:
    return [path.name for path in (server.workspace / "scratch").iterdir() if path.name.startswith(("export-", "import-"))]


def test_a_bundle_and_a_page_are_saved_on_the_click(browser: Browser, shared: Server, tmp_path: Path) -> None:
    with viewing(browser, shared) as view:
        view.go(f"unit?unit={UNIT}")
        fold(view, "Share this unit")
        for choice, file in (("Bundle for Neuron Atlas", "mlp.1-neurons-4.atlas.zip"), ("Page to read", "mlp.1-neurons-4.html")):
            view.page.get_by_role("combobox", name=re.compile("As")).click()
            view.page.get_by_role("option", name=choice).click()
            view.settled()
            with view.page.expect_download(timeout=PATIENCE) as caught:
                view.page.get_by_role("button", name="Save 1 unit").click()
            assert caught.value.suggested_filename == file
            caught.value.save_as(tmp_path / file)
            view.see(re.compile(r"kB were saved\."))
        with zipfile.ZipFile(tmp_path / "mlp.1-neurons-4.atlas.zip") as archive:
            assert "manifest.json" in archive.namelist()
        assert "Ada" in (tmp_path / "mlp.1-neurons-4.html").read_text("utf8")
        assert left(shared) == []
        view.check()


def test_what_cannot_be_made_is_a_sentence_on_the_page(browser: Browser, shared: Server) -> None:
    with viewing(browser, shared) as view:
        view.go("findings?label=gone")
        fold(view, "Share this unit")
        view.page.get_by_role("button", name="Save 1 unit").click()
        expect(view.page.get_by_role("alert").filter(has_text="777")).to_be_visible(timeout=PATIENCE)
        assert left(shared) == []


def test_an_upload_comes_in_says_what_came_and_is_nothing_the_second_time(browser: Browser, shared: Server, tmp_path: Path) -> None:
    other = index(tmp_path / "other")
    Findings(other, "Ben").save_note(UNIT, "Ben's note")
    path = tmp_path / "from ben.atlas.zip"
    path.write_bytes(make(other, "bundle", Choice((UNIT,), Findings(other))).content)
    with viewing(browser, shared) as view:
        for said in (re.compile("1 new word of people came in"), re.compile("everything in it is here already")):
            view.go("findings")
            fold(view, "Import a file")
            view.page.locator('input[type="file"]').set_input_files(path)
            view.page.get_by_role("button", name="Import it").click()
            view.see(said)
        view.see("Ben's note")
        assert left(shared) == []
        (tmp_path / "no.atlas.zip").write_bytes(b"PK nothing")
        view.page.locator('input[type="file"]').set_input_files(tmp_path / "no.atlas.zip")
        view.page.get_by_role("button", name="Import it").click()
        expect(view.page.get_by_role("alert").filter(has_text=re.compile("zip|bundle"))).to_be_visible(timeout=PATIENCE)
        view.check()
    assert sorted(note.current.text for note in Findings(Workspace.open(shared.workspace)).notes(UNIT)) == ["Ada's note", "Ben's note"]
