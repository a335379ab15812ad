"""Comparing units: shared contexts and co-activation against a slow, plain computation over the very numbers behind the index."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from safetensors.numpy import save_file

from core.bases import shelf
from core.bases.directions import residual_direction
from core.errors import AtlasError
from core.findings.bundle.importing import import_bundle
from core.findings.report.comparison import comparison_html
from core.store.catalog import load_index
from core.store.compare.compared import Compared, check_names, choose_indexes, compare, load_views
from core.store.compare.likeness import cosine
from core.store.density import ACTIVE_SHARE
from core.store.features import load_feature
from core.store.units import UnitView, load_unit
from core.units import Site, UnitName
from core.workspace import Workspace, write_json
from tests import foreign_files, synthetic_features
from tests.shared_bundle import UNITS, exported, fill
from tests.synthetic import POSITIONS, Recipe, activations, write_synthetic_index

NEURONS = Recipe(2, 16, synthetic_features.CONTEXTS, synthetic_features.LENGTH, ("mlp", "resid"))
FEATURE = "tiny/resid.0/planted-r2"
NEURON = "tiny/resid.0/neurons"
Floats = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Neurons and features of one site over the same text, and neurons over another one."""
    workspace = Workspace.open(tmp_path_factory.mktemp("compare") / "ws")
    synthetic_features.write_synthetic_features(workspace)
    write_synthetic_index(
        workspace, n_layers=2, width=16, contexts=NEURONS.contexts, length=NEURONS.length, kinds=("mlp", "resid"), signed=True
    )
    return workspace


def names(*units: str) -> list[UnitName]:
    return [UnitName.parse(unit) for unit in units]


def compared(workspace: Workspace, *units: str) -> Compared:
    return compare(workspace, load_views(workspace, names(*units)))


def truth(unit: UnitName) -> Floats:
    """What the unit does on every token [contexts, length]; NaN where there is none, or a BOS."""
    values = synthetic_features.codes() if unit.basis != "neurons" else activations(NEURONS, unit.site)
    return values[..., unit.index]


def ranks_of(view: UnitView) -> set[int]:
    return {record.context for band in view.bands.values() for record in band}


def is_active(view: UnitView, values: Floats) -> npt.NDArray[np.bool_]:
    if view.name.basis != "neurons":
        return values != 0
    return np.abs(values) > ACTIVE_SHARE * max(abs(view.stats["min"]), abs(view.stats["max"]))


def plainly(one: UnitView, other: UnitView, ranks: set[int]) -> tuple[int, tuple[int, int], int, float]:
    """Tokens, tokens on which each is active, tokens on which both are, and Pearson's r, one token at a time."""
    pairs: list[tuple[float, float]] = []
    for rank in sorted(ranks):
        for x, y in zip(truth(one.name)[rank], truth(other.name)[rank], strict=True):
            if x == x:
                pairs.append((float(x), float(y)))
    table = np.array(pairs).reshape(-1, 2)
    first, second = is_active(one, table[:, 0]), is_active(other, table[:, 1])
    r = float(np.corrcoef(table.T)[0, 1]) if len(table) > 1 and table.std(axis=0).all() else math.nan
    return len(table), (int(first.sum()), int(second.sum())), int((first & second).sum()), r


@pytest.mark.parametrize(("a", "b"), [(0, 4), (1, 2), (5, 10), (0, 15)])
def test_two_features_are_compared_over_every_token(both: Workspace, a: int, b: int) -> None:
    found = compared(both, f"{FEATURE}/{a}", f"{FEATURE}/{b}")
    (one,) = found.pairs[0].together
    tokens, active, common, r = plainly(found.views[0], found.views[1], set(range(NEURONS.contexts)))
    assert (one.over, one.tokens, one.active, one.both) == ("text", tokens, active, common)
    assert one.correlation == pytest.approx(r, abs=1e-6, nan_ok=True)
    either = sum(active) - common
    assert one.jaccard == (common / either if either else pytest.approx(math.nan, nan_ok=True))


def test_the_jaccard_index_of_two_features_is_the_one_on_their_own_pages(both: Workspace) -> None:
    view = load_unit(both, UnitName.parse(f"{FEATURE}/2"))
    feature = load_feature(both, view)
    assert feature is not None
    assert feature.coactive
    for near in feature.coactive:
        (one,) = compared(both, str(view.name), str(near.name)).pairs[0].together
        assert one.jaccard == pytest.approx(near.jaccard)
        assert one.both == near.count


