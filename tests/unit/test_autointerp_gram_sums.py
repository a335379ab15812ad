"""Sums by gram over a second reading: the same as adding up position by position, whatever part of the text was read."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.autointerp import fit as fitting
from core.autointerp import gram_sums
from core.autointerp.corpus_counts import ORDERS, SliceCounts
from core.autointerp.evidence import Library
from core.autointerp.fit import fit
from core.autointerp.gram_sums import Arranged
from core.autointerp.pattern import FADES, Pattern
from core.autointerp.reading import Reading
from core.autointerp.request import ExplainerChoice, Setting
from core.store.texts import SliceText, load_slice, load_vocab
from core.units import Site, UnitName
from core.workspace import Workspace
from tests.synthetic import Recipe, activations, write_synthetic_index

UNITS = tuple(UnitName.parse(f"tiny/mlp.0/neurons/{unit}") for unit in range(2))
RECIPE = Recipe(n_layers=1, width=8, contexts=160, length=12)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = Workspace.open(tmp_path_factory.mktemp("gram-sums") / "ws")
    write_synthetic_index(workspace, n_layers=1, width=8, contexts=160, length=12)
    return workspace


def text_of(workspace: Workspace) -> SliceText:
    [folder] = Path(workspace.corpora).iterdir()
    return load_slice(workspace, folder.name)


def read(counts: SliceCounts, ranks: list[int]) -> Reading:
    """A reading of all of some contexts."""
    text = counts.text
    lengths = np.diff(text.offsets)[ranks] - counts.first
    contexts = np.repeat(np.array(ranks, np.int64), lengths)
    positions = np.concatenate([np.arange(counts.first, counts.first + length) for length in lengths])
    values = activations(RECIPE, Site("mlp", 0))[contexts, positions].T.astype(np.float16)
    return Reading({unit: unit.index for unit in UNITS}, contexts, positions, values, counts)


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_sums_are_those_of_the_positions_one_by_one(workspace: Workspace, data: st.DataObject) -> None:
    counts = SliceCounts(text_of(workspace), 1)
    ranks = sorted(data.draw(st.sets(st.integers(0, len(counts.text) - 1), min_size=1)))
    reading = read(counts, ranks)
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    weights, usable = rng.random(len(counts.text)), rng.random(len(reading.contexts)) < 0.8
    arranged, values = Arranged(reading), reading.values[0].astype(np.float32)
    for orders in (ORDERS, 1, ORDERS):  # what was asked before leaves nothing behind
        found = arranged.add_up(orders, weights, usable, values)
        assert len(found) == orders
        weight = weights[reading.contexts] * usable
        for order, sums in enumerate(found):
            size, grams = len(counts.codes[order]), reading.grams[order]
            known = np.arange(size) > 0  # 0 stands for no gram
            assert sums[known, 0] == pytest.approx(np.bincount(grams, weight, size)[known])
            assert sums[known, 1] == pytest.approx(np.bincount(grams, weight * values, size)[known], abs=1e-6)
    unread = np.ones(len(counts.text.tokens), bool)
    unread[counts.text.offsets[:-1]] = False
    unread[counts.text.offsets[reading.contexts] + reading.positions] = False
    assert arranged.unread.tolist() == np.flatnonzero(unread).tolist()
    assert (counts.text.offsets[arranged.unread_contexts] < arranged.unread).all()
    assert (arranged.unread < counts.text.offsets[arranged.unread_contexts + 1]).all()


@pytest.mark.parametrize("share", [1.0, 0.6])
def test_a_pattern_has_the_mean_that_its_definition_gives(workspace: Workspace, share: float) -> None:
    library = Library(workspace)
    _, index = library.locate(UNITS[0], Setting())
    counts = library.counts(index)
    library.add(index.run, read(counts, list(range(int(share * len(counts.text))))))
    evidence = library.evidence(UNITS[0], Setting())
    labelled, text = evidence.labelled, counts.text
    pattern, weights = fit(labelled, counts, evidence.vocab), labelled.peaked
    # Every labelled position, with its weight, its activation, and whether it is one of the strongest.
    assert labelled.reading is not None
    assert labelled.usable is not None
    assert labelled.sample is not None
    usable = labelled.usable
    contexts = np.concatenate([labelled.contexts, labelled.reading.contexts[usable]])
    positions = np.concatenate([labelled.positions, labelled.reading.positions[usable]])
    values = np.concatenate([labelled.values, labelled.sample[usable]])
    strong = np.concatenate([labelled.strong, np.zeros(usable.sum(), bool)])
    again = weights[labelled.reading.contexts] * usable
    level = float(np.average(labelled.sample, weights=again))
    assert pattern.level == pytest.approx(level, rel=1e-3)
    everywhere = (
        np.repeat(np.arange(len(text)), np.diff(text.offsets)),
        np.arange(len(text.tokens)) - np.repeat(text.offsets[:-1], np.diff(text.offsets)),
    )
    known, whole = counts.grams(contexts, positions), counts.grams(*everywhere)

    def estimates(gram: tuple[int, ...]) -> tuple[float, float]:
        """The mean of a gram, and of its weaker positions alone."""
        if not gram:
            return level, level
        order = len(gram) - 1
        mean, rest = estimates(gram[1:])
        [code] = counts.codes_of([gram])
        here, weight = known.codes[order] == code, weights[contexts]
        # The token before the first data token is none of the text.
        n = weights[everywhere[0]][(whole.codes[order] == code) & (everywhere[1] >= counts.first)].sum()
        k, s = weight[here & strong].sum(), (weight * values)[here & strong].sum()
        weak, weak_sum = weight[here & ~strong].sum(), (weight * values)[here & ~strong].sum()
        r = (weak_sum + rest) / (weak + 1)
        return (s + (n - k) * r + 2 * mean) / (n + 2), r

    assert {len(gram) for gram in pattern.rules} == {1, 2, 3}
    for gram, value in list(pattern.rules.items())[::29]:
        assert value == pytest.approx(estimates(gram)[0], rel=2e-3, abs=1e-6)


def traced(counts: SliceCounts, share: float) -> tuple[Reading, npt.NDArray[np.float64]]:
    """A reading made up of a mean for each token, a share of what these leave on later tokens, and noise; and the means."""
    plain = read(counts, list(range(len(counts.text))))
    rng = np.random.default_rng(0)
    above = rng.normal(size=len(counts.codes[0]))
    expected, values, held = above[plain.grams[0]], np.zeros(len(plain.contexts)), 0.0
    for at in range(len(values)):
        held = 0.0 if at == 0 or plain.contexts[at] != plain.contexts[at - 1] else held
        values[at] = 2.0 + expected[at] + share * held + rng.normal(scale=0.1)
        held = FADES * held + expected[at]
    return replace(plain, values=np.tile(values.astype(np.float16), (len(UNITS), 1))), 2.0 + above


@pytest.mark.parametrize("share", [-0.1, 0.0, 0.1])
@pytest.mark.parametrize("most", [10**6, 500])
def test_what_lasts_is_found_in_what_the_rules_leave_over(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, share: float, most: int
) -> None:
    monkeypatch.setattr(gram_sums, "_FOR_LASTING", most)
    counts = SliceCounts(text_of(workspace), 1)
    reading, singles = traced(counts, share)
    values, even = reading.values[0].astype(np.float32), np.ones(len(counts.text))
    usable = np.random.default_rng(1).random(len(values)) < 0.8
    means = tuple(np.full((len(codes), 2), 99.0) for codes in counts.codes)
    means[0][:, 0] = singles
    gains = tuple(np.full(len(codes), -1.0 if order else 1.0) for order, codes in enumerate(counts.codes))
    found = Arranged(reading).lasting(means, gains, 0.5, 2.0, even, usable, values)
    assert found == pytest.approx(share, abs=0.01 if most > 500 else 0.03)
    assert Arranged(reading).lasting(means, gains, 0.5, 2.0, even, np.zeros(len(values), bool), values) == 0.0


@pytest.mark.parametrize(
    ("share", "factor", "least", "most"),
    [(-0.2, 1.5, 0, 0), (0.0, 1.5, 0, 0.02), (0.2, 1.5, 0.05, 0.3), (0.2, 0.5, 0.01, 0.04), (0.2, 99, 0.3, 0.3)],
)
def test_a_pattern_says_what_lasts(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, share: float, factor: float, least: float, most: float
) -> None:
    monkeypatch.setattr(fitting, "_SEEN_TOO_LITTLE", factor)
    library = Library(workspace)
    _, index = library.locate(UNITS[0], Setting())
    counts = library.counts(index)
    library.add(index.run, traced(counts, share)[0])
    labelled = library.evidence(UNITS[0], Setting()).labelled
    # What the index itself knows of the unit is another matter here. In so short a text the rules explain much of what lasts.
    few = np.zeros(0, np.int64)
    labelled = replace(labelled, contexts=few, positions=few, values=few.astype(float), strong=few.astype(bool))
    assert least <= fit(labelled, counts, load_vocab(workspace, "tiny")).lasts <= most


def test_a_text_without_triples_is_fitted(tmp_path: Path) -> None:
    """Contexts of a BOS and two tokens: there is no gram of the longest order."""
    workspace = Workspace.open(tmp_path / "ws")
    write_synthetic_index(workspace, n_layers=1, width=8, contexts=40, length=3)
    library = Library(workspace)
    _, index = library.locate(UNITS[0], Setting())
    counts = library.counts(index)
    assert len(counts.codes[ORDERS - 1]) == 1
    places = np.repeat(np.arange(40), 2)
    reading = Reading(
        {UNITS[0]: 0}, places, np.tile([1, 2], 40), np.random.default_rng(0).normal(size=(1, 80)).astype(np.float16), counts
    )  # fmt: skip
    library.add(index.run, reading)
    evidence = library.evidence(UNITS[0], Setting(each=1))
    assert {len(gram) for gram in fit(evidence.labelled, counts, evidence.vocab).rules} == {1, 2}


def test_evidence_is_shared_by_settings_that_deal_alike_until_more_is_read(workspace: Workspace) -> None:
    library = Library(workspace)
    _, index = library.locate(UNITS[0], Setting())
    first = library.evidence(UNITS[0], Setting())
    assert library.evidence(UNITS[0], Setting(label="other", controls=())) is first
    assert library.evidence(UNITS[0], Setting(each=2)) is not first
    assert library.evidence(UNITS[0], Setting(active_only=True)) is not first
    assert library.evidence(UNITS[0], Setting(explainer=ExplainerChoice(read=0))) is first
    assert library.evidence(UNITS[1], Setting()) is not first
    assert first.labelled.reading is None
    library.add(index.run, read(library.counts(index), [0, 1]))
    assert library.evidence(UNITS[0], Setting()).labelled.reading is not None
    assert library.evidence(UNITS[0], Setting(explainer=ExplainerChoice(read=0))).labelled.reading is None
    few = Library(workspace, 23)
    few.add(index.run, read(few.counts(index), [0, 1]))
    assert few.evidence(UNITS[0], Setting(explainer=ExplainerChoice(read=1000))).labelled.reading is not None
    assert few.evidence(UNITS[0], Setting()).labelled.reading is None


def test_a_pattern_that_was_stored_rule_by_rule_is_read() -> None:
    old = {"level": 0.5, "rules": [[7, 1.5], [3, 7, -2], [1, 3, 7, 4.0]], "words": {"so": 1}}
    pattern = Pattern.from_json(old)
    assert pattern == Pattern({(7,): 1.5, (3, 7): -2.0, (1, 3, 7): 4.0}, {"so": 1.0}, 0.5)
    stored = pattern.to_json()
    assert stored["columns"] == [[[7], [1.5]], [[3], [7], [-2.0]], [[1], [3], [7], [4.0]]]
    assert Pattern.from_json(stored) == pattern


@pytest.mark.parametrize("lasts", [-0.1, 1.5, float("nan"), "much", None])
def test_a_share_that_cannot_last_is_refused(lasts: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        Pattern.from_json({"level": 0, "columns": [], "words": {}, "lasts": lasts})


@pytest.mark.parametrize("columns", [[[[1, 2], [3.0]]], [[[1], [2, 3], [1.0]]], [[3]], [[["a"], [1.0]]], [[[1], ["x"]]], 3, None])
def test_what_is_no_pattern_is_refused(columns: object) -> None:
    with pytest.raises((ValueError, TypeError, KeyError)):
        Pattern.from_json({"level": 0, "columns": columns, "words": {}})
    assert Pattern.from_json({"level": 0, "columns": [], "words": {}}) == Pattern({}, {}, 0.0)
