"""Files written by the other programs themselves come in: by PyPI neuron-explainer and sae-dashboard, each in a Python of its own.

NEURON_EXPLAINER_PYTHON and ATLAS_SAEDASHBOARD_PYTHON name those Pythons; CONTRIBUTING.md says how to make them.
"""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from core.store.explained import explained_runs
from core.store.explanation_view import load_explanation
from core.store.texts import load_vocab
from core.store.units import load_unit
from core.units import Site
from core.workspace import Workspace
from tests.foreign_files import take

EXPLAINER = os.environ.get("NEURON_EXPLAINER_PYTHON", "")
DASHBOARD = os.environ.get("ATLAS_SAEDASHBOARD_PYTHON", "")
WRITING = """
import math, os, sys
os.environ["OPENAI_API_KEY"] = "unused"
from neuron_explainer.activations.activations import ActivationRecord, NeuronId, NeuronRecord
from neuron_explainer.explanations.explanations import (
    ActivationScale, NeuronSimulationResults, ScoredExplanation, ScoredSequenceSimulation, ScoredSimulation, SequenceSimulation)
from neuron_explainer.fast_dataclasses import dumps
top = [ActivationRecord([" so", " far", "!"], [0.0, 2.5, -0.25]), ActivationRecord([" far", "ther"], [1.5, 0.0])]
neuron = NeuronRecord(NeuronId(3, 11), random_sample=[ActivationRecord(["a", "b"], [0.0, 0.125])], mean=0.5, skewness=math.nan,
    most_positive_activation_records=top)
def sequence(record, values):
    simulated = SequenceSimulation(record.tokens, values, ActivationScale.SIMULATED_NORMALIZED_ACTIVATIONS, [], [])
    return ScoredSequenceSimulation(simulated, record.activations, 0.5)
scored = ScoredSimulation([sequence(top[0], [0.0, 9.0, 1.0]), sequence(neuron.random_sample[0], [0.0, 1.0])], 0.625, 0.25, None)
results = NeuronSimulationResults(NeuronId(3, 11), [ScoredExplanation("distance", scored)])
for name, document in (("neuron.json", neuron), ("said.jsonl", results)):
    open(os.path.join(sys.argv[1], name), "wb").write(dumps(document))
"""
CONVERTING = """
import os, sys
from types import SimpleNamespace
import torch
from sae_dashboard.components import (
    ActsHistogramData, LogitsHistogramData, LogitsTableData, SequenceData, SequenceGroupData, SequenceMultiGroupData)
from sae_dashboard.feature_data import FeatureData
from sae_dashboard.neuronpedia.neuronpedia_converter import NeuronpediaConverter
from sae_dashboard.neuronpedia.neuronpedia_runner_config import NeuronpediaRunnerConfig
words = ["The", "ĠcafÃ©", "Ġis", "Ġopen", "âĢ¦", "Ġæ", "Ĺ", "¥"]
vocab = {at: word.replace("Ġ", " ") for at, word in enumerate(words)}  # as its runner does before it calls the converter
def sequence(ids, acts):
    each = [[1.0]] * len(ids)
    return SequenceData(0, 1, ids, acts, [0.0] * len(ids), [0.0] * len(ids), [[1]] * len(ids), each, [[2]] * len(ids), each)
groups = [
    SequenceGroupData("TOP ACTIVATIONS<br>MAX = 3.500", [sequence([0, 1, 2, 3, 4], [0.0, 3.5, 0.0, 1.25, 0.0])]),
    SequenceGroupData("INTERVAL 0.700 - 1.400<br>CONTAINS 12.500%", [sequence([5, 6, 7], [0.0, 0.75, 0.0])]),
]
active = torch.tensor([3.5, 1.25, 0.75])
feature = FeatureData(
    acts_histogram_data=ActsHistogramData.from_data(active, 50, "5 ticks", "ACTIVATIONS<br>DENSITY = 0.300%"),
    logits_table_data=LogitsTableData([2], [-0.5], [1, 3], [1.5, 1.0]),
    logits_histogram_data=LogitsHistogramData.from_data(torch.tensor([-0.5, 1.5]), 10, "5 ticks", None),
    sequence_data=SequenceMultiGroupData(groups),
)
size = {"n_prompts_total": 10, "n_tokens_in_prompt": 100}
settings = NeuronpediaRunnerConfig("res-jb", "path", sys.argv[1], model_id="gpt2-small", layer=6, **size)
model = SimpleNamespace(cfg=SimpleNamespace(d_vocab=len(words)))
data = SimpleNamespace(feature_data_dict={14: feature})
written = NeuronpediaConverter.convert_to_np_json(model, data, settings, vocab)
open(os.path.join(sys.argv[1], "batch-0.json"), "w").write(written)
"""


