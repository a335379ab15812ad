"""The batch lane with real worker processes: order, cancel, kill -9, errors, and nobody left waiting."""

import os
import signal
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from core.runs import processes
from core.runs.lanes import ensure_workers, resume_interrupted
from core.runs.locks import FileLock, lane_lock
from core.runs.registry import STOPPED, Registry, Run
from core.workspace import Workspace
from tests.fake_worker import MODULE


def _wait(condition: Callable[[], object], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def _ended(runs: Registry, run: str, seconds: float = 20) -> Run:
    _wait(lambda: not runs.get(run).active, seconds)
    return runs.get(run)


def _log(runs: Registry, run: str) -> str:
    return (runs.folder(run) / "log.txt").read_text("utf8")


def test_queued_runs_are_done_one_after_another_by_one_worker(workspace: Workspace) -> None:
    runs = Registry(workspace)
    ids = [runs.submit("count", {"parts": 2, "pause": 0.1, "n": n}).id for n in range(3)]
    assert ensure_workers(workspace, module=MODULE)
    _wait(lane_lock(workspace, "batch").held_elsewhere)
    assert not ensure_workers(workspace, module=MODULE)
    ended = [_ended(runs, run) for run in ids]
    assert [(run.state, run.done, run.total, run.unit, run.error) for run in ended] == [("done", 2, 2, "parts", None)] * 3
    for before, after in pairwise(ended):
        assert before.finished is not None
        assert after.started is not None
        assert before.finished <= after.started


def test_a_run_queued_while_the_worker_is_leaving_is_not_left_behind(workspace: Workspace) -> None:
    runs = Registry(workspace)
    for n in range(6):
        run = runs.submit("count", {"parts": 1, "n": n}).id
        ensure_workers(workspace, module=MODULE)
        assert _ended(runs, run).state == "done"  # the next one is queued while this worker is about to go


def test_two_workers_started_at_once_share_the_work_without_doing_it_twice(workspace: Workspace) -> None:
    runs = Registry(workspace)
    ids = [runs.submit("count", {"parts": 1, "pause": 0.1, "n": n}).id for n in range(3)]
    for _ in range(3):
        processes.spawn(["-m", MODULE, "--workspace", str(workspace.path)], workspace.scratch / "batch-lane.log")
    assert [_ended(runs, run).state for run in ids] == ["done"] * 3
    assert all(_log(runs, run).count("made part 0") == 1 for run in ids)


def test_killed_work_is_marked_resumed_unasked_and_no_finished_part_is_redone(workspace: Workspace) -> None:
    runs = Registry(workspace)
    run = runs.submit("count", {"parts": 8, "pause": 0.1}).id
    ensure_workers(workspace, module=MODULE)
    _wait(lambda: (runs.folder(run) / "part-2").exists())
    pid = runs.get(run).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    dead = _ended(runs, run)
    assert (dead.state, dead.error) == ("failed", STOPPED)
    assert [again.id for again in resume_interrupted(workspace, module=MODULE)] == [run]
    done = _ended(runs, run)
    assert (done.state, done.attempt, done.error) == ("done", 2, None)
    log = _log(runs, run)
    assert log.count("made part 0") == 1
    assert "attempt 2" in log


def test_a_cancel_is_heard_within_a_second_and_the_next_run_goes_on(workspace: Workspace) -> None:
    runs = Registry(workspace)
    first = runs.submit("count", {"parts": 1000, "pause": 0.05}).id
    second = runs.submit("count", {"parts": 1}).id
    ensure_workers(workspace, module=MODULE)
    _wait(lambda: runs.get(first).done > 0)
    asked = time.time()
    runs.request_cancel(first)
    ended = _ended(runs, first)
    assert ended.state == "cancelled"
    assert ended.finished is not None
    assert ended.finished - asked < 1.5
    assert _ended(runs, second).state == "done"


@pytest.mark.parametrize(
    ("kind", "params", "sentence"),
    [
        ("break", {"how": "sentence"}, "The text is empty: choose another file."),
        ("break", {"how": "disk"}, "The disk is full, found while working on"),
        ("break", {"how": "memory"}, "The memory was not enough"),
        ("break", {"how": "torch memory"}, "The memory was not enough"),
        ("break", {"how": "bug"}, "Internal error: ZeroDivisionError: first line <script>; the traceback is in log.txt."),
        ("absent", {}, "Internal error: ModuleNotFoundError"),
        ("unknown", {}, "cannot do runs of the kind “unknown”"),
    ],
)
def test_every_ending_is_one_sentence(workspace: Workspace, kind: str, params: dict[str, str], sentence: str) -> None:
    from core.runs.worker import work
    from tests.fake_worker import KINDS

    runs = Registry(workspace)
    run = runs.submit(kind, params).id
    work(workspace, KINDS)  # in this process: the ending does not depend on it
    ended = runs.get(run)
    assert ended.state == "failed"
    assert ended.error is not None
    assert ended.error.startswith(sentence) or sentence in ended.error
    assert "\n" not in ended.error
    assert ("Traceback" in _log(runs, run)) == (ended.error.startswith("Internal error") or params.get("how") == "torch memory")


def test_the_lock_is_free_again_when_its_holder_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    code = f"import time, pathlib; from core.runs.locks import FileLock; lock = FileLock(pathlib.Path({str(path)!r})); "
    child = processes.spawn(["-c", code + "lock.acquire(); time.sleep(60)"], tmp_path / "log")
    lock = FileLock(path)
    _wait(lock.held_elsewhere)
    assert not lock.acquire()
    child.kill()
    _wait(lock.acquire)
    lock.release()
