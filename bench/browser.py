"""How long a person waits for the next unit: Chromium, the key `j`, until its heading and its top record's own text are drawn."""

import base64
import json
import shutil
from typing import Any

import numpy as np

from core.store.units import load_unit
from core.ui.records import pack_records
from core.units import UnitName
from core.workspace import Workspace

VISIBLE_MS = 15_000
"""Longer is counted as never."""
_FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--disable-dev-shm-usage",
]  # fmt: skip
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

_WATCH = """
([heading, text, limit]) => {
  const deep = (root) => {
    const found = root.querySelector('.row .text');
    if (found) return found;
    for (const host of root.querySelectorAll('*')) {
      const inside = host.shadowRoot && deep(host.shadowRoot);
      if (inside) return inside;
    }
    return null;
  };
  const there = () => document.querySelector('h1')?.textContent === heading && (deep(document)?.textContent ?? '').includes(text);
  window.seen = new Promise((done) => {
    document.addEventListener('keydown', () => {
      const begin = performance.now();
      const look = () => {
        const now = performance.now();
        if (there()) requestAnimationFrame(() => done(performance.now() - begin));
        else if (now - begin > limit) done(null);
        else requestAnimationFrame(look);
      };
      requestAnimationFrame(look);
    }, {once: true, capture: true});
  });
}
"""
"""Starts a clock at the next key; `window.seen` is the milliseconds until another unit is there and one more frame has been drawn."""


def missing() -> str | None:
    """Why the browser cannot be measured here, or None."""
    try:
        import playwright.sync_api as _  # noqa: F401
    except ImportError:
        return "playwright is not installed (pip install -r requirements-dev.txt)"
    return None if _chromium() else "no Chromium or Chrome was found"


def next_to_visible(url: str, workspace: Workspace, first: UnitName, times: int) -> list[float | None]:
    """Milliseconds from the key to the next unit, `times` times, beginning at `first`; None where it did not come.

    Warms up with three steps that are not counted.
    """
    from playwright.sync_api import sync_playwright

    warm = 3
    found: list[float | None] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_chromium(), args=_FLAGS)
        try:
            page = browser.new_page(viewport={"width": 1440, "height": 1000})
            _open(page, url, first)
            for step in range(1, warm + times + 1):
                unit = UnitName(first.subject, first.site, first.basis, first.index + step)
                page.evaluate(_WATCH, [_heading(unit), top_text(workspace, unit), VISIBLE_MS])
                page.keyboard.press("j")
                value = page.evaluate("() => window.seen")
                if step > warm:
                    found.append(None if value is None else float(value))
                if value is None:  # go on from where the key should have led
                    page.goto(f"{url}/unit?unit={unit}")
                _settled(page)
        finally:
            browser.close()
    return found


def _open(page: Any, url: str, unit: UnitName) -> None:
    page.goto(f"{url}/unit?unit={unit}")
    page.locator("h1", has_text=_heading(unit)).wait_for(timeout=2 * VISIBLE_MS)
    _settled(page)


def _heading(unit: UnitName) -> str:
    return f"{unit.site} / {unit.basis} / {unit.index}"


def top_text(workspace: Workspace, unit: UnitName) -> str:
    """The tokens of the unit's strongest record around its peak, as the page writes them: five before, the peak and five after."""
    body = json.loads(pack_records(workspace, load_unit(workspace, unit)))
    row = body["rows"][0]
    index = np.frombuffer(base64.b64decode(body["index"]), "<u2")[: row["n"]]
    around = index[max(0, row["peak"] - 5) : row["peak"] + 6]
    text = "".join(body["pieces"][piece] for piece in around)
    return text.replace("\n", "↵").replace("\t", "⇥").replace("\r", "␍")


def _settled(page: Any) -> None:
    """Wait until no script runs and a second of looking at the page has passed: nobody reads faster."""
    page.locator('[data-testid="stApp"][data-test-script-state="notRunning"]').wait_for(timeout=2 * VISIBLE_MS)
    page.wait_for_timeout(1000)


def _chromium() -> str | None:
    return next((path for name in _NAMES if (path := shutil.which(name))), None)