@pytest.mark.parametrize(("neuron", "feature"), [(0, 0), (3, 2), (6, 9)])
def test_a_neuron_and_a_feature_are_compared_over_what_is_known_of_the_neuron(both: Workspace, neuron: int, feature: int) -> None:
    found = compared(both, f"{NEURON}/{neuron}", f"{FEATURE}/{feature}")
    view = found.views[0]
    drawn, records = found.pairs[0].together
    for one, ranks in ((drawn, {record.context for record in view.bands["random"]}), (records, ranks_of(view))):
        tokens, active, common, r = plainly(found.views[0], found.views[1], ranks)
        assert (one.contexts, one.tokens) == (len(ranks), tokens)
        assert one.active[1] == active[1], "of the feature every activation is kept"
        assert one.active[0] == pytest.approx(active[0], abs=1)  # the neuron's are kept in 16 bits
        assert one.both == pytest.approx(common, abs=1)
        assert one.correlation == pytest.approx(r, abs=1e-3, nan_ok=True)
    assert (drawn.over, records.over) == ("random", "records")


def test_two_neurons_are_compared_over_the_contexts_that_both_have(both: Workspace) -> None:
    found = compared(both, f"{NEURON}/1", "tiny/mlp.1/neurons/2")
    (one,) = found.pairs[0].together
    tokens, active, _, r = plainly(found.views[0], found.views[1], ranks_of(found.views[0]) & ranks_of(found.views[1]))
    assert (one.over, one.tokens) == ("records", tokens)
    assert one.active == pytest.approx(active, abs=1)
    assert one.correlation == pytest.approx(r, abs=1e-3)
    assert "chosen for being strong" in one.told


def test_the_strongest_positions_in_common_are_those_of_the_whole_text(both: Workspace) -> None:
    found = compared(both, f"{NEURON}/4", f"{FEATURE}/0", f"{NEURON}/8")
    for pair in found.pairs:
        tops: list[set[int]] = []
        for place in (pair.one, pair.other):
            flat = truth(found.views[place].name).reshape(-1)
            order = [int(i) for i in np.argsort(-np.nan_to_num(flat, nan=-np.inf), kind="stable")[:POSITIONS]]
            tops.append({i for i in order if flat[i] > 0})
        assert pair.strongest is not None
        assert pair.strongest.counts == (len(tops[0]), len(tops[1]))
        assert pair.strongest.both == len(tops[0] & tops[1])
        tokens = int(np.isfinite(truth(found.views[0].name)).sum())
        assert pair.strongest.chance == pytest.approx(len(tops[0]) * len(tops[1]) / tokens)


def test_shared_contexts_are_found_by_looking_at_every_one(both: Workspace) -> None:
    found = compared(both, f"{NEURON}/0", "tiny/mlp.1/neurons/5", f"{FEATURE}/8")
    known = [ranks_of(view) for view in found.views]
    active = {rank for rank in range(NEURONS.contexts) if np.nan_to_num(truth(found.views[2].name)[rank]).any()}
    expected: dict[int, tuple[int, ...]] = {}
    for rank in range(NEURONS.contexts):
        among = tuple(place for place in range(3) if rank in known[place] or (place == 2 and rank in active))
        if len(among) > 1 and any(rank in ranks for ranks in known):
            expected[rank] = among
    assert {one.context: one.among for one in found.shared} == expected
    assert len(expected) > 10
    seconds: list[float] = []
    for one in found.shared:
        assert one.units == (0, 1, 2)
        shares: list[float] = []
        for place, values in zip(one.units, one.activations, strict=True):
            exact = truth(found.views[place].name)[one.context][: len(one.record.tokens)]
            if values is None:
                assert place != 2
                assert one.context not in known[place]
                shares.append(0.0)
                continue
            assert np.array_equal(np.isnan(values), np.isnan(exact)), "what is no data is none"
            largest = max(abs(found.views[place].stats[end]) for end in ("min", "max"))
            assert np.allclose(values, exact, atol=1e-4 * largest + 1e-9, equal_nan=True)
            shares.append(float(np.nanmax(np.abs(values))) / largest if largest else 0.0)
        seconds.append(sorted(shares)[-2])
        assert one.peak >= one.record.first
    assert seconds == sorted(seconds, reverse=True)


