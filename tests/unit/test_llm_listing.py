"""The list of an endpoint's models: what it says, or one sentence about what it did instead; the key goes nowhere else."""

import json
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from core.errors import AtlasError
from core.llm.endpoint import Endpoint
from core.llm.listing import list_models

KEY = "sk-test-0123456789abcdef0123"
Answer = Callable[[BaseHTTPRequestHandler], None]


@contextmanager
def serving(answer: Answer) -> Generator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def say(status: int, body: bytes, **headers: str) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(body)

    return answer


def listed(url: str, seconds: float = 5.0) -> list[str]:
    return list_models(Endpoint(url, "?", key_env="LISTING_TEST_KEY"), seconds)


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTING_TEST_KEY", KEY)


def test_the_models_come_sorted_and_once() -> None:
    body = json.dumps({"data": [{"id": "b"}, {"id": "a"}, {"id": "b"}, {"id": ""}]}).encode()
    with serving(say(200, body)) as url:
        assert listed(url) == ["a", "b"]


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (401, b"{}", "refused the key"),
        (404, b"nothing", "no list of models"),
        (500, b"", "no list of models"),
        (200, b"<html>", "cannot be read"),
        (200, b'{"data": [1]}', "cannot be read"),
        (200, b'{"data": null}', "cannot be read"),
        (200, b"[]", "cannot be read"),
    ],
)
def test_whatever_else_it_answers_is_one_sentence(status: int, body: bytes, said: str) -> None:
    with serving(say(status, body)) as url, pytest.raises(AtlasError, match=said) as refused:
        listed(url)
    assert KEY not in str(refused.value)


def test_the_key_is_not_sent_to_where_an_endpoint_points() -> None:
    seen: list[str] = []

    def elsewhere(request: BaseHTTPRequestHandler) -> None:
        seen.append(request.path)
        say(200, b'{"data": []}')(request)

    with serving(elsewhere) as other, serving(say(302, b"", Location=f"{other}/models")) as url, pytest.raises(AtlasError, match="302"):
        listed(url)
    assert seen == []


def test_silence_and_a_closed_port_end_in_time() -> None:
    waiting = threading.Event()
    with serving(lambda _: (waiting.wait(3), None)[1]) as url:
        with pytest.raises(AtlasError, match="did not answer"):
            listed(url, 0.3)
        waiting.set()
    with pytest.raises(AtlasError, match="did not answer"):
        listed("http://127.0.0.1:9/v1")
    with pytest.raises(AtlasError, match="no list"):
        list_models(Endpoint("in-process", "x"))
