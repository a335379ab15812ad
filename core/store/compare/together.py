"""How two units of one text are active together: exactly where every activation is kept, else over what their records hold."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from core.store.compare.activity import Activity, Codes, places

Over = Literal["text", "random", "records"]
"""All tokens of the text; those of contexts drawn uniformly; those of the contexts that both units have, chosen for being strong."""

_TOLD: dict[Over, str] = {
    "text": "all {} tokens of the text",
    "random": "{} tokens of {} contexts drawn by chance",
    "records": "{} tokens of {} contexts that are records, chosen for being strong",
}


@dataclass(frozen=True)
class Together:
    """Two units over some tokens. active: on how many of them each is, both: on how many both are, see `Activity.active`.

    correlation: Pearson's r of the activations; NaN where one of them is constant or nothing is shared.
    """

    over: Over
    contexts: int
    tokens: int
    active: tuple[int, int]
    both: int
    correlation: float

    @property
    def told(self) -> str:
        """What it was computed over, in words."""
        if not self.tokens:
            return "no context is among the records of both"
        return _TOLD[self.over].format(f"{self.tokens:,}", f"{self.contexts:,}")

    @property
    def jaccard(self) -> float:
        """The tokens on which both are active as a share of those on which either is; NaN where none is."""
        either = sum(self.active) - self.both
        return self.both / either if either else math.nan


@dataclass(frozen=True)
class Strongest:
    """The strongest positions of two units in the whole text. counts: how many are known of each; both: how many are the same.

    chance: how many would be if the positions of each were drawn uniformly; NaN where the text's length is not known.
    """

    counts: tuple[int, int]
    both: int
    chance: float


def together(one: Activity, other: Activity) -> list[Together]:
    """What can be said of two units of one text, the least biased first; empty for different texts.

    Both codes kept: over all tokens. One kept: over the contexts drawn by chance for the other, and over all of the other's records. None:
    over the contexts that are among the records of both.
    """
    if one.text != other.text:
        return []
    if one.codes is not None and other.codes is not None:
        return [_exact(one, other, one.codes, other.codes)]
    if one.codes is None and other.codes is None:
        return [_over("records", one, other, one.records.keys() & other.records.keys())]
    known = other if one.codes is not None else one
    chance = [record.context for record in known.view.bands["random"]]
    return [_over("random", one, other, chance), _over("records", one, other, known.records)]


def strongest(one: Activity, other: Activity) -> Strongest | None:
    """How many of the strongest positions of each are the same; None for different texts. Only positions above zero count."""
    if one.text != other.text:
        return None
    first, second = _strong(one), _strong(other)
    tokens = one.view.stats["tokens"]
    chance = len(first) * len(second) / tokens if tokens > 0 else math.nan
    return Strongest((len(first), len(second)), len(np.intersect1d(first, second)), chance)


def _strong(unit: Activity) -> npt.NDArray[np.int64]:
    return places(unit.strong.contexts, unit.strong.positions)[unit.strong.values > 0]


def _exact(one: Activity, other: Activity, first: Codes, second: Codes) -> Together:
    """Over every token: those that neither file names are zero for both."""
    tokens = int(min(one.view.stats["tokens"], other.view.stats["tokens"]))
    shared, at, there = np.intersect1d(first.places, second.places, assume_unique=True, return_indices=True)
    x, y = first.values.astype(np.float64), second.values.astype(np.float64)
    products = float(x[at] @ y[there])
    return Together(
        "text",
        min(one.view.index.contexts_done, other.view.index.contexts_done),
        tokens,
        (len(x), len(y)),
        len(shared),
        _pearson(tokens, float(x.sum()), float(y.sum()), float(x @ x), float(y @ y), products),
    )


def _over(what: Over, one: Activity, other: Activity, ranks: Iterable[int]) -> Together:
    """Over all tokens of some contexts, whose activations are known of both units."""
    chosen = sorted(set(ranks))
    pairs: list[npt.NDArray[np.float32]] = []
    for rank in chosen:
        length = len((one.records.get(rank) or other.records[rank]).tokens)
        x, y = one.on(rank, length), other.on(rank, length)
        if x is None or y is None:
            raise ValueError(f"the activations of context {rank} are not known of both units")
        pairs.append(np.array([x, y])[:, one.first :])
    x, y = np.concatenate(pairs, axis=1) if pairs else np.zeros((2, 0), np.float32)
    p, q = one.active(x), other.active(y)
    a, b = x.astype(np.float64), y.astype(np.float64)
    correlation = _pearson(len(a), float(a.sum()), float(b.sum()), float(a @ a), float(b @ b), float(a @ b))
    return Together(what, len(chosen), len(a), (int(p.sum()), int(q.sum())), int((p & q).sum()), correlation)


def _pearson(n: int, x: float, y: float, xx: float, yy: float, xy: float) -> float:
    """r from n and the sums of x, y, x², y² and xy; NaN where either does not vary."""
    spread = (n * xx - x * x) * (n * yy - y * y)
    if n < 2 or n * xx - x * x <= 1e-12 * n * xx or n * yy - y * y <= 1e-12 * n * yy:
        return math.nan
    return max(-1.0, min(1.0, (n * xy - x * y) / math.sqrt(spread)))
