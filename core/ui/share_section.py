"""“Share”: some units as a file to save. It is made when its button is pressed, and what went wrong is one sentence on the page."""

from dataclasses import replace

import streamlit as st

from core.findings.listing import Wanted, listed
from core.ui import words
from core.ui.findings_author import findings
from core.ui.findings_list import everything
from core.ui.prose import quiet, sentence
from core.ui.server import Server
from core.ui.share_files import FORMATS, Choice, Job, file_stem, make

BEGIN_SECONDS, END_SECONDS = 10.0, 600.0
"""The page waits so long for a file to be begun, and to be finished, before it goes on without a word on what became of it."""
_SAID = "share-said"


def share(server: Server, choice: Choice, *, key: str, what: str) -> None:
    """A fold with the kinds of files, as a fragment. what: is shared, in words. Nothing is made before a button is pressed."""
    st.fragment(_section)(server, choice, key, what)


def share_collection(server: Server, identity: str) -> None:
    """The units of a collection, with its title and description. Raises AtlasError."""
    known = findings(server)
    found = known.collections.find(identity)
    if found.units:
        choice = Choice(tuple(found.units), known, title=found.title, about=found.description, collections=(found.id,))
        share(server, choice, key="collection", what="this collection")


def share_listed(server: Server, wanted: Wanted) -> None:
    """The units of which the Findings page lists something. Raises AtlasError."""
    known = findings(server)
    listed_units = (entry.unit for entry in listed(known, wanted, everything(server)))
    if units := tuple(dict.fromkeys(unit for unit in listed_units if unit is not None)):
        share(server, Choice(units, known), key="listed", what="this unit" if len(units) == 1 else f"these {len(units):,} units")


def _section(server: Server, choice: Choice, key: str, what: str) -> None:
    fold = st.expander(f"Share {what}: a file for others", key=f"{key}-share", on_change="rerun")
    if not fold.open:
        return
    with fold:
        wanted = st.selectbox("As", list(FORMATS), key=f"{key}-format", format_func=lambda name: FORMATS[name].label, width=320)
        chosen = FORMATS[wanted]
        if chosen.lacks:
            quiet("It cannot carry: " + "; ".join(chosen.lacks) + ".")
        if chosen.wish and choice.findings is not None and not st.toggle("with what people wrote", True, key=f"{key}-words"):
            choice = replace(choice, findings=None)
        said: Job | None = st.session_state.pop(_SAID, None)
        if said is not None and said.failed:
            sentence(said.sentence)
        elif said is not None:
            quiet(said.sentence)
        job = Job(lambda: make(server.workspace, wanted, choice))
        file = file_stem(choice) + chosen.suffix
        st.download_button(
            f"Save {words.count(len(choice.units), 'unit')}", job.content, file, chosen.mime, key=f"{key}-save", type="primary",
            on_click=_told, args=(job,),
        )  # fmt: skip


def _told(job: Job) -> None:
    """A callback: the file is being made in another thread meanwhile; the page waits, to say what became of it."""
    job.wait(BEGIN_SECONDS, END_SECONDS)
    if job.ended.is_set():
        st.session_state[_SAID] = job
