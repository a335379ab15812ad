"""A reverse proxy of one's own on loopback: it hands what is asked below a path to a server, websockets included, as nginx does."""

import contextlib
import socket
import socketserver
import threading
from collections.abc import Generator
from typing import cast
from urllib.parse import urlsplit

_HEAD = 1 << 16


@contextlib.contextmanager
def proxying(target: str, base: str) -> Generator[str]:
    """Yields the address of `base` on the proxy. Anything outside `base` is answered with 404 by the proxy itself."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.target, server.base = urlsplit(target), base
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}{base}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    target = urlsplit("")
    base = ""


class _Handler(socketserver.BaseRequestHandler):
    """One connection carries one request, or one websocket from then on."""

    def handle(self) -> None:
        server = cast(_Server, self.server)
        head = b""
        while b"\r\n\r\n" not in head:
            piece = self.request.recv(_HEAD)
            if not piece or len(head) > _HEAD:
                return
            head += piece
        lines, _, rest = head.partition(b"\r\n\r\n")
        first, *headers = lines.decode("latin-1").split("\r\n")
        path = first.split(" ")[1]
        if not (path == server.base or path.startswith((f"{server.base}/", f"{server.base}?"))):
            self.request.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return
        upgrade = any(one.lower().startswith("upgrade:") for one in headers)
        if not upgrade:
            headers = [one for one in headers if not one.lower().startswith("connection:")] + ["Connection: close"]
        target = server.target
        with socket.create_connection((str(target.hostname), int(target.port or 80)), 20) as other:
            other.settimeout(None)
            other.sendall("\r\n".join([first, *headers, "", ""]).encode("latin-1") + rest)
            back = threading.Thread(target=_pump, args=(other, self.request), daemon=True)
            back.start()
            _pump(self.request, other)
            back.join()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    """Hand on bytes until one side has had enough."""
    with contextlib.suppress(OSError):
        while piece := source.recv(_HEAD):
            sink.sendall(piece)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
