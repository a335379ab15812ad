"""One dictionary in full (`?dictionary=`): what is known of it, and what can be done with it, saving and removing included."""

from collections.abc import Sequence
from typing import Any

import streamlit as st

from core.bases.curves import FILE as CURVES
from core.bases.page_limits import MAX_EXPORT, export_bytes
from core.bases.shelf import remove
from core.errors import AtlasError
from core.runs.client import call
from core.ui import model_process, nav, state, words
from core.ui.dictionary_facts import about, notes, undefined
from core.ui.dictionary_shelf import tell
from core.ui.dictionary_table import MEASURED, Entry, head, label_of, shown_metric
from core.ui.dictionary_uses import consequences, uses_of
from core.ui.dictionary_work import index, measure, under_way, why_not
from core.ui.prose import facts, heading, quiet, sentence
from core.ui.server import Server

EXPORT_SECONDS = 120.0
_REMOVING = "dictionary_removing"
"""In the session: the key of the dictionary whose removal waits to be confirmed."""
_EXPORTED = "dictionary_exported"
"""In the session: the hash of the weights that were exported last, and what the model process said of the file."""


def details(server: Server, found: Sequence[Entry]) -> None:
    """The dictionary that the address names. Raises AtlasError when it is not there."""
    key = state.raw("dictionary")
    if not key:
        return
    entry = next((one for one in found if one.key == key), None)
    if entry is None:
        raise AtlasError(f"There is no dictionary “{key[:100]}” here: choose one of the list.")
    heading(entry.info.name, f"{label_of(entry.info)} at {entry.info.site}")
    left, right = st.columns(2, gap="large")
    with left:
        facts(about(entry))
    with right:
        facts({head(name)[1].partition(":")[0]: shown_metric(entry, name) for name in MEASURED})
        for text in (*undefined(entry), *notes(entry)):
            quiet(text)
    export = _buttons(server, entry)
    if export:
        _export(server, entry)
    _exported(server, entry)
    if st.session_state.get(_REMOVING) == entry.key and not server.read_only:
        _confirm(server, entry)


def _buttons(server: Server, entry: Entry) -> bool:
    """What can be done. Returns whether it was asked to export."""
    measuring, indexing = under_way(server)
    with st.container(horizontal=True, gap="small"):
        if not server.read_only and st.button(
            "Measure again" if entry.measured else "Measure", key="measure_one", disabled=entry.key in measuring
        ):
            measure(server, [entry])
        if entry.index is not None:
            if st.button("Explore its features", key="explore_one"):
                nav.open_page("explore", {"run": entry.index.run})
        elif not server.read_only and st.button(
            "Index its features", key="index_one", disabled=entry.key in indexing, help=why_not(server, entry) or None
        ):
            index(server, entry)
        if entry.run and (server.registry.folder(entry.run) / CURVES).exists():
            st.button("Curves of its training", key="curves_one", type="tertiary", on_click=lambda: state.write(run=entry.run))
        size = export_bytes(entry.info)
        fits = size <= MAX_EXPORT
        why = f"Too large for a browser: python -m core sae export {entry.key} --out FOLDER"
        asked = not server.read_only and st.button(
            "Export for SAELens",
            key="export_one",
            type="tertiary",
            disabled=not fits,
            help=f"{words.size(size)} as a zip." if fits else why,
        )
        if not server.read_only:
            st.button("Remove", key="remove_one", type="tertiary", on_click=_ask_to_remove, args=(entry.key,))
        st.button("Close", key="close_one", type="tertiary", on_click=_close)
    return asked


def _export(server: Server, entry: Entry) -> None:
    """Have the model process write the file."""
    try:
        made = model_process.ask(
            server,
            lambda say: call(server.workspace, "export", EXPORT_SECONDS, on_progress=say, dictionary=entry.key),
            purpose="export a dictionary",
        )
    except AtlasError as error:
        sentence(str(error))
        return
    st.session_state[_EXPORTED] = made


def _exported(server: Server, entry: Entry) -> None:
    """The file that was written of these very weights, to be saved."""
    made: dict[str, Any] | None = st.session_state.get(_EXPORTED)
    if made is None or made["hash"] != entry.one.hash:
        return
    path = server.workspace.scratch / "exports" / str(made["file"])
    if not path.is_file():  # somebody emptied scratch/
        del st.session_state[_EXPORTED]
        return
    for text in made["notes"]:
        quiet(str(text))
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.download_button(
            f"Save {entry.info.name}.zip, {words.size(made['bytes'])}", path.read_bytes, f"{entry.info.name}.zip", "application/zip",
            on_click="ignore", key="save_export",
        )  # fmt: skip
        quiet(f'Unpack it, then sae_lens.SAE.load_from_disk("{entry.info.name}")')


def _confirm(server: Server, entry: Entry) -> None:
    """What becomes of what depends on it, and the button that removes it."""
    uses = uses_of(server.workspace, server.registry, entry)
    with st.container(key="removal", gap="small"):
        if uses.working:
            sentence(f"{uses.working[0]} works with {entry.info.name}: cancel it, or wait until it is done.")
        else:
            for text in consequences(entry, uses):
                quiet(text, small=False)
        with st.container(horizontal=True, gap="small"):
            if st.button(f"Remove {entry.info.name} for good", key="remove_sure", type="primary", disabled=bool(uses.working)):
                _remove(server, entry)
            st.button("Keep it", key="remove_not", on_click=_ask_to_remove, args=(None,))


def _remove(server: Server, entry: Entry) -> None:
    if uses_of(server.workspace, server.registry, entry).working:
        st.rerun()  # begun since the page was drawn
    try:
        remove(server.workspace, entry.key)
    except AtlasError as error:
        sentence(str(error))
        return
    _ask_to_remove(None)
    left = [key for key in state.raw("compare").split(",") if key != entry.key]
    state.write(dictionary=None, compare=",".join(left))
    tell(f"{entry.key} was removed.")
    st.rerun()


def _ask_to_remove(key: str | None) -> None:
    st.session_state[_REMOVING] = key


def _close() -> None:
    _ask_to_remove(None)
    state.write(dictionary=None)
