"""What an index keeps of a dictionary's features beyond what it keeps of neurons: their weights' figures, and every token they fire on."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from core.store.catalog import IndexInfo, read_current
from core.store.parts import DamagedPart, flat, read_columns, read_unit, unit_table
from core.store.texts import load_text
from core.store.units import UnitView
from core.units import UnitName
from core.workspace import Workspace

_WEIGHTS = ["unit", "bias", "threshold", "encoder_decoder_cosine"]
_TOTALS = "coactive_totals"
_CODES = ["unit", "contexts", "positions", "values", "coactive", "coactive_counts"]


@dataclass(frozen=True)
class Coactive:
    """Another feature of the dictionary that is active on the same tokens. count: on how many of them. total: on how many in all.

    jaccard: the tokens on which both are active as a share of those on which either is.
    """

    name: UnitName
    count: int
    total: int
    jaccard: float


@dataclass(frozen=True)
class Feature:
    """One feature. dictionary: what the index says of it, see `core.bases.basis.Basis.said`.

    bias, threshold, encoder_decoder_cosine: None where the dictionary has none. tokens int32 [n], values float32 [n]: every token of the
    slice on which it is not zero, in the order of the text.
    """

    dictionary: dict[str, Any]
    bias: float | None
    threshold: float | None
    encoder_decoder_cosine: float | None
    tokens: npt.NDArray[np.int32]
    values: npt.NDArray[np.float32]
    complete: bool
    """Whether `tokens` are all of them: not before the index is complete, and not for bases that are not sparse."""
    coactive: list[Coactive]


def load_feature(workspace: Workspace, view: UnitView) -> Feature | None:
    """The feature of a unit that was just loaded; None for a plain neuron. Raises AtlasError."""
    if not view.index.dictionary(view.name.site):
        return None
    return read_current(workspace, view.index, lambda index: _load(workspace, index, view.name))


def _load(workspace: Workspace, index: IndexInfo, name: UnitName) -> Feature:
    weights: dict[str, Any] = {}
    if (path := index.effects(name.site)) is not None:
        rows = read_unit(path, name.index, _WEIGHTS)
        if not rows:
            raise DamagedPart(path, f"unit {name.index} is not in it")
        weights = rows[0]
    tokens, values, coactive = np.zeros(0, np.int32), np.zeros(0, np.float32), list[Coactive]()
    path = index.codes(name.site)
    if path is not None:
        table = unit_table(path, name.index, [*_CODES, *([_TOTALS] if index.excerpt else [])])
        text = load_text(workspace, index)
        if table is None:
            raise DamagedPart(path, f"unit {name.index} is not in it")
        contexts = flat(table.column("contexts"), np.int32)
        if len(contexts) and not 0 <= contexts.min() <= contexts.max() < len(text):
            raise DamagedPart(path, f"the tokens of unit {name.index} do not fit its slice")
        tokens = text.token_at(contexts, flat(table.column("positions"), np.int64))
        values = flat(table.column("values"), np.float32)
        others, counts = (flat(table.column(column), np.int64).tolist() for column in ("coactive", "coactive_counts"))
        if index.excerpt:  # which lacks the rows of most of the others
            totals = flat(table.column(_TOTALS), np.int64).tolist()
        else:
            active = read_columns(index.part(name.site, "units"), ["nonzero"]).column("nonzero").to_numpy() if others else np.zeros(0)
            totals = [int(active[other]) if 0 <= other < len(active) else -1 for other in others]
        if not len(others) == len(counts) == len(totals):
            raise DamagedPart(path, f"the co-active units of unit {name.index} do not fit the index")
        for other, count, total in zip(others, counts, totals, strict=True):
            if not 0 <= other < index.units_at(name.site) or not 0 < count <= min(total, len(values)):
                raise DamagedPart(path, f"the co-active units of unit {name.index} do not fit the index")
            unit = UnitName(name.subject, name.site, name.basis, other)
            coactive.append(Coactive(unit, count, total, count / (len(values) + total - count)))
    return Feature(
        index.dictionary(name.site),
        *(_number(weights.get(key)) for key in _WEIGHTS[1:]),
        tokens=tokens,
        values=values,
        complete=path is not None,
        coactive=coactive,
    )


def _number(value: Any) -> float | None:
    return None if value is None or math.isnan(value) else float(value)
