"""A study's results in numbers: mean ρ of each setting, layer or basis with its interval, paired differences, the controls beside it.

What pages draw and the command line prints. Rows are records: mappings with the names that `record` gives, as a row of
`core.store.explanation_queries` has them too.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from core.autointerp.comparison import Floats, Mean, mean, means, paired
from core.autointerp.scoring import is_evidence
from core.store.explanation_view import ExplanationView
from core.units import NEURONS

Record = Mapping[Any, Any]
RANDOM_WEIGHTS = "-random"
"""How the subject of the random-weights control ends, see core/subject/random_weights.py."""


@dataclass(frozen=True)
class Line:
    """One setting. score: over the units that all settings with a number share, when they are paired. difference: to the first such
    setting, on those units. lookup, shuffled: over the same units as the score.

    judged: explanations with a shuffled control, stand_out: of those, how many stand out from it. coverage: the mean.
    """

    label: str
    units: int
    failed: int
    undefined: int
    score: Mean
    difference: Mean | None
    lookup: Mean
    shuffled: Mean
    stand_out: int
    judged: int
    coverage: float


@dataclass(frozen=True)
class Table:
    """lines: in the study's order. shared: units with a number under every setting that has any; None where settings are not over the same
    units. against: the setting that differences are to; empty without any. without: settings under which no unit has a number."""

    lines: tuple[Line, ...]
    shared: int | None
    against: str = ""
    without: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cell:
    """One basis at one site. score: mean ρ over its units that have one; undefined, failed: how many have none, and why."""

    site: str
    layer: int
    score: Mean
    lookup: Mean
    shuffled: Mean
    units: int
    undefined: int
    failed: int


@dataclass(frozen=True)
class Series:
    """One line of the figure: a basis of one subject at one kind of site, by layer. beside: what else tells it from the others."""

    basis: str
    subject: str
    cells: tuple[Cell, ...]
    beside: str = ""

    @property
    def control(self) -> bool:
        """Whether the subject is the random-weights control."""
        return self.subject.endswith(RANDOM_WEIGHTS)

    @property
    def label(self) -> str:
        return ", ".join(part for part in (self.basis, self.beside, "random weights" if self.control else "") if part)


def record(view: ExplanationView, unit_place: int, setting_place: int) -> Record:
    """An explanation as the tables need it: its headline score, and the controls over the same records. Undefined numbers are NaN."""
    own = view.headline()
    control = {role: None if own is None else view.score(role, own.score.kind, own.split) for role in ("lookup", "shuffled")}
    shuffled = control["shuffled"]
    return {
        "setting": view.setting, "setting_place": setting_place, "unit_place": unit_place, "failed": view.failed,
        "subject": view.unit.subject, "basis": view.unit.basis, "site_kind": view.unit.site.kind, "layer": view.unit.site.layer,
        "rho": math.nan if own is None else own.score.rho, "coverage": math.nan if own is None else own.score.coverage,
        "evidence": None if own is None or shuffled is None else is_evidence(own.score, shuffled.score),
        **{f"{role}_rho": math.nan if found is None else found.score.rho for role, found in control.items()},
    }  # fmt: skip


def by_setting(records: Sequence[Record]) -> Table:
    """Compare settings over the units they share. records: in the run's order, so that of revisions the last step counts.

    A setting under which no unit has a number is a line without one, and does not take the units from the others.
    """
    groups = _groups(records, lambda one: (int(one["setting_place"]), str(one["setting"])))
    places = sorted({int(one["unit_place"]) for one in records})
    aligned = {key: _aligned(found, places) for key, found in groups.items()}
    rho = {key: values for key, values in aligned.items() if np.isfinite(values).any()}
    shared = paired(list(rho.values())) if rho else np.zeros(len(places), bool)
    rows = {key: values[shared] for key, values in rho.items()}
    over = dict(zip(rows, means(list(rows.values())), strict=True)) if rows else {}
    first = next(iter(rows), None)
    others = [key for key in rows if key != first]
    differs = dict(zip(others, means([rows[key] - rows[first] for key in others]), strict=True)) if first is not None and others else {}
    units = {place for place, both in zip(places, shared.tolist(), strict=True) if both}
    lines = [
        _line(key[1] or "as asked", found, over.get(key, Mean(0, math.nan, math.nan, math.nan)), differs.get(key), units)
        for key, found in groups.items()
    ]
    without = tuple(line.label for key, line in zip(groups, lines, strict=True) if key not in rho) if rho else ()
    return Table(tuple(lines), int(shared.sum()), (first[1] or "as asked") if first is not None and differs else "", without)


def pairwise(records: Sequence[Record]) -> list[tuple[str, str, Mean]]:
    """Every two settings with a number: their labels, and the mean of the first less the second over the units that `by_setting` pairs."""
    groups = _groups(records, lambda one: (int(one["setting_place"]), str(one["setting"])))
    places = sorted({int(one["unit_place"]) for one in records})
    rho = {key: values for key, found in groups.items() if np.isfinite(values := _aligned(found, places)).any()}
    if len(rho) < 2:
        return []
    shared = paired(list(rho.values()))
    two = list(combinations(rho, 2))
    found = means([rho[one][shared] - rho[other][shared] for one, other in two])
    return [(one[1] or "as asked", other[1] or "as asked", by) for (one, other), by in zip(two, found, strict=True)]


def by_layer(records: Sequence[Record]) -> Table:
    """One line a site, each over its own units."""
    groups = _groups(records, lambda one: (int(one["layer"]), f"{one['site_kind']}.{one['layer']}"))
    lines = [_line(label, found, mean(_column(found, "rho")), None) for (_, label), found in sorted(groups.items())]
    return Table(tuple(lines), None)


def by_basis(records: Sequence[Record]) -> list[Series]:
    """Neurons last, controls after the others, so that what is compared with them is drawn first."""
    groups: dict[tuple[str, str, str], dict[int, list[Record]]] = {}
    for one in records:
        key = (str(one["subject"]), str(one["basis"]), str(one["site_kind"]))
        groups.setdefault(key, {}).setdefault(int(one["layer"]), []).append(one)
    models = len({subject.removesuffix(RANDOM_WEIGHTS) for subject, _, _ in groups}) > 1
    kinds = len({kind for _, _, kind in groups}) > 1
    found: list[Series] = []
    for (subject, basis, kind), layers in groups.items():
        cells = tuple(_cell(f"{kind}.{layer}", layer, rows) for layer, rows in sorted(layers.items()))
        beside = " ".join(part for part in (kind if kinds else "", subject.removesuffix(RANDOM_WEIGHTS) if models else "") if part)
        found.append(Series(basis, subject, cells, beside))
    return sorted(found, key=lambda one: (one.control, one.basis == NEURONS, one.basis, one.cells[0].site))


def number(value: Any) -> float:
    """A frame's cell as a number; NaN where there is none."""
    return math.nan if value is None or str(value) == "<NA>" else float(value)


