"""Pages under AppTest: a workspace, the page's file, and what it shows as text. No worker is started."""

import gc
import html
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from core.ui.server import BACKGROUND_ENV
from core.workspace import WORKSPACE_ENV, Workspace
from tests.synthetic import write_synthetic_index

ROOT = Path(__file__).resolve().parents[2]
OpenPage = Callable[..., AppTest]

N_LAYERS = 3
WIDTH = 24


@pytest.fixture(scope="session")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with one small index of made-up activations, called index-test, of the model tiny. Shared: look only."""
    workspace = Workspace.open(tmp_path_factory.mktemp("indexed") / "ws")
    write_synthetic_index(workspace, n_layers=N_LAYERS, width=WIDTH, contexts=48, length=16)
    return workspace


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The same with tokens such as `<script>` and right-to-left marks. Shared: look only."""
    workspace = Workspace.open(tmp_path_factory.mktemp("hostile") / "ws")
    write_synthetic_index(workspace, n_layers=2, width=WIDTH, contexts=96, length=32, hostile=True)
    return workspace


@pytest.fixture(scope="session", autouse=True)
def let_go() -> Iterator[None]:
    """Close the workspaces that pages opened, when all page tests are done."""
    yield
    st.cache_resource.clear()
    gc.unfreeze()


@pytest.fixture
def open_page(monkeypatch: pytest.MonkeyPatch) -> OpenPage:
    """`open_page(workspace, "explore", layer="2")`: run a page with a query, in this process."""
    monkeypatch.setenv(BACKGROUND_ENV, "off")

    def opened(workspace: Workspace, page: str, /, **query: str) -> AppTest:
        monkeypatch.setenv(WORKSPACE_ENV, str(workspace.path))
        tested = AppTest.from_file(str(ROOT / ("app.py" if page == "app" else f"pages/{page}.py")), default_timeout=30)
        for name, value in query.items():
            tested.query_params[name] = value
        return tested.run()

    return opened


def shown(tested: AppTest) -> str:
    """All text of a page: titles, HTML without its tags, and what components were given."""
    plain = [html.unescape(re.sub(r"<[^>]*>", " ", body)) for body in bodies(tested)]
    return "\n".join(
        [*(element.value for element in tested.title), *plain, *(json.dumps(data, ensure_ascii=False) for data in components(tested))]
    )


def alerts(tested: AppTest) -> list[str]:
    """The sentences about something wrong."""
    return [html.unescape(re.sub(r"<[^>]*>", "", body)).strip() for body in bodies(tested) if 'role="alert"' in body]


def bodies(tested: AppTest) -> list[str]:
    """The HTML that the page shows, without its style sheets."""
    found: list[Any] = list(tested.get("html"))
    return [element.proto.body for element in found if not element.proto.body.startswith("<style>")]


def components(tested: AppTest, name: str = "") -> list[Any]:
    """The data of the mounted components (of one name), as it goes to the browser."""
    found: list[Any] = [element.proto for element in tested.get("bidi_component") if name in element.proto.component_name]  # type: ignore[attr-defined]
    return [json.loads(proto.json or proto.bytes or "null") for proto in found]
