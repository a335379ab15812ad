"""Pictures for the documentation, in both themes and two widths. Written only when asked for.

ATLAS_SCREENSHOTS=1 takes every page over the workspace of these tests. ATLAS_SCREENSHOTS_WORKSPACE=FOLDER takes what needs dictionaries
and long runs, from a workspace in which the commands of docs/case-study.md and docs/performance.md were run.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.server import ROOT, Server, serving
from tests.browser.view import PAGES, PATIENCE, Theme, viewing

FOLDER = ROOT / "docs" / "screenshots"
WORKSPACE = os.environ.get("ATLAS_SCREENSHOTS_WORKSPACE", "")
SCENES = {
    "dictionaries": ("features?dictionary=smollm2-135m-instruct/resid.9/tied-r4-a0.9", "[data-testid=stPlotlyChart]", 2600),
    "feature": ("unit?unit=smollm2-135m-instruct/resid.9/tied-r4-a0.9/2234", ".row .peak", 2600),
    "bases": ("studies", ".nt td", 1700),
    "ioi-curves": ("ioi", ".it td", 2900),
}
"""What needs that workspace: address, what is there when it is drawn, and how high the window is."""


@pytest.mark.skipif(os.environ.get("ATLAS_SCREENSHOTS") != "1", reason="set ATLAS_SCREENSHOTS=1 to take pictures of the pages")
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 600])
@pytest.mark.parametrize("page", PAGES)
def test_a_picture_of_the_page(browser: Browser, real: Server, page: str, theme: Theme, width: int) -> None:
    with viewing(browser, real, theme, width, height=1200) as view:
        view.open(page)
        view.check()
        view.page.screenshot(path=picture(page, theme, width))


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A dashboard over the workspace that was named."""
    with serving(Path(WORKSPACE), tmp_path_factory.mktemp("pictures") / "serve.log") as server:
        yield server


@pytest.mark.skipif(not WORKSPACE, reason="set ATLAS_SCREENSHOTS_WORKSPACE to a workspace with the case study's dictionary")
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("scene", SCENES)
def test_a_picture_of_long_work(browser: Browser, filled: Server, scene: str, theme: Theme) -> None:
    address, sign, height = SCENES[scene]
    with viewing(browser, filled, theme, 1440, height=height) as view:
        view.go(address)
        expect(view.page.locator(sign).first).to_be_visible(timeout=PATIENCE)
        view.settled()
        view.check()
        view.page.screenshot(path=picture(scene, theme, 1440))


def picture(name: str, theme: Theme, width: int) -> Path:
    """Where a picture goes."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    return FOLDER / f"{name.replace('_', '-')}-{theme}{'' if width == 1440 else f'-{width}'}.png"
