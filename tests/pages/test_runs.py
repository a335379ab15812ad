"""Runs: starting an index, what the list says, and what can be done with a run."""

from dataclasses import replace
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from core.bases import shelf
from core.bases.curves import CurveWriter
from core.corpus.spec import CorpusSpec
from core.index.request import MAX_CODES, IndexRequest
from core.runs.processes import tail
from core.runs.registry import Registry
from core.subject.info import subject_info
from core.ui import words
from core.ui.index_estimate import BYTES_PER_CODE, BYTES_PER_UNIT, Features, estimate, features_of
from core.ui.index_form import describe
from core.workspace import Workspace
from tests.pages.conftest import OpenPage, alerts, bodies, shown
from tests.synthetic import write_synthetic_index
from tests.synthetic_features import NAME as FEATURES
from tests.synthetic_features import UNITS, write_synthetic_features

PARAMS = IndexRequest(model="tiny").params()


def press(tested: AppTest, label: str) -> AppTest:
    return next(button for button in tested.button if button.label == label).click().run()


def labels(tested: AppTest) -> list[str]:
    return [button.label for button in tested.button]


def test_an_empty_workspace_offers_the_form(workspace: Workspace, open_page: OpenPage) -> None:
    tested = open_page(workspace, "runs")
    assert "No run yet." in shown(tested)
    assert "Start the index" in labels(tested)


def test_the_button_queues_what_the_form_says_and_names_it_in_the_address(
    indexed: Workspace, open_page: OpenPage, workspace: Workspace
) -> None:
    write_synthetic_index(workspace, n_layers=2, width=8, contexts=16, length=16)
    tested = open_page(workspace, "runs")
    tested.selectbox[0].set_value("tiny")
    tested.text_input[-1].set_value("mlp.0-1")
    tested.number_input[0].set_value(128)
    press(tested.run(), "Start the index")
    run = Registry(workspace).list()[0]
    assert (run.state, run.params["model"], run.params["sites"], run.params["corpus"]["contexts"]) == ("queued", "tiny", "mlp.0-1", 128)
    assert tested.query_params["run"] == run.id
    assert run.id in shown(tested)


def test_the_same_order_is_not_queued_twice(workspace: Workspace, open_page: OpenPage) -> None:
    write_synthetic_index(workspace, n_layers=2, width=8, contexts=16, length=16)
    tested = press(open_page(workspace, "runs"), "Start the index")
    press(tested, "Start the index")
    assert len(Registry(workspace).list()) == 1


@pytest.mark.parametrize(
    ("sites", "said"),
    [
        ("mlp.99", "the model's layers are 0 to 1"),
        ("colour", "not a choice of sites"),
        ("", "No site was chosen"),
        ("mlp.-1", "not a choice of sites"),
    ],
)
def test_wrong_sites_are_a_sentence_and_no_run(workspace: Workspace, open_page: OpenPage, sites: str, said: str) -> None:
    write_synthetic_index(workspace, n_layers=2, width=8, contexts=16, length=16)
    tested = open_page(workspace, "runs")
    tested.text_input[-1].set_value(sites).run()
    assert said in alerts(tested)[0]
    assert next(button for button in tested.button if button.label == "Start the index").disabled


def test_a_path_with_nothing_there_and_a_field_of_plain_text_are_said_in_the_form(
    workspace: Workspace, open_page: OpenPage, tmp_path: Path
) -> None:
    write_synthetic_index(workspace, n_layers=2, width=8, contexts=16, length=16)
    (tmp_path / "a.txt").write_text("hello", "utf8")
    tested = open_page(workspace, "runs")
    tested.button_group[0].set_value("files")
    tested = tested.run()
    fields = {each.label: each for each in tested.text_input}
    source = next(each for label, each in fields.items() if label.startswith("File or folder"))
    tested = source.set_value(str(tmp_path / "b.txt")).run()
    assert f"There is nothing at {tmp_path / 'b.txt'}" in alerts(tested)[0]
    fields = {each.label: each for each in tested.text_input}
    next(each for label, each in fields.items() if label.startswith("File or folder")).set_value(str(tmp_path / "a.txt"))
    tested = fields["Field (optional)"].set_value("body").run()
    assert "has no fields: leave out the field “body”" in alerts(tested)[0]
    assert Registry(workspace).list() == []


def test_a_run_can_be_cancelled_and_taken_up_again(workspace: Workspace, open_page: OpenPage) -> None:
    registry = Registry(workspace)
    run = registry.submit("index", PARAMS)
    tested = press(open_page(workspace, "runs"), "Cancel")
    assert registry.get(run.id).state == "cancelled"
    tested.run()
    press(tested, "Retry")
    assert registry.get(run.id).state == "queued"


