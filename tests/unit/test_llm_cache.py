"""What was paid for once is never asked for again: not by a second run, not after a kill, not by another process."""

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from core.errors import AtlasError
from core.llm.answers import ChatAnswer
from core.llm.budget import Budget, Spend
from core.llm.cache import ResponseCache, request_key
from core.llm.client import Client
from core.llm.endpoint import Endpoint
from core.llm.failures import LlmError
from core.llm.retry import Retry
from tests.llm_endpoint import LlmEndpoint

ROOT = Path(__file__).resolve().parents[2]
PLACE: dict[str, Any] = {"base_url": "http://127.0.0.1/v1", "model": "tiny", "route": "/completions", "tokens_in": 1, "tokens_out": 1}

WRITER = """
import sys
from pathlib import Path
from core.llm.cache import ResponseCache
place = dict(base_url="http://127.0.0.1/v1", model="tiny", route="/completions", tokens_in=1, tokens_out=1)
with ResponseCache(Path(sys.argv[1])) as cache:
    for number in range(int(sys.argv[2]), int(sys.argv[3])):
        # Incompressible, and larger than a page of the file.
        cache.put(f"key {number}", {"number": number, "text": "".join(chr(33 + number * i * i % 4001) for i in range(6000))}, **place)
        print(number, flush=True)
"""
ASKER = """
import asyncio, sys
from pathlib import Path
from core.llm.cache import ResponseCache
from core.llm.client import Client
from core.llm.endpoint import Endpoint
async def run():
    with ResponseCache(Path(sys.argv[2])) as cache:
        async with Client(Endpoint(sys.argv[1], "tiny", concurrency=4), cache) as client:
            await asyncio.gather(*(client.chat([{"role": "user", "content": f"{n}"}], max_tokens=9) for n in range(60)))
asyncio.run(run())
"""


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], cwd=ROOT, stdout=subprocess.PIPE, text=True)


def run(server: LlmEndpoint, path: Path, questions: range, budget: Budget | None = None, **more: Any) -> list[ChatAnswer]:
    async def ask() -> list[ChatAnswer]:
        with ResponseCache(path) as cache:
            async with Client(Endpoint(server.base_url, "tiny"), cache, budget, retry=Retry(attempts=1)) as client:
                messages = [[{"role": "user", "content": f"{n}"}] for n in questions]
                return await asyncio.gather(*(client.chat(one, max_tokens=9, **more) for one in messages))

    return asyncio.run(ask())


def test_a_second_run_asks_nothing_and_answers_the_same(tmp_path: Path) -> None:
    with LlmEndpoint() as server:
        first = run(server, tmp_path / "llm.sqlite", range(20), top_logprobs=3)
        server.faults = lambda number, body: "500"
        budget = Budget(calls=0)
        second = run(server, tmp_path / "llm.sqlite", range(20), budget, top_logprobs=3)
    assert server.requests == 20
    assert budget.spent == Spend(cached=20)
    assert [(one.text, one.tokens, one.usage) for one in second] == [(one.text, one.tokens, one.usage) for one in first]
    assert ({one.cached for one in first}, {one.cached for one in second}) == ({False}, {True})


def test_whatever_differs_in_a_request_makes_it_another(tmp_path: Path) -> None:
    path = tmp_path / "llm.sqlite"
    with LlmEndpoint() as server, LlmEndpoint() as other:
        run(server, path, range(1))
        asked: list[dict[str, Any]] = [{"temperature": 1.0}, {"n_sample": 1}, {"top_logprobs": 5}, {"schema": {"type": "object"}}]
        for different in asked:
            run(server, path, range(1), **different)
            run(server, path, range(1), **different)
        run(other, path, range(1))
    assert (server.requests, other.requests) == (1 + len(asked), 1)


def test_the_key_does_not_depend_on_the_order_of_names() -> None:
    assert request_key("u", "m", "r", {"a": 1, "b": [1, 2]}) == request_key("u", "m", "r", {"b": [1, 2], "a": 1})
    assert request_key("u", "m", "r", {"a": 1, "b": [1, 2]}) != request_key("u", "m", "r", {"a": 1, "b": [2, 1]})


def test_equal_requests_at_once_are_sent_once(tmp_path: Path) -> None:
    async def ask() -> list[ChatAnswer]:
        with ResponseCache(tmp_path / "llm.sqlite") as cache:
            async with Client(Endpoint(server.base_url, "tiny"), cache) as client:
                return await asyncio.gather(*(client.chat([{"role": "user", "content": "same"}], max_tokens=9) for _ in range(20)))

    with LlmEndpoint(latency=0.05) as server:
        answers = asyncio.run(ask())
    assert server.requests == 1
    assert len({answer.text for answer in answers}) == 1


