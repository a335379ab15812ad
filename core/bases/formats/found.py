"""What a file turned out to hold: a dictionary in this project's tensors, and what the file says of where it belongs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from core.bases.info import Family, Prepare, Rule
from core.units import Site


@dataclass(frozen=True)
class Found:
    """One dictionary as a reader hands it on, not yet checked against a subject.

    tensors: by the names and shapes of `core.bases.dictionary.Dictionary`. d_out: set for a transcoder only, even if it equals d_in.
    model, hook, site, head: what the file says of them, None where it says nothing. centred: it was trained on a model whose writing
    weights were centred, as TransformerLens can. said: numbers that the file itself carries, by the names of our metrics. about: context
    length, BOS and the like, to show. notes: sentences on what the numbers depend on. family, recipe, weights_hash: of an export of ours,
    what it was, how it was made, and on which weights of the model.
    """

    format: str
    rule: Rule
    tensors: Mapping[str, Tensor]
    d_in: int
    units: int
    k: int | None = None
    d_out: int | None = None
    writes_to: str | None = None
    tied: bool = False
    subtract_decoder_bias: bool = False
    prepare: Prepare = field(default_factory=Prepare)
    model: str | None = None
    hook: str | None = None
    site: Site | None = None
    head: int | None = None
    centred: bool = False
    said: Mapping[str, float] = field(default_factory=dict[str, float])
    about: Mapping[str, Any] = field(default_factory=dict[str, Any])
    notes: tuple[str, ...] = ()
    family: Family | None = None
    recipe: Mapping[str, Any] = field(default_factory=dict[str, Any])
    weights_hash: str | None = None
