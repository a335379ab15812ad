"""The Features page in the browser: from the form to a trained, measured and indexed dictionary; the list; text that can be read."""

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Browser, Locator, expect

from core.bases.shelf import shelved
from core.bases.train_request import TrainRequest
from core.runs.registry import Registry
from core.workspace import Workspace
from tests.browser.contrast import measure
from tests.browser.server import Server, serving
from tests.browser.view import PATIENCE, Theme, View, viewing
from tests.job_text import write_text
from tests.models import make_tiny_model
from tests.synthetic import write_synthetic_index
from tests.synthetic_dictionaries import write_curves, write_dictionary

READABLE = 4.5
LONG = 6 * PATIENCE
"""A run loads torch first, on a machine that may be busy."""


def write(folder: Path) -> Path:
    """Three dictionaries of a finished training run, an unmeasured baseline, and a list that is wider than a phone."""
    workspace = Workspace.open(folder / "ws")
    write_synthetic_index(workspace, n_layers=2, width=24)
    registry = Registry(workspace)
    run = registry.submit("sae", TrainRequest(site="mlp.1", name="s", alphas=(0.5, 1.0, 2.0), model="tiny").params())
    registry.request_cancel(run.id)  # nobody takes it up
    write_curves(registry.folder(run.id), {"s-a0.5": 0.5, "s-a1": 1.0, "s-a2": 2.0})
    for alpha, l0, variance in ((0.5, 30.0, 0.9), (1.0, 12.0, 0.8), (2.0, 5.0, 0.6)):
        write_dictionary(workspace, f"s-a{alpha:g}", alpha=alpha, run=run.id, metrics={"l0": l0, "explained_variance": variance}, created=5)
    write_dictionary(workspace, "pca", family="pca", alpha=None)
    return folder / "ws"


