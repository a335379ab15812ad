"""What two units have alike beside their activity: the tokens on their lists, and the directions in which they write."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from core.bases.directions import residual_direction
from core.store.units import TokenEffect, TopToken, UnitView
from core.workspace import Workspace


@dataclass(frozen=True)
class Overlap:
    """The tokens that are on two units' lists. tokens: ids and texts, in the order of the first list; counts: how long the lists are."""

    tokens: tuple[tuple[int, str], ...]
    counts: tuple[int, int]


@dataclass(frozen=True)
class Cosine:
    """The cosine between two units' write directions; NaN where it is not known here, and then `reason` says why."""

    value: float
    reason: str = ""


def same_tokens(one: UnitView, other: UnitView) -> bool:
    """Whether token numbers mean the same to both units' models."""
    return one.index.subject["tokenizer_hash"] == other.index.subject["tokenizer_hash"]


def top_tokens(one: UnitView, other: UnitView) -> Overlap | None:
    """The tokens on which both are most active; None where their models have different tokens."""
    lists = [[token for token in view.top_tokens if token.mean != 0] for view in (one, other)]
    return _overlap(lists[0], lists[1]) if same_tokens(one, other) else None


def raised_tokens(one: UnitView, other: UnitView) -> Overlap | None:
    """The output tokens that both raise most, from the weights; None where that is not known of both."""
    if one.effects is None or other.effects is None or not same_tokens(one, other):
        return None
    return _overlap(one.effects.raised, other.effects.raised)


def cosine(workspace: Workspace, one: UnitView, other: UnitView) -> Cosine:
    """The cosine of what one and the other write to the residual stream: from the index's list of similar units, else from the shelf."""
    if one.index.subject["weights_hash"] != other.index.subject["weights_hash"]:
        return Cosine(math.nan, "They are units of different models, which write into different spaces.")
    for view, name in ((one, other.name), (other, one.name)):
        for similar in view.effects.similar if view.effects is not None else ():
            if similar.name == name:
                return Cosine(float(similar.cosine))
    width = int(one.index.subject["d_model"])
    rows = [
        residual_direction(workspace, view.name, width, str(view.index.dictionary(view.name.site).get("weights_sha256", "")))
        for view in (one, other)
    ]
    if rows[0] is not None and rows[1] is not None:
        lengths = float(np.linalg.norm(rows[0]) * np.linalg.norm(rows[1]))
        return Cosine(float(rows[0] @ rows[1]) / lengths) if lengths else Cosine(math.nan, "A direction of length zero has none.")
    listed = [len(view.effects.similar) for view in (one, other) if view.effects is not None]
    if one.name.basis == other.name.basis and len(listed) == 2 and min(listed):
        return Cosine(math.nan, f"Not among the {min(listed)} most similar of either; no other cosines are kept.")
    return Cosine(math.nan, "Not known without the model: only directions of the residual stream are on this machine's shelf.")


def _overlap(one: Sequence[TopToken] | Sequence[TokenEffect], other: Sequence[TopToken] | Sequence[TokenEffect]) -> Overlap:
    theirs = {token.token for token in other}
    return Overlap(tuple((token.token, token.text) for token in one if token.token in theirs), (len(one), len(other)))
