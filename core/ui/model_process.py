"""Asking the model process from a page: what it is doing is shown while the page waits."""

import html
from collections.abc import Callable
from typing import TypeVar

import streamlit as st

from core.errors import AtlasError
from core.runs.client import running
from core.ui.server import BACKGROUND_ENV, Server

T = TypeVar("T")
Say = Callable[[str], None]


def ask(server: Server, question: Callable[[Say], T], *, purpose: str) -> T:
    """What `question` returns, which is given a function to say what is being done. purpose: completes “start it without that to …”.

    Raises AtlasError, also when there is no model process and this dashboard may start none.
    """
    if not server.background and not running(server.workspace):
        raise AtlasError(
            f"No model process runs, and this dashboard was started with {BACKGROUND_ENV}=off: start it without that to {purpose}."
        )
    place = st.empty()

    def say(doing: str) -> None:
        place.html(f'<div class="na-wait" role="status"><i></i><span>{html.escape(doing[:1].upper() + doing[1:])}…</span></div>')

    say("asking the model process")
    try:
        return question(say)
    finally:
        place.empty()
