"""A basis at one site, as the indexer and the interactive worker read it: plain neurons, or a dictionary from the shelf."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from core.bases import shelf
from core.bases.dictionary import Dictionary, load
from core.bases.part import part_read
from core.errors import AtlasError
from core.subject.subject import Subject
from core.units import NEURONS, Site
from core.workspace import Workspace


@dataclass(frozen=True)
class Basis:
    """units: how many it has at the site. dictionary: None for the plain neurons. hash: of the dictionary's weights."""

    site: Site
    units: int
    dictionary: Dictionary | None = None
    hash: str = ""

    def read(self, activations: Tensor) -> Tensor:
        """Each unit's activation [..., units] from the site's [..., width]; float32 for a dictionary."""
        if self.dictionary is None:
            return activations
        with torch.inference_mode():
            return self.dictionary.encode(self.dictionary.cut(activations))

    def writes(self, subject: Subject) -> Tensor:
        """What each unit writes to the residual stream: rows of [units, d_model], float32. Raises AtlasError for a foreign target."""
        if self.dictionary is None:
            return subject.write_directions(self.site)
        info = self.dictionary.info
        if info.d_out is not None:
            if info.d_out != subject.info.d_model:
                raise AtlasError(f"What {info.name} writes has {info.d_out} numbers, not the stream's {subject.info.d_model}.")
            return self.dictionary.decoder
        rows = self.dictionary.directions(subject.info.widths[self.site.kind])
        return rows if self.site.kind == "resid" else rows @ subject.write_directions(self.site)

    @property
    def sparse(self) -> bool:
        """Whether few units are active on a token, so that every code can be kept."""
        return self.dictionary is not None and self.dictionary.info.sparse

    def said(self) -> dict[str, Any]:
        """For a run's provenance and its pages; empty for the plain neurons."""
        if self.dictionary is None:
            return {}
        info = self.dictionary.info
        told = {"family": info.family, "rule": info.rule, "k": info.k, "tied": info.tied, "d_in": info.d_in, "head": info.head}
        return {**told, "units": info.units, "weights_sha256": self.hash, "prepare": info.to_json()["prepare"]}


def basis_at(workspace: Workspace, subject: Subject, site: Site, name: str, expected: str | None = None) -> Basis:
    """The basis `name` at a site, its weights on the subject's device. Raises AtlasError: not there, damaged, or of another model.

    expected: the sha256 of the weights that an index was made with; another one is refused.
    """
    width = subject.info.widths[site.kind]
    if name == NEURONS:
        return Basis(site, width)
    one = shelf.find(workspace, subject.info.slug, site, name)
    if one.info.weights_hash not in (None, subject.info.weights_hash):
        raise AtlasError(f"The dictionary {one.info.key} was made for other weights of {subject.info.slug}: train or import it again.")
    if expected is not None and expected != one.hash:
        raise AtlasError(f"The dictionary {one.info.key} is another one than was indexed: index it again.")
    part_read(subject, one.info)
    return Basis(site, one.info.units, load(one, subject.device), one.hash)
