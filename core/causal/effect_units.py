"""The units of a run that changes them, with what changing them takes: their basis, their mean, and from where on they count as firing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from core.bases.basis import Basis, basis_at
from core.causal.as_indexed import dtype_of
from core.causal.change import Rule, UnitChange, silencing
from core.causal.effect_request import EffectRequest
from core.errors import AtlasError
from core.runs.progress import Progress
from core.store.catalog import IndexInfo
from core.store.units import load_unit
from core.subject.loaded import kept_subject
from core.subject.subject import Subject
from core.units import Site, UnitName, in_order
from core.workspace import Workspace

ABOVE_ZERO = "activation above 0"
ABOVE_P999 = "activation above its 99.9th percentile, and above 0"


@dataclass(frozen=True)
class ChosenUnit:
    """One unit. mean: over the text of its index, None without one. above: from where on it fires, and `fires` says it in words."""

    name: UnitName
    basis: Basis
    index: IndexInfo | None
    mean: float | None
    above: float
    fires: str

    def silenced_by(self) -> float | None:
        """eⱼ · fⱼ (see `core.causal.change.silencing`); None for a neuron, which is an axis and whose own is 1."""
        one = self.basis.dictionary
        return None if one is None else float(silencing(one, torch.tensor([self.name.index], device=one.encoder.device))[0])

    def said(self, rule: str) -> dict[str, Any]:
        """For the run's manifest."""
        told: dict[str, Any] = {"unit": str(self.name), "rule": rule, "index": None if self.index is None else self.index.run}
        told |= {"mean": self.mean, "above": self.above, "fires": self.fires, "dictionary": self.basis.said()}
        return told | {"silenced_by": self.silenced_by() if rule == "minimal" else None}


def subject_for(workspace: Workspace, request: EffectRequest, progress: Progress) -> Subject:
    """The model as the units' index read it. Raises AtlasError when it is another one by now."""
    for name in request.names:
        index = request.index_of(workspace, name)
        if index is not None:
            return kept_subject(
                workspace, request.subject, dtype=dtype_of(index), weights_hash=index.subject["weights_hash"], say=progress.stage
            )
    return kept_subject(workspace, request.subject, say=progress.stage)


def chosen_units(workspace: Workspace, subject: Subject, request: EffectRequest) -> list[ChosenUnit]:
    """The request's units in its order. Raises AtlasError for one that is not there, or that its own direction cannot silence."""
    bases: dict[tuple[Site, str], Basis] = {}
    found: list[ChosenUnit] = []
    for name in request.names:
        index = request.index_of(workspace, name)
        if name.site.layer >= subject.info.n_layers:
            raise AtlasError(f"{name.site} is out of range: the layers of {subject.info.slug} are 0 to {subject.info.n_layers - 1}.")
        key = (name.site, name.basis)
        if key not in bases:
            told = "" if index is None else str(index.dictionary(name.site).get("weights_sha256", ""))
            bases[key] = basis_at(workspace, subject, name.site, name.basis, told or None)
        basis = bases[key]
        mean, above, fires = None, 0.0, ABOVE_ZERO
        if index is not None:
            view = load_unit(workspace, name, index.run)
            mean = float(view.stats["mean"])
            if basis.dictionary is None and index.signed.get(str(name.site), True):
                above, fires = max(0.0, float(view.quantiles["p999"])), ABOVE_P999
        one = ChosenUnit(name, basis, index, mean, above, fires)
        UnitChange(basis, torch.tensor([name.index]), "zero")  # refuses what cannot be changed, before a pass is made
        if request.rule == "minimal":
            one.silenced_by()
        found.append(one)
    return found


def changes(units: Sequence[ChosenUnit], rule: Rule, positions: Tensor | None = None) -> list[UnitChange]:
    """What ablates the units by `zero`, `mean` or `minimal`: one change for each basis, in the model's order.

    positions: as `UnitChange` has it. Raises AtlasError for a mean that is not known.
    """
    together: dict[tuple[Site, str], list[ChosenUnit]] = {}
    for unit in units:
        together.setdefault((unit.name.site, unit.name.basis), []).append(unit)
    made: list[UnitChange] = []
    for site in in_order({site for site, _ in together}):
        for (where, _), group in together.items():
            if where == site:
                values = torch.tensor([_mean(unit) for unit in group]) if rule == "mean" else None
                made.append(UnitChange(group[0].basis, torch.tensor([unit.name.index for unit in group]), rule, values, positions))
    return made


def _mean(unit: ChosenUnit) -> float:
    if unit.mean is None:
        raise AtlasError(f"The mean of {unit.name} is not known: index its site, or set it to zero.")
    return unit.mean
