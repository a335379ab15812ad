"""What an explainer is given and what a score is made on share no document, for every stored score of a run."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.autointerp.calibration import Calibration
from core.autointerp.evidence import Evidence, Library
from core.autointerp.reading import Reading, sample
from core.autointerp.request import ExplainerChoice, ExplainRequest, Setting, SimulatorChoice
from core.autointerp.run import run_explain
from core.autointerp.scoring import KINDS
from core.autointerp.splits import SPLITS, Split
from core.llm.endpoint import Endpoint
from core.store.explained import load_explained
from core.store.explanation_view import ExplanationView, load_explanation
from core.store.parts import read_columns
from core.store.texts import SliceText, load_slice
from core.units import Site, UnitName
from core.workspace import Workspace, write_json
from tests.llm_endpoint import LlmEndpoint
from tests.oracle_index import KnowingOracle
from tests.planted import QuietProgress
from tests.synthetic import Recipe, activations

RECIPE = Recipe(n_layers=1, width=8, contexts=200, length=12)
UNITS = tuple(UnitName.parse(f"tiny/mlp.0/neurons/{unit}") for unit in range(4))
SOURCES = [("top", 0.0), ("random", 0.0), *(("quantile", quantile) for quantile in (0.0, 0.5, 0.9, 0.99))]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Workspace, LlmEndpoint]]:
    workspace = Workspace.open(tmp_path_factory.mktemp("leakage") / "ws")
    oracle = KnowingOracle(workspace, RECIPE)
    with LlmEndpoint(answer=oracle.answer) as server:
        yield workspace, server


def explain(workspace: Workspace, run: str, settings: Sequence[Setting], units: Sequence[UnitName] = UNITS) -> list[ExplanationView]:
    folder: Path = workspace.runs / run
    folder.mkdir()
    params = ExplainRequest(tuple(units), tuple(settings)).to_params()
    write_json(folder / "params.json", {"run": run, "kind": "explain", "lane": "batch", "created": 0, "params": params})
    run_explain(workspace, folder, params, QuietProgress())
    found = load_explained(workspace, run)
    names = [name for part in found.parts for name in read_columns(found.path(part, "explanations"), ["explanation"]).column(0).to_pylist()]
    return [load_explanation(workspace, name) for name in names]


def text_of(workspace: Workspace) -> SliceText:
    [folder] = workspace.corpora.iterdir()
    return load_slice(workspace, folder.name)


def documents(workspace: Workspace, contexts: Sequence[int] | np.ndarray) -> set[int]:
    return set(text_of(workspace).document[np.asarray(contexts, np.int64)].tolist())


def seen_by_the_pattern(workspace: Workspace, evidence: Evidence) -> set[int]:
    """Documents of every position that a pattern or a lookup table is fitted to."""
    labelled = evidence.labelled
    seen = documents(workspace, labelled.contexts)
    if labelled.reading is not None:
        assert labelled.usable is not None
        seen |= set(evidence.counts.text.document[labelled.reading.contexts[labelled.usable]].tolist())
    return seen


def settings_without_a_model() -> list[Setting]:
    ways: list[tuple[Split, bool, int, Calibration]] = [
        ("validation", False, 5, "none"),
        ("test", True, 5, "linear"),
        ("validation", True, 3, "percentile"),
        ("test", False, 1, "none"),
    ]
    plain = [
        Setting(split=split, active_only=active, each=each, kinds=KINDS, simulator=SimulatorChoice("pattern", calibration=calibration))
        for split, active, each, calibration in ways
    ]
    return [replace(setting, label=str(place)) for place, setting in enumerate(plain)]


def test_patterns_and_tables_are_fitted_to_no_document_they_are_scored_or_calibrated_on(place: tuple[Workspace, LlmEndpoint]) -> None:
    workspace, _ = place
    settings = settings_without_a_model()
    library = Library(workspace)
    views = explain(workspace, "explain-plain", settings)
    assert len(views) == len(UNITS) * len(settings)
    for view in views:
        evidence = library.evidence(view.unit, settings[int(view.setting)])
        seen, calibrated = seen_by_the_pattern(workspace, evidence), documents(workspace, contexts_of(evidence, "calibration"))
        assert {score.score.kind for score in view.scores} == set(KINDS)
        assert {score.role for score in view.scores} == {"simulated", "lookup", "shuffled"}
        for score in view.scores:
            scored = documents(workspace, score.contexts)
            assert not scored & seen
            assert not scored & calibrated
            assert not calibrated & seen
            assert not scored & documents(workspace, view.train)
            assert set(view.train) == set(evidence.labelled.contexts.tolist())  # what it was fitted to, and nothing less
            assert len(scored) == len(score.contexts)  # one record a document


def contexts_of(evidence: Evidence, split: Any) -> list[int]:
    return [record.context for record in evidence.splits.of(split)]


def test_a_second_reading_is_used_outside_the_held_out_documents_only(place: tuple[Workspace, LlmEndpoint]) -> None:
    workspace, _ = place
    library = Library(workspace)
    _, index = library.locate(UNITS[0], Setting())
    text, counts = text_of(workspace), library.counts(index)
    ranks = sample(text, 10**9)
    assert len(ranks) == len(text)  # all of the slice, held-out documents too
    lengths = np.diff(text.offsets)[ranks] - 1
    contexts = np.repeat(ranks, lengths)
    positions = np.concatenate([np.arange(1, length + 1) for length in lengths])
    values = activations(RECIPE, Site("mlp", 0))[contexts, positions].T.astype(np.float16)
    library.add(index.run, Reading({unit: unit.index for unit in UNITS}, contexts, positions, values, counts))
    for unit in UNITS:
        for setting in settings_without_a_model():
            evidence = library.evidence(unit, setting)
            held = documents(workspace, [context for split in SPLITS for context in contexts_of(evidence, split)])
            seen = seen_by_the_pattern(workspace, evidence)
            assert not seen & held
            assert seen | held == set(range(len(text.document_ids)))  # and nothing else is left out
            labelled = evidence.labelled
            assert labelled.usable is not None
            # A position counts once, whether the index or the reading knows it.
            own = set(zip(labelled.contexts.tolist(), labelled.positions.tolist(), strict=True))
            again = set(zip(contexts[labelled.usable].tolist(), positions[labelled.usable].tolist(), strict=True))
            assert len(own) == len(labelled.contexts)
            assert not own & again


def test_an_explainer_that_is_shown_records_is_shown_none_that_it_is_scored_on(place: tuple[Workspace, LlmEndpoint]) -> None:
    workspace, server = place
    endpoint = Endpoint(server.base_url, "tiny", concurrency=4)
    settings = [
        Setting(
            label=f"{source} {quantile} {split} {active}", split=split, active_only=active, each=2, controls=("lookup",),
            explainer=ExplainerChoice("token-activation", endpoint, records=20, source=source, quantile=quantile),
            simulator=SimulatorChoice("completions", endpoint, calibration="linear"),
        )
        for place, (source, quantile) in enumerate(SOURCES)
        for split in SPLITS[1 + place % 2 : 2 + place % 2]
        for active in [place % 3 == 0]
    ]  # fmt: skip
    views = explain(workspace, "explain-shown", settings, UNITS[:2])
    assert not [view.failed for view in views if view.failed]
    library = Library(workspace)
    by_label = {setting.label: setting for setting in settings}
    for view in views:
        setting = by_label[view.setting]
        evidence = library.evidence(view.unit, setting)
        shown = [example.context for example in evidence.shown(setting.explainer)]
        assert list(view.train) == shown == view.recipe["contexts"]
        held = documents(workspace, [context for split in SPLITS for context in contexts_of(evidence, split)])
        assert not documents(workspace, shown) & held
        for score in view.scores:
            assert score.contexts
            assert documents(workspace, score.contexts) <= held
            assert not documents(workspace, score.contexts) & documents(workspace, contexts_of(evidence, "calibration"))


@pytest.mark.parametrize("changes", [{"active_only": True}, {"each": 1}, {"each": 5, "split": "test", "kinds": KINDS}])
def test_an_earlier_explanation_is_scored_on_nothing_that_it_was_made_from(
    place: tuple[Workspace, LlmEndpoint], changes: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    """Under another setting other records would be held out, and some of those were free when the explanation was made."""
    workspace, _ = place
    name = f"explain-{abs(hash(request.node.name)) % 10**6}"
    first = Setting(each=4, label="first", controls=())
    [made] = explain(workspace, f"{name}-a", [first], UNITS[2:3])
    evidence = Library(workspace).evidence(UNITS[2], first)
    seen = seen_by_the_pattern(workspace, evidence)
    again = replace(first, label="again", explainer=ExplainerChoice("given", given=made.identity), controls=("lookup",), **changes)
    [view] = explain(workspace, f"{name}-b", [again], UNITS[2:3])
    assert view.text == made.text
    for score in view.scores:
        assert not documents(workspace, score.contexts) & seen
    assert len(view.scores[0].contexts) > 0


def test_settings_that_hold_out_more_would_leak_without_care(place: tuple[Workspace, LlmEndpoint]) -> None:
    """The test above can fail: what is scored under its settings was partly free under the first."""
    workspace, _ = place
    library = Library(workspace)
    seen = seen_by_the_pattern(workspace, library.evidence(UNITS[2], Setting(each=4)))
    scored = documents(workspace, contexts_of(library.evidence(UNITS[2], Setting(each=5)), "test"))
    assert scored & seen