def test_a_run_that_has_finished_parts_is_resumed_wherever_its_last_attempt_ended(workspace: Workspace, open_page: OpenPage) -> None:
    """The last attempt was cancelled while it loaded the model: it had counted nothing, the one before it had read everything."""
    registry = Registry(workspace)
    run = registry.submit("index", PARAMS)
    registry.claim_next("batch")
    registry.update(run.id, done=0, total=0, unit="", stage="loading the model", message="", rate=None)
    registry.cancelled(run.id)
    part = registry.folder(run.id) / "parts" / ".0-00000008.tmp"
    part.mkdir(parents=True)
    (part / "part.json").write_text("{}")
    (registry.folder(run.id) / "log.txt").write_text("attempt 2\n")
    tested = open_page(workspace, "runs")
    assert "Retry" in labels(tested)
    part.rename(part.with_name("0-00000008"))
    tested.run()
    assert "Resume" in labels(tested)
    assert "Retry" not in labels(tested)


def test_a_queued_run_says_which_run_its_worker_does_first(workspace: Workspace, open_page: OpenPage) -> None:
    registry = Registry(workspace)
    first = registry.submit("index", PARAMS)
    registry.submit("index", PARAMS | {"model": "second"})
    registry.submit("index", PARAMS | {"model": "third"})
    registry.claim_next("batch")
    registry.submit("ioi", {"model": "tiny"}, lane="model")
    said = shown(open_page(workspace, "runs"))
    about = "waiting for the worker, which first does “tiny · embedded · mlp.all”"
    assert f"{about}; to go before it, cancel that on Runs and resume it later" in said
    assert f"{about} and 1 run after it; to go" in said
    assert said.count(about) == 2, "the model process waits for nobody"
    registry.finish(first.id)
    assert "which first does" not in shown(open_page(workspace, "runs"))


def test_a_running_run_says_what_it_does_from_its_first_moment(workspace: Workspace, open_page: OpenPage) -> None:
    registry = Registry(workspace)
    run = registry.submit("index", PARAMS)
    assert "waiting for the worker" in shown(open_page(workspace, "overview"))
    registry.claim_next("batch")
    assert "starting: its libraries are being loaded" in shown(open_page(workspace, "overview"))
    registry.update(run.id, done=0, total=100, unit="contexts", stage="cutting the text", message="counting tokens", rate=None)
    assert "cutting the text · 0 of 100 contexts · counting tokens" in shown(open_page(workspace, "overview"))
    registry.update(run.id, done=0, total=100, unit="contexts", stage="cutting the text", message="cutting the text", rate=None)
    assert shown(open_page(workspace, "overview")).count("cutting the text") == 1


def test_a_failed_run_shows_its_sentence_as_plain_text_and_its_log(workspace: Workspace, open_page: OpenPage) -> None:
    registry = Registry(workspace)
    run = registry.submit("index", PARAMS)
    registry.claim_next("batch")
    registry.update(run.id, done=10, total=100, unit="contexts", stage="reading the text", message="", rate=3.0)
    registry.fail(run.id, "The memory was not enough <script>alert(1)</script>.")
    (registry.folder(run.id) / "log.txt").write_text("first\n<script>alert(2)</script>\n", "utf8")
    (registry.folder(run.id) / "manifest.json").write_text("{}", "utf8")
    tested = open_page(workspace, "runs", run=run.id)
    assert "The memory was not enough <script>alert(1)</script>." in shown(tested)
    assert "<script>alert(2)</script>" in shown(tested)
    assert "<script" not in "".join(bodies(tested))
    assert {"Resume", "Hide details", "Remove…"} <= set(labels(tested))


def test_a_running_run_says_how_fast_and_how_long(workspace: Workspace, open_page: OpenPage) -> None:
    registry = Registry(workspace)
    run = registry.submit("index", PARAMS)
    registry.claim_next("batch")
    registry.update(run.id, done=1000, total=4000, unit="contexts", stage="reading the text", message="", rate=50.0)
    assert "reading the text · 1,000 of 4,000 contexts · 50 a second · 1 min left" in shown(open_page(workspace, "runs"))


def test_removing_asks_first_and_then_deletes_the_files(workspace: Workspace, open_page: OpenPage) -> None:
    registry = Registry(workspace)
    run = registry.submit("index", PARAMS)
    registry.request_cancel(run.id)
    tested = press(open_page(workspace, "runs", run=run.id), "Remove…")
    assert registry.folder(run.id).exists()
    tested = press(press(tested, "Keep it"), "Remove…")
    press(tested, "Delete for good")
    assert not registry.folder(run.id).exists()
    assert registry.list() == []
    assert "run" not in tested.query_params


@pytest.mark.parametrize("run", ["index-0", "../x", "<b>", "x" * 500, "%2e%2e"])
def test_a_wrong_run_in_the_address_is_one_sentence(workspace: Workspace, open_page: OpenPage, run: str) -> None:
    tested = open_page(workspace, "runs", run=run)
    assert not tested.exception
    assert len(alerts(tested)) == 1


