"""The command line: one JSON document or a sentence, whatever is asked of it."""

import json
import math
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pytest

from bench.dashboard import free_port
from core.cli import main
from core.commands import work
from core.commands.output import duration, number, printable, table
from core.errors import AtlasError
from core.runs.locks import FileLock
from core.runs.registry import Registry
from core.store.cache import Cache
from core.store.units import load_unit
from core.units import UnitName
from core.workspace import Workspace, write_json
from tests.browser.server import ROOT, environment
from tests.synthetic import write_synthetic_index

UNIT = "tiny/mlp.1/neurons/3"
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def indexed(workspace: Workspace) -> Workspace:
    write_synthetic_index(workspace, hostile=True)
    return workspace


def _run(workspace: Workspace, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "core", *arguments, "--workspace", str(workspace.path)],
        cwd=ROOT, env=environment(workspace.path), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def _call(workspace: Workspace, capsys: Capture, *arguments: str) -> tuple[int, str, str]:
    status = main([*arguments, "--workspace", str(workspace.path)])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def _refused(workspace: Workspace, capsys: Capture, *arguments: str) -> str:
    """The sentence with which a command refuses: nothing on standard output, one line on standard error, status 2."""
    for extra in ((), ("--json",)):
        status, out, err = _call(workspace, capsys, *arguments, *extra)
        assert (status, out) == (2, "")
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        assert err.rstrip().endswith((".", ")"))
    return err


def _strict(text: str) -> Any:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_show_prints_one_json_document_with_what_the_store_reads(indexed: Workspace, capsys: Capture) -> None:
    status, out, err = _call(indexed, capsys, "show", UNIT, "--json")
    assert (status, err, out.count("\n")) == (0, "", 1)
    found = _strict(out)
    view = load_unit(indexed, UnitName.parse(UNIT))
    assert found["unit"] == UNIT
    assert found["stats"] == view.stats
    assert list(found["stats"]) == ["tokens", "nonzero", "mean", "variance", "skewness", "kurtosis", "min", "max"]
    assert sum(found["histogram"]["counts"]) == found["stats"]["tokens"]
    assert found["provenance"]["run"] == "index-test"
    assert [token["token"] for token in found["top_tokens"]] == [token.token for token in view.top_tokens]
    records = [record for records in view.bands.values() for record in records]
    assert {record["band"] for record in found["records"]} == {"top", "bottom", "q0", "q1", "q2", "q3", "random"} & {
        r.band for r in records
    }
    assert len(found["records"]) == len(records)
    for shown, record in zip(found["records"], records, strict=True):
        assert (shown["band"], shown["rank"], shown["document"], shown["start"]) == (
            record.band,
            record.place,
            record.document,
            record.start,
        )
        assert shown["token_ids"] == record.tokens.tolist()
        assert len(shown["tokens"]) == len(shown["activations"]) == len(shown["token_ids"])
        assert shown["activations"][0] is None  # the BOS, which is never data
        assert shown["activations"][1:] == pytest.approx(record.activations[1:].tolist())


