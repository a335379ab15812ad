"""A language model's endpoint on loopback: chat, completions with echo and log probabilities, a list of models, and faults by plan.

    with LlmEndpoint(answer=oracle) as server:
        client = Client(Endpoint(server.base_url, "tiny"))

`answer` gets a request's body and returns the whole body of the reply; `chat_reply` and `echo_reply` make one. A fault plan says what
befalls each request.
"""

import email.utils
import hashlib
import json
import math
import re
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal, Self, cast

Fault = Literal[
    "ok",
    "429",  # too many requests, with no word about when
    "429-after",  # with Retry-After in seconds
    "429-date",  # with Retry-After as a date
    "quota",  # 429 that no waiting cures
    "500",
    "stall",  # no answer for `stall` seconds
    "disconnect",  # the connection breaks in the middle of the body
    "bad-json",
    "html",  # a proxy's page, with status 200
    "no-choices",
    "401",
    "403",
    "404",
    "400",  # the request is too long
    "redirect",
    "refusal",
    "null",  # content is null
    "leak",  # 401 that repeats the key it was sent
    "no-logprobs",  # these reject one parameter when the request has it, and are "ok" when it has not
    "no-temperature",
    "no-max-tokens",
    "no-schema",
]
Body = dict[str, Any]
Answer = Callable[[Body], Body]
Plan = Sequence[Fault] | Callable[[int, Body], Fault]
"""The fault of each request in order (then "ok"), or a function of the request's number, from 0, and its body."""
Split = Callable[[str], list[tuple[str, int]]]
"""Where an echoed text's tokens begin: (token, offset) each, covering the text."""
Top = Callable[[list[str], int], dict[str, float]]
"""The log probabilities at a place, from the tokens (of which only those before it are fair to look at) and the place."""

_REJECTED: dict[str, tuple[str, str]] = {
    "no-logprobs": ("logprobs", "logprobs are not supported with reasoning models."),
    "no-temperature": (
        "temperature",
        "Unsupported value: 'temperature' does not support 0.0 with this model. Only the default (1) is supported.",
    ),
    "no-max-tokens": ("max_tokens", "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead."),
    "no-schema": ("response_format", "response_format of type json_schema is not supported by this model."),
}
_STATUS: dict[str, tuple[int, Body]] = {
    "429": (429, {"error": {"message": "Rate limit reached.", "code": "rate_limit_exceeded"}}),
    "429-after": (429, {"error": {"message": "Rate limit reached."}}),
    "429-date": (429, {"error": {"message": "Rate limit reached."}}),
    "quota": (429, {"error": {"message": "You exceeded your current quota.", "code": "insufficient_quota"}}),
    "500": (500, {"error": {"message": "The server had an error."}}),
    "401": (401, {"error": {"message": "Incorrect API key provided.", "code": "invalid_api_key"}}),
    "403": (403, {"error": {"message": "You have no access to this model."}}),
    "404": (404, {"error": {"message": "The model does not exist.", "code": "model_not_found"}}),
    "400": (400, {"error": {"message": "This model's maximum context length is 2048 tokens.", "code": "context_length_exceeded"}}),
    "redirect": (307, {}),
}


def split_words(text: str) -> list[tuple[str, int]]:
    """Words with the blank before them, runs of digits, tabs, line ends and single marks: something like a byte-pair tokenizer."""
    return [(match.group(), match.start()) for match in re.finditer(r" ?[^\W\d_]+| ?\d+|\t|\n| |.", text, re.DOTALL)]


def flat_top(tokens: list[str], place: int) -> dict[str, float]:
    """The token that is there, and "0" to "10", all equally likely."""
    names = {tokens[place], *(str(digit) for digit in range(11))}
    return dict.fromkeys(sorted(names), -math.log(len(names)))


def chat_reply(text: str | None, *, body: Body | None = None, split: Split = split_words, top: Top | None = None, **message: Any) -> Body:
    """A chat completion's body. top: log probabilities of the answer's tokens, given when `body`, the request, asks for them."""
    choice: Body = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text, "refusal": None, **message}}
    pieces = [token for token, _ in split(text or "")]
    if body and body.get("logprobs"):
        look = top or flat_top
        content: list[Body] = []
        for place, token in enumerate(pieces):
            likely = look(pieces, place)
            others = sorted(likely.items(), key=lambda item: -item[1])[: body.get("top_logprobs") or 0]
            content.append(
                {
                    "token": token,
                    "logprob": likely.get(token, -20.0),
                    "bytes": list(token.encode()),
                    "top_logprobs": [{"token": one, "logprob": logprob, "bytes": list(one.encode())} for one, logprob in others],
                }
            )
        choice["logprobs"] = {"content": content}
    asked = sum(len(split(str(message.get("content", "")))) for message in (body or {}).get("messages", []))
    return {"id": "chat-1", "object": "chat.completion", "choices": [choice], "usage": _usage(asked, len(pieces))}