def test_the_estimate_knows_the_disk_and_takes_the_time_from_an_earlier_run(workspace: Workspace) -> None:
    write_synthetic_index(workspace, n_layers=2, width=8, contexts=16, length=16)
    info, registry = subject_info(workspace, "tiny"), Registry(workspace)
    order = IndexRequest(CorpusSpec("embedded", 1000, 64), "tiny")
    first = estimate(order, info, registry.list())
    assert (first.units, first.disk, first.seconds) == (16, 16 * BYTES_PER_UNIT, None)
    assert "the time is unknown until the first part is done" in describe(first, 10**12)
    assert "more than there is" in describe(first, 1000)
    run = registry.submit("index", IndexRequest(CorpusSpec("embedded", 500), "tiny").params())
    registry.claim_next("batch")
    registry.update(run.id, done=500, total=500, unit="contexts", stage="", message="", rate=None)
    registry.finish(run.id)
    done = registry.get(run.id)
    moved = [replace(done, started=1000.0, finished=1010.0)]
    assert estimate(order, info, moved).seconds == pytest.approx(20.0)
    assert estimate(IndexRequest(model="other"), None, moved).seconds is None


def test_inputs_that_are_kept_are_part_of_the_estimate(workspace: Workspace) -> None:
    write_synthetic_index(workspace, n_layers=2, width=8, contexts=16, length=16)
    info = subject_info(workspace, "tiny")
    order = IndexRequest(CorpusSpec("embedded", 1000, 64), "tiny", sites="mlp.0,resid.0,attn.1")
    without, kept = (estimate(replace(order, keep_inputs=keep), info, []).disk for keep in (False, True))
    assert without is not None
    assert kept is not None
    widths = min(info.widths["mlp"], info.widths["resid"]) + info.widths["resid"] + info.widths["attn"]
    assert kept - without == 64_000 * 2 * widths


def test_the_codes_of_features_are_part_of_the_estimate(workspace: Workspace) -> None:
    write_synthetic_features(workspace)
    info = subject_info(workspace, "tiny")
    order = IndexRequest(CorpusSpec("embedded", 1000, 64), "tiny", basis=FEATURES, sites="resid.0")
    unknown = estimate(order, info, [], features_of(workspace, order, info))
    assert (unknown.units, unknown.disk, unknown.codes) == (UNITS, UNITS * BYTES_PER_UNIT, None)
    assert "on top, known once the dictionary has been measured" in describe(unknown, 10**12)
    one = shelf.find_named(workspace, FEATURES)
    shelf.describe(one, replace(one.info, recipe={**one.info.recipe, "run": "sae-1"}))
    (workspace.runs / "sae-1").mkdir()
    CurveWriter(workspace.runs / "sae-1").add([{"name": FEATURES, "l0": 9.0}, {"name": FEATURES, "l0": 5.0}, {"name": "other", "l0": 1.0}])
    trained = estimate(order, info, [], features_of(workspace, order, info))
    assert trained.codes == 5 * 64_000
    assert trained.disk == UNITS * BYTES_PER_UNIT + 5 * 64_000 * BYTES_PER_CODE
    assert "on top" not in describe(trained, 10**12)
    shelf.describe(one, replace(one.info, metrics={"l0": 2.5}))
    assert estimate(order, info, [], features_of(workspace, order, info)).codes == 160_000
    assert Features(8, (1000.0, 2.0)).codes(10**6) == MAX_CODES + 2_000_000
    assert Features(8, (1.0, None)).codes(10) is None


def test_a_basis_that_is_not_sparse_keeps_no_codes(workspace: Workspace) -> None:
    write_synthetic_features(workspace, sparse=False)
    info = subject_info(workspace, "tiny")
    order = IndexRequest(CorpusSpec("embedded", 1000, 64), "tiny", basis=FEATURES, sites="resid.0")
    found = estimate(order, info, [], features_of(workspace, order, info))
    assert (found.codes, found.disk) == (0, UNITS * BYTES_PER_UNIT)


def test_the_end_of_a_long_log_is_read_without_the_rest(workspace: Workspace) -> None:
    path = workspace.scratch / "log.txt"
    path.write_bytes(b"x" * 5_000_000 + b"\nlast but one\nlast \xff\n")
    assert tail(path, 14)[-2:] == ["last but one", "last \ufffd"]
    assert len(tail(path, 14)[0]) < 100_000
    assert tail(workspace.scratch / "none.txt", 14) == []


def test_numbers_read_well() -> None:
    assert [words.share(v) for v in (0, 0.5, 0.0135, 0.00034, 1, float("nan"))] == ["0 %", "50 %", "1.4 %", "0.034 %", "100 %", "–"]
    assert [words.number(v) for v in (0, 24.38, -4.84, 371.2, 0.058, 123456, 1e-5)] == [
        "0",
        "24.4",
        "−4.84",
        "371",
        "0.058",
        "1.2e5",
        "1.0e-5",
    ]
    assert [words.duration(v) for v in (8, 200, 620, 7500)] == ["8 s", "3 min 20 s", "10 min", "2 h 5 min"]
    assert [words.there_are(v, "page") for v in (1, 3)] == ["there is 1 page", "there are 3 pages"]
    assert [words.size(v) for v in (512, 18_000, 829e6, 2.4e9)] == ["512 bytes", "18 kB", "829 MB", "2.4 GB"]
