"""What a run that patches features into pairs of sentences is asked for, as it stands in its params.json. No torch."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, cast, get_args

from core.bases import shelf
from core.bases.info import BasisInfo
from core.bases.job_request import DEFAULT_MODEL, DTYPES, is_text
from core.causal.ioi_sentences import MAX_PAIRS, MAX_SEED, Wording
from core.causal.linear import LINEAR, is_halved, split_name
from core.corpus.spec import check_whole
from core.errors import AtlasError, shown
from core.subject.info import registered, subject_info
from core.units import NEURONS, Site, in_order
from core.workspace import Workspace

SearchOrder = Literal["acdc", "greedy", "single", "gradient"]
SEARCH_ORDERS: tuple[SearchOrder, ...] = get_args(SearchOrder)
ORDER_NAMES: Mapping[str, str] = {"acdc": "ACDC sweep", "greedy": "greedy", "single": "single effect", "gradient": "gradient"}
USUAL_ORDERS: tuple[SearchOrder, ...] = ("gradient",)
"""The one that takes seconds; the others take minutes for each dictionary and seed."""
USUAL_PAIRS, USUAL_SEEDS, USUAL_THRESHOLDS = 50, 3, 25
LOWEST, HIGHEST = 1e-5, 1.0
AGAIN = 1.0

MAX_SEEDS = 20
MAX_DECOMPOSITIONS = 40
MAX_THRESHOLDS = 200


@dataclass(frozen=True)
class Piece:
    """What is done at once and kept: one curve."""

    site: Site
    decomposition: str
    order: SearchOrder
    seed: int


@dataclass(frozen=True)
class IoiRequest:
    """Raises AtlasError for a value that makes no sense, whatever its type.

    decompositions: `site/name`, such as `resid.9/neurons`, `resid.9/pca:linear` or a dictionary of the shelf; none at all measures the
    baseline only. seeds: how many, from first_seed on; each draws sentences and, for acdc, the order of visits. thresholds, lowest,
    highest: of the sweep, evenly spaced in the logarithm, nats. again: a feature that raised the KL by more than so many thresholds when it
    was tried last is not visited; 0 visits all that are left at every threshold, as published. bos: begin each text with the BOS; None
    does what the tokenizer does.
    """

    model: str = DEFAULT_MODEL
    dtype: str = "float32"
    decompositions: tuple[str, ...] = ()
    orders: tuple[str, ...] = USUAL_ORDERS
    pairs: int = USUAL_PAIRS
    seeds: int = USUAL_SEEDS
    first_seed: int = 0
    thresholds: int = USUAL_THRESHOLDS
    lowest: float = LOWEST
    highest: float = HIGHEST
    again: float = AGAIN
    wording: Wording = field(default_factory=Wording)
    bos: bool | None = None

    def __post_init__(self) -> None:
        if not is_text(self.model):
            raise AtlasError("No model was named: choose one of this workspace.")
        if self.dtype not in DTYPES:
            raise AtlasError(f"“{shown(str(self.dtype))}” is not a number format: choose {' or '.join(DTYPES)}.")
        _check_list("decomposition", self.decompositions, MAX_DECOMPOSITIONS)
        _check_list("order of search", self.orders, len(SEARCH_ORDERS))
        for key in self.decompositions:
            split_key(key)
        strange = next((one for one in self.orders if one not in SEARCH_ORDERS), None)
        if strange is not None:
            raise AtlasError(f"“{shown(strange)}” is not an order of search: use {', '.join(SEARCH_ORDERS)}.")
        if self.decompositions and not self.orders:
            raise AtlasError(f"No order of search was chosen: use {', '.join(SEARCH_ORDERS)}.")
        check_whole("The number of pairs", self.pairs, 1, MAX_PAIRS)
        check_whole("The number of seeds", self.seeds, 1, MAX_SEEDS)
        check_whole("The first seed", self.first_seed, 0, MAX_SEED - MAX_SEEDS)
        check_whole("The number of thresholds", self.thresholds, 2, MAX_THRESHOLDS)
        for what, value in (("lowest", self.lowest), ("highest", self.highest)):
            if not _is_number(value) or not 0 < value <= 100:
                raise AtlasError(f"The {what} threshold must be a number above 0 and up to 100 nats, not {shown(str(value))}.")
        if self.lowest >= self.highest:
            raise AtlasError(f"The lowest threshold, {self.lowest:g}, must be below the highest, {self.highest:g}.")
        if not _is_number(self.again) or not (self.again == 0 or 1 <= self.again <= 1e6):
            raise AtlasError(f"How many thresholds spare a feature a visit must be 0 or from 1 to 1e6, not {shown(str(self.again))}.")
        if self.bos is not None and not isinstance(self.bos, bool):  # pyright: ignore[reportUnnecessaryIsInstance] - from JSON
            raise AtlasError("The choice of BOS must be true, false or left out.")

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> "IoiRequest":
        """Read a run's parameters. Those left out or null take their defaults. Raises AtlasError."""
        unknown = sorted(str(name) for name in params if name not in {one.name for one in fields(cls)})
        if unknown:
            raise AtlasError(f"A run of patching has no parameter “{shown(unknown[0])}”: leave it out.")
        given: dict[str, Any] = {name: value for name, value in params.items() if value is not None}
        given |= {name: tuple(cast(list[Any], value)) for name, value in given.items() if isinstance(value, list)}
        if given.get("model") == "default":
            given["model"] = DEFAULT_MODEL
        if "wording" in given:
            given["wording"] = Wording.from_json(given["wording"])
        return cls(**given)

    def to_params(self) -> dict[str, Any]:
        """The parameters of the run: what differs from the defaults, and the model. Equal requests give equal parameters."""
        made: dict[str, Any] = {"model": self.model}
        for one in fields(self):
            value = getattr(self, one.name)
            if one.name not in ("model", "wording") and value != one.default:
                made[one.name] = list(value) if isinstance(value, tuple) else value
        own = {name: words for name, words in self.wording.to_json().items() if words != Wording().to_json()[name]}
        return made | ({"wording": own} if own else {})

    @property
    def seed_list(self) -> list[int]:
        return list(range(self.first_seed, self.first_seed + self.seeds))

    @property
    def sites(self) -> list[Site]:
        return in_order({split_key(key)[0] for key in self.decompositions})

    @property
    def pieces(self) -> list[Piece]:
        """In the order in which they are made: all of a seed, one decomposition after another, cheap orders first."""
        orders: list[SearchOrder] = [order for order in reversed(SEARCH_ORDERS) if order in self.orders]
        places = [split_key(key) for key in self.decompositions]
        return [Piece(site, name, order, seed) for seed in self.seed_list for site, name in places for order in orders]

    def check_here(self, workspace: Workspace) -> None:
        """Whether the model's dictionaries are there. Raises AtlasError saying what there is."""
        for key in self.decompositions:
            info_of(workspace, self.model, key)


