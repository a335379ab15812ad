"""Patterns: the longest known left context decides, then shorter ones, then the word, then the level; and the fit of planted units."""

import asyncio
import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.autointerp.corpus_counts import SliceCounts
from core.autointerp.evidence import Evidence, Library
from core.autointerp.explainers import lookup_table, pattern_explanation
from core.autointerp.fit import fit
from core.autointerp.judging import judge
from core.autointerp.pattern import Pattern, fold
from core.autointerp.request import Setting, enough
from core.autointerp.sentence import LIMIT, read
from core.autointerp.simulators import PatternSimulator
from core.autointerp.splits import SPLITS, Split
from core.index.indexer import run_index
from core.store.texts import load_slice
from core.units import UnitName
from core.workspace import Workspace
from tests.planted import DIGITS, FIGHT, NOT_ALL, QuietProgress, plant
from tests.synthetic import write_synthetic_index

FEW = st.integers(0, 3)
RULES = st.dictionaries(st.lists(FEW, min_size=1, max_size=3).map(tuple), st.floats(-9, 9), max_size=12)
WORDS = st.dictionaries(st.text(max_size=4).map(fold), st.floats(-9, 9), max_size=4)
PATTERNS = st.builds(Pattern, RULES, WORDS, st.floats(-9, 9))
LASTING = st.builds(Pattern, RULES, WORDS, st.floats(-9, 9), st.floats(0, 0.3))


def test_few_units_wait_for_no_second_reading_and_many_for_one_that_grows_with_them() -> None:
    assert [enough(units) for units in (1, 8, 23)] == [0, 0, 0]
    assert [enough(units) for units in (24, 100, 600, 50_000)] == [49_152, 204_800, 900_000, 900_000]


def pieces_of(ids: list[int]) -> list[str]:
    return [f" W{token}" for token in ids]


@given(LASTING)
def test_a_pattern_survives_json(pattern: Pattern) -> None:
    assert Pattern.from_json(json.loads(json.dumps(pattern.to_json()))) == pattern


@given(PATTERNS, st.lists(FEW, max_size=8))
def test_the_longest_known_left_context_decides(pattern: Pattern, ids: list[int]) -> None:
    found = pattern.predict(ids, pieces_of(ids))
    for at, value in enumerate(found):
        known = [rule for rule in pattern.rules if list(rule) == ids[max(0, at + 1 - len(rule)) : at + 1]]
        if known:
            assert value == pattern.rules[max(known, key=len)]
        else:
            assert value == pattern.words.get(f"w{ids[at]}", pattern.level)


@given(LASTING, st.lists(FEW, min_size=1, max_size=8))
def test_what_lasts_adds_a_share_of_all_that_was_expected_before(pattern: Pattern, ids: list[int]) -> None:
    plain = replace(pattern, lasts=0.0).predict(ids, pieces_of(ids))
    found = pattern.predict(ids, pieces_of(ids))
    never_below = min((pattern.level, *pattern.rules.values(), *pattern.words.values())) >= 0
    for at in range(len(ids)):
        trace = sum(0.7 ** (at - before - 1) * (plain[before] - pattern.level) for before in range(at))
        expected = plain[at] + pattern.lasts * trace
        assert found[at] == pytest.approx(max(0.0, expected) if never_below else expected, abs=1e-12)


def test_a_unit_that_is_never_below_zero_is_not_expected_there() -> None:
    pattern = Pattern({(1,): 0.0, (2,): 5.0}, {}, 4.0, 0.3)
    assert pattern.predict([1, 1, 1, 1], pieces_of([1, 1, 1, 1])).tolist() == [0.0] * 4
    below = replace(pattern, words={"w": -0.1})
    assert below.predict([1, 1], pieces_of([1, 1])).tolist() == pytest.approx([0.0, -1.2])


@given(LASTING, st.lists(FEW, min_size=1, max_size=8))
def test_a_lookup_table_knows_no_left_context_and_no_other_spelling(pattern: Pattern, ids: list[int]) -> None:
    found = pattern.tokens_only().predict(ids, pieces_of(ids))
    assert found.tolist() == [pattern.rules.get((token,), pattern.level) for token in ids]


