"""Pictures of every page for the documentation, in both themes and two widths. Written only when ATLAS_SCREENSHOTS=1 asks for it."""

import os

import pytest
from playwright.sync_api import Browser

from tests.browser.server import ROOT, Server
from tests.browser.view import PAGES, Theme, viewing

FOLDER = ROOT / "docs" / "screenshots"

pytestmark = pytest.mark.skipif(os.environ.get("ATLAS_SCREENSHOTS") != "1", reason="set ATLAS_SCREENSHOTS=1 to take pictures of the pages")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 600])
@pytest.mark.parametrize("page", PAGES)
def test_a_picture_of_the_page(browser: Browser, real: Server, page: str, theme: Theme, width: int) -> None:
    with viewing(browser, real, theme, width, height=1200) as view:
        view.open(page)
        view.check()
        FOLDER.mkdir(parents=True, exist_ok=True)
        path = FOLDER / f"{page.replace('_', '-')}-{theme}{'' if width == 1440 else f'-{width}'}.png"
        view.page.screenshot(path=path)
        assert path.stat().st_size > 10_000
