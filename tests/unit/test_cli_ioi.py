"""The command `ioi`: what it asks for, prints, resumes and refuses. The run is done in this process, as a worker would."""

import json
from pathlib import Path
from typing import Any

import pytest

from core.cli import main
from core.runs import worker
from core.runs.registry import Registry
from core.subject.load import load_subject
from core.workspace import Workspace
from tests.models import make_tiny_model
from tests.patchable import put_dictionary, put_rotation

Capture = pytest.CaptureFixture[str]
SENTENCES = ["--model", "tiny", "--names", "t,s,w,c,f", "--template", "# {IO} and {S} . {S} #", "--template", "# {S} and {IO} . {S} #"]
SMALL = [*SENTENCES, "--pairs", "4", "--seeds", "1", "--thresholds", "3"]


@pytest.fixture
def ready(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    subject = load_subject(workspace, str(make_tiny_model(tmp_path / "tiny", "llama", 2)))
    put_dictionary(workspace, subject)
    put_rotation(workspace, subject)

    def work(there: Workspace) -> bool:
        for lane in ("model", "batch"):
            worker.work(there, worker.KINDS, lane)
        return True

    monkeypatch.setattr("core.runs.lanes.ensure_workers", work)
    return workspace


def call(workspace: Workspace, capsys: Capture, *arguments: str) -> tuple[int, str, str]:
    status = main([*arguments, "--workspace", str(workspace.path)])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def test_json_has_the_baseline_and_curves_with_their_points(ready: Workspace, capsys: Capture) -> None:
    status, out, _ = call(ready, capsys, "ioi", "resid.0/made", "resid.0/neurons", "--orders", "acdc,gradient", *SMALL, "--json")
    assert status == 0
    found: dict[str, Any] = json.loads(out)
    assert found["baseline"][0]["all"]["pairs"] == 4
    assert [(one["basis"], one["order"], one["seed"]) for one in found["curves"]] == [
        (basis, order, 0) for basis in ("resid.0/made", "resid.0/neurons") for order in ("gradient", "acdc")
    ]
    for one in found["curves"]:
        first, last = one["points"][0], one["points"][-1]
        assert {"features", "kl", "edit"} <= set(first)
        assert (first["features"], first["edit"]) == (0, 0)
        assert first["kl"] == pytest.approx(found["baseline"][0]["all"]["kl"], abs=1e-5)
        assert last["features"] == one["supported"] <= one["units"]
        if one["basis"] == "resid.0/neurons":
            assert last["kl"] == pytest.approx(0, abs=1e-6)
    run = Registry(ready).get(found["id"])
    assert run.lane == "batch"


def test_for_people_there_is_a_baseline_and_a_line_for_each_curve(ready: Workspace, capsys: Capture) -> None:
    status, out, _ = call(ready, capsys, "ioi", "--sites", "resid.0", "--orders", "gradient", *SMALL)
    assert status == 0
    for words in ("ACCURACY", "ABBA", "resid.0/made", "resid.0/random", "resid.0/neurons", "KL 0", "ALL"):
        assert words in out


def test_without_a_decomposition_the_baseline_alone_is_measured_where_the_model_is_warm(ready: Workspace, capsys: Capture) -> None:
    status, out, _ = call(ready, capsys, "ioi", *SMALL, "--json")
    found: dict[str, Any] = json.loads(out)
    assert (status, found["curves"], found["lane"]) == (0, [], "model")


def test_a_run_whose_file_was_lost_is_resumed(ready: Workspace, capsys: Capture) -> None:
    _, out, _ = call(ready, capsys, "ioi", "resid.0/made", "--orders", "gradient", *SMALL, "--json")
    before: dict[str, Any] = json.loads(out)
    (Path(before["folder"]) / "pieces" / "0000" / "points.parquet").unlink()
    status, out, _ = call(ready, capsys, "resume", before["id"], "--json")
    assert status == 0
    assert json.loads(out)["curves"][0]["points"] == before["curves"][0]["points"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["resid.0/nobody"], "has no dictionary “nobody”"),
        (["neurons"], "write site/name"),
        (["--sites", "resid.1"], "has no dictionary at resid.1"),
        (["resid.0/made", "--orders", "best"], "not an order of search"),
        (["resid.0/made", "--pairs", "999999"], "from 1 to 1,000"),
        (["resid.0/made", "--again", "nan"], "spare a feature"),
        (["resid.0/made", "--names", "t,s,Anna"], "“Anna” is not a single token"),
        (["resid.0/made", "--template", "It rained on"], "{IO} once and {S} twice"),
    ],
)
def test_what_is_wrong_is_one_sentence_and_status_2(arguments: list[str], said: str, ready: Workspace, capsys: Capture) -> None:
    status, out, err = call(ready, capsys, "ioi", *SMALL, *arguments)
    assert (status, out) == (2, "")
    assert said in err
    assert "Traceback" not in err
