"""The warm worker: a process that keeps the last used subjects loaded and answers short questions about them, one at a time.

It listens on 127.0.0.1 only and does what it is asked by whoever knows the secret in scratch/interactive.json, which only the
user may read. `core.runs.client` starts it. Torch is imported with the first question that needs it.
"""

import argparse
import contextlib
import hmac
import json
import os
import queue
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from dataclasses import asdict
from typing import Any, Protocol, cast

from core.errors import AtlasError, explain_failure, explain_os_error
from core.runs import frames, processes
from core.runs.frames import Address
from core.runs.locks import FileLock
from core.workspace import Workspace, write_atomic

IDLE_SECONDS = 30 * 60.0
REQUEST_SECONDS = 10.0
CONNECTIONS = 32

Say = Callable[[str], None]


class Operations(Protocol):
    """What the server offers: a table of functions `(args, say) -> answer`, see `core.runs.operations`."""

    def __call__(self, op: str, args: Mapping[str, Any], say: Say) -> dict[str, Any]: ...


class Server:
    """One workspace's interactive worker. `operations` runs in a single thread: one question at a time, in order of arrival."""

    def __init__(self, workspace: Workspace, operations: Operations, idle_seconds: float = IDLE_SECONDS) -> None:
        self._workspace = workspace
        self._operations = operations
        self._idle_seconds = idle_seconds
        self._token = secrets.token_urlsafe(32)
        self._places = threading.BoundedSemaphore(CONNECTIONS)
        self._executor = ThreadPoolExecutor(1, "operations")
        self._leaving = threading.Event()
        self._lock = threading.Lock()
        self._waiting = 0
        self._last = time.monotonic()

    def serve(self) -> None:
        """Answer until idle for long, asked to leave, or the workspace is gone. Raises AtlasError."""
        with socket.create_server(("127.0.0.1", 0), backlog=CONNECTIONS) as listener:
            listener.settimeout(0.5)
            self._publish(listener.getsockname()[1])
            try:
                while not self._over():
                    with contextlib.suppress(TimeoutError, ConnectionError):
                        connection, _ = listener.accept()
                        threading.Thread(target=self._take, args=(connection,), daemon=True).start()
            finally:
                self._withdraw()
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _over(self) -> bool:
        idle = self._waiting == 0 and time.monotonic() - self._last > self._idle_seconds
        return idle or self._leaving.is_set() or not frames.address_path(self._workspace).exists()

    def _publish(self, port: int) -> None:
        """Only the user may read the address: it has the secret. Written so from the first byte."""
        path = frames.address_path(self._workspace)
        content = json.dumps(
            asdict(Address(port, self._token, os.getpid(), processes.start_ticks(os.getpid()) or 0, frames.PROTOCOL))
        ).encode()
        before = os.umask(0o177)
        try:
            write_atomic(path, content)
        except OSError as error:
            raise explain_os_error(error, "starting the model process") from None
        finally:
            os.umask(before)

    def _withdraw(self) -> None:
        address = frames.read_address(self._workspace)
        if address is not None and address.token == self._token:
            frames.address_path(self._workspace).unlink(missing_ok=True)

    def _take(self, connection: socket.socket) -> None:
        """One connection: one question. Whatever a stranger sends, the worst that happens is that the connection ends."""
        with connection:
            if not self._places.acquire(blocking=False):
                return
            try:
                with contextlib.suppress(OSError):
                    self._answer(connection)
            finally:
                self._places.release()

    def _answer(self, connection: socket.socket) -> None:
        try:
            request = frames.receive(connection, frames.REQUEST_BYTES, time.monotonic() + REQUEST_SECONDS)
        except frames.FrameError as error:
            frames.send(connection, {"error": f"The question could not be read: {error}."})
            return
        token, op, args = request.get("token"), request.get("op"), request.get("args")
        if not isinstance(token, str) or not hmac.compare_digest(token.encode("utf8", "surrogatepass"), self._token.encode()):
            frames.send(connection, {"error": "The secret is wrong: this process answers only to its own workspace."})
            return
        if not isinstance(op, str) or not isinstance(args, dict):
            frames.send(connection, {"error": "The question needs an “op” and its “args”."})
            return
        self._last = time.monotonic()
        frames.send(connection, {"progress": frames.TAKEN})
        if op in ("ping", "leave"):
            frames.send(connection, {"result": {"pid": os.getpid(), "waiting": self._waiting}})
            if op == "leave":
                self._leaving.set()
            return
        if op == "begin":
            self._begin(str(cast(dict[str, Any], args).get("of")))
            frames.send(connection, {"result": {}})
            return
        connection.settimeout(REQUEST_SECONDS)
        frames.send(connection, self._in_turn(connection, op, cast(dict[str, Any], args)))

    def _begin(self, op: str) -> None:
        """Queue an operation whose answer nobody waits for."""
        with self._lock:
            self._waiting += 1
        self._executor.submit(self._do, op, {}, _unheard).add_done_callback(self._begun)

    def _begun(self, _: Future[dict[str, Any]]) -> None:
        with self._lock:
            self._waiting -= 1
            self._last = time.monotonic()

    def _in_turn(self, connection: socket.socket, op: str, args: Mapping[str, Any]) -> dict[str, Any]:
        """Wait for the question's turn and answer, telling the asker what is being done. Raises OSError when the asker is gone."""
        words: queue.SimpleQueue[str] = queue.SimpleQueue()
        with self._lock:
            ahead = self._waiting
            self._waiting += 1
        if ahead:
            words.put(f"waiting for {ahead} earlier question{'s' if ahead > 1 else ''}")
        future: Future[dict[str, Any]] = self._executor.submit(self._do, op, args, words.put)
        try:
            while True:
                with contextlib.suppress(NotYet):
                    return future.result(timeout=0.05 if words.empty() else 0)
                if self._gone(connection):
                    raise ConnectionResetError
                with contextlib.suppress(queue.Empty):
                    frames.send(connection, {"progress": words.get_nowait()})
        finally:
            future.cancel()
            with self._lock:
                self._waiting -= 1
                self._last = time.monotonic()

    def _do(self, op: str, args: Mapping[str, Any], say: Say) -> dict[str, Any]:
        try:
            return {"result": self._operations(op, args, say)}
        except Exception as error:  # noqa: BLE001 - becomes the asker's sentence; standard error is the log
            return {"error": explain_failure(error, f"doing “{op}”", sys.stderr.write, "scratch/interactive.log")}

    @staticmethod
    def _gone(connection: socket.socket) -> bool:
        """Whether the asker has closed the connection, without waiting."""
        connection.setblocking(False)
        try:
            return connection.recv(1, socket.MSG_PEEK) == b""
        except BlockingIOError:
            return False
        finally:
            connection.settimeout(REQUEST_SECONDS)


