"""The registry: states, duplicates, dead workers, restoring, and what it refuses."""

import json
import os
import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from core.errors import AtlasError
from core.runs import processes, registry, schema
from core.runs.progress import Cancelled, RunProgress
from core.runs.registry import Registry
from core.workspace import Workspace


def _take_as(workspace: Workspace, run: str, pid: int, ticks: int | None) -> None:
    """Let the running run look as if another process had claimed it."""
    with sqlite3.connect(workspace.registry) as connection:
        connection.execute("UPDATE runs SET pid = ?, pid_start_ticks = ? WHERE id = ?", (pid, ticks, run))
    connection.close()


def test_the_same_work_is_not_queued_twice_whatever_the_order_of_its_parameters(workspace: Workspace) -> None:
    runs = Registry(workspace)
    first = runs.submit("index", {"model": "a", "contexts": 8})
    assert runs.submit("index", {"contexts": 8, "model": "a"}) == first
    assert runs.submit("index", {"contexts": 9, "model": "a"}).id != first.id
    assert runs.submit("other", {"contexts": 8, "model": "a"}).id != first.id
    assert len(runs.list()) == 3
    assert runs.find_active("index", {"contexts": 8, "model": "a"}) == first


def test_the_newest_run_of_some_work_is_found_whatever_became_of_it(workspace: Workspace) -> None:
    runs = Registry(workspace)
    assert runs.newest("index", {"n": 1}) is None
    old = runs.submit("index", {"n": 1})
    runs.claim_next("batch")
    runs.finish(old.id)
    assert runs.newest("index", {"n": 1}) == runs.get(old.id)
    newer = runs.submit("index", {"n": 1})
    runs.submit("index", {"n": 2})
    assert runs.newest("index", {"n": 1}) == newer


