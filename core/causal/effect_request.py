"""What a run that ablates units is asked for, as it stands in its params.json. No torch: pages and the command line make it."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, cast, get_args

from core.bases import shelf
from core.corpus.spec import check_whole
from core.errors import AtlasError, shown
from core.store.catalog import IndexInfo, find_unit
from core.store.explanation_view import ExplanationView, load_explanation
from core.units import NEURONS, UnitName, check_slug
from core.workspace import Workspace

AblationRule = Literal["zero", "mean", "minimal"]
RULES: tuple[AblationRule, ...] = get_args(AblationRule)
RULE_NAMES: Mapping[str, str] = {"zero": "zero", "mean": "its mean over the text", "minimal": "the paper's minimal subtraction"}
"""What a unit is set to, in words."""

MOST_UNITS = 8
MOST_RECORDS = 20
MOST_TOKENS = 256
MOST_LISTED = 100
MOST_CHARACTERS = 20_000
MOST_EXPLANATIONS = 8


@dataclass(frozen=True)
class EffectRequest:
    """Raises AtlasError for a value that makes no sense, whatever its type.

    units: full names, 1 to 8 of one subject. rule: see `core.causal.change`. text: what is read; None for the strongest records of the
    unit, `records` of them. positions: where the units are changed, from 0 and without a BOS; None for everywhere. listed: how many of
    the most raised and most lowered tokens are listed. index: the index run that records, mean and threshold come from; None for the
    unit's largest. explanations: those of the unit whose ablation score is wanted.
    """

    units: tuple[str, ...]
    rule: AblationRule = "zero"
    text: str | None = None
    records: int = MOST_RECORDS
    positions: tuple[int, ...] | None = None
    listed: int = 10
    index: str | None = None
    explanations: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not _is_list_of(self.units, str) or not self.units:
            raise AtlasError("No unit was named: write one as subject/site/basis/index.")
        if len(self.units) > MOST_UNITS:
            raise AtlasError(f"{len(self.units):,} units are too many to ablate together: name at most {MOST_UNITS}.")
        names = self.names
        if len(set(names)) < len(names):
            raise AtlasError("A unit was named twice: name each once.")
        subjects = sorted({name.subject for name in names})
        if len(subjects) > 1:
            raise AtlasError(f"Units of {' and '.join(subjects)} cannot be ablated together: name units of one model.")
        if self.rule not in RULES:
            raise AtlasError(f"“{shown(str(self.rule))}” is not a rule of ablation: use {', '.join(RULES)}.")
        check_whole("The number of records", self.records, 1, MOST_RECORDS)
        check_whole("The number of tokens listed", self.listed, 1, MOST_LISTED)
        if self.text is not None:
            check_text(self.text)
        elif len(names) > 1:
            raise AtlasError("Records are those of one unit: name a single unit, or give a text of your own.")
        self._check_positions()
        if self.index is not None:
            check_slug(str(self.index), "run")
        if not _is_list_of(self.explanations, str) or len(self.explanations) > MOST_EXPLANATIONS:
            raise AtlasError(f"At most {MOST_EXPLANATIONS} explanations have their ablation score made at once.")
        if self.explanations and self.text is not None:
            raise AtlasError("An ablation score is made on the records that the explanation was scored on: leave the text out.")

    def _check_positions(self) -> None:
        given = self.positions
        if given is None:
            return
        if not _is_list_of(given, int) or not given:
            raise AtlasError("No position was chosen: name some, from 0, or ablate everywhere.")
        strange = next((place for place in given if isinstance(place, bool) or not 0 <= place < MOST_TOKENS), None)
        if strange is not None:
            raise AtlasError(f"{shown(str(strange))} is not a position: they are counted from 0 to {MOST_TOKENS - 1}.")

    @property
    def names(self) -> tuple[UnitName, ...]:
        """The units, parsed. Raises AtlasError."""
        return tuple(UnitName.parse(unit) for unit in self.units)

    @property
    def subject(self) -> str:
        return self.names[0].subject

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> "EffectRequest":
        """Read a run's parameters. Those left out or null take their defaults. Raises AtlasError."""
        unknown = sorted(str(name) for name in params if name not in {one.name for one in fields(cls)})
        if unknown:
            raise AtlasError(f"A run of ablation has no parameter “{shown(unknown[0])}”: leave it out.")
        given: dict[str, Any] = {name: value for name, value in params.items() if value is not None}
        given |= {name: tuple(cast(list[Any], value)) for name, value in given.items() if isinstance(value, list)}
        if "units" not in given:
            raise AtlasError("No unit was named: write one as subject/site/basis/index.")
        return cls(**given)

    def to_params(self) -> dict[str, Any]:
        """The parameters of the run. Equal requests give equal parameters, so that they are not done twice."""
        made: dict[str, Any] = {"units": list(self.units), "rule": self.rule, "listed": self.listed}
        made |= {"records": self.records} if self.text is None else {"text": self.text}
        if self.positions is not None:
            made["positions"] = sorted(set(self.positions))
        if self.index is not None:
            made["index"] = self.index
        if self.explanations:
            made["explanations"] = list(self.explanations)
        return made

    def check_here(self, workspace: Workspace) -> None:
        """Whether the units are there, and what the rule and the records need of an index. Raises AtlasError."""
        for name in self.names:
            self.index_of(workspace, name)

    def index_of(self, workspace: Workspace, name: UnitName) -> IndexInfo | None:
        """The index that answers for one of the units; None where the request needs none and there is none. Raises AtlasError."""
        try:
            return find_unit(workspace, name, self.index)
        except AtlasError:
            if self.index is not None or self.text is None or self.rule == "mean":
                raise
            if name.basis == NEURONS:
                return None  # whether there is such a neuron is known with the model
            units = shelf.find(workspace, name.subject, name.site, name.basis).info.units
            if name.index >= units:
                raise AtlasError(f"Unit {name.index} is out of range: {name.basis} has units 0 to {units - 1}.") from None
            return None


def explanation_of(workspace: Workspace, identity: str, unit: UnitName) -> ExplanationView:
    """An explanation whose ablation score can be made. Raises AtlasError: not there, of another unit, or its records' text is gone."""
    found = load_explanation(workspace, identity)
    if found.unit != unit:
        raise AtlasError(f"The explanation {identity} is of {found.unit}, not of {unit}: name one of this unit.")
    if found.text_missing:
        raise AtlasError(found.text_missing)
    return found


def check_text(text: object) -> None:
    """Raises AtlasError for a text that is empty, or too long to be looked at (its tokens are counted with the model), or no text."""
    if not isinstance(text, str) or not text.strip():
        raise AtlasError("The text is empty: write or paste a few words.")
    if any("\ud800" <= character <= "\udfff" for character in text):  # what Python makes of bytes on a command line that are not UTF-8
        raise AtlasError("The text holds bytes that are not UTF-8: save or paste it as UTF-8.")
    if len(text) > MOST_CHARACTERS:
        raise AtlasError(f"The text has {len(text):,} characters and at most {MOST_TOKENS} tokens can be read at once: shorten it.")


def _is_list_of(value: object, kind: type) -> bool:
    return isinstance(value, tuple) and all(isinstance(one, kind) for one in cast(tuple[object, ...], value))
