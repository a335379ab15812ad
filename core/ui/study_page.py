"""The button that saves a study as one file."""

from collections.abc import Sequence

import streamlit as st

from core.autointerp.study_tables import Record
from core.findings.report.study import study_html
from core.ui.server import Server


def save(server: Server, run: str, records: Sequence[Record], kind: str) -> None:
    """records: of the study as the page shows them; kind: of their scores. The file is made when the button is pressed."""
    st.download_button(
        "Save as a page", lambda: study_html(server.workspace, run, records, kind).encode(), f"{run}.html", "text/html", on_click="ignore",
        type="tertiary", key="study_save", help="One HTML file that opens anywhere, without a network.",
    )  # fmt: skip
