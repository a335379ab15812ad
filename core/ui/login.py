"""The door: where a login is asked for, nobody sees a page who is not on the list. `setup()` asks here before it opens the workspace."""

import html
import os

import streamlit as st
from streamlit.navigation.page import Page

from core.access import LOGIN_ENV, Access, login_files, read_access
from core.errors import AtlasError
from core.findings.checks import LONGEST
from core.ui import nav
from core.ui.prose import lead, sentence

_CLOSED = "Who may come in cannot be read any more, so nobody can: ask whoever runs this server."
_WANTED = "neuron-atlas-wanted"
"""In the browser, for as long as the tab: the address that was asked for before the login, which leads to the front page."""
_RETURNED = "login-returned"
_asked_for = False


def navigation() -> Page:
    """Declare the pages for whoever may see them, and for others an empty one. Returns the page that the address asks for."""
    return nav.declare() if _is_in() else nav.declare_door()


def _is_in() -> bool:
    """Whether nobody is asked to log in, or this person did and is on the list."""
    try:
        access = _access()
    except AtlasError:
        return False
    return access is None or (bool(st.user.get("is_logged_in")) and access.refusal(st.user.to_dict()) is None)


def gate() -> None:
    """End the run here for whoever may not come in: with the way to log in, or with the sentence that says why not.

    The list is read at every visit of a page, so that a change of it counts at once. Raises AtlasError when it cannot be read.
    """
    access = _access()
    if access is None:
        return
    if not st.user.get("is_logged_in"):
        _ask(access)
        st.stop()
    refusal = access.refusal(st.user.to_dict())
    if refusal is not None:
        st.title(nav.NAME)
        sentence(refusal)
        st.button("Log out", key="log-out", on_click=st.logout)
        st.stop()


def gate_again() -> None:
    """For a fragment, which runs without its page: whoever may not come in any more is led to the gate."""
    if not _is_in():
        st.rerun(scope="app")


def name() -> str | None:
    """Who is logged in, as it stands with what they write; None where nobody has to log in.

    Raises AtlasError for whoever may not come in any more: buttons and fragments of a page that is still open do not pass the gate.
    """
    access = _access()
    if access is None:
        return None
    refusal = access.refusal(st.user.to_dict())
    if refusal is not None:
        raise AtlasError(refusal)
    told = " ".join(str(st.user.get("name") or st.user.get("email") or "").split())
    return told[: LONGEST["name"]]


def _access() -> Access | None:
    """Who may come in; None where no login is asked for. Once it was, it stays so, whatever becomes of the files. Raises AtlasError."""
    global _asked_for
    access = read_access(login_files())
    if access is None and (_asked_for or os.environ.get(LOGIN_ENV)):
        raise AtlasError(_CLOSED)
    _asked_for = access is not None
    return access


def _ask(access: Access) -> None:
    st.title(nav.NAME)
    lead("Log in to see what is here.")
    for provider in access.providers:
        st.button(f"Log in with {provider}" if provider else "Log in", key=f"log-in-{provider}", on_click=_go, args=(provider,))
    _in_the_browser(f"sessionStorage.setItem('{_WANTED}', location.href)")


def _go(provider: str) -> None:
    st.login(provider or None)


def who() -> None:
    """Who is in, if anybody had to log in, and the way out; and once, the way back to what was asked for before the login."""
    if _access() is None:
        return
    with st.sidebar.container(horizontal=True, vertical_alignment="center"):
        st.html(f'<p class="na-muted na-small"><bdi>{html.escape(str(st.user.get("email")))}</bdi></p>')
        st.button("Log out", key="log-out", type="tertiary", on_click=st.logout)
    if not st.session_state.get(_RETURNED):
        st.session_state[_RETURNED] = True
        _in_the_browser(
            f"const wanted = sessionStorage.getItem('{_WANTED}'); sessionStorage.removeItem('{_WANTED}');"
            " if (wanted && wanted !== location.href) location.replace(wanted)"
        )


def _in_the_browser(script: str) -> None:
    st.html(f"<script>{{{script}}}</script>", unsafe_allow_javascript=True)
