"""Which part of a site's vector a dictionary reads: all of it, or one head's. The one place that knows how sites divide into heads."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from core.bases.info import BasisInfo
from core.errors import AtlasError, shown
from core.subject.subject import Subject
from core.units import Site


@dataclass(frozen=True)
class Part:
    """Numbers `start` to `start + width` of a site's vector. head: whose they are, None for the whole site."""

    site: Site
    head: int | None
    start: int
    width: int

    def of(self, activations: Tensor) -> Tensor:
        """The part [..., width] of a site's activations: a view."""
        return activations if self.head is None else activations[..., self.start : self.start + self.width]

    def units(self) -> Tensor | None:
        """The coordinates of the part, int64 [width]; None for all of the site's."""
        return None if self.head is None else torch.arange(self.start, self.start + self.width)


def heads_at(subject: Subject, site: Site) -> tuple[int, int]:
    """How many heads a site has, and of how many numbers each; (0, 0) where it has none, or the model does not say."""
    config: Any = subject.model.config
    config = config.get_text_config(decoder=True) if hasattr(config, "get_text_config") else config
    heads, width = getattr(config, "num_attention_heads", None), subject.info.widths[site.kind]
    if site.kind != "attn" or not isinstance(heads, int) or heads < 1 or width % heads:
        return 0, 0
    return heads, width // heads


def part_of(subject: Subject, site: Site, head: int | None) -> Part:
    """The part of a site's vector that is one head's, or all of it. Raises AtlasError for a layer or head that the model does not have."""
    card = subject.info
    if site.layer >= card.n_layers:
        raise AtlasError(f"{site} is out of range: the layers of {card.slug} are 0 to {card.n_layers - 1}.")
    if head is None:
        return Part(site, None, 0, card.widths[site.kind])
    heads, width = heads_at(subject, site)
    if not heads:
        raise AtlasError(f"{card.slug} does not say how {site} is divided into heads: leave the head out.")
    if not 0 <= head < heads:
        raise AtlasError(f"Head {head} is out of range: the heads of {site} are 0 to {heads - 1}.")
    return Part(site, head, head * width, width)


def part_read(subject: Subject, info: BasisInfo) -> Part:
    """The part that a dictionary reads. Raises AtlasError for a site, head or width that the subject does not have."""
    part = part_of(subject, info.site, info.head)
    if info.d_in != part.width:
        what = f"{info.site}" if info.head is None else f"head {info.head} of {info.site}"
        raise AtlasError(
            f"The dictionary {shown(info.name)} reads {info.d_in:,} numbers, and {what} of {subject.info.slug} has {part.width:,}."
        )
    return part
