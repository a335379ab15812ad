"""The words of the design as types: sites, unit names, and how they are written.

A unit has one name everywhere, in the URL too: `smollm2-135m-instruct/mlp.5/neurons/1352`.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, cast, get_args

from core.errors import AtlasError, shown

SiteKind = Literal["mlp", "resid", "attn"]
SITE_KINDS: tuple[SiteKind, ...] = get_args(SiteKind)

NEURONS = "neurons"
"""The basis of a site's own axes. Every other is a dictionary with a name of its own, see core/bases."""
EXAMPLE = "smollm2-135m-instruct/mlp.5/neurons/1352"

_SLUG = re.compile(r"[a-z0-9][a-z0-9._-]{0,79}")
_SITE = re.compile(r"(mlp|resid|attn)\.(\d{1,4})")
_INDEX = re.compile(r"\d{1,9}")


@dataclass(frozen=True, order=True)
class Site:
    """A place where activations are read.

    `mlp.L` is what enters the down-projection of block L, `resid.L` the residual stream after block L, and `attn.L` the
    concatenated head outputs of block L before its output projection.
    """

    kind: SiteKind
    layer: int

    def __str__(self) -> str:
        return f"{self.kind}.{self.layer}"

    @classmethod
    def parse(cls, text: str) -> "Site":
        """Read `mlp.5`. Raises AtlasError."""
        match = _SITE.fullmatch(text)
        if match is None:
            raise AtlasError(f"“{shown(text)}” is not a site: write mlp.5, resid.5 or attn.5.")
        return cls(cast(SiteKind, match[1]), int(match[2]))


def in_order(sites: Iterable[Site]) -> list[Site]:
    """Sites in the order in which the model computes them: by layer, and in a block attn, mlp, resid (which is also alphabetical)."""
    return sorted(sites, key=lambda site: (site.layer, site.kind))


@dataclass(frozen=True, order=True)
class UnitName:
    """One coordinate of one basis at one site of one subject."""

    subject: str
    site: Site
    basis: str
    index: int

    def __str__(self) -> str:
        return f"{self.subject}/{self.site}/{self.basis}/{self.index}"

    @classmethod
    def parse(cls, text: str) -> "UnitName":
        """Read `subject/site/basis/index`. Raises AtlasError saying which part is wrong."""
        parts = text.split("/")
        if len(parts) != 4:
            raise AtlasError(f"“{shown(text)}” is not a unit: write subject/site/basis/index, such as {EXAMPLE}.")
        subject, site, basis, index = parts
        check_slug(subject, "subject")
        check_slug(basis, "basis")
        if not index.isascii() or _INDEX.fullmatch(index) is None:
            raise AtlasError(f"“{shown(index)}” is not a unit's number: use a whole number from 0.")
        return cls(subject, Site.parse(site), basis, int(index))


def check_slug(text: str, what: str) -> str:
    """Return `text` if it may name a subject, basis or run (it becomes a folder's name). Raises AtlasError."""
    if not text.isascii() or _SLUG.fullmatch(text) is None or ".." in text:
        raise AtlasError(f"“{shown(text)}” is not the name of a {what}: use a-z, 0-9, dot, dash and underscore.")
    return text


def slugify(text: str) -> str:
    """Turn a hub id or path into a name: `EleutherAI/pythia-70m` becomes `pythia-70m`."""
    last = text.rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1].lower()
    return re.sub(r"\.{2,}", ".", re.sub(r"[^a-z0-9._-]+", "-", last)).strip("-._")[:80] or "model"


def parse_sites(text: str, n_layers: int) -> list[Site]:
    """Read a choice of sites: `mlp.all`, `resid.0-5`, `mlp.3,attn.3` or mixtures, in the model's order.

    Raises AtlasError for an empty choice, an unknown kind, or a layer the model does not have.
    """
    sites: set[Site] = set()
    for item in filter(None, (piece.strip() for piece in text.split(","))):
        kind, _, layers = item.partition(".")
        if kind not in SITE_KINDS:
            raise AtlasError(f"“{shown(item)}” is not a choice of sites: write mlp.all, resid.0-5 or mlp.3,attn.3.")
        span = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", layers)
        if layers == "all":
            first, last = 0, n_layers - 1
        elif span is not None:
            first, last = int(span[1]), int(span[2] or span[1])
        else:
            raise AtlasError(f"“{shown(item)}” is not a choice of sites: write mlp.all, resid.0-5 or mlp.3,attn.3.")
        if first > last:
            raise AtlasError(f"“{shown(item)}” runs backwards: write the lower layer first, as in {kind}.{last}-{first}.")
        if last >= n_layers:
            raise AtlasError(f"“{shown(item)}” is out of range: the model's layers are 0 to {n_layers - 1}.")
        sites.update(Site(kind, layer) for layer in range(first, last + 1))
    if not sites:
        raise AtlasError("No site was chosen: write mlp.all, resid.0-5 or mlp.3,attn.3.")
    return in_order(sites)
