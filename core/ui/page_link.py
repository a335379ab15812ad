"""The button that copies the address of the page as it stands: every page's state is in its address."""

import streamlit as st

from core.ui.component import component


def page_link() -> None:
    """Put the button above the page's title. Call it before the page itself, which may end early."""
    with st.container(key="page-link"):
        component("page_link", '<div class="page-link">\n</div>')(key="page-link-button", data={}, width="content")
