"""What other programs read: OpenAI's neuron records, loaded by their own package, and tables of what was said.

NEURON_EXPLAINER_PYTHON names a Python with PyPI neuron-explainer, see CONTRIBUTING.md; the rest needs none.
"""

import csv
import gzip
import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from core.cli import main
from core.findings.exchange.neuronpedia import write_neuronpedia
from core.findings.exchange.openai import write_openai
from core.findings.exchange.tables import SCHEMA, write_table
from core.findings.findings import Findings
from core.store.texts import load_vocab
from core.store.units import load_unit
from core.units import UnitName
from core.workspace import Workspace
from tests.shared_bundle import UNITS, fill

PYTHON = os.environ.get("NEURON_EXPLAINER_PYTHON", "")
LOADING = """
import asyncio, json, os, sys
os.environ["OPENAI_API_KEY"] = "unused"
from neuron_explainer.activations.activations import ActivationRecordSliceParams, NeuronRecord, read_neuron_file
from neuron_explainer.explanations.explanations import NeuronSimulationResults, load_neuron_explanations
from neuron_explainer.fast_dataclasses import loads
root, layer, unit = sys.argv[1:]
record = loads(open(f"{root}/neurons/{layer}/{unit}.json", "rb").read())
assert isinstance(record, NeuronRecord), type(record)
explained = loads(open(f"{root}/explanations/{layer}/{unit}.jsonl", "rb").read())
assert isinstance(explained, NeuronSimulationResults), type(explained)
first = explained.scored_explanations[0]
print(json.dumps({
    "id": [record.neuron_id.layer_index, record.neuron_id.neuron_index],
    "max": record.max_activation,
    "top": [one.tokens for one in record.most_positive_activation_records],
    "train": len(record.train_activation_records(ActivationRecordSliceParams(5))),
    "valid": len(record.valid_activation_records(ActivationRecordSliceParams(5))),
    "kurtosis": record.kurtosis,
    "explanation": first.explanation,
    "score": first.get_preferred_score(),
    "sequences": [one.ev_correlation_score for one in first.scored_simulation.scored_sequence_simulations],
}))
"""


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = Workspace.open(tmp_path_factory.mktemp("exchange") / "ws")
    fill(workspace)
    return workspace


