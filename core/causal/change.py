"""Changing some units of a basis while everything else at their site stays: the one intervention that ablation and steering are made of.

With c the units' activations at a token, x the site's vector, fⱼ what one unit of cⱼ adds to x (`Dictionary.directions`) and c′ what the
activations are made to be,

    x′ = x + Σⱼ (c′ⱼ − cⱼ) fⱼ

so what a dictionary fails to reconstruct is kept, and only these units change (Cunningham et al. 2023, section 4). Neurons are
coordinates of x: fⱼ is an axis. The rules for c′:

* zero      c′ⱼ = 0
* mean      c′ⱼ = the unit's mean over a corpus
* minimal   x moves against fⱼ no further than until the unit's own encoder says zero (Cunningham et al. 2023, footnote 5, “less than
            rank one”): by cⱼ / (eⱼ · fⱼ), with eⱼ the row that reads. For tied rows of length one that is zero's rule; for others it is not
* clamp     c′ⱼ = a given value
* add       c′ⱼ = cⱼ + a given value
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from core.bases.basis import Basis
from core.bases.dictionary import Dictionary
from core.errors import AtlasError
from core.units import Site

Rule = Literal["zero", "mean", "minimal", "clamp", "add"]
RULES: tuple[Rule, ...] = get_args(Rule)
_NEEDS_VALUE: tuple[Rule, ...] = ("mean", "clamp", "add")
_FLAT = 1e-6
"""A direction along which a unit's own reading changes less than this cannot silence it."""


@dataclass(frozen=True)
class UnitChange:
    """An intervention (see `core.subject.edits`) on some units of one basis.

    units: [n]. values: what `mean`, `clamp` and `add` need, in the units' own activations: [n], or [batch, positions, n].
    positions: where; a mask [batch, positions] or [positions], None for everywhere.
    Raises AtlasError for a unit that is not there, for a value that is missing, and for a basis whose units write elsewhere (a transcoder).
    """

    basis: Basis
    units: Tensor
    rule: Rule
    values: Tensor | None = None
    positions: Tensor | None = None

    def __post_init__(self) -> None:
        if (self.values is not None) != (self.rule in _NEEDS_VALUE):
            raise ValueError(f"the rule {self.rule} {'needs' if self.values is None else 'has no use for'} values")
        outside = self.units[(self.units < 0) | (self.units >= self.basis.units)]
        if outside.numel():
            raise AtlasError(f"Unit {int(outside[0])} is out of range: those of this basis are 0 to {self.basis.units - 1}.")
        one = self.basis.dictionary
        if one is not None and one.info.d_out is not None:
            raise AtlasError(
                f"{one.info.name} is a transcoder: its units write elsewhere than they read and cannot be changed at {self.site}."
            )

    @property
    def site(self) -> Site:
        return self.basis.site

    def apply(self, activations: Tensor) -> Tensor:
        """A changed copy of the site's activations [batch, positions, width]."""
        one = self.basis.dictionary
        units = self.units.to(activations.device)
        if one is None:
            before = activations[..., units]
            changed = activations.clone()
            changed[..., units] = before + self._masked(self._steps(before, torch.ones(len(units)))).to(before)
            return changed
        x = one.cut(activations)
        prepared = one.prepare(x)
        before = one.codes(prepared.x)[..., units]
        steps = self._masked(self._steps(before, silencing(one, units)))
        moved = (steps @ one.decoder[units]) / prepared.factor
        changed = activations.clone()
        part = slice(None) if one.info.head is None else one.info.reads
        changed[..., part] = (x + moved).to(activations)
        return changed

    def _steps(self, before: Tensor, silenced_by: Tensor) -> Tensor:
        """By how much each unit's activation is moved [batch, positions, n]. silenced_by: eⱼ · fⱼ."""
        if self.rule == "zero":
            return -before
        if self.rule == "minimal":
            return -before / silenced_by.to(before)
        assert self.values is not None
        values = self.values.to(before)
        return values.expand_as(before) if self.rule == "add" else values - before

    def _masked(self, steps: Tensor) -> Tensor:
        if self.positions is None:
            return steps
        return steps * self.positions.to(device=steps.device, dtype=steps.dtype)[..., None]


def silencing(one: Dictionary, units: Tensor) -> Tensor:
    """eⱼ · fⱼ of some units [n]: how fast what the unit's encoder says falls when x moves against the unit's own direction.

    Centring is part of the encoder; the norms that `layer_norm` and `constant_norm` divide by are held still. For a gated
    dictionary the magnitude's path counts. Raises AtlasError for a unit that its own direction cannot silence.
    """
    centred = one.info.prepare.centre == "per_token" or one.info.prepare.normalise == "layer_norm"
    directions = one.decoder[units]
    if centred:
        directions = directions - directions.mean(-1, keepdim=True)
    products = (one.encoder[units] * directions).sum(-1)
    if "magnitude" in one.tensors:
        products = products * one.tensors["magnitude"][units]
    flat = (products.abs() < _FLAT).nonzero()
    if flat.numel():
        raise AtlasError(
            f"Unit {int(units[flat[0, 0]])} does not read what it writes, so that moving along its direction cannot silence it."
        )
    return products
