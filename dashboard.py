"""What `python -m core serve` starts: the pages of app.py behind one rule about addresses, on the port that is given.

`streamlit run app.py` shows the same pages without that rule.
"""

import atexit
import os
import shutil
import signal
import sys
from pathlib import Path

import streamlit as st
from starlette.middleware import Middleware
from streamlit import net_util
from streamlit.runtime.pages_manager import PagesManager

from core.access import login_files
from core.fence import fence
from core.ui.addresses import OneDeep
from core.workspace import READ_ONLY_ENV, WORKSPACE_ENV

# app.py declares its pages, so the folder `pages/` is not Streamlit's to list. `st.navigation` says so too, but when it is first called the
# first visit has been answered already, with a window “Page not found” for any path that Streamlit did not find in that folder.
PagesManager.uses_pages_directory = False

# Where another site tries to open a websocket, Streamlit asks a server on the internet for this machine's address, to compare. Nobody is
# asked here: such a site is refused.
net_util.get_external_ip = lambda: None


def run(port: int, host: str = "127.0.0.1", base: str = "") -> None:
    """Serve until the process is asked to end, and then end in order: what it started is ended too.

    host: the address to listen at. base: the path below which the pages are, for a reverse proxy.
    """
    asked: list[int] = []

    def end(number: int, _: object) -> None:
        """The server shuts down and then raises the signal again."""
        asked.append(number)
        sys.exit(0)

    def leave_at_once() -> None:
        """Without taking the interpreter apart: open tabs hold a cursor, which DuckDB would report as a leak, in forty lines."""
        if asked:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0)

    atexit.register(leave_at_once)  # the first to be registered is the last to be called
    if own := os.environ.get(READ_ONLY_ENV):
        atexit.register(shutil.rmtree, own, ignore_errors=True)
        fence(Path(os.environ[WORKSPACE_ENV]))
    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGTERM, end)
    app = st.App(Path(__file__).with_name("app.py"), middleware=[Middleware(OneDeep, base)])
    app.run(
        config={
            "server.address": host,
            "server.port": port,
            "server.baseUrlPath": base,
            "secrets.files": [str(path) for path in login_files()],
            "server.headless": True,
            "browser.gatherUsageStats": False,
        }
    )


if __name__ == "__main__":
    run(int(sys.argv[1]), *sys.argv[2:])
