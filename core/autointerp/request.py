"""What a run of explaining is asked for: the units, and one or more settings, as they stand in its params.json."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, TypeVar, cast

from core.autointerp.calibration import CALIBRATIONS, Calibration
from core.autointerp.scoring import KINDS, Kind
from core.autointerp.splits import EACH, SPLITS, Split
from core.errors import AtlasError, shown
from core.llm.endpoint import Endpoint
from core.units import UnitName

Arm = Literal["re-explanation", "revision", "revision with random"]
ARMS: tuple[Arm, ...] = ("re-explanation", "revision", "revision with random")
Control = Literal["lookup", "shuffled", "paraphrase"]
CONTROLS: tuple[Control, ...] = ("lookup", "shuffled", "paraphrase")
EXPLAINERS = ("pattern", "token-activation", "token-list", "logit-effect", "by-hand", "given")
"""`given` is an explanation that is there already, to be scored again."""
SIMULATORS = ("pattern", "sentence", "lookup", "local", "completions", "chat")
NEED_MODEL = ("token-activation", "token-list", "logit-effect", "local", "completions", "chat")
MAX_UNITS = 1_000_000
LOGPROBS = 20
"""Alternatives at each token: the most that OpenAI gives, and vLLM unless told otherwise."""
MANY, READ_EACH, READ_MOST = 24, 2_048, 900_000
"""Units of a run from which on text is read again for them; tokens for each of them; tokens at most."""
MOST_BYTES = 1 << 30
"""Activations of a second reading kept in memory at most: with more units fewer tokens are read."""
T = TypeVar("T", bound="_Choice")


@dataclass(frozen=True)
class _Choice:
    """Something with a name and, if it needs one, a model to ask."""

    name: str = "pattern"
    endpoint: Endpoint | None = None

    def to_json(self) -> dict[str, Any]:
        """Only what differs from the defaults: the same choice always reads the same."""
        document = {key: value for key, value in asdict(self).items() if value != type(self).__dataclass_fields__[key].default}
        if self.endpoint is not None:
            document["endpoint"] = self.endpoint.to_json()
        return {"name": self.name} | document

    @classmethod
    def from_json(cls: type[T], document: Mapping[str, Any], what: str) -> T:
        """Raises AtlasError naming what is wrong."""
        known = {field.name: field for field in fields(cls)}
        for key, value in document.items():
            if key not in known:
                raise AtlasError(f"The {what} has no parameter “{shown(key)}”: leave it out.")
            default = known[key].default
            if key not in ("endpoint",) and not _fits(value, default):
                raise AtlasError(f"“{shown(str(value))}” is not possible for the {what}'s {key}.")
        endpoint = document.get("endpoint")
        made = {**document, "endpoint": None if endpoint is None else Endpoint.from_json(endpoint)}
        arguments: dict[str, Any] = made
        return cls(**arguments)


@dataclass(frozen=True)
class ExplainerChoice(_Choice):
    """Who explains and from what.

    records: how many are shown (5). length: tokens of each, around its peak; 0 for all of it. source: `top`, `random`, or `quantile`
    with the lowest quantile of a record's maximum in `quantile`. normalise: by the shown records' maximum (`shown`) or the unit's (`unit`).
    read: tokens of the slice that the pattern explainer reads again for all units of the run together; -1 for as many as pay.
    text: the sentence, for `by-hand`. given: an explanation's identity, for `given`.
    """

    records: int = 5
    length: int = 0
    source: str = "top"
    quantile: float = 0.0
    normalise: str = "shown"
    text: str = ""
    given: str = ""
    temperature: float = 1.0
    read: int = -1

    def checked(self) -> "ExplainerChoice":
        """Raises AtlasError."""
        _one_of(self.name, EXPLAINERS, "an explainer")
        _one_of(self.source, ("top", "random", "quantile"), "a source of records")
        _one_of(self.normalise, ("shown", "unit"), "a way to normalise")
        if not 1 <= self.records <= 50:
            raise AtlasError(f"{self.records} records cannot be shown to an explainer: choose 1 to 50.")
        if self.length and not 4 <= self.length <= 4096:
            raise AtlasError(f"{self.length} tokens are not possible for a shown record: choose 4 to 4096, or 0 for the whole context.")
        if not 0 <= self.temperature <= 2:
            raise AtlasError(f"{self.temperature:g} is not a temperature: choose 0 to 2.")
        if not 0 <= self.quantile < 1:
            raise AtlasError(f"{self.quantile:g} is not a quantile: choose at least 0 and less than 1.")
        if not -1 <= self.read <= 10_000_000:
            raise AtlasError(f"{self.read} tokens cannot be read again: choose 0 or more, or -1 for as many as pay.")
        if self.name == "by-hand" and not 0 < len(self.text.strip()) <= 2000:
            raise AtlasError("Your own explanation has to be a sentence of 1 to 2,000 characters.")
        if self.name == "given" and not self.given:
            raise AtlasError("Name the explanation that is to be scored again.")
        _needs_model(self, "explainer")
        return self


@dataclass(frozen=True)
class SimulatorChoice(_Choice):
    """Who predicts activations from the words. calibration: learned on the calibration records. logprobs: alternatives asked for at each
    token over HTTP; many endpoints give 20, some fewer."""

    calibration: str = "none"
    logprobs: int = LOGPROBS

    def checked(self) -> "SimulatorChoice":
        """Raises AtlasError."""
        _one_of(self.name, SIMULATORS, "a simulator")
        _one_of(self.calibration, CALIBRATIONS, "a calibration")
        if not 1 <= self.logprobs <= LOGPROBS:
            raise AtlasError(f"{self.logprobs} log probabilities cannot be asked for at each token: choose 1 to {LOGPROBS}.")
        _needs_model(self, "simulator")
        return self

    @property
    def method(self) -> Calibration:
        return cast(Calibration, self.calibration)


@dataclass(frozen=True)
class Setting:
    """One way to explain and score. label: what a study calls it."""

    label: str = ""
    explainer: ExplainerChoice = ExplainerChoice()
    simulator: SimulatorChoice = SimulatorChoice()
    kinds: tuple[Kind, ...] = ("top-and-random",)
    split: Split = "validation"
    each: int = EACH
    paraphraser: Endpoint | None = None
    """Who restates the explanation for the paraphrase control; without it the explainer's or simulator's model."""
    active_only: bool = False
    """Random records with activity only (Cunningham et al. 2023)."""
    controls: tuple[Control, ...] = ("lookup", "shuffled")
    arm: Arm | None = None
    index: str = ""
    """The index run to read; empty for the largest of the unit's subject."""
    subject: str = ""
    """Another subject whose unit of the same site, basis and number is meant (for comparing subjects); empty for the unit's own."""

    @property
    def asks_over_http(self) -> bool:
        """Whether any model of it is asked over HTTP."""
        endpoints = (self.explainer.endpoint, self.simulator.endpoint, self.paraphraser)
        return any(endpoint is not None and not endpoint.in_process for endpoint in endpoints)

    def to_json(self) -> dict[str, Any]:
        return {
            "label": self.label, "explainer": self.explainer.to_json(), "simulator": self.simulator.to_json(), "kinds": list(self.kinds),
            "split": self.split, "each": self.each, "active_only": self.active_only, "controls": list(self.controls), "arm": self.arm,
            "paraphraser": None if self.paraphraser is None else self.paraphraser.to_json(), "index": self.index, "subject": self.subject,
        }  # fmt: skip

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Setting":
        """Raises AtlasError naming what is wrong."""
        unknown = sorted(set(document) - {field.name for field in fields(cls)})
        if unknown:
            raise AtlasError(f"A setting has no parameter “{shown(unknown[0])}”: leave it out.")
        paraphraser = document.get("paraphraser")
        plain = {"label", "split", "each", "active_only", "arm", "index", "subject"}
        made = replace(
            cls(**{key: value for key, value in document.items() if key in plain}),
            paraphraser=None if paraphraser is None else Endpoint.from_json(paraphraser),
            explainer=ExplainerChoice.from_json(document.get("explainer", {}), "explainer").checked(),
            simulator=SimulatorChoice.from_json(document.get("simulator", {}), "simulator").checked(),
            kinds=tuple(document.get("kinds", ("top-and-random",))),
            controls=tuple(document.get("controls", ("lookup", "shuffled"))),
        )
        return made.checked()

    def checked(self) -> "Setting":
        """Raises AtlasError."""
        for kind in self.kinds or ("",):
            _one_of(kind, KINDS, "a kind of score")
        for control in self.controls:
            _one_of(control, CONTROLS, "a control")
        if "paraphrase" in self.controls and not (self.paraphraser or self.explainer.endpoint or self.simulator.endpoint):
            raise AtlasError("The paraphrase control needs a language model that restates the explanation: name an endpoint and a model.")
        _one_of(self.split, SPLITS[1:], "a split to score on")
        if self.arm is not None:
            _one_of(self.arm, ARMS, "an arm of revision")
            if self.explainer.endpoint is None:
                raise AtlasError("Revision needs a language model: name the explainer's endpoint and model.")
        if not 1 <= self.each <= EACH:
            raise AtlasError(f"{self.each} records of each kind are not possible: choose 1 to {EACH}.")
        return self

    def asked(self) -> "Setting":
        """As `checked`, for a run that is about to be asked for: raises AtlasError, too, where no record could ever be simulated."""
        if self.simulator.name == "lookup" and self.explainer.name not in ("pattern", "given"):
            raise AtlasError("Token tables come from patterns, and only the pattern explainer writes one: choose it, or another simulator.")
        return self.checked()


