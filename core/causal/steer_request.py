"""What a run that steers is asked for, as it stands in its params.json. No torch: pages and the command line make it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, cast, get_args

from core.causal.effect_request import MOST_UNITS, check_text
from core.corpus.spec import check_whole
from core.errors import AtlasError, shown
from core.store.catalog import IndexInfo, find_unit
from core.store.units import load_unit
from core.units import UnitName, check_slug
from core.workspace import Workspace

Mode = Literal["add", "clamp"]
Where = Literal["all", "generated"]
MODES: tuple[Mode, ...] = get_args(Mode)
WHERE: tuple[Where, ...] = get_args(Where)
MODE_NAMES: Mapping[str, str] = {"add": "add to it", "clamp": "hold it at"}
WHERE_NAMES: Mapping[str, str] = {"all": "everywhere", "generated": "only where it writes"}

MOST_STRENGTH = 1000.0
MOST_WRITTEN = 256
MOST_SEED = 999_999_999
MOST_TEMPERATURE = 5.0
LEAST_TEMPERATURE = 0.01
"""Besides 0, which is greedy."""


@dataclass(frozen=True)
class Driven:
    """A unit to steer with, its strength, and what strength is measured by: the unit's maximum over the text of its index."""

    name: UnitName
    strength: float
    index: IndexInfo
    maximum: float

    @property
    def amount(self) -> float:
        """Strength in the unit's own activation."""
        return self.strength * self.maximum

    def said(self) -> dict[str, Any]:
        """For the run's manifest."""
        return {"unit": str(self.name), "strength": self.strength, "maximum": self.maximum, "amount": self.amount, "index": self.index.run}


@dataclass(frozen=True)
class SteerRequest:
    """Raises AtlasError for a value that makes no sense, whatever its type.

    units: full names, 1 to 8 of one subject. strengths: of each, in maxima of the unit over its index. mode: `add` adds strength × maximum
    to the unit's activation, `clamp` holds it there. tokens: how many to write. temperature: 0 is greedy. top_p: only the likeliest tokens
    that hold this share of the probability. where: `all` positions, or only those of `generated` tokens. index: the index run that the
    maxima come from; None for each unit's largest.
    """

    units: tuple[str, ...]
    strengths: tuple[float, ...]
    text: str
    mode: Mode = "add"
    tokens: int = 64
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    where: Where = "all"
    index: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.units, tuple) or not self.units:  # pyright: ignore[reportUnnecessaryIsInstance] - from JSON
            raise AtlasError("No unit was named: write one as subject/site/basis/index.")
        if len(self.units) > MOST_UNITS:
            raise AtlasError(f"{len(self.units):,} units are too many to steer with together: name at most {MOST_UNITS}.")
        names = self.names
        if len(set(names)) < len(names):
            raise AtlasError("A unit was named twice: name each once.")
        subjects = sorted({name.subject for name in names})
        if len(subjects) > 1:
            raise AtlasError(f"Units of {' and '.join(subjects)} cannot steer together: name units of one model.")
        if not isinstance(self.strengths, tuple) or len(self.strengths) != len(names):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise AtlasError("Each unit needs one strength: give as many strengths as units.")
        for strength in self.strengths:
            _check_number("A strength", strength, -MOST_STRENGTH, MOST_STRENGTH)
        check_text(self.text)
        if self.mode not in MODES:
            raise AtlasError(f"“{shown(str(self.mode))}” is not a way to steer: use {' or '.join(MODES)}.")
        if self.where not in WHERE:
            raise AtlasError(f"“{shown(str(self.where))}” is not where to steer: use {' or '.join(WHERE)}.")
        check_whole("The number of tokens to write", self.tokens, 1, MOST_WRITTEN)
        check_whole("The seed", self.seed, 0, MOST_SEED)
        _check_number("The temperature", self.temperature, 0.0, MOST_TEMPERATURE)
        if 0 < self.temperature < LEAST_TEMPERATURE:
            raise AtlasError(f"The temperature must be 0, which is greedy, or at least {LEAST_TEMPERATURE:g}.")
        _check_number("The share of probability (top-p)", self.top_p, 0.0, 1.0)
        if self.top_p <= 0:
            raise AtlasError("The share of probability (top-p) must be above 0.")
        if self.index is not None:
            check_slug(str(self.index), "run")

    @property
    def names(self) -> tuple[UnitName, ...]:
        """The units, parsed. Raises AtlasError."""
        return tuple(UnitName.parse(str(unit)) for unit in self.units)

    @property
    def subject(self) -> str:
        return self.names[0].subject

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> "SteerRequest":
        """Read a run's parameters. Those left out or null take their defaults. Raises AtlasError."""
        unknown = sorted(str(name) for name in params if name not in {one.name for one in fields(cls)})
        if unknown:
            raise AtlasError(f"A run of steering has no parameter “{shown(unknown[0])}”: leave it out.")
        given: dict[str, Any] = {name: value for name, value in params.items() if value is not None}
        given |= {name: tuple(cast(list[Any], value)) for name, value in given.items() if isinstance(value, list)}
        whole: dict[str, Any] = {"units": (), "strengths": (), "text": "", **given}
        return cls(**whole)

    def to_params(self) -> dict[str, Any]:
        """The parameters of the run. Equal requests give equal parameters."""
        made: dict[str, Any] = {name: getattr(self, name) for name in ("text", "mode", "tokens", "seed", "where")}
        made |= {"units": list(self.units), "strengths": [float(one) for one in self.strengths]}
        made |= {"temperature": float(self.temperature), "top_p": float(self.top_p)}
        return made if self.index is None else made | {"index": self.index}

    def driven(self, workspace: Workspace) -> tuple[Driven, ...]:
        """The units with their maxima. Raises AtlasError for one that is not there, not indexed, or was never active."""
        return tuple(
            Driven(name, float(strength), *_maximum(workspace, name, self.index))
            for name, strength in zip(self.names, self.strengths, strict=True)
        )


def _maximum(workspace: Workspace, name: UnitName, run: str | None) -> tuple[IndexInfo, float]:
    index = find_unit(workspace, name, run)
    found = float(load_unit(workspace, name, index.run).stats["max"])
    if not math.isfinite(found) or found <= 0:
        raise AtlasError(f"{name} was never above 0 over its text, so there is no maximum to measure strength by: choose another unit.")
    return index, found


def _check_number(what: str, value: object, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise AtlasError(f"{what} must be a number from {low:g} to {high:g}, not {shown(str(value))}.")