def echo_reply(
    body: Body, *, split: Split = split_words, top: Top = flat_top, decode: Callable[[int], str] = chr, written: str = " end", bos: str = ""
) -> Body:
    """A completion's body for a prompt given as text or ids, with echo and log probabilities as `body` asks for them.

    written: the one token that is generated when the request allows any. bos: a special token that stands before the prompt's own.
    """
    prompt = body["prompt"]
    pieces = split(prompt) if isinstance(prompt, str) else _joined([decode(token) for token in prompt])
    if bos:
        pieces = [(bos, 0), *((token, at + len(bos)) for token, at in pieces)]
    asked = len(pieces)
    length = pieces[-1][1] + len(pieces[-1][0]) if pieces else 0
    made = [(written, length)] if body.get("max_tokens", 16) > 0 else []
    shown = pieces + made if body.get("echo") else made
    tokens = [token for token, _ in shown]
    choice: Body = {"index": 0, "finish_reason": "length", "text": "".join(tokens)}
    count = body.get("logprobs")
    if count is not None:
        first = 1 if body.get("echo") else 0
        everything = [token for token, _ in pieces + made]
        ahead = len(everything) - len(tokens)
        likely = [None if place < first else top(everything, place + ahead) for place in range(len(tokens))]
        choice["logprobs"] = {
            "tokens": tokens,
            "token_logprobs": [None if one is None else one.get(token, -20.0) for one, token in zip(likely, tokens, strict=True)],
            "top_logprobs": [one and dict(sorted(one.items(), key=lambda item: -item[1])[:count]) for one in likely],
            "text_offset": [at for _, at in shown],
        }
    return {"id": "completion-1", "object": "text_completion", "choices": [choice], "usage": _usage(asked, len(made))}


def default_answer(body: Body) -> Body:
    """The same request, the same answer: a chat is answered by the sha256 of its messages, a prompt by its echo."""
    if "prompt" in body:
        return echo_reply(body)
    digest = hashlib.sha256(json.dumps(body["messages"], sort_keys=True).encode()).hexdigest()
    return chat_reply(f"answer {digest[:12]}", body=body)


