"""The parameter studies of Bills et al. 2023 as lists of settings: each is one run whose explanations are compared by setting."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from core.autointerp.request import ARMS, Setting
from core.errors import AtlasError
from core.llm.endpoint import Endpoint


@dataclass(frozen=True)
class Study:
    """title, axis: of its figure. asks: what it is about, in a sentence. settings: from a base setting and the indexed subjects.

    across: its units are samples of every basis that is indexed at a site, instead of one index's.
    """

    title: str
    axis: str
    asks: str
    settings: Callable[[Setting, Sequence[str]], Sequence[Setting]]
    needs_model: bool = False
    across: bool = False


def _explainer(label: str, base: Setting, **changes: object) -> Setting:
    return replace(base, label=label, explainer=replace(base.explainer, **changes))


def _quantiles(base: Setting, _: Sequence[str]) -> list[Setting]:
    top = [_explainer("top", base, source="top")]
    return top + [_explainer(f"≥ {q:g}", base, source="quantile", quantile=q) for q in (0.99, 0.9, 0.5, 0.0)]


def _records(base: Setting, _: Sequence[str]) -> list[Setting]:
    return [_explainer(f"{n}", base, records=n) for n in (1, 2, 5, 10, 20)]


def _lengths(base: Setting, _: Sequence[str]) -> list[Setting]:
    return [_explainer(f"{n}", base, length=n) for n in (8, 16, 32, 48, 64)]


def _sources(base: Setting, _: Sequence[str]) -> list[Setting]:
    return [_explainer(source, base, source=source) for source in ("top", "random")]


def _arms(base: Setting, _: Sequence[str]) -> list[Setting]:
    # The arms' final numbers are on the test records, so the baseline's is too.
    return [replace(base, label="baseline", arm=None, split="test"), *(replace(base, label=arm, arm=arm) for arm in ARMS)]


def _explainers(base: Setting, _: Sequence[str]) -> list[Setting]:
    names = ("pattern", *(("token-activation", "token-list", "logit-effect") if base.explainer.endpoint is not None else ()))
    own = base.explainer.endpoint
    return [_explainer(name, base, name=name, endpoint=None if name == "pattern" else own) for name in names]


def _simulators(base: Setting, _: Sequence[str]) -> list[Setting]:
    endpoint = base.simulator.endpoint
    own = [(base.simulator.name, endpoint)] if endpoint is not None else []
    if base.explainer.name != "pattern":
        # What reads patterns or starred words fails on every sentence that a model writes.
        raise AtlasError("Simulators are compared on sentences that all of them can read: choose the pattern explainer.")
    without: list[tuple[str, Endpoint | None]] = [("pattern", None), ("sentence", None), ("lookup", None)]
    return [replace(base, label=name, simulator=replace(base.simulator, name=name, endpoint=where)) for name, where in [*without, *own]]


def _subjects(base: Setting, subjects: Sequence[str]) -> list[Setting]:
    if len(set(subjects)) < 2:
        raise AtlasError("Comparing subjects needs two indexed models: index another one first.")
    return [replace(base, label=slug, subject=slug, index="") for slug in dict.fromkeys(subjects)]


def _layers(base: Setting, _: Sequence[str]) -> list[Setting]:
    return [replace(base, label="all layers")]


STUDIES: Mapping[str, Study] = {
    "quantile": Study(
        "Lowest quantile of the shown records", "records shown", "Do strong records explain better than weak ones?", _quantiles, True
    ),
    "records": Study("Number of shown records", "records shown", "How many records does an explainer need?", _records, True),
    "length": Study("Length of the shown records", "tokens a record", "How much text around a peak helps?", _lengths, True),
    "source": Study("Top against random records", "records shown", "Are random records worth showing?", _sources, True),
    "revision": Study("Arms of revision", "arm", "Does testing an explanation improve it?", _arms, True),
    "explainer": Study("Explainers compared", "explainer", "Which explainer writes the better sentences?", _explainers),
    "simulator": Study("Simulators compared", "simulator", "How much does the score depend on who simulates?", _simulators),
    "subject": Study("Subjects compared", "subject", "Are larger models harder to explain?", _subjects),
    "interpretability": Study(
        "Interpretability by basis",
        "layer",
        "Are the units of a dictionary easier to explain than neurons, random directions, PCA and ICA (Cunningham et al. 2023, figure 2)?",
        _layers,
        across=True,
    ),
    "layer": Study("Score by layer", "layer", "Where in the model are units easiest to explain?", _layers),
}


def study_settings(name: str, base: Setting, subjects: Sequence[str]) -> tuple[Setting, ...]:
    """The settings of a study. Raises AtlasError: an unknown study, or one that needs what is not there."""
    study = STUDIES[name]
    if study.needs_model and base.explainer.endpoint is None:
        raise AtlasError(
            f"The study “{name}” varies what a language model is shown: choose an explainer that asks one, and name its model."
        )
    if "paraphrase" in base.controls and base.paraphraser is None:
        # The same model restates under every setting, those without a model of their own included.
        base = replace(base, paraphraser=base.explainer.endpoint or base.simulator.endpoint)
    return tuple(setting.checked() for setting in study.settings(base, subjects))
