"""What holds for every page: both themes, wide and narrow, nothing on the console, nobody else asked, and the deep link."""

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from core.ui import nav
from core.workspace import Workspace
from tests.browser.server import Server, serving
from tests.browser.view import PAGES, PATIENCE, Theme, viewing
from tests.synthetic import write_synthetic_index

TITLES = [title for pages in nav.PAGES.values() for _, title in pages]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_quiet_and_fits(browser: Browser, real: Server, page: str, theme: Theme) -> None:
    """Opened in a narrow window, which is then made wider, and narrow again."""
    with viewing(browser, real, theme, 600) as view:
        view.open(page)
        assert view.overflow() == 0
        for width in (1440, 1920, 600):
            view.resize(width)
            assert view.overflow() == 0, width
        view.check()


@pytest.fixture
def fresh(browser: Browser, tmp_path: Path) -> Iterator[Server]:
    """A dashboard that nobody has visited yet."""
    write_synthetic_index(Workspace.open(tmp_path / "ws"))
    with serving(tmp_path / "ws", tmp_path / "serve.log") as server:
        yield server


@pytest.mark.parametrize("page", [page for page in PAGES if page != "overview"])
def test_the_first_visit_of_a_server_may_be_any_page(browser: Browser, fresh: Server, page: str) -> None:
    with viewing(browser, fresh) as view:
        view.go("unit?unit=tiny/mlp.1/neurons/4" if page == "unit" else PAGES[page][0])
        expect(view.page.get_by_role("heading", level=1)).to_be_visible(timeout=PATIENCE)
        links = view.page.get_by_test_id("stSidebarNavLink")
        expect(links).to_have_text(TITLES, timeout=PATIENCE)
        assert view.page.title().endswith("Neuron Atlas")
        view.check()


def test_the_navigation_leads_to_every_page(browser: Browser, real: Server) -> None:
    with viewing(browser, real) as view:
        view.go("")
        for title in [*TITLES[1:], TITLES[0]]:
            view.page.get_by_test_id("stSidebarNavLink").filter(has_text=title).click()
            expect(view.page).to_have_title(f"{title} · Neuron Atlas", timeout=PATIENCE)
            view.settled()
            expect(view.page.get_by_role("heading", level=1)).to_be_visible(timeout=PATIENCE)
        view.check()


def test_a_page_that_does_not_exist_says_so(browser: Browser, real: Server) -> None:
    with viewing(browser, real) as view:
        view.go("nonexistent?unit=x")
        view.see("There is no page “nonexistent”; this is the Overview.")
        expect(view.page.locator("tr.row").first).to_be_visible(timeout=PATIENCE)
        assert view.page.url == f"{real.url}/"
        assert view.page.get_by_role("dialog").count() == 0
        view.page.get_by_role("button", name="Show others").click()
        view.page.wait_for_url(re.compile("seed="))
        view.see("There is no page")
        view.page.get_by_test_id("stSidebarNavLink").filter(has_text="Explore").click()
        expect(view.page.get_by_role("heading", level=1)).to_have_text("Explore", timeout=PATIENCE)
        view.page.get_by_test_id("stSidebarNavLink").filter(has_text="Overview").click()
        expect(view.page.locator("tr.row").first).to_be_visible(timeout=PATIENCE)
        view.settled()
        assert view.page.get_by_text("There is no page").count() == 0
        view.check()


@pytest.mark.parametrize("path", ["nonexistent", "unit/x", "unit/tiny/mlp.1/neurons/4?run=x"])
def test_the_first_visit_of_a_server_may_be_of_no_page_at_all(browser: Browser, fresh: Server, path: str) -> None:
    with viewing(browser, fresh) as view:
        view.go(path)
        view.see(f"There is no page “{path.partition('?')[0]}”; this is the Overview.")
        assert view.page.url == f"{fresh.url}/"
        assert view.page.get_by_role("dialog").count() == 0
        view.go("")  # a visit of its own
        assert view.page.get_by_text("There is no page").count() == 0
        view.check()


def test_a_dashboard_with_an_open_tab_ends_at_once_and_quietly(browser: Browser, fresh: Server) -> None:
    with viewing(browser, fresh) as view:
        view.go("explore")
        expect(view.page.locator("tr.row").first).to_be_visible(timeout=PATIENCE)
        pid = fresh.pid
        os.kill(pid, signal.SIGINT)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    said = fresh.log.read_text("utf8")
    assert "leaked" not in said
    assert "Traceback" not in said


@pytest.mark.parametrize("path", ["%3Cimg%20src=x%20onerror=alert(1)%3E", "%E2%80%AEx", "UNIT"])
def test_a_hostile_path_is_the_overview(browser: Browser, real: Server, path: str) -> None:
    with viewing(browser, real) as view:
        view.go("")
        view.go(path)
        expect(view.page.get_by_role("heading", level=1)).to_have_text("Overview", timeout=PATIENCE)
        view.see("There is no page")
        view.check()