@dataclass
class LlmEndpoint:
    """The server; start it with `with`. What it saw: `bodies` (of requests for answers, in order of arrival), `authorizations`,
    `answered` (with status 200 and a whole body) and `peak`, the greatest number in flight.

    key: when given, other keys get a 401. latency: seconds that each answer takes. rate: requests a second that are let through; what
    is over the rate is refused with 429 and Retry-After, or, with over="wait", waits its turn. retry_after: seconds that "429-after"
    and "429-date" name. stall: seconds that "stall" lasts. rejects: names of parameters, each with the message of the HTTP 400 that a
    request with it gets.
    """

    answer: Answer = default_answer
    faults: Plan = ()
    models: Sequence[str] = ("tiny", "large")
    key: str | None = None
    latency: float = 0.0
    rate: float | None = None
    over: Literal["refuse", "wait"] = "refuse"
    retry_after: float = 1.0
    stall: float = 30.0
    rejects: dict[str, str] = field(default_factory=dict[str, str])
    bodies: list[Body] = field(default_factory=list[Body])
    authorizations: list[str] = field(default_factory=list[str])
    answered: int = 0
    peak: int = 0

    def __post_init__(self) -> None:
        self.lock = threading.Lock()
        self.closing = threading.Event()
        self._in_flight = 0
        self._turn = 0.0
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.endpoint = self
        self.base_url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def requests(self) -> int:
        """Requests for answers so far, whatever became of them."""
        return len(self.bodies)

    def arrive(self, body: Body, authorization: str) -> Fault:
        """Count a request, and say what befalls it."""
        with self.lock:
            number = len(self.bodies)
            self.bodies.append(body)
            self.authorizations.append(authorization)
            self._in_flight += 1
            self.peak = max(self.peak, self._in_flight)
        if callable(self.faults):
            return self.faults(number, body)
        return self.faults[number] if number < len(self.faults) else "ok"

    def leave(self) -> None:
        with self.lock:
            self._in_flight -= 1

    def wait_turn(self) -> float:
        """Seconds to wait, 0 for now, at `rate`. A fifth of a second's worth may come at once."""
        if self.rate is None:
            return 0.0
        with self.lock:
            now = time.monotonic()
            turn = max(self._turn, now - 0.2)
            if turn > now and self.over == "refuse":
                return turn - now
            self._turn = turn + 1 / self.rate
        self.closing.wait(max(0.0, turn - now))
        return 0.0


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256
    endpoint: LlmEndpoint

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone away is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Headers and body in one packet, or each answer would wait 40 ms for an acknowledgement.
    wbufsize = -1
    disable_nagle_algorithm = True

    @property
    def endpoint(self) -> LlmEndpoint:
        return cast(_Server, self.server).endpoint

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: tests read what they need from the endpoint."""

    def do_GET(self) -> None:
        endpoint = self.endpoint
        if self.path.rstrip("/") != "/v1/models":
            self._send(404, {"error": {"message": "Not found"}})
        elif not self._may():
            self._send(*_STATUS["401"])
        else:
            self._send(200, {"object": "list", "data": [{"id": name, "object": "model"} for name in endpoint.models]})

    def do_POST(self) -> None:
        endpoint = self.endpoint
        body: Body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        fault = endpoint.arrive(body, self.headers.get("Authorization", ""))
        try:
            self._answer(endpoint, body, fault)
        finally:
            endpoint.leave()

    def _answer(self, endpoint: LlmEndpoint, body: Body, fault: Fault) -> None:
        if self.path not in ("/v1/chat/completions", "/v1/completions"):
            self._send(404, {"detail": "Not Found"})
        elif not self._may():
            self._send(*_STATUS["401"])
        elif (wait := endpoint.wait_turn()) > 0:
            self._send(*_STATUS["429-after"], {"Retry-After": f"{wait:.3f}"})
        elif fault in _REJECTED and _REJECTED[fault][0] in body:
            name, message = _REJECTED[fault]
            self._send(400, {"error": {"message": message, "param": name, "code": "unsupported_parameter"}})
        elif any(body.get(name) for name in endpoint.rejects):
            self._send(400, {"error": {"message": next(words for name, words in endpoint.rejects.items() if body.get(name))}})
        elif fault == "leak":
            self._send(401, {"error": {"message": f"Bad key: {self.headers.get('Authorization')} " * 8}})
        elif fault in _STATUS:
            self._send(*_STATUS[fault], self._headers_of(fault))
        else:
            endpoint.closing.wait(endpoint.stall if fault == "stall" else endpoint.latency)
            self._answer_badly_or_well(endpoint, body, fault)

    def _answer_badly_or_well(self, endpoint: LlmEndpoint, body: Body, fault: Fault) -> None:
        reply = endpoint.answer(body)
        if fault == "no-choices":
            reply = {**reply, "choices": []}
        elif fault == "refusal":
            reply = chat_reply(None, body=body, refusal="I can't help with that.")
        elif fault == "null":
            reply = chat_reply(None, body=body)
        data = json.dumps({"model": body.get("model"), **reply}).encode()
        if fault == "bad-json":
            data = data[: len(data) // 2]
        elif fault == "html":
            data = b"<html><body>It works!</body></html>"
        if fault == "disconnect":
            self._headers(200, len(data), {})
            self.wfile.write(data[: len(data) // 2])
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        with endpoint.lock:
            endpoint.answered += 1
        self._send_bytes(200, data, {})

    def _headers_of(self, fault: Fault) -> dict[str, str]:
        endpoint = self.endpoint
        if fault == "429-after":
            return {"Retry-After": f"{endpoint.retry_after:g}"}
        if fault == "429-date":
            # A date has whole seconds; the next whole one is never too early.
            return {"Retry-After": email.utils.formatdate(math.ceil(time.time() + endpoint.retry_after), usegmt=True)}
        return {"Location": "http://127.0.0.1:9/v1"} if fault == "redirect" else {}

    def _may(self) -> bool:
        key = self.endpoint.key
        return key is None or self.headers.get("Authorization") == f"Bearer {key}"

    def _send(self, status: int, value: Body, headers: dict[str, str] | None = None) -> None:
        self._send_bytes(status, json.dumps(value).encode(), headers or {})

    def _send_bytes(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self._headers(status, len(data), headers)
        self.wfile.write(data)
        self.wfile.flush()

    def _headers(self, status: int, length: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(length), **headers}.items():
            self.send_header(name, value)
        self.end_headers()


def _joined(tokens: list[str]) -> list[tuple[str, int]]:
    found, at = list[tuple[str, int]](), 0
    for token in tokens:
        found.append((token, at))
        at += len(token)
    return found


def _usage(asked: int, written: int) -> Body:
    return {"prompt_tokens": asked, "completion_tokens": written, "total_tokens": asked + written}
