"""Ways to write a residual stream as a sum of parts that can be patched one by one: dictionaries, plain PCA, neurons.

A decomposition gives coordinates c and directions f, so that the stream of a text may be moved towards another's in some coordinates only:
x′ = x + Σ_{j∈F} (c̄ⱼ − cⱼ) fⱼ. What the coordinates do not reach (a dictionary's reconstruction error) stays as it is.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from core.bases.basis import basis_at
from core.bases.dictionary import Dictionary
from core.causal.linear import LINEAR, is_halved, split_name
from core.errors import AtlasError
from core.subject.subject import Subject
from core.units import Site
from core.workspace import Workspace

_PIECE = 1 << 24
"""Codes that are computed at a time."""


@dataclass(frozen=True)
class Decomposition:
    """name: of a dictionary, `NAME:linear`, or `neurons`. hash: of the dictionary's weights. units: how many coordinates."""

    name: str
    site: Site
    units: int
    dictionary: Dictionary | None
    linear: bool
    hash: str = ""

    def steps(self, base: Tensor, counterfactual: Tensor) -> Tensor:
        """(c̄ − c) [..., units] of streams [..., d_model], float64: how far along each direction the base has to be moved.

        A dictionary that divides by a token's own norm codes both texts with their own and writes with the base's. Linear coordinates of
        a difference are the difference of the coordinates, computed in float64. On the subject's device.
        """
        base, counterfactual = base.float(), counterfactual.float()
        one = self.dictionary
        if one is None:
            return counterfactual.double() - base.double()
        here, there = one.prepare(base), one.prepare(counterfactual)
        if self.linear:
            rows = one.encoder[: self.units].double()
            found = (there.x.double() - here.x.double()) @ rows.T
        else:
            with torch.inference_mode():
                found = (one.codes(there.x) - one.codes(here.x)).double()
        factor = here.factor
        return found / (factor.double() if isinstance(factor, Tensor) else factor)

    def directions(self, units: Tensor, width: int) -> Tensor:
        """fⱼ of some units, rows [n, d_model], float64."""
        if self.dictionary is None:
            return torch.nn.functional.one_hot(units, width).double()
        return self.dictionary.decoder[units].double()


def decomposition_at(workspace: Workspace, subject: Subject, site: Site, name: str) -> Decomposition:
    """The decomposition `name` at a site. Raises AtlasError: not there, of another model, or one that writes elsewhere."""
    plain, linear = split_name(name)
    found = basis_at(workspace, subject, site, plain)
    one = found.dictionary
    if one is None:
        return Decomposition(name, site, found.units, None, True)
    if one.info.d_out is not None:
        raise AtlasError(f"{one.info.name} is a transcoder: its units write elsewhere than they read and cannot be patched at {site}.")
    if linear and not is_halved(one.info):
        raise AtlasError(f"{one.info.name} is not made of directions and their negatives: leave out “{LINEAR}”.")
    return Decomposition(name, site, found.units // 2 if linear else found.units, one, linear, found.hash)


def steps_of_pairs(decomposition: Decomposition, base: Tensor, counterfactual: Tensor) -> Iterator[Tensor]:
    """`steps` for one pair after another, [positions, units], of streams [pairs, positions, d_model]."""
    some = max(1, _PIECE // (decomposition.units * base.shape[1]))
    for start in range(0, len(base), some):
        yield from decomposition.steps(base[start : start + some], counterfactual[start : start + some])