@dataclass(frozen=True)
class ExplainRequest:
    """units: names, in the order of work. budget: what may be spent in all, {calls, tokens, money}; absent for no limit."""

    units: tuple[UnitName, ...]
    settings: tuple[Setting, ...]
    seed: int = 0
    budget: Mapping[str, float] | None = None
    study: str = ""
    """The study this run is, if it is one."""

    def to_params(self) -> dict[str, Any]:
        return {
            "units": [str(unit) for unit in self.units],
            "settings": [setting.to_json() for setting in self.settings],
            "seed": self.seed,
            "budget": None if self.budget is None else dict(self.budget),
            "study": self.study,
        }

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> "ExplainRequest":
        """Raises AtlasError naming what is wrong."""
        unknown = sorted(set(params) - {field.name for field in fields(cls)})
        if unknown:
            raise AtlasError(f"A run of explaining has no parameter “{shown(unknown[0])}”: leave it out.")
        names = params.get("units")
        if not isinstance(names, list) or not names:
            raise AtlasError("No unit was named: choose at least one to explain.")
        if len(cast(list[Any], names)) > MAX_UNITS:
            raise AtlasError(f"At most {MAX_UNITS:,} units can be explained in one run.")
        units = tuple(dict.fromkeys(UnitName.parse(str(name)) for name in cast(list[Any], names)))
        settings = params.get("settings")
        if not isinstance(settings, list) or not settings:
            raise AtlasError("A run of explaining needs at least one setting.")
        made = tuple(Setting.from_json(setting) for setting in cast(list[Any], settings))
        seed = params.get("seed", 0)
        if not isinstance(seed, int) or not 0 <= seed < 2**32:
            raise AtlasError(f"“{shown(str(seed))}” is not a seed: use a whole number from 0.")
        budget = params.get("budget")
        if budget is not None and (not isinstance(budget, Mapping) or set(cast(Any, budget)) - {"calls", "tokens", "money"}):
            raise AtlasError("A budget limits calls, tokens or money, and nothing else.")
        return cls(units, made, seed, cast(Any, budget), str(params.get("study", "")))