def run(python: str, code: str, folder: Path) -> None:
    folder.mkdir()
    done = subprocess.run([python, "-I", "-c", code, str(folder)], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.skipif(not EXPLAINER, reason="NEURON_EXPLAINER_PYTHON names no Python that has neuron-explainer")
def test_what_neuron_explainer_writes_comes_in(workspace: Workspace, tmp_path: Path) -> None:
    run(EXPLAINER, WRITING, tmp_path / "written")
    done = take(workspace, tmp_path / "written", model="gpt2-xl")
    (unit,) = done.units
    assert (unit.site, unit.index, done.remarks) == (Site("mlp", 3), 11, ())
    view = load_unit(workspace, unit)
    vocab = load_vocab(workspace, unit.subject)
    assert [vocab.pieces(one.tokens.tolist()) for one in view.bands["top"]] == [[" so", " far", "!"], [" far", "ther"]]
    assert [one.value for one in view.bands["top"]] == [2.5, 1.5]
    assert view.stats["mean"] == 0.5
    assert np.isnan([view.stats["skewness"], view.stats["kurtosis"]]).all()
    explanation = load_explanation(workspace, f"{explained_runs(workspace)[0].run}.0.0.0")
    best = explanation.headline()
    assert best is not None
    assert (explanation.text, best.score.rho, best.score.r2) == ("distance", 0.625, 0.25)
    assert [(one.origin, one.simulated.tolist(), one.probabilities) for one in explanation.simulations] == [
        ("top", [0, 9, 1], None),
        ("random", [0, 1], None),
    ]


@pytest.mark.skipif(not DASHBOARD, reason="ATLAS_SAEDASHBOARD_PYTHON names no Python that has sae-dashboard")
def test_what_sae_dashboards_converter_writes_comes_in(workspace: Workspace, tmp_path: Path) -> None:
    run(DASHBOARD, CONVERTING, tmp_path / "written")
    (unit,) = take(workspace, tmp_path / "written").units
    assert (unit.site, unit.basis, unit.index) == (Site("resid", 6), "res-jb", 14)
    assert unit.subject.startswith("gpt2-small.neuronpedia-")
    view = load_unit(workspace, unit)
    vocab = load_vocab(workspace, unit.subject)
    (top,), (sampled,) = view.bands["top"], view.bands["random"]
    assert vocab.pieces(top.tokens.tolist()) == ["The", " café", " is", " open", "…"]
    assert b"".join(vocab.bytes_of(int(token)) for token in sampled.tokens).decode() == " 日"
    np.testing.assert_allclose(top.activations, [0, 3.5, 0, 1.25, 0], atol=1e-3)
    assert (view.stats["tokens"], view.stats["nonzero"], view.stats["max"]) == (1000, 3, 3.5)
    assert int(view.histogram.counts.sum()) == 1000
    assert view.effects is not None
    assert [(one.text, one.logit) for one in view.effects.raised] == [(" café", 1.5), (" open", 1.0)]
    assert [(one.text, one.logit) for one in view.effects.lowered] == [(" is", -0.5)]