def test_a_planted_pair_is_found_alike(workspace: Workspace) -> None:
    """A neuron and a feature that are the same numbers: every context is shared, r is 1, and their axis and row have the cosine 1."""
    synthetic_features.write_synthetic_features(workspace)
    recipe = synthetic_features.RECIPE
    write_synthetic_index(
        workspace, run="same", n_layers=1, width=16, contexts=recipe.contexts, length=recipe.length, kinds=("resid",), signed=False
    )
    found = compared(workspace, f"{NEURON}/4", f"{FEATURE}/4")
    pair = found.pairs[0]
    assert all(one.correlation > 0.9999 for one in pair.together)
    assert pair.strongest is not None
    assert pair.strongest.both == pair.strongest.counts[0] == pair.strongest.counts[1] > 0
    assert pair.top is not None
    assert len(pair.top.tokens) == pair.top.counts[0] == pair.top.counts[1]
    fired = {one.context for one in found.shared if all(values is not None and np.nanmax(values) > 0 for values in one.activations)}
    assert fired


def shelve(workspace: Workspace, decoder: npt.NDArray[np.float32]) -> str:
    """Give the planted dictionary a decoder, on the shelf and in the index; return its hash."""
    one = shelf.find(workspace, "tiny", synthetic_features.SITE, synthetic_features.NAME)
    path = workspace.scratch / "decoder.safetensors"
    save_file({"bias": np.zeros(len(decoder), np.float32), "encoder": decoder}, path)
    put = shelf.put(workspace, replace(one.info, d_in=decoder.shape[1]), path)
    manifest = workspace.runs / synthetic_features.RUN / "manifest.json"
    document = json.loads(manifest.read_text("utf8"))
    document["dictionaries"][str(synthetic_features.SITE)]["weights_sha256"] = put.hash
    document["subject"]["d_model"] = decoder.shape[1]
    write_json(manifest, document)
    return put.hash


def test_cosines_are_those_of_the_decoder_on_the_shelf(workspace: Workspace) -> None:
    synthetic_features.write_synthetic_features(workspace)
    decoder = np.random.default_rng(1).normal(size=(16, 16)).astype(np.float32)
    weights = shelve(workspace, decoder)
    write_synthetic_index(workspace, n_layers=1, width=16, contexts=48, kinds=("resid",))
    width = decoder.shape[1]
    row = residual_direction(workspace, UnitName.parse(f"{FEATURE}/7"), width, weights)
    assert row is not None
    assert np.array_equal(row.astype(np.float32), decoder[7])
    unlisted = 0
    for a, b in ((f"{FEATURE}/7", f"{FEATURE}/3"), (f"{FEATURE}/7", f"{NEURON}/5"), (f"{NEURON}/1", f"{NEURON}/2")):
        views = [load_unit(workspace, name) for name in names(a, b)]
        listed = [one.cosine for view, name in zip(views, (b, a), strict=True) for one in view.effects.similar if str(one.name) == name]  # type: ignore[union-attr]
        rows = [decoder[view.name.index] if view.name.basis != "neurons" else np.eye(width)[view.name.index] for view in views]
        exact = float(rows[0] @ rows[1] / np.linalg.norm(rows[0]) / np.linalg.norm(rows[1]))
        assert cosine(workspace, *views).value == pytest.approx(listed[0] if listed else exact, abs=1e-6)
        unlisted += not listed
    assert unlisted
    assert residual_direction(workspace, UnitName.parse(f"{FEATURE}/7"), width, "another") is None
    assert residual_direction(workspace, UnitName.parse(f"{FEATURE}/7"), width + 1, weights) is None
    assert residual_direction(workspace, UnitName.parse("tiny/mlp.0/neurons/1"), width) is None


def test_weights_that_cannot_be_read_give_no_cosine_but_a_reason(both: Workspace) -> None:
    """The planted dictionary's file holds no weights."""
    views = [load_unit(both, name) for name in names(f"{FEATURE}/7", f"{NEURON}/5")]
    found = cosine(both, *views)
    assert math.isnan(found.value)
    assert "without the model" in found.reason


