"""Who writes: the name that what is written in this browser carries.

Where people log in it is theirs. Elsewhere it is asked once, and the first answer becomes the workspace's usual one.
"""

import streamlit as st

from core.errors import AtlasError
from core.findings.checks import LONGEST, line
from core.findings.findings import Findings
from core.ui import login
from core.ui.server import Server

SAID = "findings-said"
"""Why the last button did nothing, said once."""
_AUTHOR, _FIELD = "findings-author", "findings-name"


def findings(server: Server) -> Findings:
    """The workspace's findings, written under the name given in this visit, else that of the login, else the usual one.

    Raises AtlasError for whoever may not come in any more.
    """
    name = login.name()
    return Findings(server.workspace, st.session_state.get(_AUTHOR, name))


def unasked(server: Server) -> bool:
    """Whether nobody has ever said who writes here. Raises AtlasError."""
    return _AUTHOR not in st.session_state and login.name() is None and findings(server).usual_author is None


def name_field(server: Server) -> None:
    """Asks who writes. Raises AtlasError."""
    st.session_state[_FIELD] = findings(server).author
    st.text_input(
        "Your name", key=_FIELD, placeholder="someone", max_chars=LONGEST["name"], width=220, on_change=_named, args=(server,),
        help="Stands with what you write from now on. Left empty, you are someone.",
    )  # fmt: skip


def _named(server: Server) -> None:
    try:
        name = line(str(st.session_state[_FIELD]), "name")
        if login.name() is None and findings(server).usual_author is None:
            findings(server).set_usual_author(name)
    except AtlasError as error:
        st.session_state[SAID] = str(error)
    else:
        st.session_state[_AUTHOR] = name
