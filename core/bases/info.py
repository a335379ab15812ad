"""What is known of a dictionary without its weights: where it reads, by which rule, how it was made, what was measured. No torch.

A dictionary is any basis but the plain neurons: a sparse autoencoder, trained here or published, and the baselines it is held against.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast, get_args

from core.errors import AtlasError, shown
from core.units import NEURONS, Site, check_slug

Family = Literal["sae", "transcoder", "pca", "ica", "random", "axes"]
"""What made the directions. `axes` is the identity, for comparing neurons under the same rule as the others."""
Rule = Literal["relu", "topk", "gated", "jumprelu"]
"""How codes follow from what the encoder says, see `core.bases.dictionary`."""
Centre = Literal["none", "per_token"]
Normalise = Literal["none", "layer_norm", "constant_norm"]

MAX_UNITS = 1 << 20


@dataclass(frozen=True)
class Prepare:
    """What happens to an activation x (d numbers) before the encoder sees it, and is undone after the decoder.

    centre: `per_token` subtracts the mean of x over its d coordinates (Cunningham et al. 2023 in effect do, through their library's
    centred weights). normalise: `layer_norm` also divides by the standard deviation over d, `constant_norm` gives x the norm √d.
    scale: x is then multiplied by it.
    """

    centre: Centre = "none"
    normalise: Normalise = "none"
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.centre not in get_args(Centre) or self.normalise not in get_args(Normalise):
            raise AtlasError(f"“{shown(f'{self.centre}, {self.normalise}')}” is not a way to prepare activations that is known here.")
        if not 0 < self.scale < float("inf"):
            raise AtlasError(f"Activations cannot be scaled by {self.scale}: the factor must be positive and finite.")


@dataclass(frozen=True)
class BasisInfo:
    """One dictionary, as its `basis.json` describes it.

    name: the basis in a unit's name. subject, weights_hash: whose activations it reads; weights_hash None when its maker did not say.
    site: where. head: only that head's part of an `attn` site. d_in: numbers it reads; d_out: numbers it writes, another number only for a
    transcoder, which writes elsewhere (`writes_to`, in its maker's words). k: active units a token (topk). tied: the decoder is the
    encoder.
    subtract_decoder_bias: the encoder reads x − b_dec. recipe: how it was made, to show. metrics: what was measured, with the text it was
    measured on. source: the file it came from, for one that was imported.
    """

    name: str
    subject: str
    site: Site
    family: Family
    rule: Rule
    d_in: int
    units: int
    weights_hash: str | None = None
    head: int | None = None
    d_out: int | None = None
    writes_to: str | None = None
    k: int | None = None
    tied: bool = False
    subtract_decoder_bias: bool = False
    prepare: Prepare = Prepare()
    recipe: Mapping[str, Any] = field(default_factory=dict[str, Any])
    metrics: Mapping[str, Any] = field(default_factory=dict[str, Any])
    source: Mapping[str, Any] = field(default_factory=dict[str, Any])
    created: float = 0.0

    def __post_init__(self) -> None:
        check_slug(self.name, "basis")
        check_slug(self.subject, "subject")
        if self.name == NEURONS:
            raise AtlasError(f"“{NEURONS}” is the name of the plain neurons: choose another for this dictionary.")
        if self.family not in get_args(Family) or self.rule not in get_args(Rule):
            raise AtlasError(f"“{shown(f'{self.family}, {self.rule}')}” is not a kind of dictionary that is known here.")
        if self.d_in < 1 or not 1 <= self.units <= MAX_UNITS or (self.d_out is not None and self.d_out < 1):
            raise AtlasError(f"A dictionary of {self.units:,} units over {self.d_in:,} numbers is not possible.")
        if (self.rule == "topk") != (self.k is not None) or (self.k is not None and not 1 <= self.k <= self.units):
            raise AtlasError(f"A top-k rule needs a k from 1 to {self.units:,}, and no other rule has one.")
        if self.head is not None and self.site.kind != "attn":
            raise AtlasError(f"{self.site} has no heads: only attn sites do.")

    @property
    def key(self) -> str:
        """Its address below `bases/`: subject/site/name."""
        return f"{self.subject}/{self.site}/{self.name}"

    @property
    def reads(self) -> slice:
        """The part of the site's vector that it reads: heads lie side by side."""
        start = (self.head or 0) * self.d_in
        return slice(start, start + self.d_in)

    @property
    def sparse(self) -> bool:
        """Whether few units are active on a token, so that every non-zero code can be kept."""
        return self.family in ("sae", "transcoder") or self.rule == "topk"

    def with_metrics(self, metrics: Mapping[str, Any]) -> "BasisInfo":
        return replace(self, metrics=dict(metrics))

    def to_json(self) -> dict[str, Any]:
        document: dict[str, Any] = {name: getattr(self, name) for name in self.__dataclass_fields__}
        document["site"] = str(self.site)
        document["prepare"] = {name: getattr(self.prepare, name) for name in Prepare.__dataclass_fields__}
        return {**document, "recipe": dict(self.recipe), "metrics": dict(self.metrics), "source": dict(self.source)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "BasisInfo":
        """Read what `to_json` wrote. Raises AtlasError for anything else."""
        try:
            given = {name: document[name] for name in cls.__dataclass_fields__ if name in document}
            given["site"] = Site.parse(str(given["site"]))
            given["prepare"] = Prepare(**cast(dict[str, Any], given.get("prepare") or {}))
            for name in ("d_in", "units"):
                given[name] = int(given[name])
            return cls(**given)
        except (KeyError, TypeError, ValueError) as error:
            raise AtlasError(f"The description of the dictionary is damaged ({str(error)[:100]}): import or train it again.") from None
