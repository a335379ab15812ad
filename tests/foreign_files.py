"""Files of other programs, small and by hand: OpenAI's records, Neuronpedia's lines, SAEDashboard's batches; and how they are taken in."""

import gzip
import json
from functools import partial
from pathlib import Path
from typing import Any

from core.findings.bundle.importing import Imported, import_bundle
from core.findings.exchange.staging import Wishes, stage_foreign
from core.findings.findings import Findings
from core.workspace import Workspace

TOKENS = ["The", " café", " is", " open", "\n"]


def take(workspace: Workspace, path: Path, model: str = "", units: str = "") -> Imported:
    """Take files in, in this process."""
    return import_bundle(workspace, path, findings=Findings(workspace), stage=partial(stage_foreign, wishes=Wishes(model, units)))


def write(path: Path, document: Any) -> Path:
    """A document as JSON, or several as lines; gzipped where the name says so."""
    lines = document if isinstance(document, list) else [document]
    content = "".join(json.dumps(line) + "\n" for line in lines).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)
    return path


def record(tokens: list[str], activations: list[float]) -> dict[str, Any]:
    return {"tokens": tokens, "activations": activations}


def neuron(layer: int = 2, index: int = 7, **changes: Any) -> dict[str, Any]:
    """A `NeuronRecord` as the data of 2023 have it, without names of classes."""
    document = {
        "neuron_id": {"layer_index": layer, "neuron_index": index},
        "random_sample": [record(["a", " b", " c"], [0.0, 0.25, -0.125])],
        "random_sample_by_quantile": [[record(["x", " y"], [0.5, 0.75])]] * 4,
        "quantile_boundaries": [0.99, 0.999, 0.9999, 0.99999, 1.0],
        "mean": 0.01,
        "variance": 0.5,
        "skewness": None,
        "kurtosis": 40.0,
        "most_positive_activation_records": [record(TOKENS, [0.0, 3.5, -0.5, 1.0, 0.0]), record(["so", " it"], [0.5, 2.0])],
    }
    return document | changes


def sequence(tokens: list[str], true: list[float], values: list[float], dialect: str = "2023") -> dict[str, Any]:
    """A `ScoredSequenceSimulation`; dialect: 2023, or debugger for that of Transformer Debugger."""
    simulated = {
        "tokens": tokens,
        "expected_activations": values,
        "activation_scale" if dialect == "2023" else "unit": "simulated_normalized_activations",
        "distribution_values": [[0.0, 10.0]] * len(tokens),
        "distribution_probabilities": [[1 - value / 10, value / 10] for value in values],
        "uncalibrated_simulation": None,
    }
    name = "simulation" if dialect == "2023" else "sequence_simulation"
    return {name: simulated, "true_activations": true, "ev_correlation_score": 0.5, "rsquared_score": 0.25}


def explained(layer: int = 2, index: int = 7, dialect: str = "2023", words: str = "places that are open") -> dict[str, Any]:
    """A `NeuronSimulationResults` with one explanation, over the top record and the one by chance."""
    sequences = [
        sequence(TOKENS, [0.0, 3.5, -0.5, 1.0, 0.0], [0.0, 8.0, 0.0, 3.0, 0.0], dialect),
        sequence(["a", " b", " c"], [0.0, 0.25, -0.125], [0.0, 1.0, 0.0], dialect),
    ]
    scored = {"scored_sequence_simulations": sequences, "ev_correlation_score": 0.75, "rsquared_score": 0.5}
    named = {"layer_index": layer, "neuron_index": index} if dialect == "2023" else {"layer": str(layer), "idx": index}
    one = {"explanation": words, "scored_simulation": {**scored, "absolute_dev_explained_score": None}}
    return {"neuron_id": named, "scored_explanations": [one]}


def feature(index: int = 7, **changes: Any) -> dict[str, Any]:
    """A line of Neuronpedia's features."""
    return {
        "modelId": "gpt2-small",
        "layer": "6-res-jb",
        "index": str(index),
        "maxActApprox": 3.5,
        "frac_nonzero": 0.01,
        "freq_hist_data_bar_values": [0.5, 1.5, 3.0],
        "freq_hist_data_bar_heights": [70, 20, 10],
        "pos_str": ["ĠcafÃ©", "Ġbar"],
        "pos_values": [1.5, -10000],
        "neg_str": ["!"],
        "neg_values": [-0.5],
        "topkCosSimIndices": [index, 12],
        "topkCosSimValues": [1.0, 0.5],
        "hookName": "blocks.6.hook_resid_pre",
        "correlated_neurons_indices": [1, 2],
    } | changes


def activation(index: int = 7, **changes: Any) -> dict[str, Any]:
    """A line of Neuronpedia's activations, of the strongest ones, with tokens as SAEDashboard writes them."""
    return {
        "modelId": "gpt2-small",
        "layer": "6-res-jb",
        "index": str(index),
        "tokens": ["The", " cafÃ©", " is", " openâĢ¦", "\n"],
        "values": [0.0, 3.5, 0.0, 1.25, 0.0],
        "maxValue": 3.5,
        "maxValueTokenIndex": 1,
        "binMin": -1,
        "binMax": -1,
        "binContains": -1,
    } | changes


def explanation(index: int = 7, **changes: Any) -> dict[str, Any]:
    """A line of Neuronpedia's explanations."""
    said = {"description": "places to drink coffee", "typeName": "oai_token-act-pair", "explanationModelName": "gpt-4o-mini"}
    return {"modelId": "gpt2-small", "layer": "6-res-jb", "index": str(index), "id": f"x{index}", "authorId": "someone"} | said | changes


def bulk(folder: Path, features: list[Any], activations: list[Any], explanations: list[Any]) -> Path:
    """A source in the layout of Neuronpedia's bulk files."""
    place = folder / "v1" / "gpt2-small" / "6-res-jb"
    for name, rows in (("features", features), ("activations", activations), ("explanations", explanations)):
        write(place / name / "batch-0.jsonl.gz", rows)
    return folder
