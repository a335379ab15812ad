"""The front door of the dashboard: opens the workspace, warms up and declares the navigation. `python -m core serve` starts it."""

import streamlit as st

from core.ui import login, nav
from core.ui.palette import palette
from core.ui.setup import mark_app, setup

mark_app()
page = nav.declare(menu=login.is_in())
st.set_page_config(page_title=f"{page.title} · Neuron Atlas")
server = setup()
nav.arrived(page)
palette(server)
page.run()
