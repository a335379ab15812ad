"""Asking the warm interactive worker of a workspace, and starting it when it is not there. No torch."""

import contextlib
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

from core.errors import AtlasError
from core.runs import frames, processes
from core.runs.frames import Address
from core.workspace import Workspace

SERVER = "core.runs.interactive"
START_SECONDS = 60.0
CONNECT_SECONDS = 3.0

Say = Callable[[str], None]


def call(
    workspace: Workspace, op: str, timeout: float = 120.0, *, on_progress: Say | None = None, module: str = SERVER, **args: Any
) -> dict[str, Any]:
    """Do `op` in the warm worker and return its answer; `core.runs.operations` has the operations and their arguments.

    timeout: seconds for everything, the start of the worker and the loading of a model included. `on_progress` hears a few
    words whenever what is being done changes (“loading the model”). Raises AtlasError with the worker's own sentence, or one
    that says that it could not be started, stopped, or took too long; ReadOnly where the workspace may not be written, as the worker does.
    """
    workspace.check_writable()
    deadline = time.monotonic() + timeout
    say: Say = on_progress or _silent
    try:
        try:
            return _ask(workspace, op, args, deadline, say, module)
        except _NotTaken:
            # It was leaving at that very moment, so it did nothing: once more, with a new one.
            return _ask(workspace, op, args, deadline, say, module)
    except TimeoutError:
        raise AtlasError(f"The model process did not answer within {timeout:g} seconds: try again, or use a shorter text.") from None
    except (frames.FrameError, OSError, _NotTaken):
        raise AtlasError(
            "The model process stopped while answering (perhaps out of memory): try again with a shorter text or a smaller model."
        ) from None


def begin(workspace: Workspace, op: str, *, module: str = SERVER) -> bool:
    """Let the warm worker do `op` after what it is doing, without waiting for it. Returns whether it had to be started.

    Raises AtlasError as `call` does.
    """
    there = running(workspace)
    call(workspace, "begin", START_SECONDS, module=module, of=op)
    return not there


def running(workspace: Workspace) -> bool:
    """Whether the warm worker is there now. Starts nothing."""
    connection = _try(frames.read_address(workspace))
    if connection is None:
        return False
    connection.close()
    return True


def stop(workspace: Workspace) -> bool:
    """Ask the warm worker to leave, so that its memory is free. Returns whether there was one."""
    if not running(workspace):
        return False
    call(workspace, "leave", 10.0)
    return True


class _NotTaken(Exception):
    """The connection ended before the question had arrived."""


def _ask(workspace: Workspace, op: str, args: Mapping[str, Any], deadline: float, say: Say, module: str) -> dict[str, Any]:
    connection, address = _connect(workspace, deadline, say, module)
    taken = False
    with connection:
        try:
            connection.settimeout(max(0.1, deadline - time.monotonic()))
            frames.send(connection, {"token": address.token, "op": op, "args": args})
            while True:
                answer = frames.receive(connection, frames.ANSWER_BYTES, deadline)
                if "result" in answer:
                    return answer["result"]
                if "error" in answer:
                    raise AtlasError(str(answer["error"]))
                if taken:
                    say(str(answer.get("progress", "")))
                taken = True
        except (frames.FrameError, ConnectionError):
            if taken:
                raise
            raise _NotTaken from None


def _connect(workspace: Workspace, deadline: float, say: Say, module: str) -> tuple[socket.socket, Address]:
    """A connection to the worker, which is started when nobody listens. Raises AtlasError."""
    address = frames.read_address(workspace)
    connection = _try(address)
    if connection is not None and address is not None:
        return connection, address
    say("starting the model process")
    log = workspace.scratch / "interactive.log"
    try:
        process = processes.spawn(["-m", module, "--workspace", str(workspace.path)], log)
    except OSError as error:
        raise AtlasError(f"The model process could not be started: {error.strerror or error}.") from None
    end = min(deadline, time.monotonic() + START_SECONDS)
    while time.monotonic() < end:
        address = frames.read_address(workspace)
        connection = _try(address)
        if connection is not None and address is not None:
            return connection, address
        # Leaving with 0 means that another one holds the lock and is about to listen.
        if process.poll() not in (None, 0):
            break
        time.sleep(0.05)
    last = next(iter(processes.tail(log, 1)), "it said nothing")
    raise AtlasError(f"The model process did not start ({last[:200]}): see {log}, or run `python -m core doctor`.")


def _try(address: Address | None) -> socket.socket | None:
    if address is None or not address.usable:
        return None
    with contextlib.suppress(OSError):
        return socket.create_connection(("127.0.0.1", address.port), CONNECT_SECONDS)
    return None


def _silent(_: str) -> None:
    """Nobody listens to the progress."""
