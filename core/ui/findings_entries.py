"""Notes and explanations of a unit one under another, each with its author, its history and what can be done."""

import streamlit as st

from core.findings.entry import Entry, Version
from core.ui import explain_unit, words
from core.ui.findings_author import findings
from core.ui.findings_editor import act, begin, editing, editor
from core.ui.findings_text import by_line, prose, was
from core.ui.prose import quiet, sentence
from core.ui.server import Server
from core.units import UnitName

LAST = "findings-last"
"""The unit and the entry that this tab changed last, and what it was made: it can be taken back."""
SCORE = "findings-score"
_HISTORY = "findings-history"
LONGEST_SHOWN = 600


def text_entries(server: Server, unit: UnitName, entries: list[Entry]) -> None:
    """Notes and explanations, the one changed last first. Raises AtlasError."""
    now = editing(unit)
    for entry in entries:
        with st.container(key=f"nf-entry-{entry.id}"):
            if now is not None and now.entry == entry.id:
                editor(server, now)
            else:
                _shown(entry)
                _acts(server, unit, entry)
            if st.session_state.get(_HISTORY) == entry.id:
                history(findings(server).history(entry.id))


def history(versions: list[Version]) -> None:
    """Every version, the newest first."""
    for version in versions[:50]:
        said = "took it away" if version.removed else "took a change back" if version.restores else "" if version.parents else "began"
        many = "brought two versions together" if len(version.parents) > 1 else ""
        st.html(by_line(version, said, many) + was(clipped(version.text)))
    if len(versions) > 50:
        quiet(f"{words.count(len(versions) - 50, 'older version')} are kept too: python -m core findings history lists them.")


def clipped(text: str, limit: int = LONGEST_SHOWN) -> str:
    """The beginning of a long text."""
    return text if len(text) <= limit else f"{text[: limit - 1].rstrip()}…"


def remember(unit: UnitName, entry: Entry | None) -> None:
    """Keep what was changed, so that the section can offer to take it back."""
    if entry is not None:
        st.session_state[LAST] = (unit, entry.id, entry.base)


def _shown(entry: Entry) -> None:
    sides = entry.alternatives
    if len(sides) > 1:
        sentence(f"{len(sides)} versions hold side by side since two workspaces were brought together: “edit” shows both, to be made one.")
    for place, version in enumerate(sides):
        prose(version.text, f"{entry.id}-{place}")
        edited = "edited" if version.parents else ""
        st.html(by_line(version, "own explanation" if entry.kind == "explanation" else "", edited))


def _acts(server: Server, unit: UnitName, entry: Entry) -> None:
    opened = st.session_state.get(_HISTORY) == entry.id
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key=f"nf-acts-{entry.id}"):
        if not server.read_only:
            st.button("edit", key=f"nf-edit-{entry.id}", type="tertiary", on_click=begin, args=(unit, entry.kind, entry))
        if entry.kind == "explanation" and len(entry.alternatives) == 1 and not server.read_only:
            st.button(
                "score it", key=f"nf-score-{entry.id}", type="tertiary", on_click=_score, args=(unit, entry),
                help="How well it predicts the unit's activations, as one of the explanations above.",
            )  # fmt: skip
        st.button(
            "close history" if opened else "history", key=f"nf-history-{entry.id}", type="tertiary", on_click=_toggle, args=(entry.id,)
        )
        if len(entry.alternatives) == 1 and not server.read_only:
            st.button(
                "undo change" if entry.current.parents else "remove",
                key=f"nf-undo-{entry.id}", type="tertiary", on_click=_take_back, args=(server, unit, entry),
                help="Writes the version before again; the history keeps all of them." if entry.current.parents else None,
            )  # fmt: skip
            if entry.current.parents:
                st.button("remove", key=f"nf-remove-{entry.id}", type="tertiary", on_click=_remove, args=(server, unit, entry))


def _toggle(identity: str) -> None:
    st.session_state[_HISTORY] = None if st.session_state.get(_HISTORY) == identity else identity


def _take_back(server: Server, unit: UnitName, entry: Entry) -> None:
    act(lambda: remember(unit, findings(server).undo(entry.id, base=entry.base)))


def _remove(server: Server, unit: UnitName, entry: Entry) -> None:
    act(lambda: remember(unit, findings(server).remove(entry.id, base=entry.base)))


def _score(unit: UnitName, entry: Entry) -> None:
    """Carry the words to the form that scores them."""
    st.session_state[explain_unit.ACTION] = explain_unit.MINE
    st.session_state[f"explain-mine-{unit}"] = entry.current.text
    st.session_state[SCORE] = True
