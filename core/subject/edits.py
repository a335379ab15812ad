"""Interventions: what may take the place of what stands at a site; and those on a site's own coordinates: replace, add, zero."""

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from core.errors import AtlasError
from core.units import Site


class Intervention(Protocol):
    """Anything that changes activations at one site in every pass while `Subject.edit` is open."""

    @property
    def site(self) -> Site: ...

    def apply(self, activations: Tensor) -> Tensor:
        """What stands there instead, of the same shape [batch, positions, width]."""
        ...


@dataclass(frozen=True)
class Added:
    """Adds `value` to all of a site: [batch, positions, width], or what broadcasts to it."""

    site: Site
    value: Tensor

    def apply(self, activations: Tensor) -> Tensor:
        return activations + self.value.to(activations)


@dataclass(frozen=True)
class Edit:
    """One intervention on one site.

    value: broadcast to [batch, positions, units]; None exactly when mode is `zero`.
    units, positions: which coordinates (from 0), of shape [n]; None means all.
    """

    site: Site
    mode: Literal["replace", "add", "zero"]
    value: Tensor | None = None
    units: Tensor | None = None
    positions: Tensor | None = None

    def __post_init__(self) -> None:
        if (self.value is None) != (self.mode == "zero"):
            raise ValueError("an edit needs a value, except to zero")

    def apply(self, activations: Tensor) -> Tensor:
        """A changed copy of the site's activations, shape [batch, positions, width].

        Raises AtlasError when a unit or position is out of range or the value does not fit.
        """
        _, length, width = activations.shape
        positions = _chosen(self.positions, length, "position", activations.device)
        units = _chosen(self.units, width, "unit", activations.device)
        at = (slice(None), positions[:, None], units[None, :])
        before = activations[at]
        changed = activations.clone()
        if self.value is None:
            changed[at] = 0
            return changed
        try:
            value = self.value.to(before).expand_as(before)
        except RuntimeError:
            raise AtlasError(
                f"A value of shape {tuple(self.value.shape)} does not fit {tuple(before.shape)} (texts, positions, units) at {self.site}."
            ) from None
        changed[at] = value if self.mode == "replace" else before + value
        return changed


def _chosen(wanted: Tensor | None, size: int, what: str, device: torch.device) -> Tensor:
    if wanted is None:
        return torch.arange(size, device=device)
    wanted = wanted.to(device=device, dtype=torch.long).reshape(-1)
    outside = wanted[(wanted < 0) | (wanted >= size)]
    if outside.numel():
        raise AtlasError(f"{what.capitalize()} {int(outside[0])} is out of range: choose 0 to {size - 1}.")
    return wanted