def test_a_similar_direction_has_the_cosine_that_the_index_lists(both: Workspace) -> None:
    view = load_unit(both, UnitName.parse("tiny/mlp.0/neurons/3"))
    assert view.effects is not None
    near = next(one for one in view.effects.similar if one.name != view.name)
    assert cosine(both, view, load_unit(both, near.name)).value == pytest.approx(near.cosine)
    listed = {one.name for one in view.effects.similar}
    for index in range(16):
        other = load_unit(both, UnitName("tiny", Site("mlp", 1), "neurons", index))
        if other.name not in listed and view.name not in {one.name for one in other.effects.similar}:  # type: ignore[union-attr]
            assert "Not among the 5 most similar" in cosine(both, view, other).reason
            return
    raise AssertionError("every unit is listed")


def test_the_text_that_all_units_were_read_over_is_chosen(both: Workspace, tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path / "ws")
    synthetic_features.write_synthetic_features(workspace)
    write_synthetic_index(workspace, run="small", n_layers=1, width=16, contexts=48, kinds=("resid",))
    write_synthetic_index(workspace, run="large", n_layers=1, width=16, contexts=96, kinds=("resid",))
    neuron, feature = f"{NEURON}/1", f"{FEATURE}/1"
    assert [index.run for index in choose_indexes(workspace, names(neuron, f"{NEURON}/2"))] == ["large", "large"]
    assert [index.run for index in choose_indexes(workspace, names(neuron, feature))] == ["small", synthetic_features.RUN]
    assert compared(workspace, neuron, feature).apart == ""


def test_units_of_different_texts_share_no_context_and_it_is_said(workspace: Workspace) -> None:
    write_synthetic_index(workspace, n_layers=1, contexts=48)
    write_synthetic_index(workspace, run="other", slug="large", n_layers=1, contexts=64, hostile=True)
    found = compared(workspace, "tiny/mlp.0/neurons/1", "large/mlp.0/neurons/1", "tiny/mlp.0/neurons/2")
    assert found.apart.startswith("Not all were read over the same text (A and C; B)")
    assert {one.units for one in found.shared} == {(0, 2)}
    ab, ac, _ = found.pairs
    assert (ab.together, ab.strongest, ab.top, ab.raised) == ((), None, None, None)
    assert "different models" in ab.cosine.reason
    assert ac.together
    assert ac.top is not None


def test_two_to_four_different_units_are_compared(both: Workspace) -> None:
    units = names(*(f"{NEURON}/{index}" for index in range(5)))
    check_names(units[:4])
    for wrong in (units[:1], [], units):
        with pytest.raises(AtlasError, match="Two to four units are compared at a time"):
            check_names(wrong)
    with pytest.raises(AtlasError, match="named twice"):
        check_names([units[0], units[1], units[0]])
    assert load_index(both, "index-test").run == load_views(both, units[:2], "index-test")[0].index.run


def test_an_imported_excerpt_compares_as_the_whole_did(tmp_path: Path) -> None:
    there, here = Workspace.open(tmp_path / "there"), Workspace.open(tmp_path / "here")
    fill(there)
    import_bundle(here, exported(there, tmp_path / "four.atlas.zip"))
    chosen = list(map(str, UNITS))
    ours, theirs = compared(here, *chosen), compared(there, *chosen)
    assert [(pair.together, pair.strongest, pair.top, pair.raised) for pair in ours.pairs] == [
        (pair.together, pair.strongest, pair.top, pair.raised) for pair in theirs.pairs
    ]
    assert any(pair.together and pair.together[0].over == "text" for pair in ours.pairs)
    assert [(one.context, one.among, one.peak) for one in ours.shared] == [(one.context, one.among, one.peak) for one in theirs.shared]


@pytest.mark.parametrize("kind", ["mlp", "resid"])
def test_units_of_other_programs_files_are_compared_as_far_as_they_say(workspace: Workspace, tmp_path: Path, kind: str) -> None:
    """Of the residual stream, too: its axes are directions of a length that such files do not say."""
    for index in (7, 8):
        place = tmp_path / "in" / "gpt2-xl" / kind / "neurons" / "neurons" / "2"
        foreign_files.write(place / f"{index}.json", foreign_files.neuron(index=index))
    done = foreign_files.take(workspace, tmp_path / "in", model="gpt2-xl")
    found = compared(workspace, *map(str, done.units))
    (pair,) = found.pairs
    (one,) = pair.together
    assert (one.over, one.contexts) == ("records", 3)
    assert one.correlation == pytest.approx(1)
    assert pair.strongest is None or math.isnan(pair.strongest.chance)
    assert math.isnan(pair.cosine.value)
    assert "<h2>" in comparison_html(workspace, found)
