"""Which features to patch first: four ways to order them, each of which ends in curves made by real patching.

* acdc      from the full set, for thresholds τ ascending: visit the features that are left in a random order and leave one out when the
            mean KL rises by less than τ (Cunningham et al. 2023, section 4, after algorithm 4.1 of Conmy et al. 2023). Its points are the
            sets after each threshold. Unless every visit is asked for, a feature whose loss raised the KL by more than `again` τ when it
            was tried last is taken to do so still: it is tried again when τ comes near. What is kept is really patched either way.
* greedy    from the empty set: the feature that lowers the mean KL most comes next. Lazy (Minoux 1978): what a feature gained when it was
            tried last stands for it until it is the best, and only then it is tried again. After `ONE_BY_ONE` several come at a time.
* single    by what each feature gains alone.
* gradient  by −Σ ∂KL/∂x · (c̄ − c) f at the base, the first-order guess of that (attribution patching, Nanda 2023; Syed et al. 2023).
"""

import heapq
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from core.causal.ioi_pairs import Doubles
from core.causal.patching import PatchedSet, Point
from core.causal.support import Whole

ONE_BY_ONE = 32
CHOSEN = 128
"""Greedy takes so many features one at a time; then an eighth of what it has together; and after `CHOSEN` it tries none again."""
ROWS = 8
"""Texts that are differentiated at a time."""
PIECE = 8192
"""Positions of the features that are tried between two words about it."""
TOGETHER = 384
"""Positions that are tried in one pass before the outcome of the first feature is known, at most."""
_WORTH = 0.7
"""A feature is tried before those ahead of it have been decided if the outcome is at least this likely to stay valid."""
_FADING = 0.9
"""Each threshold of a sweep takes about this share of the time of the one before."""
_FIRST = 0.3
"""Of the time of a sweep that spares visits, what trying every feature once takes."""
Say = Callable[[float, str], None]
"""Told the share that is done, and what goes on. May raise to stop."""


@dataclass(frozen=True)
class Ranked:
    """The features of an order, the most important first. features: places in the support. scores: what the order went by; None unknown.

    points: the curve, by falling size for acdc and rising for others; thresholds beside each, for acdc.
    """

    features: Sequence[int]
    scores: Sequence[float | None]
    points: Sequence[Point]
    thresholds: Sequence[float | None]