def test_many_threads_submitting_the_same_work_get_one_run(workspace: Workspace) -> None:
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(Registry(workspace).submit("index", {"n": 1}).id)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def test_a_file_that_another_process_is_just_making_is_waited_for(workspace: Workspace) -> None:
    other = sqlite3.connect(workspace.registry, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(0.3, other.close)
    timer.start()
    assert Registry(workspace).list() == []
    timer.join()


def test_done_work_may_be_asked_for_again_and_failed_work_goes_on_in_its_folder(workspace: Workspace) -> None:
    runs = Registry(workspace)
    first = runs.submit("index", {"n": 1})
    runs.claim_next("batch")
    runs.fail(first.id, "It broke.")
    failed = runs.get(first.id)
    assert (failed.state, failed.error, failed.interrupted) == ("failed", "It broke.", False)
    again = runs.submit("index", {"n": 1})
    assert (again.id, again.state, again.error) == (first.id, "queued", None)
    runs.claim_next("batch")
    runs.finish(first.id)
    assert runs.get(first.id).state == "done"
    assert runs.submit("index", {"n": 1}).id != first.id


def test_runs_are_claimed_in_the_order_they_were_queued_and_by_lane(workspace: Workspace) -> None:
    runs = Registry(workspace)
    ids = [runs.submit("index", {"n": n}).id for n in range(3)]
    other = runs.submit("index", {"n": 9}, lane="interactive")
    claimed = [run.id for run in iter(lambda: runs.claim_next("batch"), None)]
    assert claimed == ids
    found = runs.claim_next("interactive")
    assert found is not None
    assert (found.id, found.pid, found.attempt) == (other.id, os.getpid(), 1)


def test_a_run_whose_worker_is_gone_fails_with_a_sentence_when_it_is_read(workspace: Workspace) -> None:
    runs = Registry(workspace)
    run = runs.submit("index", {"n": 1})
    runs.claim_next("batch")
    assert runs.get(run.id).state == "running"
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait()
    _take_as(workspace, run.id, child.pid, 1)
    dead = runs.get(run.id)
    assert (dead.state, dead.error, dead.interrupted, dead.pid) == ("failed", registry.STOPPED, True, None)
    assert runs.list(active=True) == []


def test_a_zombie_is_dead(workspace: Workspace) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    ticks = processes.start_ticks(child.pid)
    assert processes.alive(child.pid, ticks)
    child.kill()
    # Not waited for: it stays a zombie until `wait` below.
    while processes.alive(child.pid, ticks):
        pass
    assert Path(f"/proc/{child.pid}").exists() or sys.platform != "linux"
    child.wait()
    assert child.stdin is not None
    child.stdin.close()


def test_a_process_number_used_again_does_not_keep_a_dead_run_alive(workspace: Workspace) -> None:
    runs = Registry(workspace)
    run = runs.submit("index", {"n": 1})
    runs.claim_next("batch")
    ticks = processes.start_ticks(os.getpid())
    assert ticks is not None
    _take_as(workspace, run.id, os.getpid(), ticks - 1)
    assert runs.get(run.id).state == "failed"


def test_interrupted_runs_are_queued_again_until_they_lost_their_worker_three_times(workspace: Workspace) -> None:
    runs = Registry(workspace)
    run = runs.submit("index", {"n": 1})
    for attempt in (1, 2, 3):
        claimed = runs.claim_next("batch")
        assert claimed is not None
        assert claimed.attempt == attempt
        _take_as(workspace, run.id, 2**22 + 1, 1)
        assert [again.id for again in runs.requeue_interrupted()] == ([run.id] if attempt < 3 else [])
    assert runs.get(run.id).state == "failed"
    assert runs.resume(run.id).attempt == 0


def test_a_run_that_failed_by_itself_is_not_queued_again_unasked(workspace: Workspace) -> None:
    runs = Registry(workspace)
    run = runs.submit("index", {"n": 1})
    runs.claim_next("batch")
    runs.fail(run.id, "It broke.")
    assert runs.requeue_interrupted() == []


def test_cancel_ends_a_queued_run_at_once_and_tells_a_running_one(workspace: Workspace) -> None:
    runs = Registry(workspace)
    queued, running = runs.submit("index", {"n": 1}), runs.submit("index", {"n": 2})
    assert runs.request_cancel(queued.id).state == "cancelled"
    runs.claim_next("batch")
    assert runs.request_cancel(running.id).state == "running"
    assert runs.cancel_requested(running.id)
    with pytest.raises(Cancelled):
        RunProgress(runs, running.id).update(1, 10)
    runs.cancelled(running.id)
    with pytest.raises(AtlasError, match="already cancelled"):
        runs.request_cancel(running.id)
    assert runs.resume(queued.id).state == "queued"


def test_resume_refuses_done_runs_and_work_that_another_run_does(workspace: Workspace) -> None:
    runs = Registry(workspace)
    first = runs.submit("index", {"n": 1})
    assert runs.resume(first.id) == first
    runs.claim_next("batch")
    runs.finish(first.id)
    with pytest.raises(AtlasError, match="nothing to resume"):
        runs.resume(first.id)
    with pytest.raises(AtlasError, match="There is no run index-0"):
        runs.resume("index-0")
    with pytest.raises(AtlasError, match="not the name of a run"):
        runs.get("../etc")


def test_delete_takes_the_files_too_and_spares_active_runs(workspace: Workspace) -> None:
    runs = Registry(workspace)
    run = runs.submit("index", {"n": 1})
    with pytest.raises(AtlasError, match="cancel it first"):
        runs.delete(run.id)
    runs.request_cancel(run.id)
    assert runs.folder(run.id).is_dir()
    runs.delete(run.id)
    assert not runs.folder(run.id).exists()
    assert runs.list() == []


def test_a_lost_registry_is_restored_from_the_folders(workspace: Workspace) -> None:
    runs = Registry(workspace)
    done, cut = runs.submit("index", {"n": 1}), runs.submit("index", {"n": 2})
    (runs.folder(done.id) / "manifest.json").write_text(json.dumps({"state": "complete"}), "utf8")
    (workspace.runs / "rubbish").mkdir()
    (workspace.runs / "rubbish" / "params.json").write_text("{", "utf8")
    for path in workspace.path.glob("registry.sqlite*"):
        path.unlink()
    assert runs.list() == []
    assert runs.restore() == sorted([done.id, cut.id])
    assert runs.restore() == []
    assert (runs.get(done.id).state, runs.get(done.id).params, runs.get(done.id).created) == ("done", {"n": 1}, done.created)
    assert (runs.get(cut.id).state, runs.get(cut.id).error) == ("failed", registry.LOST)
    assert runs.resume(cut.id).state == "queued"


def test_a_newer_schema_is_refused_and_left_alone(workspace: Workspace) -> None:
    Registry(workspace).submit("index", {"n": 1})
    with sqlite3.connect(workspace.registry) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(AtlasError, match=r"made by a newer Neuron Atlas \(schema 99"):
        Registry(workspace)


def test_a_damaged_file_is_refused_and_left_alone(workspace: Workspace) -> None:
    workspace.registry.write_bytes(b"not a database" * 100)
    with pytest.raises(AtlasError, match="damaged"):
        Registry(workspace)
    assert workspace.registry.read_bytes() == b"not a database" * 100


def test_runs_can_be_listed_when_nothing_can_be_written(workspace: Workspace) -> None:
    runs = Registry(workspace)
    run = runs.submit("index", {"n": 1})
    claimed = runs.claim_next("batch")
    assert claimed is not None
    _take_as(workspace, run.id, 2**22 + 1, 1)
    # A folder in the place of SQLite's shared memory: it cannot be made, as on a full disk.
    workspace.registry.with_name("registry.sqlite-shm").mkdir()
    found = Registry(workspace).list()
    assert [(run.id, run.state, run.error) for run in found] == [(run.id, "failed", registry.STOPPED)]
    with pytest.raises(AtlasError, match="No permission to write"):
        Registry(workspace).submit("index", {"n": 2})


def test_every_migration_leads_to_the_same_schema_when_started_by_several_processes_at_once(tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path / "ws")
    faults: list[BaseException] = []

    def opened() -> None:
        try:
            with schema.connect(workspace) as connection:
                assert connection.execute("PRAGMA user_version").fetchone()[0] == len(schema.MIGRATIONS)
        except BaseException as error:  # noqa: BLE001 - shown by the assertion below
            faults.append(error)

    threads = [threading.Thread(target=opened) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []


def test_progress_of_several_runs_is_written_at_once_without_losing_any(workspace: Workspace) -> None:
    runs = Registry(workspace)
    ids = [runs.submit("index", {"n": n}).id for n in range(4)]
    while runs.claim_next("batch"):
        pass

    def steps(run: str) -> None:
        for done in range(1, 51):
            runs.update(run, done=done, total=50, unit="contexts", stage="", message="", rate=1.0)

    threads = [threading.Thread(target=steps, args=(run,)) for run in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [runs.get(run).done for run in ids] == [50] * 4


def test_the_rate_comes_from_what_was_done_here_not_before(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = Registry(workspace)
    run = runs.submit("index", {"n": 1}).id
    runs.claim_next("batch")
    now = [100.0]
    monkeypatch.setattr("core.runs.progress.time.monotonic", lambda: now[0])
    progress = RunProgress(runs, run)
    for step in range(6):  # resumed at 500 of 1000, then ten a second
        progress.update(500 + 10 * step, 1000, f"step {step}")
        now[0] += 1.0
    found = runs.get(run)
    assert (found.done, found.total, found.unit, found.message) == (550, 1000, "contexts", "step 5")
    assert found.rate == pytest.approx(10)
    assert found.seconds_left == pytest.approx(45)
    assert replace(found, state="failed").seconds_left is None


def test_progress_is_written_rarely_and_its_end_always(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = Registry(workspace)
    run = runs.submit("index", {"n": 1}).id
    runs.claim_next("batch")
    written: list[int] = []
    original = runs.update
    monkeypatch.setattr(runs, "update", lambda run, **values: written.append(values["done"]) or original(run, **values))
    progress = RunProgress(runs, run)
    for done in range(1, 1001):
        progress.update(done, 1000)
    assert len(written) < 20
    assert written[-1] == 1000
    assert runs.get(run).done == 1000