def _fits(value: Any, default: Any) -> bool:
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(value, bool) and isinstance(default, bool)
    return isinstance(value, int | float) if isinstance(default, float) else isinstance(value, type(default))


def _one_of(value: str, known: tuple[str, ...], what: str) -> None:
    if value not in known:
        raise AtlasError(f"“{shown(value)}” is not {what}: choose {', '.join(known)}.")


def _needs_model(choice: _Choice, what: str) -> None:
    if choice.name in NEED_MODEL and choice.endpoint is None:
        raise AtlasError(f"The {what} “{choice.name}” needs a language model: name an endpoint and a model, or use pattern.")


def enough(units: int) -> int:
    """Tokens worth reading again for so many units: none for a few, whose reader wants an answer soon; for many, more the more they are."""
    return min(READ_MOST, READ_EACH * units) if units >= MANY else 0


def tokens_to_read(read: int, units: int, kept: int = 0) -> int:
    """What an explainer's `read` comes to in a run over so many units.

    kept: tokens of which the index kept the inputs. They are read in seconds, so they pay for a single unit, too.
    """
    return max(enough(units), min(READ_MOST, kept)) if read < 0 else read


def read_at_most(choices: Iterable[tuple[str, int]], units: int, kept: int = 0) -> int:
    """Tokens that a run over so many units reads again at most, by the name and the `read` of its settings' explainers. kept: as above."""
    wanted = (tokens_to_read(read, units, kept) for name, read in choices if name == "pattern")
    return min(max(wanted, default=0), MOST_BYTES // (2 * max(1, units)))