@pytest.mark.skipif(not PYTHON, reason="NEURON_EXPLAINER_PYTHON names no Python that has neuron-explainer")
def test_neuron_explainer_loads_what_was_written(filled: Workspace, tmp_path: Path) -> None:
    done = write_openai(filled, UNITS[:2], tmp_path)
    assert (done.units, done.explanations) == (2, 2)
    root = tmp_path / "tiny" / "mlp" / "neurons"
    command = [PYTHON, "-I", "-c", LOADING, str(root), "1", "5"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
    loaded = json.loads(ran.stdout)
    view = load_unit(filled, UNITS[0])
    top, vocab = view.bands["top"], load_vocab(filled, "tiny")
    assert loaded["id"] == [1, 5]
    assert loaded["max"] == pytest.approx(max(one.value for one in top), rel=1e-4)
    assert ["".join(tokens) for tokens in loaded["top"]] == ["".join(vocab.pieces(one.tokens[one.first :].tolist())) for one in top]
    assert (loaded["train"], loaded["valid"]) == (5, 10)
    assert loaded["kurtosis"] == pytest.approx(view.stats["kurtosis"])
    assert loaded["explanation"] == "Fires on the word number 5."
    assert -1 <= loaded["score"] <= 1
    assert len(loaded["sequences"]) > 2


def test_neuronpedia_lines_have_the_published_fields(filled: Workspace, tmp_path: Path) -> None:
    units = [UnitName.parse(f"tiny/mlp.1/neurons/{unit}") for unit in (2, 5, 10)]
    Findings(filled, "Ada").explain(units[0], "Names of months")
    done = write_neuronpedia(filled, units, tmp_path)
    place = tmp_path / "v1" / "tiny" / "1-mlp-neurons"
    read = {
        name: [json.loads(line) for line in gzip.decompress((place / name / "batch-0.jsonl.gz").read_bytes()).splitlines()]
        for name in ("features", "activations", "explanations")
    }
    assert [row["index"] for row in read["features"]] == ["10", "2", "5"]  # as text, like theirs
    view = load_unit(filled, units[1])
    row = read["features"][2]
    assert row["hookName"] == "blocks.1.mlp.hook_post"
    assert row["maxActApprox"] == pytest.approx(view.stats["max"])
    assert len(row["freq_hist_data_bar_values"]) == len(row["freq_hist_data_bar_heights"])
    assert sum(row["freq_hist_data_bar_heights"]) <= view.stats["tokens"]
    assert view.effects is not None
    assert row["pos_str"] == [one.text for one in view.effects.raised]
    mine = [one for one in read["activations"] if one["index"] == "5"]
    assert [one["maxValue"] for one in mine if one["binMin"] == -1][:1] == [pytest.approx(view.stats["max"], rel=1e-4)]
    assert all(one["values"][one["maxValueTokenIndex"]] == one["maxValue"] for one in mine)
    assert all(len(one["tokens"]) == len(one["values"]) for one in mine)
    assert {(one["index"], one["typeName"]) for one in read["explanations"]} == {("5", "neuron-atlas_pattern"), ("2", "human")}
    assert done.explanations == 2
    assert (place / "features" / "batch-0.jsonl.gz").read_bytes() == _again(filled, units, tmp_path / "again")


def _again(workspace: Workspace, units: list[UnitName], folder: Path) -> bytes:
    write_neuronpedia(workspace, units, folder)
    return (folder / "v1" / "tiny" / "1-mlp-neurons" / "features" / "batch-0.jsonl.gz").read_bytes()


def test_undefined_numbers_are_null_and_the_scale_is_named(filled: Workspace, tmp_path: Path) -> None:
    dead = UnitName.parse("tiny/mlp.0/neurons/15")
    write_openai(filled, [dead, UNITS[0]], tmp_path)
    root = tmp_path / "tiny" / "mlp" / "neurons"
    record = json.loads((root / "neurons" / "0" / "15.json").read_text("utf8"))
    assert (record["kurtosis"], record["variance"]) == (None, 0.0)
    assert not (root / "explanations" / "0").exists()
    explained = json.loads((root / "explanations" / "1" / "5.jsonl").read_text("utf8"))
    for one in explained["scored_explanations"][0]["scored_simulation"]["scored_sequence_simulations"]:
        simulation = one["simulation"]
        assert simulation["activation_scale"] == "simulated_normalized_activations"
        assert len(simulation["tokens"]) == len(one["true_activations"]) == len(simulation["distribution_values"])
        assert np.allclose([sum(row) for row in simulation["distribution_probabilities"]], 1, atol=1e-5)


@pytest.mark.parametrize("name", ["said.csv", "said.parquet"])
def test_a_table_has_a_row_for_each_score_and_each_word(filled: Workspace, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    done = write_table(filled, UNITS[:2], path)
    if name.endswith("csv"):
        with path.open(newline="", encoding="utf8") as file:
            rows = list(csv.DictReader(file))
        assert list(rows[0]) == SCHEMA.names
    else:
        rows = pq.read_table(path).to_pylist()
        assert pq.read_schema(path).names == SCHEMA.names
    own = [row for row in rows if row["said"] == "explanation" and row["score"] == "simulated"]
    assert {row["unit"] for row in own} == set(map(str, UNITS[:2]))
    assert all(-1 <= float(row["low"]) <= float(row["rho"]) <= float(row["high"]) <= 1 for row in own)
    assert [row["text"] for row in rows if row["said"] == "rating"] == ["4"]
    assert done.explanations == sum(row["said"] == "explanation" for row in rows)


def test_no_cell_of_a_csv_is_a_formula(filled: Workspace, tmp_path: Path) -> None:
    Findings(filled, "=HYPERLINK(1)").save_note(UNITS[2], '=1+1\nand, "more"')
    write_table(filled, [UNITS[2]], tmp_path / "t.csv")
    with (tmp_path / "t.csv").open(newline="", encoding="utf8") as file:
        row = next(csv.DictReader(file))
    assert (row["text"], row["author"]) == ('\'=1+1\nand, "more"', "'=HYPERLINK(1)")


@pytest.mark.parametrize("form", ["openai", "openai-debugger", "neuronpedia", "table"])
def test_the_command_says_what_a_format_cannot_carry(
    filled: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    arguments = ["export", str(UNITS[0]), "--as", form, "--out", str(tmp_path / "o"), "--json", "--workspace", str(filled.path)]
    assert main(arguments) == 0
    printed = capsys.readouterr()
    lacking = json.loads(printed.out)["not_carried"]
    assert len(lacking) >= 3
    assert [line.removeprefix("not carried: ") for line in printed.err.splitlines()] == lacking