def _unheard(_: str) -> None:
    """Nobody listens."""


def run(workspace: Workspace, operations: Operations, idle_seconds: float = IDLE_SECONDS) -> None:
    """Serve the workspace unless another process already does. Raises AtlasError."""
    with FileLock(workspace.scratch / "interactive.lock") as lock:
        if lock.acquire():
            Server(workspace, operations, idle_seconds).serve()


def main(argv: list[str] | None = None) -> int:
    """`python -m core.runs.interactive --workspace FOLDER [--idle SECONDS]`."""
    parser = argparse.ArgumentParser(prog="core.runs.interactive", description="Answer short questions about loaded models.")
    parser.add_argument("--workspace", required=True)
    parser.add_argument("--idle", type=float, default=IDLE_SECONDS)
    arguments = parser.parse_args(argv)
    try:
        workspace = Workspace.open(arguments.workspace)
        run(workspace, _model_operations(workspace), arguments.idle)
    except AtlasError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    # A question may still be at work in a thread; nobody waits for its answer any more.
    sys.stderr.flush()
    os._exit(0)


def _model_operations(workspace: Workspace) -> Operations:
    """The real operations, whose imports (torch) wait for the first question: the process must listen at once."""
    made: list[Operations] = []

    def operations(op: str, args: Mapping[str, Any], say: Say) -> dict[str, Any]:
        if not made:
            say("starting torch")
            from core.runs.operations import ModelOperations

            made.append(ModelOperations(workspace))
        return made[0](op, args, say)

    return operations


if __name__ == "__main__":
    sys.exit(main())