def test_what_is_undefined_is_null_in_json_and_a_dash_in_text(indexed: Workspace, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    view = load_unit(indexed, UnitName.parse(UNIT))
    view.stats["kurtosis"] = math.nan
    view.stats["max"] = math.inf
    monkeypatch.setattr("core.commands.reading.load_unit", lambda *_: view)
    _, out, _ = _call(indexed, capsys, "show", UNIT, "--json")
    assert (_strict(out)["stats"]["kurtosis"], _strict(out)["stats"]["max"]) == (None, None)
    _, out, _ = _call(indexed, capsys, "show", UNIT)
    assert "–" in out


def test_show_for_people_marks_the_peak_and_prints_no_control_characters(indexed: Workspace, capsys: Capture) -> None:
    status, out, err = _call(indexed, capsys, "show", UNIT)
    assert (status, err) == (0, "")
    assert "top records" in out
    assert "bottom records" in out
    view = load_unit(indexed, UnitName.parse(UNIT))
    assert f"{view.bands['top'][0].value:.3f}" in out
    assert all(character == "\n" or character.isprintable() for character in out)
    top = out[out.index("top records") : out.index("bottom records")].splitlines()[1:]
    assert all("[" in line and "]" in line for line in top if line)


@pytest.mark.parametrize(
    ("unit", "words"),
    [
        ("tiny/mlp.1/neurons/16", "mlp.1 has units 0 to 15"),
        ("tiny/mlp.3/neurons/0", "Layer 3 is out of range"),
        ("tiny/resid.1/neurons/0", "resid.1 of tiny is not indexed"),
        ("tiny/mlp.1/neurons/-1", "not a unit's number"),
        ("tiny/mlp.1/neurons/abc", "not a unit's number"),
        ("tiny/mlp.1/sae/0", "not indexed in the basis “sae”"),
        ("other/mlp.1/neurons/0", "The model “other” is not indexed here"),
        ("../x/mlp.1/neurons/0", "is not a unit"),
        ("%00<script>\n", "is not a unit"),
        ("", "is not a unit"),
    ],
)
def test_a_wrong_unit_is_one_sentence(indexed: Workspace, capsys: Capture, unit: str, words: str) -> None:
    assert words in _refused(indexed, capsys, "show", unit)


def test_an_empty_workspace_says_what_would_fill_it(workspace: Workspace, capsys: Capture) -> None:
    assert "Nothing is indexed yet" in _refused(workspace, capsys, "show", UNIT)
    assert "Nothing is indexed yet" in _refused(workspace, capsys, "top", "--text", "hello")
    assert "There is no run index-1" in _refused(workspace, capsys, "cancel", "index-1")
    assert "There is no run index-1" in _refused(workspace, capsys, "resume", "index-1")
    status, out, _ = _call(workspace, capsys, "runs")
    assert (status, out) == (0, "No runs yet: start one with `python -m core index`.\n")
    assert _strict(_call(workspace, capsys, "runs", "--json")[1]) == {"runs": []}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--contexts", "0"), "The number of contexts must be a whole number from 1"),
        (("--length", "1"), "The context length"),
        (("--stride", "100"), "The stride"),
        (("--sites", "mlp.x"), "is not a choice of sites"),
        (("--sites", ""), "No site was chosen"),
        (("--dtype", "int8"), "is not a number format"),
        (("--workers", "0"), "The number of workers"),
        (("--device", "gpu"), "“gpu” is not a device: choose auto"),
        (("--architecture", "llama2"), "“llama2” does not name a module: write --architecture blocks="),
        (("--architecture", "blocks=a,mlp=b"), "The architecture lacks attn"),
        (("--field", "body"), "has no fields: leave out the field “body”"),
        (("--corpus", __file__, "--field", "body"), "has no fields: leave out the field “body”"),
        (("--corpus", "~nobody-here/text"), "/~nobody-here/text: check the path"),
        (("--model", ""), "No model was named"),
        (("--corpus", " "), "No text was named"),
    ],
)
def test_a_wrong_choice_is_refused_before_a_run_is_made(
    workspace: Workspace, capsys: Capture, arguments: tuple[str, ...], words: str
) -> None:
    assert words in _refused(workspace, capsys, "index", *arguments)
    assert Registry(workspace).list() == []


@pytest.mark.parametrize("arguments", [[], ["bogus"], ["show"], ["index", "--contexts", "many"], ["top"], ["serve", "--port", "x"]])
def test_a_wrong_command_line_is_one_sentence(arguments: list[str], capsys: Capture) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    printed = capsys.readouterr()
    assert (caught.value.code, printed.out) == (2, "")
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1


def test_runs_lists_the_newest_first_and_cancel_and_delete_are_seen(workspace: Workspace, capsys: Capture) -> None:
    registry = Registry(workspace)
    ids = [registry.submit("index", {"model": f"m{n}", "corpus": {"source": "embedded"}}).id for n in range(25)]
    listed = _strict(_call(workspace, capsys, "runs", "--json")[1])["runs"]
    assert [run["id"] for run in listed] == ids[:4:-1]
    assert len(_strict(_call(workspace, capsys, "runs", "--all", "--json")[1])["runs"]) == 25
    status, out, _ = _call(workspace, capsys, "cancel", ids[0], "--json")
    assert (status, _strict(out)["state"]) == (0, "cancelled")
    assert "already cancelled" in _refused(workspace, capsys, "cancel", ids[0])
    text = _call(workspace, capsys, "runs", "--all")[1]
    assert "m3 over embedded" in text
    assert "cancelled" in text


