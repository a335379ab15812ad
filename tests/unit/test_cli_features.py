"""The command line over an index of features: what `show` says of one, and which sites `index --basis` reads."""

import json
from collections import Counter
from typing import Any

import numpy as np
import pytest

from core.cli import main
from core.runs.locks import FileLock
from core.workspace import Workspace
from tests.synthetic import write_synthetic_index
from tests.synthetic_features import NAME, RECIPE, RUN, SITE, UNITS, biases, codes, write_synthetic_features

Capture = pytest.CaptureFixture[str]
UNIT = f"tiny/{SITE}/{NAME}/2"


def call(workspace: Workspace, capsys: Capture, *arguments: str) -> tuple[int, str, str]:
    status = main([*arguments, "--workspace", str(workspace.path)])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


@pytest.fixture
def features(workspace: Workspace) -> Workspace:
    write_synthetic_features(workspace)
    return workspace


def test_show_counts_every_token_of_a_feature(features: Workspace, capsys: Capture) -> None:
    status, out, _ = call(features, capsys, "show", UNIT, "--json")
    found: dict[str, Any] = json.loads(out)["feature"]
    _, text = RECIPE.text()
    values = codes()[..., 2]
    expected = Counter(int(text.contexts[rank][at]) for rank, at in zip(*np.nonzero(values > 0), strict=True))
    assert status == 0
    assert {row["token"]: sum(row["counts"]) for row in found["token_histogram"]["tokens"]} == expected
    assert found["bias"] == pytest.approx(biases()[2])
    assert found["threshold"] is None
    assert found["encoder_decoder_cosine"] == 1
    assert found["dictionary"]["units"] == UNITS
    assert all(0 < other["jaccard"] <= 1 and other["count"] <= other["total"] for other in found["coactive"])


def test_show_for_people_says_what_is_active_with_a_feature(features: Workspace, capsys: Capture) -> None:
    status, out, _ = call(features, capsys, "show", UNIT, "--run", RUN)
    assert status == 0
    assert f"sae, relu, {UNITS} units   bias -0.75" in out.replace("−", "-")
    assert "active on " in out
    assert "ACTIVE TOGETHER" in out
    assert "never active" in call(features, capsys, "show", f"tiny/{SITE}/{NAME}/{UNITS - 1}")[1]


def test_top_reads_the_index_of_the_basis_that_was_named(features: Workspace, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    write_synthetic_index(features, run="index-neurons", contexts=64)
    asked: list[dict[str, Any]] = []

    def answer(*_: object, **question: Any) -> dict[str, Any]:
        asked.append(question)
        candidate = {"site": str(SITE), "unit": 3, "value": 2.5, "percentile_band": "p99", "ratio_to_max": 0.5}
        return {"tokens": [1], "strongest": [[candidate]], "run": question["run"], "sites": [str(SITE)], "fires": [[1]]}

    monkeypatch.setattr("core.runs.client.call", answer)
    found: list[dict[str, Any]] = []
    for given in ((), ("--basis", NAME), ("--model", "tiny", "--basis", NAME, "--run", RUN), ("--basis", "neurons")):
        status, out, _ = call(features, capsys, "top", "--text", "x", "--json", *given)
        assert status == 0
        found.append(json.loads(out))
    assert [one["run"] for one in asked] == ["index-neurons", RUN, RUN, "index-neurons"]
    assert [one["basis"] for one in found] == ["neurons", NAME, NAME, "neurons"]
    assert found[1]["units"][0]["unit"] == f"tiny/{SITE}/{NAME}/3"
    for given, sentence in (
        (("--basis", "other"), f"“tiny” is not indexed in the basis “other” here: there is neurons, {NAME}."),
        (("--basis", NAME, "--run", "index-neurons"), "in the run “index-neurons”: there is neurons."),
    ):
        status, _, err = call(features, capsys, "top", "--text", "x", *given)
        assert status == 2
        assert sentence in err


def test_show_says_of_a_neuron_that_it_is_no_feature(workspace: Workspace, capsys: Capture) -> None:
    write_synthetic_index(workspace)
    assert json.loads(call(workspace, capsys, "show", "tiny/mlp.1/neurons/3", "--json")[1])["feature"] is None


def test_index_reads_the_sites_that_have_the_dictionary(features: Workspace, capsys: Capture) -> None:
    with FileLock(features.scratch / "batch-lane.lock") as lock:  # the lane is busy: nothing starts
        assert lock.acquire()
        common = ("index", "--corpus", "embedded", "--model", "tiny", "--contexts", "8", "--detach", "--json")
        status, out, _ = call(features, capsys, *common, "--basis", NAME)
        chosen = call(features, capsys, *common, "--basis", NAME, "--sites", "resid.0,mlp.0")[1]
        plain = call(features, capsys, *common)[1]
    assert status == 0
    assert (json.loads(out)["params"]["basis"], json.loads(out)["params"]["sites"]) == (NAME, "resid.0")
    assert json.loads(chosen)["params"]["sites"] == "resid.0,mlp.0"
    assert "basis" not in json.loads(plain)["params"]
    assert json.loads(plain)["params"]["sites"] == "mlp.all"


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (("--model", "tiny", "--basis", "other"), f"tiny has no dictionary “other”: there is {NAME}."),
        (("--model", "nobody", "--basis", NAME), f"nobody has no dictionary “{NAME}”."),
        (("--model", "tiny", "--basis", "../x"), "is not the name of a basis"),
    ],
)
def test_a_dictionary_that_is_not_there_is_one_sentence(
    features: Workspace, capsys: Capture, given: tuple[str, ...], sentence: str
) -> None:
    status, out, err = call(features, capsys, "index", "--detach", *given)
    assert (status, out) == (2, "")
    assert sentence in err
    assert err.count("\n") == 1
