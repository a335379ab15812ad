"""`?run=` on the page that ablates and steers: a run's own parameters are put into the address in its place."""

from collections.abc import Sequence
from dataclasses import fields

import streamlit as st

from core.causal.effect_request import EffectRequest
from core.causal.steer_request import SteerRequest
from core.errors import AtlasError
from core.ui import state
from core.ui.ablate_section import positions_text
from core.ui.chosen_units import USUAL_STRENGTH, Chosen, exact, write_units
from core.ui.server import Server


def open_run(server: Server) -> None:
    """Rewrite the address and draw the page again. Raises AtlasError for a run that this page does not show."""
    asked = state.raw("run")
    if not asked:
        return
    run = server.registry.get(asked)
    if run.kind == "steer":
        steer = SteerRequest.from_params(run.params)
        write_units([Chosen(name, strength) for name, strength in zip(steer.names, steer.strengths, strict=True)])
        _write(steer, ("mode", "where", "tokens", "temperature", "top_p", "seed", "index"))
    elif run.kind == "effect" and run.params.get("text"):
        effect = EffectRequest.from_params(run.params)
        write_units([Chosen(name, USUAL_STRENGTH) for name in effect.names])
        _write(effect, ("rule", "listed", "index"))
        state.write(positions=None if effect.positions is None else positions_text(effect.positions))
    else:
        raise AtlasError(f"{run.id} neither steers nor ablates a text of its own: look at it on the Runs page.")
    state.write(run=None)
    st.rerun()


def _write(request: SteerRequest | EffectRequest, names: Sequence[str]) -> None:
    """Put the text and the parameters of these names into the address; without those that are as usual."""
    usual = {one.name: one.default for one in fields(request)}
    state.write(text=request.text)
    for name in names:
        value = getattr(request, name)
        state.write(**{name: None if value == usual[name] else exact(value) if isinstance(value, float) else value})