def split_key(key: str) -> tuple[Site, str]:
    """Site and name of `resid.9/NAME`. Raises AtlasError."""
    site, found, name = key.partition("/")
    if not found or "/" in name:
        raise AtlasError(f"“{shown(key)}” is not a decomposition: write site/name, such as resid.9/{NEURONS} or resid.9/pca{LINEAR}.")
    place = Site.parse(site)
    if place.kind != "resid":
        raise AtlasError(f"Features are patched into the residual stream, and “{shown(key)}” is not there: choose a site such as resid.9.")
    split_name(name)
    return place, name


def info_of(workspace: Workspace, subject: str, key: str) -> BasisInfo | None:
    """The dictionary of a decomposition, None for the neurons. Raises AtlasError when it is not there or cannot be patched."""
    site, name = split_key(key)
    plain, linear = split_name(name)
    if plain == NEURONS:
        if linear:
            raise AtlasError(f"The neurons are linear already: write {site}/{NEURONS}.")
        return None
    info = shelf.find(workspace, subject, site, plain).info
    if info.d_out is not None:
        raise AtlasError(f"{info.name} is a transcoder: its units write elsewhere than they read and cannot be patched.")
    if linear and not is_halved(info):
        raise AtlasError(f"{info.name} is not made of directions and their negatives: leave out “{LINEAR}”.")
    known = subject_info(workspace, subject).weights_hash
    if info.weights_hash not in (None, known):
        raise AtlasError(f"The dictionary {info.key} was made for other weights of {subject}: train or import it again.")
    return info


def offered(workspace: Workspace, subject: str) -> dict[str, BasisInfo | None]:
    """Every decomposition that can be patched, by key: at each residual site that has a dictionary, with signed directions and neurons.

    Where no site has one, the neurons after a third and two thirds of the blocks.
    """
    found: dict[str, BasisInfo | None] = {}
    ones = [one.info for one in shelf.shelved(workspace, subject) if one.info.site.kind == "resid" and one.info.d_out is None]
    sites = in_order({info.site for info in ones})
    if not sites and subject in registered(workspace):
        layers = subject_info(workspace, subject).n_layers
        sites = in_order({Site("resid", (layers - 1) * part // 3) for part in (1, 2)})
    for site in sites:
        for info in (one for one in ones if one.site == site):
            found[f"{site}/{info.name}"] = info
            if info.family == "pca" and is_halved(info) and info.k is None:
                found[f"{site}/{info.name}{LINEAR}"] = info
        found[f"{site}/{NEURONS}"] = None
    return found


def _check_list(what: str, given: object, most: int) -> None:
    if not isinstance(given, tuple) or not all(isinstance(one, str) for one in cast(Sequence[object], given)):
        raise AtlasError(f"Each {what} must be a name: give a list of them.")
    names = cast(tuple[str, ...], given)
    if len(names) > most:
        raise AtlasError(f"{len(names):,} are too many: at most {most} of “{what}” are taken.")
    if len(set(names)) < len(names):
        raise AtlasError(f"A {what} was named twice: name each once.")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
