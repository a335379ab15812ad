"""The front door of the dashboard: opens the workspace, warms up and declares the navigation. `python -m core serve` starts it."""

import streamlit as st

from core.ui import login, nav
from core.ui.charts import save_buttons
from core.ui.page_link import page_link
from core.ui.palette import palette
from core.ui.setup import beside, mark_app, setup

mark_app()
page = login.navigation()
st.set_page_config(page_title=nav.NAME if page.title == nav.NAME else f"{page.title} · {nav.NAME}")
server = setup(notices=False)
nav.arrived(page)
beside(server)
palette(server)
page_link()
save_buttons()
page.run()
