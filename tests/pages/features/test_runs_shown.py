"""Features, the runs and what came of them: order, curves, reports, wrong addresses."""

import csv
import io
import json
import re
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from core.bases.curves import load_curves
from core.bases.formats.bring_request import BringRequest
from core.runs.registry import Registry
from core.ui.dictionary_charts import Axis, curve_figure, looks
from core.ui.dictionary_charts import Line as Curve
from core.ui.dictionary_curves import panels
from core.ui.dictionary_curves import to_csv as curves_csv
from core.workspace import Workspace
from tests.pages.conftest import alerts, bodies, shown
from tests.pages.features.conftest import Open


@pytest.mark.parametrize(
    "query",
    [{"make": "x"}, {"run": "nope"}, {"run": "index-test"}, {"sort": "beauty"}, {"compare": "a/mlp.0/b"}, {"dictionary": "x"}],
    ids=str,
)
def test_a_wrong_address_is_a_sentence(workspace: Workspace, full: Open, query: dict[str, str]) -> None:
    Registry(workspace).restore()
    page = full(**query)
    assert not page.exception
    assert len(alerts(page)) == 1


def test_what_goes_on_comes_first_and_what_there_is_else(workspace: Workspace, full: Open) -> None:
    def order(page: AppTest) -> list[str]:
        heads = [head for body in bodies(page) for head in re.findall(r'class="na-h"[^>]*><b>([^<]*)', body)]
        return [head for head in heads if head in ("Runs", "Dictionaries", "Compare")]

    assert order(full()) == ["Runs", "Dictionaries", "Compare"]
    run = Registry(workspace).list()[0]
    Registry(workspace).request_cancel(run.id)
    assert order(full()) == ["Dictionaries", "Compare", "Runs"]
    assert order(full(run=run.id))[0] == "Runs"


def test_the_curves_of_a_run_are_six_pictures_and_a_csv(workspace: Workspace, full: Open) -> None:
    page = full()
    for panel in panels({"kind": "tied"}):
        assert any(panel.title in body for body in bodies(page))
    assert any("s-a0.5 · α 0.5" in body for body in bodies(page) if 'class="dl"' in body)
    registry = Registry(workspace)
    found = load_curves(registry.folder(registry.list()[0].id))
    read = list(csv.DictReader(io.StringIO(curves_csv(found).decode("utf8"))))
    assert len(read) == 60
    assert [row["loss_recovered"] for row in read[:3]] == ["", "", ""]
    assert float(read[-1]["tokens"]) == 20_000


def test_a_run_of_the_page_can_be_cancelled_there(workspace: Workspace, full: Open) -> None:
    page = full()
    run = Registry(workspace).list()[0]
    page.button(key=f"cancel_{run.id}").click().run()
    assert Registry(workspace).get(run.id).state == "cancelled"
    assert page.button(key=f"resume_{run.id}").label == "Resume"


def test_what_a_loaded_file_says_of_itself_is_held_against_what_was_found(workspace: Workspace, opened: Open) -> None:
    registry = Registry(workspace)
    run = registry.submit("dictionary", BringRequest(source="a/<b>", model="tiny").params())
    document: dict[str, Any] = {
        "schema": 1,
        "kind": "dictionary",
        "state": "complete",
        "dictionary": "tiny/mlp.1/x", "metrics": {"explained_variance": 0.31, "l0": 40.0}, "said": {"explained_variance": 0.8},
        "warnings": ["Explained variance here 0.31, the file says 0.80: is it the right model and text?"], "notes": ["<i>folded</i>"],
    }  # fmt: skip
    (registry.folder(run.id) / "manifest.json").write_text(json.dumps(document), "utf8")
    page = opened(run=run.id)
    assert alerts(page) == document["warnings"]
    assert "0.31 (its file says 0.8)" in shown(page)
    assert "<i>folded" not in "".join(bodies(page))
    (registry.folder(run.id) / "manifest.json").write_text("nonsense", "utf8")
    assert "are damaged" in alerts(opened(run=run.id))[0]


def test_a_curve_leaves_out_what_was_not_looked_at(workspace: Workspace) -> None:
    figure = curve_figure([Curve("<b>", looks(1)[0], [1, 2, 3], [None, 0.5, float("nan")])], Axis("loss recovered")).to_plotly_json()
    (trace,) = figure["data"]
    assert (list(trace["x"]), list(trace["y"])) == ([2], [0.5])
    assert trace["name"] == "&lt;b&gt;"
