"""The pages, their sections, and links to them."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn
from urllib.parse import quote, urlencode

import streamlit as st
from streamlit.navigation.page import Page
from streamlit.runtime.scriptrunner import get_script_run_ctx

from core.units import UnitName
from core.workspace import READ_ONLY_ENV

_ROOT = Path(__file__).resolve().parents[2]
PAGES = {
    "Inspect": (
        ("overview", "Overview"),
        ("explore", "Explore"),
        ("features", "Features"),
        ("unit", "Unit"),
        ("compare", "Compare"),
        ("try_text", "Try text"),
    ),
    "Cause": (("ablate_steer", "Ablate and steer"), ("ioi", "IOI")),
    "Explain": (("explain", "Explain"), ("scores", "Scores"), ("studies", "Studies"), ("rate", "Rate")),
    "Findings": (("findings", "Findings"), ("search", "Search"), ("review", "Review")),
    "Workspace": (("runs", "Runs"),),
}


WRITING = frozenset({"try_text", "ablate_steer", "rate", "review"})
"""Pages that are about starting or writing something: where neither can be done, no navigation leads to them. A kept result still opens."""
NAME = "Neuron Atlas"
FRONT = "overview"
NOWHERE = "nowhere"
"""Where `core.ui.addresses` sends whoever asks for a path with slashes; the path is in the query."""
_HERE = "_neuron_atlas_page"
_ECHOES = "_neuron_atlas_echoes"
_NOWHERE = "_neuron_atlas_nowhere"
_DOOR = "_neuron_atlas_door"
_LONGEST = 200
_Echo = tuple[str, frozenset[tuple[str, str]]]


def declare() -> Page:
    """Declare the navigation and return the page that the address asks for. The front page answers at `/` and at `/overview`.

    Where nothing may be written, pages that are about that are left out of what is shown.
    """
    left_out = WRITING if os.environ.get(READ_ONLY_ENV) else frozenset[str]()
    sections = {
        section: [
            st.Page(
                _ROOT / "pages" / f"{name}.py", title=title, default=name == FRONT, url_path=_path(name),
                visibility="hidden" if name in left_out else "visible",
            )
            for name, title in pages
        ]
        for section, pages in PAGES.items()
    }  # fmt: skip
    sections["Inspect"].append(st.Page(_to_front, title="Overview", url_path=FRONT, visibility="hidden"))
    unknown = _unknown()
    for path in {NOWHERE, unknown} - {""}:
        if "/" not in path:  # a page's path holds no slash
            sections["Inspect"].append(st.Page(_from_nowhere, title="Overview", url_path=path, visibility="hidden"))
    return st.navigation(sections, expanded=True)


def declare_door() -> Page:
    """In the place of `declare` for a visit that may see nothing: one empty page, at whatever address was asked for."""
    context = get_script_run_ctx()
    intended = (context.pages_manager.intended_page_name or "") if context is not None else ""
    # Only a fresh visit tells; later it is the page that the visit came to, or was on when it was shut out.
    path = st.session_state[_DOOR] = intended or st.session_state.get(_DOOR) or _path(st.session_state.get(_HERE, ""))
    pages = [st.Page(_empty, title=NAME, default=True, url_path="front")]
    if path not in ("", "front") and "/" not in path:
        pages.append(st.Page(_empty, title=NAME, url_path=path, visibility="hidden"))
    return st.navigation(pages, position="hidden")


def _empty() -> None:
    """`setup()` ends the run before this."""


def _path(name: str) -> str:
    """Streamlit serves the default page at `/` but keeps its path for itself: give it another, so that `/overview` stays free."""
    return "front" if name == FRONT else name


def _to_front() -> None:
    open_page(FRONT, st.query_params.to_dict())


def _from_nowhere() -> None:
    path = _unknown()
    st.session_state[_NOWHERE] = st.query_params.get("path", path)[:_LONGEST] if path == NOWHERE else path
    open_page(FRONT)


def _unknown() -> str:
    """The path that the address asks for if no page has it. Only a fresh visit tells: later the browser names pages by their ids."""
    context = get_script_run_ctx()
    path = context.pages_manager.intended_page_name or "" if context is not None else ""
    return "" if path == FRONT or path in (_path(name) for pages in PAGES.values() for name, _ in pages) else path


def nowhere() -> str:
    """The path of a page that does not exist, if it led here. Until somebody goes to another page."""
    return st.session_state.get(_NOWHERE, "")


def arrived(page: Page) -> None:
    """Called by app.py on every run. Skips an entry of the browser's history that is none of ours.

    A change of page with a query makes Streamlit push two entries: this page with the other's query, then the other page. Somebody going
    back would land on the first, which never existed; one step further back is where they came from, and one further on where they were.
    """
    here = next((name for pages in PAGES.values() for name, title in pages if title == page.title), "")
    if (here, frozenset(st.query_params.to_dict().items())) in st.session_state.get(_ECHOES, ()):
        # Somebody who was on this very page is on the way forward again.
        way = "forward" if st.session_state.get(_HERE) == here else "back"
        st.html(f"<script>history.{way}()</script>", unsafe_allow_javascript=True)
        st.stop()
    st.session_state[_HERE] = here
    if here != FRONT:
        st.session_state.pop(_NOWHERE, None)


def unit_address(unit: UnitName | str, run: str = "") -> str:
    """The address of a unit's page on this server. run: the index to read it from, else the largest."""
    return address("unit", {"unit": str(unit), "run": run})


def compare_address(*units: UnitName | str) -> str:
    """The address that sets units side by side."""
    return address("compare", {"units": ",".join(map(str, units))})


def address(page: str, query: Mapping[str, str]) -> str:
    """The address of a page on this server, with its query. Empty values are left out."""
    kept = {name: value for name, value in query.items() if value}
    path = f"{base()}/" if page == FRONT else f"{base()}/{page}"
    return path + ("?" + urlencode(kept, quote_via=quote, safe="/") if kept else "")


def base() -> str:
    """What stands before every path where a reverse proxy shows the dashboard below one: `/atlas`, or nothing."""
    path = str(st.get_option("server.baseUrlPath") or "").strip("/")
    return f"/{path}" if path else ""


def open_page(page: str, query: Mapping[str, str] | None = None) -> NoReturn:
    """Leave this page for another one, keeping the session (no reload)."""
    here = st.session_state.get(_HERE, "")
    if query and here != page:
        echoes: set[_Echo] = st.session_state.setdefault(_ECHOES, set())
        echoes.add((here, frozenset(query.items())))
    st.switch_page(_ROOT / "pages" / f"{page}.py", query_params=dict(query or {}))


def open_unit(unit: UnitName | str, run: str = "") -> NoReturn:
    """Leave this page for a unit's page."""
    open_page("unit", {"unit": str(unit), **({"run": run} if run else {})})
