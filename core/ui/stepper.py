"""Buttons and keys for the next and the previous of something. However fast they are pressed, no press is lost.

Streamlit runs a page once for several presses that come while it is busy, so the browser counts: it reports from which thing, as last
drawn, how many steps were made. That is an absolute answer, the same whether it arrives once or twice, and whichever run hears it.
Call `stepper` as the last thing of a page: its arrival tells the browser that the page has followed.
"""

from collections.abc import Callable, Mapping
from typing import Any, cast

import streamlit as st

from core.ui.component import component


def stepper(here: str, *, key: str, address: tuple[str, str], on_step: Callable[[str, int], None]) -> None:
    """Show “previous” (key k) and “next” (key j).

    here: the name of what the page shows. on_step: called before the page runs, with the name that the browser counted from and how many
    steps further to go. address: a parameter of the page's address and its value; where that is `here` written in another way, it is
    replaced by `here`, without an entry in the browser's history.
    """
    counted = f"{key}-counted"

    def changed() -> None:
        steps = cast(Mapping[str, Any] | None, st.session_state[key].get("steps"))
        if steps:
            st.session_state[counted] = {"mount": str(steps["mount"]), "count": int(steps["count"]), "told": int(steps["told"])}
            on_step(str(steps["from"]), int(steps["by"]))

    parameter, written = address
    data = {"here": here, "counted": st.session_state.get(counted), "parameter": parameter, "written": written}
    component("stepper", '<div class="stepper">\n</div>')(key=key, data=data, width="content", on_steps_change=changed)
