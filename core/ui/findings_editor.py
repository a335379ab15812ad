"""The editor of a note or an explanation: save, and when somebody else saved meanwhile, both texts side by side to be made one."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import streamlit as st

from core.errors import AtlasError
from core.findings.entry import Conflict, Entry, Kind
from core.findings.findings import Findings
from core.ui.findings_author import SAID, findings, name_field, unasked
from core.ui.findings_text import by_line, was
from core.ui.prose import quiet, sentence
from core.ui.server import Server
from core.units import UnitName

WATCH_SECONDS = 3.0
_EDITING = "findings-editing"
_ASKS = {
    "note": "Markdown, and formulas between dollar signs. An image becomes a link: pages load nothing from elsewhere.",
    "explanation": "One or two sentences on what the unit responds to. “score it” then measures how well they predict it.",
}


@dataclass(frozen=True)
class Editing:
    """What is being written. entry: empty for something new; base: what the text was made from; theirs: what others saved meanwhile."""

    unit: UnitName
    kind: Kind
    entry: str = ""
    base: tuple[str, ...] = ()
    theirs: Entry | None = None

    @property
    def key(self) -> str:
        return f"findings-text-{self.kind}-{self.entry or self.unit}"


def editing(unit: UnitName) -> Editing | None:
    """What is being written about a unit in this tab."""
    found: Editing | None = st.session_state.get(_EDITING)
    return found if found is not None and found.unit == unit else None


def begin(unit: UnitName, kind: Kind, entry: Entry | None = None) -> None:
    """A button's callback: open the editor, for an entry with what holds of it now."""
    base = entry.base if entry is not None else ()
    new = Editing(unit, kind, entry.id if entry is not None else "", base)
    if entry is not None:
        st.session_state[new.key] = joined([version.text for version in entry.alternatives])
    st.session_state[_EDITING] = new


def stop() -> None:
    """Close the editor. What was typed into a new note stays until it is saved."""
    st.session_state.pop(_EDITING, None)


def editor(server: Server, now: Editing) -> None:
    """The fields, under what the others wrote if they did. Raises AtlasError."""
    if now.theirs is not None:
        _both(now.theirs)
    if unasked(server):
        name_field(server)
    # What was typed is kept while the editor is out of sight: Streamlit forgets the value of a field that is not drawn.
    kept = f"{now.key}-kept"
    if now.key not in st.session_state:
        st.session_state[now.key] = st.session_state.get(kept, "")
    label = {"note": "Note", "explanation": "Your explanation"}[now.kind]
    # Without max_chars: a browser would drop a longer text that is pasted without a word. Saving says how long it may be.
    text = st.text_area(label, key=now.key, height=140 if now.kind == "note" else 80, help=_ASKS[now.kind])
    st.session_state[kept] = text
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        verb = "Save both as one" if now.theirs is not None else "Save"
        st.button(verb, key="findings-save", type="primary", on_click=_save, args=(server, now))
        st.button("cancel", key="findings-cancel", type="tertiary", on_click=_cancel, args=(now,))
    if now.entry and now.theirs is None:
        st.fragment(_watch, run_every=WATCH_SECONDS)(findings(server), now)


def joined(texts: list[str]) -> str:
    """Two texts in one, neither twice: what stands in another one whole is left out."""
    whole = [text for text in texts if not any(text != other and text in other for other in texts)]
    return "\n\n".join(dict.fromkeys(whole))


def act(change: Callable[[], object]) -> bool:
    """Do what a button asks; why it could not be done is said once. Returns whether it was."""
    try:
        change()
    except AtlasError as error:
        st.session_state[SAID] = str(error)
        return False
    return True


def _both(theirs: Entry) -> None:
    sentence(f"{theirs.tips[0].by} saved this meanwhile. Nothing was overwritten: below are both texts, to be made one.")
    for version in theirs.tips:
        said = "took it away" if version.removed else "saved meanwhile"
        st.html(by_line(version, said) + was(version.text))


def _watch(known: Findings, now: Editing) -> None:
    """Says while somebody writes that somebody else has saved."""
    try:
        entry = known.entry(now.entry)
    except AtlasError as error:
        sentence(str(error))
        return
    if set(entry.base) != set(now.base):
        quiet(f"{entry.tips[0].by} has saved this since you began: when you save, you will see both texts.")


def _save(server: Server, now: Editing) -> None:
    text = str(st.session_state[now.key])
    try:
        known = findings(server)
        write = known.save_note if now.kind == "note" else known.explain
        write(now.unit, text, entry=now.entry or None, base=now.base)
    except Conflict as conflict:
        theirs = [version.text for version in conflict.entry.tips if not version.removed]
        # The widget's own value: both texts, theirs first.
        st.session_state[now.key] = joined([*theirs, text.strip()])
        st.session_state[_EDITING] = replace(now, base=conflict.entry.base, theirs=conflict.entry)
    except AtlasError as error:
        st.session_state[SAID] = str(error)
    else:
        _cancel(now)


def _cancel(now: Editing) -> None:
    stop()
    st.session_state.pop(now.key, None)
    st.session_state.pop(f"{now.key}-kept", None)