@pytest.fixture(scope="module")
def made(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A dashboard over them."""
    folder = tmp_path_factory.mktemp("features")
    with serving(write(folder), folder / "serve.log") as server:
        yield server


def rows(view: View) -> Locator:
    return view.page.locator(".st-key-dictionaries tr.row")


def row(view: View, name: str) -> Locator:
    return rows(view).filter(has=view.page.get_by_role("link", name=name, exact=True))


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [600, 1440])
@pytest.mark.parametrize("query", ["", "make=train", "make=load", "make=baselines", "dictionary=tiny/mlp.1/s-a1"])
def test_the_page_is_quiet_fits_and_can_be_read(browser: Browser, made: Server, query: str, theme: Theme, width: int) -> None:
    with viewing(browser, made, theme, width) as view:
        view.go(f"features?{query}")
        expect(rows(view)).to_have_count(4, timeout=PATIENCE)
        expect(view.page.locator(".dc td").first).to_be_visible(timeout=PATIENCE)
        view.check()
        assert view.overflow() == 0
        text = ".st-key-dictionaries td, .st-key-dictionaries th, .dc td, .dc th, .dl span, .na-lead, .na-muted, .na-h span"
        worst = min(measure(view.page.locator(f"{text}, [data-testid='stMain'] button:enabled p")), key=lambda one: one.ratio)
        assert worst.ratio >= READABLE, worst


def test_a_heading_sorts_a_mark_compares_and_a_name_opens_and_all_are_in_the_address(browser: Browser, made: Server) -> None:
    with viewing(browser, made) as view:
        view.go("features")
        expect(rows(view)).to_have_count(4, timeout=PATIENCE)
        view.page.locator(".st-key-dictionaries").get_by_role("button", name="L0").click()
        view.asks(sort="-l0")
        expect(rows(view).nth(0).locator("td.name")).to_have_text("s-a0.5", timeout=PATIENCE)
        expect(view.page.locator(".dc thead th")).to_have_count(1 + 3)
        view.page.get_by_label("Compare tiny/mlp.1/s-a1").uncheck()
        expect(view.page.locator(".dc thead th")).to_have_count(1 + 2, timeout=PATIENCE)
        view.asks(compare="tiny/mlp.1/s-a0.5,tiny/mlp.1/s-a2")
        view.settled()
        row(view, "s-a2").get_by_role("link", name="s-a2").click()
        view.asks(dictionary="tiny/mlp.1/s-a2", sort="-l0")
        view.see("Export for SAELens")
        view.page.reload()
        view.see("Export for SAELens")
        expect(view.page.locator(".dc thead th")).to_have_count(1 + 2, timeout=PATIENCE)
        view.check()


def test_from_the_form_to_a_trained_measured_and_indexed_dictionary(browser: Browser, tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path / "ws")
    (workspace.scratch / "first-run.json").write_text("{}")
    model, text = make_tiny_model(tmp_path / "tiny"), write_text(tmp_path / "text.jsonl", documents=80)
    asked = {"model": str(model), "text": str(text), "contexts": "300", "length": "16"}
    training = {"make": "train", "at": "resid", "layer": "1", "alphas": "0.5, 2", "tokens": "20000", "batch": "256", "name": "mine"}
    with serving(workspace.path, tmp_path / "serve.log") as server, viewing(browser, server) as view:
        view.go(f"features?{urlencode(asked | training)}")
        view.see("units, memory and time are known once the model's configuration has been read")
        view.page.get_by_role("button", name="Start training").click()
        view.page.wait_for_url(re.compile("run=sae-"))
        curve = view.page.locator(".st-key-curve_explained_variance .js-plotly-plot")
        expect(curve.first).to_be_visible(timeout=LONG)
        expect(rows(view)).to_have_count(2, timeout=LONG)
        expect(view.page.locator(".na-state").first).to_have_text("done", timeout=PATIENCE)
        view.settled()
        expect(curve).to_have_count(1)

        view.page.get_by_role("button", name="Measure the 2 that lack numbers").click()
        expect(row(view, "mine-a0.5").locator("td.number").nth(2)).to_have_text(re.compile(r"\d"), timeout=LONG)
        expect(view.page.locator(".st-key-densities .js-plotly-plot")).to_be_visible(timeout=LONG)
        view.settled()

        view.page.get_by_role("button", name="Compare the directions of 1 pair").click()
        expect(view.page.locator(".da td")).to_have_count(4, timeout=LONG)
        expect(view.page.locator(".da td").nth(1)).to_have_text(re.compile(r"[01]\.\d\d"))
        view.settled()

        row(view, "mine-a2").get_by_role("link", name="mine-a2").click()
        view.page.get_by_role("button", name="Export for SAELens").click()
        save = view.page.get_by_role("button", name=re.compile("Save mine-a2.zip"))
        expect(save).to_be_visible(timeout=LONG)
        with view.page.expect_download() as download:
            save.click()
        with zipfile.ZipFile(download.value.path()) as archive:
            assert sorted(archive.namelist()) == ["mine-a2/cfg.json", "mine-a2/sae_weights.safetensors"]
        view.page.get_by_role("button", name="Remove", exact=True).click()
        view.page.get_by_role("button", name="Remove mine-a2 for good").click()
        expect(rows(view)).to_have_count(1, timeout=PATIENCE)
        view.see("was removed.")
        view.settled()

        row(view, "mine-a0.5").get_by_role("button", name="index").click()
        explore = row(view, "mine-a0.5").get_by_role("link", name="explore")
        expect(explore).to_be_visible(timeout=LONG)
        view.settled()
        explore.click()
        view.page.wait_for_url(re.compile(r"explore\?run=index-"))
        expect(view.page.locator("tr.row").first).to_be_visible(timeout=PATIENCE)
        view.check()
    assert {one.info.name for one in shelved(workspace)} == {"mine-a0.5"}
    assert {run.state for run in Registry(workspace).list()} == {"done"}
