"""A second reading: every activation of the chosen units, on the index's text and on more of the same source."""

from pathlib import Path

import numpy as np
import pytest
import torch

from core.autointerp.evidence import Library
from core.autointerp.reading import Reading, read_again
from core.autointerp.request import ExplainerChoice, ExplainRequest, Setting
from core.autointerp.run import run_explain
from core.index.indexer import run_index
from core.store.catalog import IndexInfo, load_index
from core.store.texts import load_slice
from core.subject.load import load_subject
from core.units import Site, UnitName
from core.workspace import Workspace
from tests.planted import QuietProgress, plant

INDEXED, WRITTEN = 60, 150
SITE = Site("mlp", 0)
UNITS = tuple(UnitName("planted", SITE, "neurons", unit) for unit in (5, 1, 3))


@pytest.fixture
def place(tmp_path: Path) -> tuple[Workspace, IndexInfo]:
    """An index of the first 60 of 150 lines."""
    workspace = Workspace.open(tmp_path / "ws")
    plant(tmp_path, WRITTEN)
    return workspace, indexed(workspace, tmp_path, INDEXED)


def indexed(workspace: Workspace, source: Path, contexts: int) -> IndexInfo:
    folder = workspace.runs / f"index-{contexts}"
    folder.mkdir()
    corpus = {"source": str(source / "text.jsonl"), "contexts": contexts, "length": 16}
    run_index(workspace, folder, {"model": str(source / "planted"), "corpus": corpus, "sites": "mlp.0"}, QuietProgress())
    return load_index(workspace, folder.name)


def read(workspace: Workspace, index: IndexInfo, tokens: int) -> Reading:
    told: list[tuple[int, int]] = []
    reading = read_again(workspace, index, UNITS, tokens, lambda done, total: told.append((done, total)))
    assert told[-1][0] == told[-1][1]
    return reading


def test_the_source_is_read_on_beyond_the_index_and_the_indexed_text_keeps_its_numbers(place: tuple[Workspace, IndexInfo]) -> None:
    workspace, index = place
    own = load_slice(workspace, str(index.slice["id"]))
    reading = read(workspace, index, 10**6)
    text = reading.counts.text
    assert len(own) == INDEXED < len(text)
    for rank in range(len(own)):
        assert np.array_equal(text.of(rank), own.of(rank))
        assert text.document_ids[text.document[rank]] == own.document_ids[own.document[rank]]
    assert set(reading.contexts.tolist()) == set(range(len(text)))


def test_what_is_read_are_the_models_activations(place: tuple[Workspace, IndexInfo]) -> None:
    workspace, index = place
    reading = read(workspace, index, 10**6)
    subject = load_subject(workspace, index.slug)
    for rank in (0, INDEXED - 1, INDEXED, len(reading.counts.text) - 1):
        tokens = torch.from_numpy(reading.counts.text.of(rank).astype(np.int64))[None]
        true = subject.capture(tokens, [SITE])[SITE][0].float().numpy()
        here = reading.contexts == rank
        for unit in UNITS:
            values = reading.of(unit)
            assert values is not None
            np.testing.assert_allclose(values[here], true[reading.positions[here], unit.index], rtol=0.02, atol=0.02)


def test_fewer_tokens_than_were_indexed_are_a_sample_of_the_index(place: tuple[Workspace, IndexInfo]) -> None:
    workspace, index = place
    reading = read(workspace, index, 300)
    assert len(reading.counts.text) == INDEXED
    assert 300 - 16 < reading.values.shape[1] <= 300


def test_a_source_that_has_changed_or_is_gone_gives_the_indexed_text_alone(place: tuple[Workspace, IndexInfo], tmp_path: Path) -> None:
    workspace, index = place
    path = tmp_path / "text.jsonl"
    lines = path.read_text("utf8").splitlines()
    path.write_text("\n".join(lines[3:]), "utf8")
    assert len(read(workspace, index, 10**6).counts.text) == INDEXED
    path.unlink()
    assert len(read(workspace, index, 10**6).counts.text) == INDEXED


def test_evidence_with_a_reading_counts_the_text_that_was_read_and_holds_out_the_same_documents(place: tuple[Workspace, IndexInfo]) -> None:
    workspace, index = place
    before = Library(workspace).evidence(UNITS[0], Setting(index=index.run))
    library = Library(workspace)
    library.add(index.run, read(workspace, index, 10**6))
    after = library.evidence(UNITS[0], Setting(index=index.run))
    assert len(after.counts.text) > len(before.counts.text)
    held = [[record.context for record in evidence.splits.held_out()] for evidence in (before, after)]
    assert held[0] == held[1]
    assert np.array_equal(after.excluded, before.excluded)
    assert not set(after.labelled.contexts.tolist()) & {record.context for record in after.splits.held_out()}


def test_an_explanation_is_never_scored_on_text_beyond_its_index_that_it_was_fitted_to(
    place: tuple[Workspace, IndexInfo], tmp_path: Path
) -> None:
    workspace, index = place
    folder = workspace.runs / "explain-far"
    folder.mkdir()
    setting = Setting(explainer=ExplainerChoice(read=10**6), index=index.run, controls=())
    run_explain(workspace, folder, ExplainRequest(UNITS[:1], (setting,)).to_params(), QuietProgress())
    held = {record.document for record in Library(workspace).evidence(UNITS[0], Setting(index=index.run)).splits.held_out()}
    longer = indexed(workspace, tmp_path, WRITTEN)
    plain = Library(workspace).evidence(UNITS[0], Setting(index=longer.run))
    assert {record.document for record in plain.splits.held_out()} - held
    again = Setting(index=longer.run, explainer=ExplainerChoice("given", given="explain-far.0.0.0"))
    scored = {record.document for record in Library(workspace).evidence(UNITS[0], again).splits.held_out()}
    assert scored
    assert scored <= held
