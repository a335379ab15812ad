"""What another program's files hold, gathered in our words before it becomes runs: units, their records, what was said of them."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from core.errors import shown
from core.findings.bundle.archive import Refused
from core.findings.bundle.checks import UNITS
from core.findings.exchange.repair import repaired
from core.units import Site

LENGTH = 4096
"""Tokens of a context at most."""
RECORDS = 2000
"""Records of a unit at most."""
SAID = 200
"""Explanations of a unit at most."""
TOKEN_BYTES = 4096
WORDS = 20_000
"""Characters of an explanation at most."""
INDEX = 1 << 24
LAYERS = 10_000
_LARGEST = 3e38
_CONTEXTS = 2_000_000
_NUMBERS = 300_000_000
"""Activations in all records together."""

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Found:
    """One record: its context's rank, and the activation on each token."""

    rank: int
    activations: Floats


@dataclass(frozen=True)
class Simulated:
    """A simulation of one record. values: float32 [tokens], NaN throughout when there are none. probabilities: float32 [tokens, 11]."""

    rank: int
    origin: str
    activations: Floats
    values: Floats
    probabilities: Floats | None
    scale: str


@dataclass(frozen=True)
class Said:
    """An explanation by somebody else. kind: how it was made, in their word. rho, r2, explained: their scores of those names, NaN where
    there are none; scored: whether it was scored at all. facts: what else they say of it, shown as it is.
    """

    text: str
    author: str
    kind: str
    facts: dict[str, Any]
    rho: float = math.nan
    r2: float = math.nan
    explained: float = math.nan
    scored: bool = False
    simulations: tuple[Simulated, ...] = ()


@dataclass
class Unit:
    """One unit. stats: of mean, variance, skewness, kurtosis, max those that are known. tokens: 0 where nobody says over how many."""

    stats: dict[str, float] = field(default_factory=dict[str, float])
    tokens: int = 0
    nonzero: int = 0
    bins: dict[int, int] = field(default_factory=dict[int, int])
    bands: dict[str, list[Found]] = field(default_factory=dict[str, list[Found]])
    raised: list[tuple[int, float]] = field(default_factory=list[tuple[int, float]])
    lowered: list[tuple[int, float]] = field(default_factory=list[tuple[int, float]])
    similar: list[tuple[int, float]] = field(default_factory=list[tuple[int, float]])
    said: list[Said] = field(default_factory=list[Said])
    described: bool = False
    """Whether its own row was read: a second one is refused."""


