"""The first line of every page: `server = setup()`.

A page's file may run without `app.py` (Streamlit does so when a fresh server is first asked for a page below the root), so whatever a
page relies on is set up here, as often as it is called.
"""

import os
from pathlib import Path
from typing import NoReturn

import streamlit as st

from core.errors import AtlasError, ReadOnly
from core.ui import login, theme
from core.ui.prose import sentence
from core.ui.server import Server
from core.workspace import WORKSPACE_ENV

_ICON = str(Path(__file__).parent / "icon.svg")
_APP = "_neuron_atlas_app"
_BESIDE_THE_NAME = """<style>
[data-testid="stSidebarHeader"]::before {white-space: nowrap}
[data-testid="stSidebarHeader"]::after {content: "read-only"; white-space: nowrap; color: var(--na-muted); font-size: .8rem}
</style>"""


def setup(*, notices: bool = True) -> Server:
    """Configure the page, open the workspace once per process, and return what is open.

    notices: whether what went wrong behind the pages is said. app.py leaves that to the page, which calls this once more.
    When the workspace or its cache cannot be opened, or whoever asks may not come in, the page is one sentence and the run ends here.
    """
    st.set_page_config(page_icon=_ICON, layout="wide", initial_sidebar_state="auto")
    theme.style()
    if not st.session_state.get(_APP):
        # Not under app.py: declare the navigation, which makes Streamlit start again from app.py. Under a test of one page the same
        # file starts again, finds the mark and goes on.
        st.session_state[_APP] = True
        login.navigation()
        st.rerun()
    try:
        login.gate()
        server = _server(os.environ.get(WORKSPACE_ENV))
    except AtlasError as error:
        refuse(str(error))
    for notice in list(dict.fromkeys(text for texts in list(server.notices.values()) for text in texts))[: 3 if notices else 0]:
        sentence(notice)
    return server


def beside(server: Server) -> None:
    """What stands around the navigation on every page: that nothing can be written, and who is logged in. Called once, by app.py."""
    if server.read_only:
        st.html(_BESIDE_THE_NAME)
        st.sidebar.html('<p class="na-muted na-small">Read-only: to look at and to search. Nothing can be started or changed here.</p>')
    login.who()


def mark_app() -> None:
    """Called by app.py before `setup()`: this session runs with navigation."""
    st.session_state[_APP] = True


def refuse(text: str) -> NoReturn:
    """Say in one sentence why the page cannot be shown, and end this run."""
    sentence(text)
    st.stop()


def only_to_write(server: Server) -> None:
    """Called by a page that has nothing to show where nothing can be started or written: there it is one sentence."""
    if server.read_only:
        refuse(str(ReadOnly()))


@st.cache_resource(show_spinner="Opening the workspace…", on_release=Server.close)
def _server(path: str | None) -> Server:
    return Server.start(path)
