"""The button that saves what a page shows as one HTML file. It is made when the button is pressed; what went wrong is a sentence."""

from collections.abc import Callable

import streamlit as st

from core.ui.prose import sentence
from core.ui.share_files import Job, Made

BEGIN_SECONDS, END_SECONDS = 10.0, 120.0
"""The page waits so long for the file to be begun, and to be finished, before it goes on."""


def save_page(make: Callable[[], str], file: str, *, key: str) -> None:
    """The button, as a fragment. make: the whole page; it may raise AtlasError. key: unique on the page."""
    st.fragment(_button)(make, file, key)


def _button(make: Callable[[], str], file: str, key: str) -> None:
    said: Job | None = st.session_state.pop(f"{key}-said", None)
    if said is not None and said.failed:
        sentence(said.sentence)
    job = Job(lambda: Made(make().encode()))
    st.download_button(
        "Save as a page", job.content, file, "text/html", key=key, type="tertiary", on_click=_told, args=(job, key),
        help="One HTML file that opens anywhere, without a network.",
    )  # fmt: skip


def _told(job: Job, key: str) -> None:
    job.wait(BEGIN_SECONDS, END_SECONDS)
    if job.ended.is_set():
        st.session_state[f"{key}-said"] = job
