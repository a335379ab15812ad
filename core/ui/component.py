"""How a component of our own is mounted: `<name>.js` and `<name>.css` beside this file, with the helpers of `common.js`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.components import v2

_HERE = Path(__file__).parent


@st.cache_resource(show_spinner=False)
def component(name: str, html: str, scripts: tuple[str, ...] = (), styles: tuple[str, ...] = ()) -> Callable[..., Any]:
    """The component `name`, declared once a process. html: what its script finds inside its parent element.

    A component's script is one module without imports, as the browser gets it from memory: the shared helpers are put before it, and the
    other `scripts` and `styles` that it builds on.
    """
    css = "".join(_read(f"{one}.css") for one in (*styles, name))
    js = "".join(_read(f"{one}.js") for one in ("common", *scripts, name))
    return v2.component(f"neuron_atlas_{name}", html=html, css=css, js=js)


def nothing() -> None:
    """An event's callback that makes the browser's event run the page; the page reads the event itself."""


def _read(name: str) -> str:
    return (_HERE / name).read_text("utf8")
