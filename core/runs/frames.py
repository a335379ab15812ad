"""What the dashboard and the interactive worker say to each other: JSON objects with their length before them. No torch, no pickle.

A request is `{"token", "op", "args"}`. The answer is `{"progress": "taken"}`, any number of `{"progress": words}`, then
`{"result": {...}}` or `{"error": sentence}`, and the end of the connection.
"""

import json
import math
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from core.runs import processes
from core.workspace import Workspace

REQUEST_BYTES = 1 << 20
ANSWER_BYTES = 64 << 20
PROTOCOL = 2
"""Changed whenever requests or answers change, so that a worker of an older program is not asked."""

TAKEN = "taken"
"""The first progress of every answer: the question has arrived."""

_LENGTH = struct.Struct(">I")


class FrameError(Exception):
    """What came is not a frame of this protocol: too large, cut short, not JSON, or not an object."""


@dataclass(frozen=True)
class Address:
    """Where a workspace's interactive worker listens, and the secret it wants to hear."""

    port: int
    token: str
    pid: int
    start_ticks: int
    protocol: int

    @property
    def usable(self) -> bool:
        """Whether its process is there and speaks as we do; else its port may belong to anyone by now."""
        return self.protocol == PROTOCOL and processes.alive(self.pid, self.start_ticks)


def address_path(workspace: Workspace) -> Path:
    return workspace.scratch / "interactive.json"


def read_address(workspace: Workspace) -> Address | None:
    """The address left by the interactive worker, or None when there is no usable one."""
    try:
        value = json.loads(address_path(workspace).read_text("utf8"))
        return Address(int(value["port"]), str(value["token"]), int(value["pid"]), int(value["start_ticks"]), int(value["protocol"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def send(connection: socket.socket, value: Mapping[str, Any]) -> None:
    """Send one object. NaN and infinities become null. Raises OSError."""
    content = json.dumps(finite(value), ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf8", "surrogatepass")
    connection.sendall(_LENGTH.pack(len(content)) + content)


def receive(connection: socket.socket, limit: int, deadline: float) -> dict[str, Any]:
    """Receive one object of at most `limit` bytes before `deadline` (time.monotonic). Raises FrameError, OSError, TimeoutError."""
    (size,) = _LENGTH.unpack(_exactly(connection, _LENGTH.size, deadline))
    if size > limit:
        raise FrameError(f"a frame of {size:,} bytes; at most {limit:,} are taken")
    content = _exactly(connection, size, deadline)
    try:
        value = json.loads(content.decode("utf8", "surrogatepass"))
    except (ValueError, RecursionError):
        raise FrameError("not JSON") from None
    if not isinstance(value, dict):
        raise FrameError("not an object")
    return cast(dict[str, Any], value)


def finite(value: Any) -> Any:
    """The same value with NaN and infinities replaced by None, and tuples by lists: what JSON can say."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in cast(Mapping[Any, Any], value).items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [finite(item) for item in cast(Sequence[Any], value)]
    return value


def _exactly(connection: socket.socket, size: int, deadline: float) -> bytes:
    chunks: list[bytes] = []
    while size:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        connection.settimeout(left)
        chunk = connection.recv(min(size, 1 << 16))
        if not chunk:
            raise FrameError("the connection ended inside a frame")
        chunks.append(chunk)
        size -= len(chunk)
    return b"".join(chunks)
