"""Addresses with more than one part, such as /unit/x, before Streamlit sees them.

No page has one, and the files that a page is made of are named relative to its address: below `/unit/` the browser would find none of
them and show an empty window.
"""

from urllib.parse import quote

from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from core.ui.nav import NOWHERE

_FILES = ("static", "media", "component", "app")
"""First parts of what Streamlit serves: its own files, those to be saved, components, and an app's files."""
_LOGIN = (["auth", "login"], ["auth", "logout"])
"""Where a browser goes on its way to a login and from it."""
_CORE = "_stcore"
_LONGEST = 200


class OneDeep:
    """ASGI middleware: a visit of an address that no page can have is sent on to the page that says so."""

    def __init__(self, app: ASGIApp, base: str = "") -> None:
        """base: the path below which the pages are, such as `atlas`."""
        self._app = app
        self._base = f"/{base}" if base else ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = str(scope.get("path", ""))
        below = path.removeprefix(self._base) if path.startswith(f"{self._base}/") else ""
        if scope["type"] == "http" and scope["method"] == "GET" and _wants_page(scope) and _is_deep(below):
            where = f"{self._base}/{NOWHERE}?path={quote(below.strip('/')[:_LONGEST], safe='')}"
            await RedirectResponse(where, 303, {"Cache-Control": "no-store"})(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _is_deep(path: str) -> bool:
    parts = [part for part in path.split("/") if part]
    return len(parts) > 1 and parts[0] not in _FILES and parts not in _LOGIN and _CORE not in parts and not path.startswith("//")


def _wants_page(scope: Scope) -> bool:
    """Whether somebody goes there, rather than a page asking for one of its files."""
    return any(name == b"accept" and b"text/html" in value for name, value in scope["headers"])