def test_a_refusal_was_paid_for_and_is_not_asked_for_again(tmp_path: Path) -> None:
    with LlmEndpoint(faults=["refusal"]) as server:
        for _ in range(2):
            with pytest.raises(LlmError, match="I can't help with that") as caught:
                run(server, tmp_path / "llm.sqlite", range(1))
            assert caught.value.kind == "refused"
    assert server.requests == 1


def test_failures_are_not_kept(tmp_path: Path) -> None:
    with LlmEndpoint(faults=["500", "no-choices", "bad-json"]) as server:
        for _ in range(3):
            with pytest.raises(LlmError):
                run(server, tmp_path / "llm.sqlite", range(1))
        (answer,) = run(server, tmp_path / "llm.sqlite", range(1))
    assert answer.text.startswith("answer ")


def test_a_kill_in_the_middle_of_writing_loses_nothing_that_was_kept(tmp_path: Path) -> None:
    path, begin = tmp_path / "llm.sqlite", 0
    for kills in range(3):
        writer = start(WRITER, path, begin, 100_000)
        assert writer.stdout is not None
        last = -1
        for line in writer.stdout:
            last = int(line)
            if last >= begin + 40 + 17 * kills:
                break
        os.kill(writer.pid, signal.SIGKILL)
        last = max([last, *(int(line) for line in writer.stdout if line.endswith("\n"))])
        writer.wait()
        writer.stdout.close()
        with ResponseCache(path) as cache:
            for number in range(last + 1):
                kept = cache.get(f"key {number}")
                assert kept is not None
                assert (kept["number"], len(kept["text"])) == (number, 6000)
        begin = last + 1
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_two_processes_share_one_new_file(tmp_path: Path) -> None:
    path = tmp_path / "llm.sqlite"
    writers = [start(WRITER, path, begin, begin + 120) for begin in (0, 60)]
    for writer in writers:
        writer.communicate(timeout=60)
        assert writer.returncode == 0
    with ResponseCache(path) as cache:
        assert len(cache) == 180
        assert [(cache.get(f"key {number}") or {})["number"] for number in range(180)] == list(range(180))


def test_a_run_that_was_killed_is_resumed_without_repeating_a_paid_call(tmp_path: Path) -> None:
    path = tmp_path / "llm.sqlite"
    with LlmEndpoint(latency=0.02) as server:
        asker = start(ASKER, server.base_url, path)
        while server.answered < 20 and asker.poll() is None:
            time.sleep(0.005)
        os.kill(asker.pid, signal.SIGKILL)
        asker.communicate()
        before = server.requests
        server.latency = 0.0
        with ResponseCache(path) as cache:
            kept = len(cache)
        answers = run(server, path, range(60))
    assert before < 60
    assert before - 4 <= kept <= before, "at most what was in flight is lost"
    assert server.requests - before == 60 - kept
    assert sum(answer.cached for answer in answers) == kept


def test_a_damaged_a_newer_and_a_forbidden_file_are_told_in_a_sentence(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.sqlite"
    damaged.write_bytes(b"this is no database, and long enough to see that " * 100)
    with pytest.raises(AtlasError, match="is damaged"):
        ResponseCache(damaged)
    newer = tmp_path / "newer.sqlite"
    with sqlite3.connect(newer) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(AtlasError, match="newer Neuron Atlas"):
        ResponseCache(newer)
    (tmp_path / "file").write_text("")
    with pytest.raises(AtlasError):
        ResponseCache(tmp_path / "file" / "llm.sqlite")
    (tmp_path / "folder").mkdir()
    with pytest.raises(AtlasError, match="No permission"):
        ResponseCache(tmp_path / "folder")


def test_an_answer_with_odd_values_comes_back_as_it_was(tmp_path: Path) -> None:
    odd = {"text": "naïve \ud800 \x00 語", "top": [None, {"": float("-inf"), "10": -1e-6}]}
    with ResponseCache(tmp_path / "new" / "llm.sqlite") as cache:
        assert cache.get("k") is None
        cache.put("k", odd, **PLACE)
        cache.put("k", {"text": "later"}, **PLACE)
        assert json.dumps(cache.get("k")) == json.dumps(odd)
