"""The Features page over a small made-up index, empty or with dictionaries; and what its parts show."""

from collections.abc import Callable
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from core.bases.train_request import TrainRequest
from core.remembered import Remembered
from core.runs.registry import Registry, Run
from core.runs.shelf_operations import ShelfOperations
from core.ui import dictionary_alike, dictionary_details, model_process
from core.ui.dictionary_job import START
from core.workspace import Workspace
from tests.pages.conftest import OpenPage, components
from tests.synthetic import write_synthetic_index
from tests.synthetic_dictionaries import write_curves, write_dictionary

Open = Callable[..., AppTest]
SHAPE = {"layers": 2, "mlp": 24, "resid": 8, "attn": 8}


@pytest.fixture
def opened(workspace: Workspace, open_page: OpenPage) -> Open:
    """The page over a small index of the model tiny, whose mlp sites are 24 wide."""
    write_synthetic_index(workspace, n_layers=2, width=24)
    return lambda **query: open_page(workspace, "features", **query)


@pytest.fixture
def full(workspace: Workspace, opened: Open) -> Open:
    """The same with three dictionaries of one training run, an unmeasured PCA at the same site, and a top-k one elsewhere."""
    run = trained(workspace)
    for alpha, l0, variance in ((0.5, 30.0, 0.9), (1.0, 12.0, 0.8), (2.0, 5.0, 0.6)):
        write_dictionary(workspace, f"s-a{alpha:g}", alpha=alpha, run=run.id, metrics={"l0": l0, "explained_variance": variance}, created=5)
    write_dictionary(workspace, "pca", family="pca", alpha=None)
    write_dictionary(workspace, "top", site="mlp.0", rule="topk", k=4, alpha=None, metrics={"l0": 4.0})
    return opened


def trained(workspace: Workspace, names: tuple[str, ...] = ("s-a0.5", "s-a1", "s-a2")) -> Run:
    """A training run in the registry, with curves."""
    registry = Registry(workspace)
    request = TrainRequest(site="mlp.1", name="s", alphas=(0.5, 1.0, 2.0), model="tiny", buffer=65_536)
    run = registry.submit("sae", request.params())
    write_curves(registry.folder(run.id), dict(zip(names, request.alphas, strict=False)))
    return run


def start(page: AppTest) -> Any:
    return page.button(key=START)


def rows(page: AppTest) -> list[Any]:
    (data,) = components(page, "dictionary_rows")
    return data["rows"]


def names(page: AppTest) -> list[str]:
    return [row["key"].rpartition("/")[2] for row in rows(page)]


def compared(page: AppTest) -> list[str]:
    return [row["key"].rpartition("/")[2] for row in rows(page) if row["chosen"]]


@pytest.fixture
def model_process_answers(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """The model process's own operations on the shelf, done here. What was asked is returned."""
    log: list[tuple[str, dict[str, Any]]] = []

    def call(workspace: Workspace, op: str, timeout: float, *, on_progress: Callable[[str], None], **args: Any) -> dict[str, Any]:
        log.append((op, args))
        return getattr(ShelfOperations(workspace), op)(args, on_progress)

    for module in (dictionary_alike, dictionary_details):
        monkeypatch.setattr(module, "call", call)
    monkeypatch.setattr(model_process, "running", lambda _: True)
    monkeypatch.setattr(dictionary_alike, "_known", Remembered(8192))
    return log