class Gathering:
    """Everything that was read, in the order in which it was met. Units are kept by place, a word of the reader's, and number."""

    def __init__(self, wanted: range | None = None) -> None:
        """wanted: the numbers of the units to take; all if not given."""
        self.units: dict[str, dict[int, Unit]] = {}
        self.places: dict[str, tuple[Site, str]] = {}
        """Place -> site and basis; filled at the latest when all is read."""
        self.vocabulary: dict[bytes, int] = {}
        self.contexts: list[npt.NDArray[np.int32]] = []
        self.documents: dict[tuple[str, str], int] = {("", ""): 0}
        self.document: list[int] = []
        self.left_out: Counter[str] = Counter()
        """Sentences on what could not be carried, and how often."""
        self._wanted = wanted
        self._ranks: dict[tuple[bytes, int], int] = {}
        self._numbers = 0
        self._count = 0

    def wants(self, index: int) -> bool:
        return self._wanted is None or index in self._wanted

    def unit(self, place: str, index: int) -> Unit:
        """The unit, new if it was not met before. Raises Refused when there are too many."""
        mine = self.units.setdefault(place, {})
        if index not in mine:
            self._count += 1
            if self._count > UNITS:
                raise Refused(
                    f"The file has more than the {UNITS:,} units that are taken in at once: choose some with --units 0-{UNITS - 1}."
                )
            mine[index] = Unit()
        return mine[index]

    def describe(self, place: str, index: int) -> Unit:
        """The unit whose own row is being read. Raises Refused when that was read before."""
        unit = self.unit(place, index)
        if unit.described:
            raise Refused(f"The unit {index} of {shown(place)} stands in the file twice: import one of them.")
        unit.described = True
        return unit

    def token(self, piece: bytes) -> int:
        """The number of a token in the vocabulary that is made up here. Raises Refused for one that is none."""
        if len(piece) > TOKEN_BYTES:
            raise Refused(f"A token in the file has {len(piece):,} bytes: no tokenizer has such.")
        return self.vocabulary.setdefault(piece, len(self.vocabulary))

    def word(self, text: str) -> int:
        """A token that stands alone, repaired by itself."""
        pieces = repaired([text])
        return self.token(text.encode() if pieces is None else pieces[0])

    def context(self, tokens: Sequence[str], document: str = "", source: str = "") -> int:
        """The rank of a context, its tokens repaired together; equal ones of one document are one."""
        pieces = repaired(tokens)
        return self.of_ids([self.token(piece) for piece in (pieces or [token.encode() for token in tokens])], document, source)

    def of_ids(self, ids: Sequence[int], document: str = "", source: str = "") -> int:
        """The same of tokens in the vocabulary."""
        if not 0 < len(ids) <= LENGTH:
            raise Refused(f"A context in the file has {len(ids):,} tokens; from 1 to {LENGTH:,} are taken in.")
        row = np.array(ids, np.int32)
        of = self.documents.setdefault((document, source), len(self.documents))
        key = (row.tobytes(), of)
        if key not in self._ranks:
            self._ranks[key] = len(self.contexts)
            self.contexts.append(row)
            self.document.append(of)
            if len(self.contexts) > _CONTEXTS:
                raise Refused(f"The file has more than the {_CONTEXTS:,} contexts that are taken in at once: import a part of it.")
        return self._ranks[key]

    def record(self, unit: Unit, band: str, rank: int, activations: Floats) -> None:
        """Add a record to a band of a unit. Raises Refused when it does not fit its context."""
        if len(activations) != len(self.contexts[rank]):
            raise Refused(f"A record in the file has {len(self.contexts[rank])} tokens but {len(activations)} activations.")
        self._numbers += len(activations)
        if self._numbers > _NUMBERS or sum(map(len, unit.bands.values())) >= RECORDS:
            raise Refused("The file has more records than are taken in at once: import a part of it.")
        mine = unit.bands.setdefault(band, [])
        if all(one.rank != rank for one in mine):
            mine.append(Found(rank, activations))

    def say(self, unit: Unit, said: Said) -> None:
        """Add an explanation to a unit. Raises Refused when there are too many."""
        if len(unit.said) >= SAID:
            raise Refused(f"A unit in the file has more than the {SAID} explanations that are taken in.")
        unit.said.append(said)


def number(value: Any) -> float:
    """A number, NaN for what is missing. Raises Refused for anything else."""
    if value is None:
        return math.nan
    if type(value) not in (int, float) or not abs(value) < _LARGEST:
        raise Refused(f"A number in the file is none (“{shown(str(value))}”).")
    return float(value)


def numbers(value: Any, most: int = 1 << 20) -> Floats:
    """float32 [n] of a list of numbers, NaN for what is missing. Raises Refused."""
    found = cast(list[Any], value)
    if not isinstance(value, list) or len(found) > most:
        raise Refused("A list of numbers in the file is none.")
    if not set(map(type, found)) <= {int, float}:
        return np.array([number(one) for one in found], np.float32)
    made = np.array(found, np.float64)
    if len(made) and not (np.abs(made) < _LARGEST).all():
        raise Refused("A number in the file is too large to be one.")
    return made.astype(np.float32)


def activations(value: Any) -> Floats:
    """The same where none may be missing."""
    found = numbers(value, LENGTH)
    if np.isnan(found).any():
        raise Refused("A record in the file lacks activations.")
    return found


def texts(value: Any, most: int = LENGTH) -> list[str]:
    """A list of texts. Raises Refused."""
    if not isinstance(value, list) or len(cast(list[Any], value)) > most or any(type(one) is not str for one in cast(list[Any], value)):
        raise Refused("A list of tokens in the file is none.")
    return cast(list[str], value)


def text(value: Any, most: int = WORDS) -> str:
    """A text, empty for what is missing. Raises Refused."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Refused(f"A text in the file is none (“{shown(str(value))}”).")
    if len(value) > most:
        raise Refused(f"A text in the file has {len(value):,} characters; {most:,} are taken in.")
    return value


def whole(value: Any, most: int, what: str) -> int:
    """A whole number from 0, written as one or as text. Raises Refused."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        value = int(value)
    if type(value) is not int or not 0 <= value < most:
        raise Refused(f"{what} in the file is none (“{shown(str(value))}”).")
    return value


def listed(value: Any) -> list[Any]:
    """A list, empty for what is missing. Raises Refused."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise Refused("A list in the file is none.")
    return cast(list[Any], value)


def table(value: Any) -> dict[str, Any]:
    """An object. Raises Refused."""
    if not isinstance(value, dict):
        raise Refused("An object in the file is none.")
    return cast(dict[str, Any], value)
