"""How long a person waits for the next unit, in the browser. The median is printed; only a hang fails."""

import statistics

from playwright.sync_api import Browser, expect

from tests.browser.server import Server
from tests.browser.view import PATIENCE, viewing

TIMES = 16
HANG = 10_000.0

_NEXT = """
async () => {
  const deep = (selector, root = document) => {
    const found = root.querySelector(selector);
    if (found) return found;
    for (const host of root.querySelectorAll('*')) {
      const inside = host.shadowRoot && deep(selector, host.shadowRoot);
      if (inside) return inside;
    }
    return null;
  };
  const chart = () => document.querySelector('.js-plotly-plot .barlayer path, .js-plotly-plot .scatterlayer path')?.getAttribute('d');
  const heading = document.querySelector('h1').textContent, row = deep('.row'), drawn = chart();
  const begin = performance.now();
  deep('.stepper .next').click();
  const fresh = () => document.querySelector('h1')?.textContent !== heading && deep('.row') && deep('.row') !== row && chart() !== drawn;
  while (!fresh() && performance.now() - begin < 10000) await new Promise(requestAnimationFrame);
  await new Promise(requestAnimationFrame);
  return performance.now() - begin;
}
"""
"""Click next; milliseconds until heading, records and histogram are those of another unit and the frame with them is drawn."""


def test_the_next_unit_appears(browser: Browser, real: Server, measured: list[str]) -> None:
    with viewing(browser, real) as view:
        view.go("unit?unit=smollm2-135m-instruct/mlp.5/neurons/100")
        expect(view.page.locator(".row .peak").first).to_be_visible(timeout=PATIENCE)
        times: list[float] = []
        for _ in range(TIMES):
            view.settled()
            times.append(float(view.page.evaluate(_NEXT)))
        view.check()
    measured.append(f"next to visible: median {statistics.median(times):.0f} ms, worst {max(times):.0f} ms (n = {TIMES})")
    assert max(times) < HANG
