"""The command palette of every page: Ctrl+K, ⌘K or / opens it, and a page, a unit or what the search finds is a few letters and Enter away.

Pages are offered by the browser itself; units and texts are asked for while somebody types. Only the palette runs then, not the page.
"""

from collections.abc import Mapping
from typing import Any, cast

import streamlit as st

from core.errors import AtlasError
from core.findings.search.question import Hit, Question
from core.findings.search.words import Asked, excerpt, marked
from core.store.catalog import IndexInfo, find_unit, indexes
from core.ui import login, nav, state
from core.ui.component import component, nothing
from core.ui.searching import LONGEST, ONE, searching, text_of
from core.ui.server import Server
from core.ui.unit_address import jump
from core.units import UnitName
from core.workspace import Workspace

KEY = "palette"
HITS = 8
MOST_UNITS = 6
_SNIPPET = 110
_ANSWER = "palette-answer"


def palette(server: Server) -> None:
    """Put the palette on the page. Call it before the page itself, which may end early."""
    with st.sidebar:
        st.fragment(_palette)(server)


def _palette(server: Server) -> None:
    login.gate_again()
    asked = _asked()
    kept = cast("dict[str, Any] | None", st.session_state.get(_ANSWER))
    if asked is not None and (kept is None or kept["number"] != asked["number"]):
        st.session_state[_ANSWER] = kept = {"number": asked["number"], "items": answers(server.workspace, asked["text"], state.raw("unit"))}
    data = {"pages": pages(server.workspace), "answer": kept}
    result = component("palette", '<div class="palette">\n</div>')(key=KEY, data=data, on_asked_change=nothing, on_go_change=nothing)
    if isinstance(result.go, Mapping):
        go(server.workspace, cast("Mapping[str, Any]", result.go))


def pages(workspace: Workspace) -> list[dict[str, str]]:
    """What the navigation leads to: title, section, and the page's name."""
    left_out = nav.WRITING if workspace.read_only else frozenset[str]()
    return [
        {"label": title, "note": section, "page": name}
        for section, found in nav.PAGES.items() for name, title in found if name not in left_out
    ]  # fmt: skip


def answers(workspace: Workspace, text: str, here: str) -> list[dict[str, Any]]:
    """What is offered for a text beside pages: units of that name, then the best texts that have its words. here: see `units_called`."""
    text = text.strip()[:LONGEST]
    if not text:
        return []
    units = [(unit, unit.subject) for unit in units_called(workspace, text, here)]
    if not units and "/" in text and (meant := _meant(workspace, text, here)) is not None:
        units = [(meant, "not indexed here")]  # the Unit page says what is; nothing else may take its place under Enter
    found = [{"group": "Units", "label": _short(unit), "note": note, "text": [], "target": {"unit": str(unit)}} for unit, note in units]
    try:
        hits = searching(str(workspace.path)).find(Question(text), limit=HITS)
    except AtlasError as error:  # a damaged findings file: units and pages are offered all the same
        return [*found, {"group": "Found", "label": str(error), "note": "", "text": [], "target": {"search": text}}]
    return [*found, *(_offered(hit, hits.asked) for hit in hits.hits)]


def units_called(workspace: Workspace, text: str, here: str) -> list[UnitName]:
    """The units that a text may name, as the jump box reads it: `1352`, `5/1352`, `mlp.5/1352`, `resid.9/tied/12`, or the whole name.

    What is left out is taken from `here`, else from the largest index; in the other bases that read there, too. A basis may be cut short.
    """
    first = _meant(workspace, text, here)
    if first is None:
        return []
    found = [index for index in indexes(workspace) if index.published]
    parts = text.split("/")
    began = first.basis if len(parts) in (3, 4) else ""
    bases = [index.basis for index in found if index.slug == first.subject and first.site in index.published]
    named = [first, *(UnitName(first.subject, first.site, basis, first.index) for basis in bases if basis.startswith(began))]
    return [name for name in dict.fromkeys(named) if _there(workspace, name)][:MOST_UNITS]


def _meant(workspace: Workspace, text: str, here: str) -> UnitName | None:
    """The unit that a text names, whether it is there or not."""
    largest = (UnitName(index.slug, index.published[0], index.basis, 0) for index in indexes(workspace) if index.published)
    near = _parsed(here) or next(largest, None)
    return None if near is None else _jumped(near, text)


def go(workspace: Workspace, target: Mapping[str, Any]) -> None:
    """Open what was chosen in the browser. What is no target does nothing."""
    page, unit = str(target.get("page", "")), _parsed(str(target.get("unit", "")))
    if page in {each["page"] for each in pages(workspace)}:
        nav.open_page(page)
    elif unit is not None:
        explanation = str(target.get("explanation", ""))[:LONGEST]
        nav.open_page("unit", {"unit": str(unit), **({"explanation": explanation} if explanation else {})})
    elif "collection" in target:
        nav.open_page("findings", {"collection": str(target["collection"])[:LONGEST]})
    elif "search" in target:
        nav.open_page("search", {"q": str(target["search"])[:LONGEST]})


def _asked() -> dict[str, Any] | None:
    """What the browser asked last, with its number."""
    held = cast("Mapping[str, Any]", st.session_state.get(KEY) or {})
    asked = held.get("asked")
    if not isinstance(asked, Mapping):
        return None
    return {"number": str(asked.get("number", "")), "text": str(asked.get("text", ""))}


def _offered(hit: Hit, asked: Asked) -> dict[str, Any]:
    if hit.unit is None:
        target = {"collection": hit.identity}
    else:
        target = {"unit": str(hit.unit), **({"explanation": hit.identity} if hit.kind == "explanation" else {})}
    return {
        "group": "Found",
        "label": "collection" if hit.unit is None else _short(hit.unit),
        "note": "" if hit.unit is None else ONE[hit.kind],
        "text": marked(excerpt(text_of(hit), asked, _SNIPPET), asked), "target": target,
    }  # fmt: skip


def _short(unit: UnitName) -> str:
    return f"{unit.site}/{unit.index}" if unit.basis == "neurons" else f"{unit.site}/{unit.basis}/{unit.index}"


def _parsed(text: str) -> UnitName | None:
    try:
        return UnitName.parse(text)
    except AtlasError:
        return None


def _jumped(near: UnitName, text: str) -> UnitName | None:
    try:
        return UnitName.parse(jump(near, text))
    except AtlasError:
        return None


def _there(workspace: Workspace, name: UnitName) -> IndexInfo | None:
    try:
        return find_unit(workspace, name)
    except AtlasError:
        return None
