"""OpenAI's format: a `NeuronRecord` a unit, and its scored explanations, as PyPI `neuron-explainer` or Transformer Debugger reads them.

Every object names its class in `dataclass_name`, as that package writes since its version 0.0.1; readers of the older files, which lack it,
pass over a key that they do not know. A number that is undefined is null.
"""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import AtlasError, explain_os_error
from core.findings.exchange.read_neuronpedia import INTERVALS
from core.findings.report.gathered import Gathered, gather
from core.store.explanation_view import ExplanationView, ScoreView, SimulationView
from core.store.units import Record
from core.units import UnitName
from core.vocab import Vocab
from core.workspace import Workspace, write_atomic

NEURONS, EXPLANATIONS = "neurons", "explanations"
_QUANTILES = {"q0": (0.0, 0.5), "q1": (0.5, 0.9), "q2": (0.9, 0.99), "q3": (0.99, 0.999)}
_SCALES = {"tenths": "simulated_normalized_activations", "activation": "neuron_activations"}
NOT_CARRIED = (
    "the provenance, density, quantiles and histogram of a unit, its top tokens, effects and ablations",
    "records of the most negative activations, and where each record is from",
    "intervals and controls of scores, how much of the records could be simulated, and who wrote an explanation",
    "the bytes of tokens that are a part of a character: they are written as ⟨e2 80⟩",
    "what people wrote",
)


@dataclass(frozen=True)
class WrittenFolder:
    """Files of another program's format. not_carried: what that has no words for."""

    path: Path
    units: int
    explanations: int
    not_carried: tuple[str, ...] = NOT_CARRIED


def write_openai(
    workspace: Workspace, units: Sequence[UnitName], folder: Path, *, run: str | None = None, debugger: bool = False
) -> WrittenFolder:
    """Write `neurons/<layer>/<unit>.json`, and `explanations/<layer>/<unit>.jsonl` where there are any.

    They are under `<folder>/<subject>/<kind of site>/<basis>/`, and below it laid out as the published data. debugger: in the dialect of
    Transformer Debugger, which differs in the name of one field. Raises AtlasError.
    """
    if not units:
        raise AtlasError("There is nothing to export: name at least one unit, or a collection with units in it.")
    explained = 0
    try:
        for unit in dict.fromkeys(units):
            found = gather(workspace, unit, run)
            place = folder / unit.subject / unit.site.kind / unit.basis
            _write(place / NEURONS / str(unit.site.layer) / f"{unit.index}.json", neuron_record(found))
            if found.explanations:
                _write(place / EXPLANATIONS / str(unit.site.layer) / f"{unit.index}.jsonl", simulation_results(found, debugger))
                explained += len(found.explanations)
    except OSError as error:
        raise explain_os_error(error, f"writing {folder}") from None
    return WrittenFolder(folder, len(set(units)), explained)


def neuron_record(found: Gathered) -> dict[str, Any]:
    """A unit as `NeuronRecord`: top records, the sample by chance, and those between quantiles of the records' maxima."""
    view, vocab = found.view, found.vocab
    by_chance = view.index.bands_said.get("random") != INTERVALS
    return _named(
        "NeuronRecord",
        neuron_id=_neuron_id(view.name),
        random_sample=_records(view.bands.get("random", []) if by_chance else [], vocab),
        random_sample_by_quantile=[_records(view.bands.get(band, []), vocab) for band in _QUANTILES],
        quantile_boundaries=[0.0, *(high for _, high in _QUANTILES.values())],
        **{name: _number(view.stats[name]) for name in ("mean", "variance", "skewness", "kurtosis")},
        most_positive_activation_records=_records(view.bands.get("top", []), vocab),
    )


def simulation_results(found: Gathered, debugger: bool = False) -> dict[str, Any]:
    """The explanations of a unit as `NeuronSimulationResults`, the best first: each with its own simulations and main score."""
    explained = [_scored_explanation(one, debugger) for one in found.explanations]
    return _named("NeuronSimulationResults", neuron_id=_neuron_id(found.view.name), scored_explanations=explained)


def _scored_explanation(one: ExplanationView, debugger: bool) -> dict[str, Any]:
    best = one.headline()
    shown = [simulation for simulation in one.of_role("simulated", best.split if best else None) if not simulation.failed]
    simulated = _named(
        "ScoredSimulation", scored_sequence_simulations=[_sequence(simulation, debugger) for simulation in shown], **_scores(best)
    )
    return _named("ScoredExplanation", explanation=one.text, scored_simulation=simulated)


def _sequence(one: SimulationView, debugger: bool) -> dict[str, Any]:
    """One record's simulation. The distribution is over 0 to 10 where the simulator gave one, else all on the value itself."""
    if one.probabilities is None:
        values = [[_number(value)] for value in one.simulated.tolist()]
        probabilities = [[1.0] for _ in values]
    else:
        values = [list(range(one.probabilities.shape[1])) for _ in one.simulated]
        probabilities = one.probabilities.astype(float).tolist()
    simulation = _named(
        "SequenceSimulation",
        tokens=list(one.pieces) or [""] * len(one.simulated),
        expected_activations=[_number(value) for value in one.simulated.tolist()],
        activation_scale=_SCALES[one.scale],
        distribution_values=values,
        distribution_probabilities=probabilities,
        uncalibrated_simulation=None,
    )
    true = one.activations.astype(float)
    both = np.std(true) > 0 and np.std(one.simulated) > 0
    rho = float(np.corrcoef(true, one.simulated.astype(float))[0, 1]) if both else math.nan
    return _named(
        "ScoredSequenceSimulation",
        **{"sequence_simulation" if debugger else "simulation": simulation},
        true_activations=true.tolist(),
        ev_correlation_score=_number(rho),
        rsquared_score=None,
        absolute_dev_explained_score=None,
    )


def _scores(best: ScoreView | None) -> dict[str, Any]:
    names = {"ev_correlation_score": "rho", "rsquared_score": "r2", "absolute_dev_explained_score": "explained"}
    return {name: None if best is None else _number(getattr(best.score, ours)) for name, ours in names.items()}


def _records(records: Iterable[Record], vocab: Vocab) -> list[dict[str, Any]]:
    return [
        _named(
            "ActivationRecord",
            tokens=vocab.pieces(one.tokens[one.first :].tolist()),
            activations=one.activations[one.first :].astype(float).tolist(),
        )
        for one in records
    ]


def _neuron_id(name: UnitName) -> dict[str, Any]:
    return _named("NeuronId", layer_index=name.site.layer, neuron_index=name.index)


def _named(kind: str, **content: Any) -> dict[str, Any]:
    return {"dataclass_name": kind, **content}


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, (json.dumps(content, ensure_ascii=False, allow_nan=False) + "\n").encode())
