"""Addresses that no page can have are sent on; everything else reaches Streamlit as it came."""

import asyncio
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from core.ui.addresses import OneDeep

PAGE = "text/html,application/xhtml+xml,*/*;q=0.8"


def visit(path: str, *, accept: str = PAGE, method: str = "GET", kind: str = "http", base: str = "") -> dict[str, str] | None:
    """The headers of the redirection, None where the request went through."""
    passed: list[Scope] = []
    sent: list[Message] = []

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        passed.append(scope)

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope: dict[str, Any] = {"type": kind, "method": method, "path": path, "headers": [(b"accept", accept.encode())]}
    asyncio.run(OneDeep(inner, base)(scope, receive, send))
    if passed:
        assert passed == [scope]
        assert sent == []
        return None
    assert sent[0]["status"] == 303
    return {name.decode(): value.decode() for name, value in sent[0]["headers"]}


@pytest.mark.parametrize(("path", "where"), [
    ("/unit/x", "unit%2Fx"),
    ("/unit/tiny/mlp.1/neurons/4", "unit%2Ftiny%2Fmlp.1%2Fneurons%2F4"),
    ("/a/b/", "a%2Fb"),
    ("/a//b", "a%2F%2Fb"),
    ("/a/<script>", "a%2F%3Cscript%3E"),
    ("/a/\r\nSet-Cookie: x", "a%2F%0D%0ASet-Cookie%3A%20x"),
    ("/a/" + "ü" * 500, "a%2F" + "%C3%BC" * 198),
])  # fmt: skip
def test_a_path_of_several_parts_is_sent_on_and_named(path: str, where: str) -> None:
    headers = visit(path)
    assert headers is not None
    assert headers["location"] == f"/nowhere?path={where}"
    assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "path",
    ["/", "/unit", "/unit/", "/strange", "//evil.example/x", "/static/js/x.js", "/media/x.zip", "/component/a/b", "/_stcore/health",
     "/unit/_stcore/host-config", "/app/static/x.png", "/auth/login", "/auth/logout", "/oauth2callback"],
)  # fmt: skip
def test_pages_and_files_go_through(path: str) -> None:
    assert visit(path) is None


def test_only_a_visit_is_sent_on() -> None:
    assert visit("/unit/x", accept="*/*") is None
    assert visit("/unit/x", method="POST") is None
    assert visit("/unit/x", kind="websocket") is None


@pytest.mark.parametrize(("path", "where"), [
    ("/lab/atlas/unit/x", "unit%2Fx"),
    ("/lab/atlas/auth/other", "auth%2Fother"),
    ("/lab/atlas/lab/atlas/x", "lab%2Fatlas%2Fx"),
])  # fmt: skip
def test_below_a_base_path_only_what_follows_it_counts(path: str, where: str) -> None:
    headers = visit(path, base="lab/atlas")
    assert headers is not None
    assert headers["location"] == f"/lab/atlas/nowhere?path={where}"


@pytest.mark.parametrize(
    "path", ["/lab/atlas", "/lab/atlas/", "/lab/atlas/unit", "/lab/atlas/static/js/x.js", "/lab/atlas/auth/login", "/lab/atlasx/y", "/a/b"]
)
def test_pages_below_a_base_path_go_through_and_what_is_beside_it_is_not_ours(path: str) -> None:
    assert visit(path, base="lab/atlas") is None
