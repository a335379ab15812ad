"""One browser tab on the dashboard, and everything that went wrong in it."""

import re
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from typing import Literal
from urllib.parse import parse_qsl, urlsplit

from playwright.sync_api import Browser, ConsoleMessage, Dialog, Locator, Page, Request, expect

from tests.browser.server import Server

Theme = Literal["light", "dark"]

PAGES = {
    "overview": ("", "tr.row"),
    "explore": ("explore", "tr.row"),
    "features": ("features", ".st-key-start_dictionary_run"),
    "unit": ("unit?unit=smollm2-135m-instruct/mlp.22/neurons/91", ".row .peak"),
    "compare": ("compare?units=smollm2-135m-instruct/mlp.22/neurons/91,smollm2-135m-instruct/mlp.5/neurons/1352", ".nc-pairs td"),
    "try_text": ("try_text", ".fg .text button"),
    "ablate_steer": ("ablate_steer?units=smollm2-135m-instruct/mlp.22/neurons/91", ".st-key-steer-start"),
    "ioi": ("ioi", ".it td"),
    "explain": ("explain", "tr.row"),
    "scores": ("scores", "tr.row"),
    "studies": ("studies", ".nt td"),
    "puzzles": ("studies?view=puzzles", ".st-key-start_puzzles"),
    "rate": ("rate", ".row.simulated"),
    "findings": ("findings", ".st-key-findings-filters"),
    "search": ("search?q=fires", ".nsr td.said mark"),
    "review": ("review?layer=22", ".review .row .peak"),
    "runs": ("runs", ".na-run"),
}
"""Every page: the address at which it shows something of the embedded model, and what is there when it does."""

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
]  # fmt: skip

DEEP_LINK_404 = re.compile(r"/_stcore/(health|host-config)$")
"""On a deep link Streamlit first asks for these below the page's own path, is told 404, and then asks at the root."""

PATIENCE = 30_000
"""Milliseconds. Two busy cores may need them; nothing waits that long when all is well."""


_OVERFLOW = """
() => Math.max(...[...document.querySelectorAll('html, [data-testid="stMain"]')].map((e) => e.scrollWidth - e.clientWidth))
"""


_AT_REST = """
async () => {
  const widths = () => [...document.querySelectorAll('[data-testid="stMain"], .js-plotly-plot')].map((e) => e.clientWidth).join();
  for (let before = '', same = 0; same < 4; ) {
    await new Promise((done) => setTimeout(done, 100));
    same = widths() === before ? same + 1 : 0;
    before = widths();
  }
}
"""


def find_chromium() -> str | None:
    """The path of an installed Chromium or Chrome, or None."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((path for name in names if (path := shutil.which(name))), None)


class View:
    """A tab. `errors`, `outside` and `dialogs` collect what must stay empty; `check()` says so."""

    def __init__(self, page: Page, server: Server) -> None:
        self.page = page
        self.server = server
        self.errors: list[str] = []
        self.outside: list[str] = []
        self.dialogs: list[str] = []
        page.set_default_timeout(PATIENCE)
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.errors.append(f"uncaught: {error}"))
        page.on("request", self._on_request)
        page.on("dialog", self._on_dialog)

    def go(self, path: str) -> None:
        """Open a path of the dashboard as a fresh visit and wait until its script has run."""
        self.page.goto(f"{self.server.url}/{path.lstrip('/')}")
        self.settled()

    def open(self, page: str) -> None:
        """Open one of PAGES and wait until its content is there. The first text of a server has to wait for the model."""
        address, content = PAGES[page]
        self.go(address)
        expect(self.page.locator(content).first).to_be_visible(timeout=3 * PATIENCE)
        self.settled()

    def query(self) -> dict[str, str]:
        """What the address asks for, decoded."""
        return dict(parse_qsl(urlsplit(self.page.url).query))

    def asks(self, **values: str) -> None:
        """Wait until the address asks for these values."""
        self.page.wait_for_url(lambda url: values.items() <= dict(parse_qsl(urlsplit(url).query)).items(), timeout=PATIENCE)

    def settled(self) -> None:
        """Wait until no script runs and nothing shown is out of date or still to be drawn."""
        expect(self.page.locator('[data-testid="stApp"][data-test-script-state="notRunning"]')).to_be_visible(timeout=PATIENCE)
        for unfinished in ('[data-stale="true"]', '[data-testid="stSkeleton"]'):
            expect(self.page.locator(unfinished)).to_have_count(0, timeout=PATIENCE)
        if self.page.locator('[data-testid="stException"]').count():
            raise AssertionError(f"{self.page.url} shows an exception: {self.server.log.read_text('utf8')[-4000:]}")

    def see(self, text: str | re.Pattern[str]) -> Locator:
        """Wait until `text` is visible somewhere and return the first place."""
        place = self.page.get_by_text(text).locator("visible=true").first
        expect(place).to_be_visible(timeout=PATIENCE)
        return place

    def check(self) -> None:
        """Nothing went wrong so far, and the page shows no exception."""
        self.settled()
        assert not self.errors, self.errors
        assert not self.outside, self.outside
        assert not self.dialogs, self.dialogs

    def overflow(self) -> int:
        """Pixels by which the page's content is wider than its window: 0 when nothing has to be scrolled sideways."""
        return int(self.page.evaluate(_OVERFLOW))

    def resize(self, width: int) -> None:
        """Give the window another width, and wait until the page has taken it: the sidebar and the charts follow one after the other."""
        self.page.set_viewport_size({"width": width, "height": 1000})
        self.page.evaluate(_AT_REST)
        self.settled()

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not DEEP_LINK_404.search(urlsplit(message.location.get("url", "")).path):
            self.errors.append(f"{message.text} ({message.location.get('url')})")

    def _on_request(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme in ("http", "https", "ws", "wss") and parts.netloc != urlsplit(self.server.url).netloc:
            self.outside.append(request.url)

    def _on_dialog(self, dialog: Dialog) -> None:
        self.dialogs.append(dialog.message)
        dialog.dismiss()


@contextmanager
def viewing(browser: Browser, server: Server, theme: Theme = "light", width: int = 1440, height: int = 1000) -> Generator[View]:
    """A tab of its own, without cookies or cache of others, in a theme and a width."""
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=theme, locale="en-GB")
    try:
        yield View(context.new_page(), server)
    finally:
        context.close()