def test_a_detached_index_is_queued_once_with_paths_from_where_it_was_typed(
    workspace: Workspace, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text.txt").write_text("hello", "utf8")
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text("{}", "utf8")
    monkeypatch.chdir(tmp_path)
    with FileLock(workspace.scratch / "batch-lane.lock") as lock:  # the lane is busy: nothing starts
        assert lock.acquire()
        status, out, _ = _call(workspace, capsys, "index", "--corpus", "text.txt", "--model", "./m", "--no-bos", "--detach", "--json")
        again = _call(workspace, capsys, "index", "--corpus", "text.txt", "--model", "./m", "--no-bos", "--detach", "--json")
    run = _strict(out)
    assert (status, run["state"]) == (0, "queued")
    assert (run["params"]["corpus"]["source"], run["params"]["model"]) == (str(tmp_path / "text.txt"), str(tmp_path / "m"))
    assert run["params"]["corpus"]["bos"] is False
    assert _strict(again[1])["id"] == run["id"]
    assert "already does this work" in again[2]


def test_a_missing_path_is_said_before_anything_is_queued(workspace: Workspace, capsys: Capture) -> None:
    for choice in (("--corpus", "/no/such/text"), ("--model", "/no/such/model")):
        status, out, error = _call(workspace, capsys, "index", *choice, "--detach", "--json")
        assert (status, out) == (2, "")
        assert error.startswith("error: There is nothing at /no/such")
    assert Registry(workspace).list() == []


@pytest.mark.parametrize(
    ("option", "name", "content", "says"),
    [
        ("--model", "", None, "holds no model: there is no config.json in it"),
        ("--corpus", "empty.txt", b"", "is empty: name a file with text in it"),
        ("--corpus", "empty.parquet", b"", "is empty: name a file with text in it"),
        ("--corpus", "binary.txt", b"ab\0cd", "is a binary file, not text"),
        ("--corpus", "wide.txt", "wide".encode("utf-16"), "is not UTF-8 text but UTF-16"),
    ],
)
def test_what_a_glance_shows_is_said_before_anything_is_queued(
    workspace: Workspace, capsys: Capture, tmp_path: Path, option: str, name: str, content: bytes | None, says: str
) -> None:
    """Behind a long run it would otherwise be said an hour later."""
    place = tmp_path / "given" / name
    (tmp_path / "given").mkdir()
    if content is not None:
        place.write_bytes(content)
    assert says in _refused(workspace, capsys, "index", option, str(place))
    assert Registry(workspace).list() == []


def test_a_dictionary_that_a_known_model_lacks_is_said_before_anything_is_queued(indexed: Workspace, capsys: Capture) -> None:
    assert "tiny has no dictionary “nosuch”" in _refused(
        indexed, capsys, "index", "--model", "tiny", "--basis", "nosuch", "--sites", "mlp.0"
    )
    assert Registry(indexed).list() == []


def test_a_layer_that_a_known_model_lacks_is_said_before_anything_is_queued(indexed: Workspace, capsys: Capture) -> None:
    assert "are 0 to" in _refused(indexed, capsys, "index", "--model", "tiny", "--sites", "mlp.0,mlp.99")
    assert Registry(indexed).list() == []


def test_an_index_fails_with_the_run_s_sentence(workspace: Workspace) -> None:
    (workspace.path / "bare").mkdir()
    (workspace.path / "bare" / "config.json").write_text("{}", "utf8")
    done = _run(workspace, "index", "--model", str(workspace.path / "bare"), "--contexts", "4", "--json")
    assert (done.returncode, done.stdout) == (2, "")
    (run,) = Registry(workspace).list()
    assert run.state == "failed"
    assert run.error is not None
    assert "Internal error" not in run.error
    assert done.stderr.splitlines()[-1] == f"error: {run.error}"


def test_ctrl_c_cancels_the_run_it_follows(workspace: Workspace) -> None:
    with FileLock(workspace.scratch / "batch-lane.lock") as lock:  # the lane is busy, so that it has to wait
        assert lock.acquire()
        process = subprocess.Popen(
            [sys.executable, "-m", "core", "index", "--workspace", str(workspace.path), "--json"],
            cwd=ROOT, env=environment(workspace.path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stderr is not None
        assert "starting" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (130, "")
    assert "cancelling index-" in err
    assert [run.state for run in Registry(workspace).list()] == ["cancelled"]


def test_rebuild_restores_the_runs_and_refuses_while_the_cache_is_open_elsewhere(indexed: Workspace, capsys: Capture) -> None:
    lost = indexed.runs / "index-lost"
    lost.mkdir()
    write_json(lost / "params.json", {"run": "index-lost", "kind": "index", "lane": "batch", "created": 1.0, "params": {"model": "m"}})
    status, out, _ = _call(indexed, capsys, "rebuild", "--json")
    assert status == 0
    assert _strict(out) == {"indexes": ["index-test"], "explained": [], "restored": ["index-lost"], "notices": []}
    code = f"import duckdb, time; c = duckdb.connect({str(indexed.cache)!r}); print('open', flush=True); time.sleep(60)"
    owner = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "open\n"
        assert "in use" in _refused(indexed, capsys, "rebuild")
        assert _call(indexed, capsys, "show", UNIT, "--json")[0] == 0  # needs no cache
        assert _strict(_call(indexed, capsys, "doctor", "--json")[1])["checks"][-1]["ok"]
    finally:
        owner.kill()
        owner.communicate()


def test_a_done_run_is_resumed_only_when_its_files_are_damaged(indexed: Workspace, capsys: Capture) -> None:
    entry = {"run": "index-test", "kind": "index", "lane": "batch", "created": 1.0, "params": {"model": "m"}}
    write_json(indexed.runs / "index-test" / "params.json", entry)
    assert Registry(indexed).restore() == ["index-test"]
    assert "nothing to resume" in _refused(indexed, capsys, "resume", "index-test", "--detach")
    path = next((indexed.runs / "index-test").rglob("records.parquet"))
    path.write_bytes(path.read_bytes()[:-8])
    with FileLock(indexed.scratch / "batch-lane.lock") as lock:  # the lane is busy: nothing starts
        assert lock.acquire()
        status, out, _ = _call(indexed, capsys, "resume", "index-test", "--detach", "--json")
    assert (status, _strict(out)["state"]) == (0, "queued")


@pytest.mark.parametrize("failure", [AtlasError, duckdb.OutOfMemoryException, OSError])
def test_a_run_that_is_done_is_a_success_even_if_the_cache_cannot_take_it_in(
    indexed: Workspace, capsys: Capture, monkeypatch: pytest.MonkeyPatch, failure: type[Exception]
) -> None:
    entry = {"run": "index-test", "kind": "index", "lane": "batch", "created": 1.0, "params": {"model": "m"}}
    write_json(indexed.runs / "index-test" / "params.json", entry)
    Registry(indexed).restore()

    def fail(_: Cache) -> list[str]:
        raise failure("The disk is full.\nMore about it.")

    monkeypatch.setattr(work.lanes, "ensure_workers", lambda _: False)
    monkeypatch.setattr(work, "follow", lambda *_: Registry(indexed).get("index-test"))
    monkeypatch.setattr(Cache, "ingest", fail)
    status, out, err = _call(indexed, capsys, "index", "--json")
    assert status == 0
    assert (_strict(out)["state"], _strict(out)["folder"]) == ("done", str(indexed.runs / "index-test"))
    assert err.startswith("The run is done, but the cache could not take it in (The disk is full): ")
    assert err.count("\n") == 1
    assert f"its results are in {indexed.runs / 'index-test'}" in _call(indexed, capsys, "index")[1]


def test_doctor_names_a_run_with_a_damaged_file_and_what_mends_it(indexed: Workspace, capsys: Capture) -> None:
    def found() -> tuple[int, dict[str, Any]]:
        status, out, _ = _call(indexed, capsys, "doctor", "--json")
        return status, {check["name"]: check for check in _strict(out)["checks"]}

    status, checks = found()
    assert (status, checks["indexes"]["detail"]) == (0, "1 with all their files")
    path = next((indexed.runs / "index-test").rglob("records.parquet"))
    whole = path.read_bytes()
    for content, said in ((whole[:-1], "records.parquet is damaged"), (None, "records.parquet is missing")):
        path.unlink() if content is None else path.write_bytes(content)
        status, checks = found()
        assert (status, checks["index index-test"]["ok"]) == (1, False)
        assert said in checks["index index-test"]["detail"]
        assert checks["index index-test"]["detail"].endswith("make it again with python -m core resume index-test.")
        assert checks["indexes"]["detail"] == "0 with all their files"
    path.write_bytes(whole)
    (indexed.runs / "index-test" / "manifest.json").write_text("{", "utf8")
    assert "manifest.json is damaged" in found()[1]["index index-test"]["detail"]


def test_top_names_the_models_there_are_and_reads_the_one_of_a_run(
    indexed: Workspace, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_synthetic_index(indexed, run="index-other", slug="other", seed=9, contexts=8)
    asked: list[dict[str, Any]] = []

    def answer(*_: object, **question: Any) -> dict[str, Any]:
        asked.append(question)
        return {"tokens": [], "strongest": [], "run": question["run"], "sites": [], "fires": []}

    monkeypatch.setattr("core.runs.client.call", answer)
    sentence = _refused(indexed, capsys, "top", "--text", "x", "--model", "none-such")
    assert "The model “none-such” is not indexed here: there is other, tiny." in sentence
    assert "in the run “index-other”: there is other." in _refused(
        indexed, capsys, "top", "--text", "x", "--model", "tiny", "--run", "index-other"
    )
    assert "has no index here: there is index-other, index-test." in _refused(indexed, capsys, "top", "--text", "x", "--run", "none")
    assert asked == []
    for given, subject in (((), "tiny"), (("--run", "index-other"), "other"), (("--model", "other"), "other")):
        assert _call(indexed, capsys, "top", "--text", "x", *given)[0] == 0
        assert asked[-1]["subject"] == subject


def test_serve_refuses_a_busy_port_a_second_dashboard_and_a_newer_cache(indexed: Workspace, capsys: Capture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        sentence = _refused(indexed, capsys, "serve", "--port", str(port), "--no-browser")
        assert f"Port {port} is in use" in sentence
        assert "--port" in sentence
    assert "is not a port" in _refused(indexed, capsys, "serve", "--port", "0")
    with FileLock(indexed.scratch / "dashboard.lock") as lock:
        assert lock.acquire()
        assert "A dashboard is already open" in _refused(indexed, capsys, "serve", "--port", str(free_port()))
    assert _call(indexed, capsys, "rebuild")[0] == 0
    with duckdb.connect(str(indexed.cache)) as cache:
        cache.execute("INSERT INTO schema_version VALUES (99)")
    assert "newer Neuron Atlas (schema 99" in _refused(indexed, capsys, "serve", "--port", str(free_port()))
    assert "newer Neuron Atlas (schema 99" in _refused(indexed, capsys, "rebuild")


def test_doctor_says_what_is_here_and_0_or_1(workspace: Workspace, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    status, out, _ = _call(workspace, capsys, "doctor", "--json")
    found = {check["name"]: check for check in _strict(out)["checks"]}
    assert (status, _strict(out)["ok"]) == (0, True)
    assert found["duckdb"]["ok"]
    assert {"python", "torch device", "matmul", "embedded model", "embedded text", "workspace", "disk", "runs", "cache"} <= set(found)
    monkeypatch.setattr("core.commands.doctor.PACKAGES", ("no-such-package",))
    status, out, _ = _call(workspace, capsys, "doctor")
    assert status == 1
    assert "FAIL  no-such-package" in out


def test_a_workspace_that_cannot_be_used_is_one_sentence(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "file").write_text("x", "utf8")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        assert main(["runs", "--workspace", str(path)]) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.startswith("error: ")
        assert printed.err.count("\n") == 1


def test_a_reader_that_leaves_early_is_no_error(indexed: Workspace) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as gone:
        done = subprocess.run(
            [sys.executable, "-m", "core", "show", UNIT, "--json", "--workspace", str(indexed.path)],
            cwd=ROOT, stdout=gone, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_options_may_stand_before_or_after_the_command(indexed: Workspace, capsys: Capture) -> None:
    after = _call(indexed, capsys, "show", UNIT, "--json")[1]
    assert main(["--workspace", str(indexed.path), "--json", "show", UNIT]) == 0
    assert capsys.readouterr().out == after


def test_tables_line_up_and_text_cannot_command_the_terminal() -> None:
    assert table([["a", "1"], ["bbb", "22"]], (1,)) == ["a     1", "bbb  22"]
    assert table([]) == []
    assert printable("a\n\t\x1b[31m\u202eb") == "a↵⇥⟨U+001B⟩[31m⟨U+202E⟩b"
    assert [duration(s) for s in (None, 3, 89, 600, 12000)] == ["–", "3 s", "1 min 29 s", "10 min", "3 h 20 min"]
    assert [number(v) for v in (None, math.nan, 1234, 0.5)] == ["–", "–", "1,234", "0.500"]
