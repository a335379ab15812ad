"""The interactive lane with a real process: one question at a time, sentences for failures, and strangers turned away."""

import json
import os
import shutil
import signal
import socket
import stat
import struct
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import pytest

from core.errors import AtlasError
from core.runs import client, frames, processes
from core.runs.frames import read_address
from core.workspace import Workspace
from tests.fake_interactive import MODULE

Call = Callable[..., dict[str, Any]]


@pytest.fixture
def call(workspace: Workspace) -> Iterator[Call]:
    """`client.call` for the worker of this test's workspace, which is stopped afterwards."""
    yield partial(client.call, workspace, timeout=20.0, module=MODULE)
    address = read_address(workspace)
    if address is not None and address.usable:
        os.kill(address.pid, signal.SIGKILL)


def _wait(condition: Callable[[], object], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def test_a_question_starts_the_worker_and_the_next_one_finds_it(workspace: Workspace, call: Call) -> None:
    assert not client.running(workspace)
    said: list[str] = []
    first = call("ping", on_progress=said.append)
    assert said == ["starting the model process"]
    answer = call("echo", text="a\udc80é\u2028", n=[1, 2.5, None])
    assert answer == {"echo": {"text": "a\udc80é\u2028", "n": [1, 2.5, None]}, "nan": None, "inf": [1.0, None]}
    assert call("ping", on_progress=said.append)["pid"] == first["pid"]
    assert len(said) == 1
    assert client.running(workspace)


def test_only_the_user_may_read_the_secret(workspace: Workspace, call: Call) -> None:
    call("ping")
    assert stat.S_IMODE(frames.address_path(workspace).stat().st_mode) == 0o600


def test_many_askers_at_once_get_one_worker_that_answers_them_one_at_a_time(workspace: Workspace, call: Call) -> None:
    answers: dict[int, dict[str, Any]] = {}
    heard: list[str] = []

    def ask(name: int) -> None:
        answers[name] = call("sleep", seconds=0.2, name=name, on_progress=heard.append)

    threads = [threading.Thread(target=ask, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer["from"] for answer in answers.values()} == {0, 1, 2, 3}
    times = sorted(answer["at"] for answer in answers.values())
    assert all(after - before > 0.19 for before, after in pairwise(times))
    assert heard.count("sleeping") == 4
    assert "waiting for 1 earlier question" in heard


def test_a_ping_is_answered_while_a_long_question_is_at_work(workspace: Workspace, call: Call) -> None:
    call("ping")
    thread = threading.Thread(target=lambda: call("sleep", seconds=1.0))
    thread.start()
    time.sleep(0.2)
    start = time.monotonic()
    assert call("ping")["waiting"] == 1
    assert time.monotonic() - start < 0.5
    thread.join()


def test_failures_come_back_as_one_sentence_and_the_worker_lives_on(workspace: Workspace, call: Call) -> None:
    pid = call("ping")["pid"]
    with pytest.raises(AtlasError, match=r"^The text is empty: write something\.$"):
        call("refuse")
    with pytest.raises(AtlasError, match=r"^Internal error: ZeroDivisionError: oh; the traceback is in"):
        call("break")
    assert call("ping")["pid"] == pid
    assert "ZeroDivisionError" in (workspace.scratch / "interactive.log").read_text("utf8")


def test_a_worker_that_dies_in_mid_answer_is_told_in_one_sentence_and_started_anew(workspace: Workspace, call: Call) -> None:
    pid = call("ping")["pid"]
    with pytest.raises(AtlasError, match="stopped while answering"):
        call("die")
    assert call("ping")["pid"] != pid


def test_a_late_answer_is_a_sentence_and_a_waiting_question_whose_asker_left_is_dropped(workspace: Workspace, call: Call) -> None:
    call("ping")
    thread = threading.Thread(target=lambda: call("sleep", seconds=1.0, name="first"))
    thread.start()
    time.sleep(0.1)
    with pytest.raises(AtlasError, match=r"did not answer within 0\.3 seconds"):
        call("sleep", timeout=0.3, seconds=30)
    thread.join()
    start = time.monotonic()
    call("echo")
    assert time.monotonic() - start < 5


def test_hostile_frames_do_not_end_it(workspace: Workspace, call: Call) -> None:
    pid = call("ping")["pid"]
    address = read_address(workspace)
    assert address is not None

    def send(content: bytes, *, length: int | None = None) -> bytes:
        with socket.create_connection(("127.0.0.1", address.port), 5) as stranger:
            stranger.sendall(struct.pack(">I", len(content) if length is None else length) + content)
            stranger.shutdown(socket.SHUT_WR)
            stranger.settimeout(5)
            received = b""
            while chunk := stranger.recv(65536):
                received += chunk
        return received

    deep = b'{"token": ' + b"[" * 100_000 + b"}"
    good = {"token": address.token, "op": "echo", "args": {}}
    assert b"a frame of 4,294,967,295 bytes" in send(b"", length=2**32 - 1)
    assert b"not JSON" in send(b"{")
    assert b"not JSON" in send(b"\xff\xfe")
    assert b"not JSON" in send(deep)
    assert b"not an object" in send(b"[1]")
    assert b"ended inside a frame" in send(b"{}", length=10)
    assert b"The secret is wrong" in send(json.dumps(good | {"token": "guess"}).encode())
    assert b"The secret is wrong" in send(json.dumps(good | {"token": 7}).encode())
    assert b"The secret is wrong" in send(b"{}")
    assert b"needs an" in send(json.dumps(good | {"args": [1]}).encode())
    assert b"needs an" in send(json.dumps(good | {"op": {}}).encode())
    assert send(b"", length=0) != b""
    assert call("ping")["pid"] == pid


def test_an_address_whose_process_is_gone_is_not_asked(workspace: Workspace, call: Call) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        stale = {"port": stranger.getsockname()[1], "token": "t", "pid": os.getpid(), "start_ticks": 1, "protocol": frames.PROTOCOL}
        frames.address_path(workspace).write_text(json.dumps(stale), "utf8")
        assert not client.running(workspace)
        assert call("ping")["pid"] != os.getpid()


def test_a_worker_that_cannot_start_is_one_sentence(workspace: Workspace) -> None:
    with pytest.raises(AtlasError, match="The model process did not start") as caught:
        client.call(workspace, "ping", 20.0, module="tests.no_such_module")
    assert "\n" not in str(caught.value)


def test_it_leaves_when_idle_when_asked_and_when_the_workspace_is_gone(workspace: Workspace, call: Call) -> None:
    processes.spawn(["-m", MODULE, "--workspace", str(workspace.path), "--idle", "0.3"], workspace.scratch / "log")
    _wait(lambda: client.running(workspace))
    _wait(lambda: not client.running(workspace))
    assert not frames.address_path(workspace).exists()

    call("ping")
    client.stop(workspace)
    _wait(lambda: not client.running(workspace))
    assert not client.stop(workspace)

    address_pid = call("ping")["pid"]
    ticks = processes.start_ticks(address_pid)
    shutil.rmtree(workspace.path)
    _wait(lambda: not processes.alive(address_pid, ticks))


def test_work_that_was_begun_goes_on_while_nobody_waits_and_questions_wait_for_it(workspace: Workspace, call: Call) -> None:
    call("ping")
    before = time.monotonic()
    client.begin(workspace, "mark", module=MODULE)
    assert time.monotonic() - before < 2
    call("echo")  # after it, in the order of arrival
    assert (workspace.scratch / "marked").exists()