def evident(row: Record) -> bool | None:
    """Whether the score stands out from its shuffled control; None where that control was not made."""
    value = row["evidence"]
    return None if value is None or value != value or str(value) == "<NA>" else bool(value)


def _groups(records: Sequence[Record], key: Callable[[Record], tuple[int, str]]) -> dict[tuple[int, str], list[Record]]:
    """Records by key, of each unit under each setting only the last step."""
    last: dict[tuple[int, int], Record] = {}
    for one in records:
        last[int(one["setting_place"]), int(one["unit_place"])] = one
    groups: dict[tuple[int, str], list[Record]] = {}
    for one in last.values():
        groups.setdefault(key(one), []).append(one)
    return dict(sorted(groups.items()))


def _line(label: str, found: Sequence[Record], score: Mean, difference: Mean | None, units: set[int] | None = None) -> Line:
    """units: the places of those that the controls' means are over; None for all."""
    made = [one for one in found if not str(one["failed"])]
    beside = [one for one in made if units is None or int(one["unit_place"]) in units]
    known = [one for one in map(evident, made) if one is not None]
    covered = [value for value in _column(made, "coverage") if math.isfinite(value)]
    return Line(
        label=label,
        units=len(found),
        failed=len(found) - len(made),
        undefined=sum(not math.isfinite(value) for value in _column(made, "rho")),
        score=score,
        difference=difference,
        lookup=mean(_column(beside, "lookup_rho")),
        shuffled=mean(_column(beside, "shuffled_rho")),
        stand_out=sum(known),
        judged=len(known),
        coverage=sum(covered) / len(covered) if covered else math.nan,
    )


def _cell(site: str, layer: int, rows: Sequence[Record]) -> Cell:
    made = [row for row in rows if not str(row["failed"])]
    rho = _column(made, "rho")
    return Cell(
        site,
        layer,
        mean(rho),
        mean(_column(made, "lookup_rho")),
        mean(_column(made, "shuffled_rho")),
        len(rows),
        sum(not math.isfinite(value) for value in rho),
        len(rows) - len(made),
    )


def _column(found: Sequence[Record], name: str) -> list[float]:
    return [number(one[name]) for one in found]


def _aligned(found: Sequence[Record], places: Sequence[int]) -> Floats:
    """ρ [units of the run], NaN where a unit has none."""
    by_place = {int(one["unit_place"]): number(one["rho"]) for one in found}
    return np.array([by_place.get(place, math.nan) for place in places], np.float64)
