"""A viewer without a browser: speaks Streamlit's websocket protocol, so that the server does all it does for a browser and no more.

As a browser does, a viewer keeps one session, names the page on its first request and the script afterwards, and tells which messages it
still has, so that the server need not send them again.
"""

import asyncio
import random
import time
from dataclasses import dataclass, field
from types import TracebackType
from urllib.parse import quote

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from core.units import UnitName

PATIENCE_SECONDS = 30.0
_LARGEST = 64 << 20


class WrongPage(Exception):
    """The script ended, but the page is not the unit's."""


@dataclass(frozen=True)
class Seen:
    """One view: seconds from the request to the end of the script, and how many bytes came."""

    seconds: float
    bytes: int


@dataclass
class Viewer:
    """One session on one dashboard. Use it as an async context manager."""

    port: int
    _socket: ClientConnection | None = None
    _script: str = ""
    _have: set[str] = field(default_factory=set[str])

    async def __aenter__(self) -> "Viewer":
        self._socket = await connect(
            f"ws://127.0.0.1:{self.port}/_stcore/stream", max_size=_LARGEST, compression=None, open_timeout=PATIENCE_SECONDS, proxy=None
        )
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._socket is not None:
            await self._socket.close()

    async def see(self, unit: UnitName) -> Seen:
        """Open a unit's page. Raises WrongPage, TimeoutError, OSError or WebSocketException."""
        socket = self._socket
        assert socket is not None, "a Viewer is an async context manager"
        request = BackMsg()
        state = request.rerun_script
        state.query_string = f"unit={quote(str(unit), safe='')}"
        state.page_script_hash = self._script
        state.page_name = "" if self._script else "unit"
        state.cached_message_hashes.extend(self._have)
        state.context_info.timezone = "UTC"
        state.context_info.locale = "en-GB"
        state.context_info.url = f"http://127.0.0.1:{self.port}/unit"
        content = request.SerializeToString()
        heading = f"{unit.site} / {unit.basis} / {unit.index}"
        async with asyncio.timeout(PATIENCE_SECONDS):
            start = time.perf_counter()
            await socket.send(content)
            size = await self._receive(socket, heading)
        return Seen(time.perf_counter() - start, size)

    async def _receive(self, socket: ClientConnection, heading: str) -> int:
        """Take messages until the page is finished; bytes that came. A run that starts again (on the first visit) is one view."""
        size, found = 0, False
        while True:
            content = await socket.recv(decode=False)
            size += len(content)
            message = ForwardMsg.FromString(content)
            kind = message.WhichOneof("type")
            if message.metadata.cacheable:
                self._have.add(message.hash)
            if kind == "new_session":
                found = False
            elif kind == "navigation":
                self._script = message.navigation.page_script_hash
            elif kind == "delta":
                element = message.delta.new_element
                if element.HasField("exception"):
                    raise WrongPage(f"{element.exception.type}: {element.exception.message}"[:300])
                found = found or (element.HasField("html") and heading in element.html.body)
            elif kind == "page_not_found":
                raise WrongPage("the page was not found")
            elif kind == "script_finished" and message.script_finished == ForwardMsg.FINISHED_SUCCESSFULLY:
                if not found:
                    raise WrongPage(f"the page does not show {heading}")
                return size


@dataclass
class Crowd:
    """What several viewers saw: the seconds of every view, what went wrong, and how long it lasted."""

    seconds: list[float] = field(default_factory=list[float])
    errors: list[str] = field(default_factory=list[str])
    lasted: float = 0.0


async def crowd(port: int, units: list[UnitName], viewers: int, pause: float, lasting: float, seed: int) -> Crowd:
    """`viewers` people who each open a random unit, look at it for `pause` seconds, and go on, for `lasting` seconds."""
    found = Crowd()
    begin = time.perf_counter()

    async def person(number: int) -> None:
        choice = random.Random(seed * 1000 + number)
        await asyncio.sleep(choice.random() * pause)  # people do not come at the same instant
        while time.perf_counter() - begin < lasting:
            try:
                async with Viewer(port) as viewer:
                    while time.perf_counter() - begin < lasting:
                        found.seconds.append((await viewer.see(choice.choice(units))).seconds)
                        await asyncio.sleep(pause)
            except (WrongPage, TimeoutError, OSError, WebSocketException) as error:
                found.errors.append(f"{type(error).__name__}: {error}"[:300])
                await asyncio.sleep(pause)

    await asyncio.gather(*(person(number) for number in range(viewers)))
    found.lasted = time.perf_counter() - begin
    return found
