"""The pages, their sections, and links to them."""

from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn
from urllib.parse import quote, urlencode

import streamlit as st
from streamlit.navigation.page import Page

from core.units import UnitName

_ROOT = Path(__file__).resolve().parents[2]
PAGES = {
    "Inspect": (("overview", "Overview"), ("explore", "Explore"), ("unit", "Unit"), ("try_text", "Try text")),
    "Workspace": (("runs", "Runs"),),
}


def declare() -> Page:
    """Declare the navigation and return the page that the address asks for.

    `/overview` and `/try-text` are understood as well as `/` and `/try_text`.
    """
    sections = {
        section: [st.Page(_ROOT / "pages" / f"{name}.py", title=title, default=name == "overview", url_path=name) for name, title in pages]
        for section, pages in PAGES.items()
    }
    sections["Inspect"].append(st.Page(_to_overview, title="Overview", url_path="overview", visibility="hidden"))
    return st.navigation(sections, expanded=True)


def _to_overview() -> None:
    open_page("overview")


def unit_address(unit: UnitName | str) -> str:
    """The address of a unit's page, relative to the server's root."""
    return "/unit?" + urlencode({"unit": str(unit)}, quote_via=quote, safe="/")


def address(page: str, query: Mapping[str, str]) -> str:
    """The address of a page with its query, relative to the server's root. Empty values are left out."""
    kept = {name: value for name, value in query.items() if value}
    path = "/" if page == "overview" else f"/{page}"
    return path + ("?" + urlencode(kept, quote_via=quote, safe="/") if kept else "")


def open_page(page: str, query: Mapping[str, str] | None = None) -> NoReturn:
    """Leave this page for another one, keeping the session (no reload)."""
    st.switch_page(_ROOT / "pages" / f"{page}.py", query_params=dict(query or {}))


def open_unit(unit: UnitName | str) -> NoReturn:
    """Leave this page for a unit's page."""
    open_page("unit", {"unit": str(unit)})