def sizes(most: int) -> list[int]:
    """0, 1, 2, 3, 4, 6, 8, 12, 16, … and `most`."""
    found = {0, 1, most}
    power = 2
    while power <= most:
        found |= {power, min(most, power + power // 2)}
        power *= 2
    return sorted(found)


def curve(patched: PatchedSet, features: Sequence[int], say: Say) -> list[Point]:
    """Patch the first n features for the n of `sizes`."""
    points: list[Point] = []
    steps = sizes(len(patched.members))
    for number, size in enumerate(steps):
        members = np.zeros(len(patched.members), dtype=bool)
        members[list(features[:size])] = True
        patched.become(members)
        points.append(patched.point())
        say((number + 1) / len(steps), f"{size:,} features patched")
    return points


def acdc(patched: PatchedSet, thresholds: Sequence[float], seed: int, say: Say, again: float = math.inf) -> Ranked:
    """The sweep. Each feature's score is the threshold at which it was left out; those that are left at the end have none.

    again: infinite tries every feature that is left at every threshold, as published.
    """
    chance = np.random.default_rng(seed)
    patched.become(np.ones(len(patched.members), dtype=bool))
    points: list[Point] = [patched.point()]
    marks: list[float | None] = [None]
    left: dict[int, float] = {}
    dropping = 0.5
    raised = np.full(len(patched.members), -math.inf)
    begin = 0.0
    if math.isfinite(again):
        raised, begin = _raised(patched, lambda share, text: say(_FIRST * share, text)), _FIRST
    for number, threshold in enumerate(thresholds):
        order = chance.permutation(np.flatnonzero(patched.members))
        order = order[raised[order] <= again * threshold]
        place = 0
        while place < len(order):
            together = _together(patched, order[place:], dropping)
            patched.toggled(together)
            for feature in together:
                if len(patched.stale(feature)):
                    break  # one before it was left out, and a pair of both is another now
                before, after = patched.kl, float(patched.toggled([feature])[0])
                drop = after - before < threshold
                raised[feature] = after - before
                if drop:
                    patched.toggle(feature)
                    left[feature] = threshold
                dropping += 0.02 * (drop - dropping)
                place += 1
            done = begin + (1 - begin) * _faded((number + place / len(order)) / len(thresholds), len(thresholds))
            say(done, f"threshold {number + 1} of {len(thresholds)}, {int(patched.members.sum()):,} features left")
        points.append(patched.point())
        marks.append(threshold)
    kept = np.flatnonzero(patched.members).tolist()
    features = [*kept, *reversed(left)]
    patched.become(np.zeros(len(patched.members), dtype=bool))
    points.append(patched.point())
    marks.append(None)
    return Ranked(features, [left.get(feature) for feature in features], points, marks)


def single_effects(patched: PatchedSet, say: Say) -> Doubles:
    """By how much each feature alone lowers the mean KL [m]."""
    patched.become(np.zeros(len(patched.members), dtype=bool))
    return -_raised(patched, say)


def single(patched: PatchedSet, gains: Doubles, say: Say) -> Ranked:
    """By the effects that `single_effects` found."""
    return _ranked(patched, gains, say)


def gradient(patched: PatchedSet, say: Say) -> Ranked:
    """By attribution at the base."""
    return _ranked(patched, attributions(patched), say)


def greedy(patched: PatchedSet, gains: Doubles, say: Say) -> Ranked:
    """Forward selection, lazily. gains: of `single_effects`. Scores are what each lowered the mean KL by when it came in.

    After `CHOSEN` features the rest follow by what they gained when they were tried last.
    """
    patched.become(np.zeros(len(patched.members), dtype=bool))
    most = min(CHOSEN, len(gains))
    waiting = [(-float(gain), feature) for feature, gain in enumerate(gains)]
    heapq.heapify(waiting)
    chosen: list[tuple[float, int]] = []
    while len(chosen) < most:
        wanted = 1 if len(chosen) < ONE_BY_ONE else min(most - len(chosen), len(chosen) // 8)
        ready: list[tuple[float, int]] = []
        while len(ready) < wanted:
            if not len(patched.stale(waiting[0][1])):
                ready.append(heapq.heappop(waiting))
                continue
            some = _stalest(patched, waiting)
            for feature, after in zip(some, patched.toggled(some), strict=True):
                heapq.heappush(waiting, (float(after) - patched.kl, feature))
            say(0.9 * len(chosen) / most, f"{len(chosen):,} features chosen")
        for _, feature in ready:
            patched.toggle(feature)
        chosen += ready
    chosen += sorted(waiting)
    features = [feature for _, feature in chosen]
    points = curve(patched, features, lambda share, text: say(0.9 + 0.1 * share, text))
    return Ranked(features, [-gain for gain, _ in chosen], points, [None] * len(points))


def attributions(patched: PatchedSet) -> Doubles:
    """−Σ ∂KL/∂x · (c̄ⱼ − cⱼ) fⱼ over positions, mean over pairs, at the empty set [m]."""
    support, runs = patched.support, patched.runs
    found = np.zeros(len(patched.members))
    for some in torch.arange(len(runs)).split(ROWS):
        length = int(runs.lengths[some.numpy()].max())
        slopes = patched.slopes(some, length)
        for pair, slope in zip(some.tolist(), slopes, strict=True):
            features = torch.from_numpy(support.features[pair]).to(slope.device)
            steps = support.steps[pair]
            along = (steps * (slope[: len(steps)] @ support.directions[features].T)).sum(0)
            found[support.features[pair]] -= along.cpu().numpy() / len(runs)
    return found


def _raised(patched: PatchedSet, say: Say) -> Doubles:
    """By how much the mean KL rises when each feature alone leaves the present set, or comes into it [m]."""
    found = np.zeros(len(patched.members))
    for some in pieces(patched, range(len(found))):
        found[some] = patched.toggled(some) - patched.kl
        say((some[-1] + 1) / len(found), f"feature {some[-1] + 1:,} of {len(found):,}")
    return found


def _faded(share: float, thresholds: int) -> float:
    """The share of a sweep's time that the first thresholds take: those that come later have fewer features left."""
    return (1 - _FADING ** (share * thresholds)) / (1 - _FADING**thresholds)


def _ranked(patched: PatchedSet, scores: Doubles, say: Say) -> Ranked:
    features = np.argsort(-scores, kind="stable").tolist()
    points = curve(patched, features, say)
    return Ranked(features, scores[features].tolist(), points, [None] * len(points))


def pieces(patched: PatchedSet, features: Sequence[int]) -> Iterator[list[int]]:
    """Features in pieces whose items fill some passes."""
    some: list[int] = []
    positions = 0
    for feature in features:
        some.append(feature)
        positions += patched.positions_of(patched.support.items(feature))
        if positions >= PIECE:
            yield some
            some, positions = [], 0
    if some:
        yield some


def _stalest(patched: PatchedSet, waiting: list[tuple[float, int]]) -> list[int]:
    """The best features that have to be tried again, taken off the heap; as many as a pass holds."""
    some: list[int] = []
    positions = 0
    while waiting and positions < TOGETHER:
        stale = patched.stale(waiting[0][1])
        if not len(stale):
            break
        some.append(heapq.heappop(waiting)[1])
        positions += patched.positions_of(stale)
    return some


def _together(patched: PatchedSet, order: Whole, dropping: float) -> list[int]:
    """The next features of a sweep that are worth trying in one pass. dropping: how often a feature is left out."""
    some: list[int] = []
    touched = np.zeros(len(patched.runs), dtype=np.int64)
    """Of each pair, how many of `some` would change it."""
    positions = 0
    for feature in order.tolist():
        stale = patched.stale(feature)
        likely = ((1 - dropping) ** touched[patched.support.pairs[stale]]).mean() if len(stale) else 1.0
        if some and (positions >= TOGETHER or likely < _WORTH):
            break
        some.append(feature)
        touched[patched.support.pairs[patched.support.items(feature)]] += 1
        positions += patched.positions_of(stale)
    return some