def test_a_word_in_another_spelling_is_known_by_its_word() -> None:
    pattern = Pattern({(7,): 3.0}, {"fight": 3.0}, 0.5)
    assert pattern.predict([7, 8, 9], [" fight", "Fight", " other"]).tolist() == [3.0, 3.0, 0.5]


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A model with planted units, read by the real indexer."""
    workspace = Workspace.open(tmp_path_factory.mktemp("planted") / "ws")
    params = plant(workspace.path.parent)
    folder = workspace.runs / "index-planted"
    folder.mkdir()
    run_index(workspace, folder, params, QuietProgress())
    return workspace


def evidence_of(workspace: Workspace, unit: int) -> Evidence:
    return Library(workspace).evidence(UnitName.parse(f"planted/mlp.0/neurons/{unit}"), Setting())


@pytest.mark.parametrize(("unit", "says"), [(FIGHT, "fight"), (NOT_ALL, "not all"), (DIGITS, "7")])
@pytest.mark.parametrize("split", SPLITS[1:])
def test_planted_units_are_explained_with_a_correlation_above_95_percent(planted: Workspace, unit: int, says: str, split: Split) -> None:
    evidence = evidence_of(planted, unit)
    explanation = pattern_explanation(evidence)
    setting = Setting(split=split, kinds=("top-and-random", "random-only"))
    scores, _ = asyncio.run(judge(evidence, explanation, setting, PatternSimulator(), split, [], 0))
    rho = {scored.score.kind: scored.score.rho for scored in scores if scored.role == "simulated"}
    assert rho["top-and-random"] > 0.95
    assert read(explanation.text).values[says] > 0
    assert len(explanation.text) <= LIMIT


def test_only_a_left_context_explains_the_unit_that_needs_not_before_all(planted: Workspace) -> None:
    evidence = evidence_of(planted, NOT_ALL)
    scores, _ = asyncio.run(judge(evidence, pattern_explanation(evidence), Setting(), PatternSimulator(), "validation", [], 0))
    rho = {scored.role: scored.score.rho for scored in scores}
    assert rho["simulated"] > 0.95
    assert rho["lookup"] < rho["simulated"] - 0.05


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    """A unit of so short a text that all its positions are known."""
    workspace = Workspace.open(tmp_path_factory.mktemp("everything") / "ws")
    write_synthetic_index(workspace, contexts=40, length=8)
    return Library(workspace).evidence(UnitName.parse("tiny/mlp.1/neurons/2"), Setting(each=1))


def test_grams_are_counted_and_named_as_they_stand_in_the_text(everything: Evidence) -> None:
    counts = everything.counts
    contexts = [counts.text.of(rank).tolist()[counts.first :] for rank in range(len(counts.text))]
    for order in range(3):
        grams = Counter(tuple(ids[at - order : at + 1]) for ids in contexts for at in range(order, len(ids)))
        codes = counts.codes_of(list(grams))
        assert counts.count(order, codes).tolist() == list(grams.values())
        assert counts.tokens_of(order, codes) == list(grams)
        assert set(counts.codes[order].tolist()) == {-1, *codes.tolist()}
        assert np.bincount(counts.ids[order])[1:].sum() == sum(grams.values())
        if order:
            shorter = counts.codes[order - 1][counts.shorter[order][np.searchsorted(counts.codes[order], codes)]]
            assert counts.tokens_of(order - 1, shorter) == [gram[1:] for gram in grams]
    assert counts.codes_of([(counts.base, 0), (-1, 0)]).tolist() == [-1, -1]
    assert counts.count(1, np.array([-1, counts.base**2 + 7])).tolist() == [0, 0]


def test_half_of_the_weight_goes_by_the_square_of_a_context_s_peak(everything: Evidence) -> None:
    labelled, counts = everything.labelled, everything.counts
    held = np.isin(counts.text.document, everything.excluded)
    assert held.any()
    assert (labelled.peaked[held] == 0).all()
    assert labelled.even.tolist() == (~held).astype(float).tolist()
    peaks = np.zeros(len(counts.text))
    np.maximum.at(peaks, labelled.contexts, labelled.values)
    more = (labelled.peaked - labelled.even)[~held]
    np.testing.assert_allclose(more, peaks[~held] ** 2 * (~held).sum() / (peaks[~held] ** 2).sum(), rtol=1e-3)  # a record has 16 bits
    assert replace(labelled, peaks=np.zeros(len(peaks))).peaked.tolist() == labelled.even.tolist()


def test_a_rule_is_the_weighted_mean_moved_by_one_observation_of_the_shorter_gram(everything: Evidence) -> None:
    labelled, counts = everything.labelled, everything.counts
    pattern, weight = fit(labelled, counts, everything.vocab), labelled.peaked[labelled.contexts]
    codes = counts.grams(labelled.contexts, labelled.positions).codes
    checked = 0
    for gram, value in pattern.rules.items():
        if len(gram) == 2 and (gram[1],) in pattern.rules:
            here = codes[1] == counts.codes_of([gram])[0]
            n = weight[here].sum()
            expected = ((weight * labelled.values)[here].sum() + 2 * pattern.rules[gram[1:]]) / (n + 2)
            if n >= counts.count(1, counts.codes_of([gram]))[0]:
                assert value == pytest.approx(expected, abs=0.02 * np.ptp(labelled.values))
                checked += 1
    assert checked > 10


@pytest.mark.parametrize("unit", range(8))
def test_a_fit_predicts_the_plain_mean_of_what_is_known_where_everything_is_known(workspace: Workspace, unit: int) -> None:
    """With few tokens the sketch holds the whole slice: a frequent token's rule is its mean over the documents that are not held out."""
    write_synthetic_index(workspace, contexts=40, length=8)
    evidence = Library(workspace).evidence(UnitName.parse(f"tiny/mlp.1/neurons/{unit}"), Setting(each=1))
    labelled, table = evidence.labelled, lookup_table(evidence)
    counts = SliceCounts(load_slice(workspace, str(evidence.view.index.slice["id"])), 1)
    tokens = counts.grams(labelled.contexts, labelled.positions).codes[0]
    spread = np.ptp(labelled.values)
    checked = 0
    for token in np.unique(tokens):
        here = labelled.values[tokens == token]
        if len(here) < 5:
            continue
        checked += 1
        assert table.rules[int(token),] == pytest.approx(here.mean(), abs=0.15 * spread)
    assert checked > 3
