"""Patching features into pairs: pruning, caching and batching change no value, and the ends of every curve are what they have to be."""

from pathlib import Path

import numpy as np
import pytest
import torch

from core.bases.info import Prepare
from core.causal import orders
from core.causal.decompositions import decomposition_at
from core.causal.ioi_pairs import Streams
from core.causal.patching import PatchedSet
from core.causal.support import support_of
from core.errors import AtlasError
from tests.models import D_MODEL
from tests.patchable import PAIRS, SITE, Setting, put_dictionary


@pytest.mark.parametrize("name", ["neurons", "random", "random:linear"])
def test_patching_every_feature_of_an_orthonormal_basis_gives_the_counterfactual(name: str, tmp_path: Path) -> None:
    setting = Setting(tmp_path, name=name)
    patched = setting.patched()
    patched.become(np.ones(len(setting.support), dtype=bool))
    point = patched.point()
    assert point.kl == pytest.approx(0, abs=1e-6)
    assert point.kl >= 0
    _, logits = setting.slow(setting.units(patched.members))
    torch.testing.assert_close(logits, setting.runs.answers.target, atol=2e-5, rtol=1e-5)
    assert point.other == pytest.approx(setting.runs.reached.other.mean(), abs=1e-4)


def test_patching_nothing_gives_the_unpatched_divergence(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    point = setting.patched().point()
    assert point.features == 0
    assert point.edit == 0
    assert point.kl == pytest.approx(setting.runs.unpatched.kl.mean(), abs=1e-6)
    assert point.kl == pytest.approx(setting.slow([])[0], abs=1e-6)
    assert point.kl > 0.05


@pytest.mark.parametrize("variant", ["llama", "gpt2", "gpt_neo", "gpt_neox", "opt", "bloom", "gemma2", "falcon-alibi", "mistral"])
def test_pruning_and_keeping_change_no_value(variant: str, tmp_path: Path) -> None:
    """Random sets, reached by random steps, with questions between them, against the slow way."""
    setting = Setting(tmp_path, variant)
    patched, chance = setting.patched(), np.random.default_rng(5)
    m = len(setting.support)
    for _ in range(3):
        patched.become(chance.random(m) < 0.5)
        for _ in range(4):
            asked = chance.choice(m, 3, replace=False).tolist()
            found = patched.toggled(asked)
            for feature, kl in zip(asked, found, strict=True):
                other = patched.members.copy()
                other[feature] = not other[feature]
                assert kl == pytest.approx(setting.slow(setting.units(other))[0], abs=1e-5)
            patched.toggle(int(chance.choice(asked)))
            patched.toggle(int(chance.integers(m)))
            assert patched.kl == pytest.approx(setting.slow(setting.units(patched.members))[0], abs=1e-5)


def test_the_keys_and_values_of_a_model_are_kept_and_without_them_the_numbers_are_the_same(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    kept, plain = setting.patched(), setting.patched(keep=False)
    assert kept.keeps == ""
    assert plain.keeps != ""
    features = list(range(len(setting.support)))
    np.testing.assert_allclose(kept.toggled(features), plain.toggled(features), atol=1e-5)


def test_only_pairs_that_changed_are_tried_again(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    patched = setting.patched()
    features = list(range(len(setting.support)))
    patched.toggled(features)
    before = setting.above.work.rows
    patched.toggled(features)
    assert setting.above.work.rows == before
    feature = min(features, key=lambda one: len(setting.support.items(one)))
    touched = set(setting.support.pairs[setting.support.items(feature)].tolist())
    assert 0 < len(touched) < PAIRS
    patched.toggle(feature)
    stale = np.concatenate([patched.stale(one) for one in features])
    assert set(setting.support.pairs[stale].tolist()) == touched
    assert len(stale) == sum(len(setting.support.features[pair]) for pair in touched)


def test_a_dictionary_that_scales_each_token_writes_with_the_bases_own_factor(tmp_path: Path) -> None:
    setting = Setting(tmp_path, prepare=Prepare("per_token", "layer_norm", 2.0))
    one, x = setting.decomposition.dictionary, setting.streams.base[:1]
    assert one is not None
    here, there = one.prepare(x), one.prepare(setting.streams.counterfactual[:1])
    by_hand = x + one.undo(one.decode(one.codes(there.x)), here) - one.undo(one.decode(one.codes(here.x)), here)
    patched = setting.patched()
    patched.become(np.ones(len(setting.support), dtype=bool))
    length = int(setting.runs.lengths[0])
    added = setting.support.added(0, patched.members)
    torch.testing.assert_close((x[0, :length] + added).float(), by_hand[0, :length], atol=1e-5, rtol=1e-5)
    assert patched.kl == pytest.approx(setting.slow(setting.units(patched.members))[0], abs=1e-5)


def test_the_edits_size_is_that_of_the_set(tmp_path: Path) -> None:
    setting = Setting(tmp_path, name="neurons")
    patched = setting.patched()
    patched.become(np.ones(len(setting.support), dtype=bool))
    moved = (setting.streams.counterfactual - setting.streams.base).norm(dim=-1)
    inside = [moved[pair, :length] for pair, length in enumerate(setting.runs.lengths.tolist())]
    assert patched.point().edit == pytest.approx(float(torch.cat(inside).mean()), rel=1e-5)


def naive_sweep(setting: Setting, thresholds: list[float], seed: int) -> tuple[list[list[int]], float]:
    """The sweep as it is written down, on the slow reference. Returns the set after each threshold, and how near a decision was."""
    chance = np.random.default_rng(seed)
    members = np.ones(len(setting.support), dtype=bool)
    now, near = setting.slow(setting.units(members))[0], np.inf
    found: list[list[int]] = []
    for threshold in thresholds:
        for feature in chance.permutation(np.flatnonzero(members)):
            members[feature] = False
            kl = setting.slow(setting.units(members))[0]
            near = min(near, abs(kl - now - threshold))
            if kl - now < threshold:
                now = kl
            else:
                members[feature] = True
        found.append(np.flatnonzero(members).tolist())
    return found, float(near)


def test_the_sweep_leaves_out_what_a_naive_one_leaves_out(tmp_path: Path) -> None:
    setting = Setting(tmp_path, units=24, pairs=3)
    thresholds = [1e-4, 3e-3, 3e-2, 0.3]
    sets, near = naive_sweep(setting, thresholds, 11)
    assert near > 1e-6  # no decision of this seed hangs on rounding
    patched = setting.patched()
    ranked = orders.acdc(patched, thresholds, 11, lambda share, text: None)
    assert [point.features for point in ranked.points] == [len(setting.support), *map(len, sets), 0]
    for kept, point, threshold in zip(sets, ranked.points[1:], thresholds, strict=False):
        scored = zip(ranked.features, ranked.scores, strict=True)
        dropped = {feature for feature, score in scored if score is not None and score <= threshold}
        assert set(range(len(setting.support))) - dropped == set(kept)
        assert point.kl == pytest.approx(setting.slow(setting.support.units[kept].tolist())[0], abs=1e-5)
    assert len(sets[0]) > len(sets[-1])


def test_greedy_takes_the_best_feature_first_and_single_ranks_by_what_each_does_alone(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    patched = setting.patched()
    alone = np.array([setting.slow([unit])[0] for unit in setting.support.units.tolist()])
    gains = orders.single_effects(patched, lambda share, text: None)
    np.testing.assert_allclose(gains, setting.slow([])[0] - alone, atol=1e-5)
    single = orders.single(patched, gains, lambda share, text: None)
    assert single.features[0] == int(np.argmin(alone))
    assert single.points[1].kl == pytest.approx(alone.min(), abs=1e-5)
    greedy = orders.greedy(patched, gains, lambda share, text: None)
    assert greedy.features[0] == single.features[0]
    assert sorted(greedy.features) == list(range(len(setting.support)))
    assert greedy.points[2].kl <= single.points[2].kl + 1e-6


def test_the_gradient_is_the_slope_of_the_divergence_along_each_feature(tmp_path: Path) -> None:
    setting = Setting(tmp_path, name="neurons")
    found = orders.attributions(setting.patched())
    step = 1e-2
    none = setting.slow([])[0]
    for feature in np.argsort(-np.abs(found))[:4].tolist():
        x, there = setting.streams.base, setting.streams.counterfactual
        near = Streams(SITE, x, x + step * (there - x))
        support = support_of(setting.decomposition, setting.runs, near)
        patched = PatchedSet(setting.above, setting.runs, near, support)
        moved = patched.toggled([feature])[0]
        assert (none - moved) / step == pytest.approx(found[feature], rel=0.1, abs=2e-3)


def test_an_output_that_is_no_number_is_a_sentence_and_no_point_of_a_curve(tmp_path: Path) -> None:
    answers = Setting(tmp_path).runs.answers
    with pytest.raises(AtlasError, match="not a number on these sentences"):
        answers.of(torch.full_like(answers.target[:1], float("nan")), torch.tensor([0]))


def test_a_dictionary_of_another_model_or_that_writes_elsewhere_is_refused(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    with pytest.raises(AtlasError, match="has no dictionary"):
        decomposition_at(setting.workspace, setting.subject, SITE, "nobody")
    with pytest.raises(AtlasError, match="directions and their negatives"):
        decomposition_at(setting.workspace, setting.subject, SITE, "made:linear")
    put_dictionary(setting.workspace, setting.subject, name="coder", d_out=D_MODEL, writes_to="the MLP")
    with pytest.raises(AtlasError, match="is a transcoder"):
        decomposition_at(setting.workspace, setting.subject, SITE, "coder")
