"""Real servers of other kinds: read-only beside the owner's, over a folder that may not be written, and below a proxy's path."""

import os
import re
import shutil
import socket
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, expect

from core.findings.findings import Findings
from core.ui import nav
from core.workspace import Workspace
from tests import read_only
from tests.browser.conftest import lacking
from tests.browser.proxy import proxying
from tests.browser.server import Server, serving
from tests.browser.view import PATIENCE, View, viewing

TITLES = {name: title for pages in nav.PAGES.values() for name, title in pages}
BASE = "/lab/atlas"


@pytest.fixture(scope="module")
def filled(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = Workspace.open(tmp_path_factory.mktemp("filled") / "ws")
    read_only.fill(workspace)
    return workspace


def titles_shown(view: View, *, read_only: bool) -> None:
    expected = [title for name, title in TITLES.items() if not (read_only and name in nav.WRITING)]
    expect(view.page.get_by_test_id("stSidebarNavLink")).to_have_text(expected, timeout=PATIENCE)


def test_a_read_only_server_beside_the_owner_s_shows_all_and_changes_nothing(browser: Browser, filled: Workspace, tmp_path: Path) -> None:
    before = read_only.bytes_of(filled)
    with serving(filled.path, tmp_path / "reader.log", "--read-only", borrowed=True) as reader:
        with viewing(browser, reader) as view:
            for name in [name for name in TITLES if name not in nav.WRITING]:
                view.go(name if name != "unit" else f"unit?unit={read_only.UNIT}")
                expect(view.page.get_by_role("heading", level=1)).to_be_visible(timeout=PATIENCE)
                titles_shown(view, read_only=True)
                view.see("Read-only: to look at and to search.")
                view.check()
        assert read_only.bytes_of(filled) == before
        with serving(filled.path, tmp_path / "owner.log") as owner, viewing(browser, owner) as mine, viewing(browser, reader) as theirs:
            mine.go(f"unit?unit={read_only.UNIT}")
            titles_shown(mine, read_only=False)
            Findings(filled, "Ada").save_note(read_only.UNIT, "Written while somebody reads.")
            theirs.go(f"unit?unit={read_only.UNIT}")
            theirs.see("Written while somebody reads.")
            mine.check()
            theirs.check()


@pytest.fixture
def untouchable(filled: Workspace) -> Iterator[Path]:
    """A copy that its own files' rights forbid to write."""
    folder = Path(tempfile.mkdtemp(prefix="atlas-test-"))
    shutil.copytree(filled.path, folder / "ws")
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    yield folder / "ws"
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir():
            path.chmod(0o755)
    shutil.rmtree(folder)


def test_a_folder_that_may_not_be_written_is_served_too(browser: Browser, untouchable: Path, tmp_path: Path) -> None:
    if os.getuid() == 0 and shutil.which("setpriv") is None:
        lacking("whoever is root may write anywhere, and there is no setpriv to take that right away")
    rights = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search") if os.getuid() == 0 else ()
    with (
        pytest.raises(RuntimeError, match="No permission to write"),
        serving(untouchable, tmp_path / "own.log", before=rights, borrowed=True),
    ):
        pass
    before = read_only.bytes_of(Workspace(untouchable))
    log = tmp_path / "serve.log"
    with serving(untouchable, log, "--read-only", borrowed=True, before=rights) as server, viewing(browser, server) as view:
        view.go("explore")
        expect(view.page.locator("tr.row").first).to_be_visible(timeout=PATIENCE)
        view.go(f"unit?unit={read_only.UNIT}")
        view.see("Wet")
        view.check()
    assert read_only.bytes_of(Workspace(untouchable)) == before
    assert "Traceback" not in log.read_text("utf8")


def test_what_a_read_only_server_needs_goes_with_it(
    browser: Browser, filled: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "tmp"
    own.mkdir()
    monkeypatch.setenv("TMPDIR", str(own))
    with serving(filled.path, tmp_path / "serve.log", "--read-only", borrowed=True) as server, viewing(browser, server) as view:
        view.go("explore")
        assert list(own.glob("neuron-atlas-*/cache.duckdb"))
    assert list(own.glob("neuron-atlas-*")) == []


@pytest.fixture(scope="module")
def behind(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A dashboard below a path, as it is seen through a reverse proxy."""
    folder = tmp_path_factory.mktemp("behind")
    workspace = Workspace.open(folder / "ws")
    read_only.fill(workspace)
    with serving(workspace.path, folder / "serve.log", "--base-path", BASE, base=BASE) as server, proxying(server.url, BASE) as url:
        yield Server(url, server.workspace, server.log, server.pid)


def test_every_page_works_behind_a_proxy_s_path_and_stays_there(browser: Browser, behind: Server) -> None:
    with viewing(browser, behind) as view:
        for page in TITLES:
            view.go(f"unit?unit={read_only.UNIT}" if page == "unit" else page)
            expect(view.page.get_by_role("heading", level=1)).to_be_visible(timeout=PATIENCE)
            titles_shown(view, read_only=False)
            addresses = view.page.locator("a[href]").evaluate_all("all => all.map((one) => one.getAttribute('href'))")
            assert [one for one in addresses if one.startswith("/") and not one.startswith(BASE)] == [], page
            view.check()


def test_links_clicks_and_wrong_addresses_stay_below_the_path(browser: Browser, behind: Server) -> None:
    with viewing(browser, behind) as view:
        view.go("explore")
        view.page.locator("tr.row").first.click()
        view.page.wait_for_url(re.compile(f"{BASE}/unit\\?unit="), timeout=PATIENCE)
        view.settled()
        expect(view.page.locator(".row .peak").first).to_be_visible(timeout=PATIENCE)
        view.page.get_by_role("link", name="Steer with this unit").first.click()
        view.page.wait_for_url(re.compile(f"{BASE}/ablate_steer\\?units="), timeout=PATIENCE)
        view.settled()
        view.page.get_by_test_id("stSidebarNavLink").filter(has_text="Findings").click()
        expect(view.page).to_have_title("Findings · Neuron Atlas", timeout=PATIENCE)
        view.settled()
        view.page.locator(".nfl a").first.click()
        view.page.wait_for_url(re.compile(f"{BASE}/(unit|findings)\\?"), timeout=PATIENCE)
        view.go("unit/tiny/mlp.1/neurons/4")
        view.see("There is no page “unit/tiny/mlp.1/neurons/4”; this is the Overview.")
        assert view.page.url.startswith(f"{behind.url}/")
        view.go("nonexistent")
        view.see("There is no page “nonexistent”")
        view.check()


@pytest.mark.parametrize(("origin", "status"), [("http://evil.example", 403), ("null", 403), ("same", 101)])
def test_another_site_s_websocket_is_refused_without_asking_anybody(behind: Server, origin: str, status: int) -> None:
    parts = urlsplit(behind.url)
    claimed = f"http://{parts.netloc}" if origin == "same" else origin
    lines = [
        f"GET {BASE}/_stcore/stream HTTP/1.1", f"Host: {parts.netloc}", f"Origin: {claimed}",
        "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ]  # fmt: skip
    with socket.create_connection((str(parts.hostname), int(parts.port or 0)), PATIENCE / 1000) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        assert connection.recv(1024).split(b" ")[1] == str(status).encode()


def test_the_front_page_answers_with_and_without_the_last_slash(browser: Browser, behind: Server) -> None:
    for end in ("", "/"):
        with urllib.request.urlopen(f"{behind.url}{end}", timeout=20) as answer:
            assert answer.status == 200
            assert b"<title>" in answer.read()
