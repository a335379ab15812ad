"""“Steer”: the model goes on with a text by itself and with its units changed, side by side, while it writes and afterwards."""

import csv
import io
from collections.abc import Sequence
from typing import Any

import streamlit as st

from core.causal import steer_request as asked
from core.causal.steer_request import SteerRequest
from core.errors import AtlasError
from core.runs.registry import Run
from core.store.steered import SIDES, Steered, load_steered
from core.store.texts import load_vocab
from core.ui import asked_run, state, words
from core.ui.address_fields import AddressFields
from core.ui.chosen_units import Chosen
from core.ui.marked_text import Marks, marked_text
from core.ui.next_tokens import Side, next_tokens
from core.ui.prose import heading, quiet, sentence
from core.ui.server import Server
from core.ui.spreadsheet import inert
from core.vocab import Vocab

FIELDS = ("mode", "where", "tokens", "temperature", "top_p", "seed")
"""What the address has beside units, strengths and text."""
_NAMES = ("original", "steered")
_STOPPED = "It was stopped: what it wrote until then is kept below, and “Go on” writes the rest."


def steer_section(server: Server, units: Sequence[Chosen], text: str) -> None:
    """Fields, buttons and the two texts."""
    heading("Steer", "the model goes on with the text; strength is in maxima of the unit over its own text")
    fields = AddressFields("steer", ("step",))
    made = _fields(fields)
    asked_run.said()
    try:
        fields.check()
        names, strengths = tuple(str(unit.name) for unit in units), tuple(unit.strength for unit in units)
        request = SteerRequest(names, strengths, text, index=state.raw("index") or None, **made)
        driven = request.driven(server.workspace)
    except AtlasError as error:
        if units:
            sentence(str(error))
        else:
            then = "what was kept of driving it is shown" if server.read_only else "the model can write with it driven"
            quiet(f"Add a unit above: then {then}.")
        if not server.read_only:
            st.button("Write", key="steer-start", disabled=True)
        return
    told = ", ".join(
        f"{unit.name.site}/{unit.name.index}: {'+' if made['mode'] == 'add' and unit.amount >= 0 else ''}{words.number(unit.amount)}"
        for unit in driven
    )
    quiet(f"In the units' own activations: {told}.")
    params = request.to_params()
    run = server.registry.newest("steer", params)
    if not server.read_only and (run is None or not run.active):
        label = "Write" if run is None else "Write again" if run.state == "done" else "Go on" if run.state == "cancelled" else "Try again"
        kind = "secondary" if label == "Write again" else "primary"
        st.button(label, key="steer-start", type=kind, on_click=asked_run.start, args=(server, "steer", params))
    others = asked_run.others_at_work(server, "steer", run)
    active = frozenset(one.id for one in [*others, *([run] if run is not None else [])] if one.active)
    st.fragment(_live, run_every=asked_run.LIVE_SECONDS if active else None)(server, None if run is None else run.id, active)


def _fields(fields: AddressFields) -> dict[str, Any]:
    """The request's other parameters as they stand in the fields."""
    with st.container(key="steer-fields"):
        # Two rows: a window of a laptop would cut the choices off.
        places = [*st.columns([1, 1.6]), *st.columns(4, vertical_alignment="bottom")]
    with places[0]:
        mode = fields.choice(
            "mode", "How", asked.MODES, "add", names=asked.MODE_NAMES.__getitem__, segmented=True,
            help="Strength × maximum is added to the unit's activation, or takes its place.",
        )  # fmt: skip
    with places[1]:
        where = fields.choice(
            "where", "Where", asked.WHERE, "all", names=asked.WHERE_NAMES.__getitem__, segmented=True,
            help="At every position, your text's included, or only at those of tokens that it writes: then the first one is the same.",
        )  # fmt: skip
    with places[2]:
        tokens = fields.number("tokens", "Tokens", 1, asked.MOST_WRITTEN, 64, help="At most so many are written on each side.")
    with places[3]:
        temperature = fields.decimal("temperature", "Temperature", 0.0, help="0 takes the likeliest token each time; up to 5.")
    with places[4]:
        top_p = fields.decimal("top_p", "Top-p", 1.0, help="Only the likeliest tokens that together have this share of the probability.")
    with places[5]:
        seed = fields.number("seed", "Seed", 0, asked.MOST_SEED, 0, help="Both sides draw with the same one.")
    return {"mode": mode, "where": where, "tokens": tokens, "temperature": temperature, "top_p": top_p, "seed": seed}


def _live(server: Server, run_id: str | None, active: frozenset[str]) -> None:
    """Redrawn while something is written; the whole page when that begins or ends."""
    run = None if run_id is None else server.registry.get(run_id)
    others = asked_run.others_at_work(server, "steer", run)
    if active != frozenset(one.id for one in [*others, *([run] if run is not None else [])] if one.active):
        st.rerun()
    for other in others:
        asked_run.status(server, other, stopped="", stoppable="Stop", name=True)
    if run is None:
        how = "." if server.read_only else ": “Write” begins, and the text grows as it comes."
        quiet(f"Nothing is written with these settings yet{how}", small=False)
        return
    asked_run.status(server, run, stopped=_STOPPED, stoppable="Stop")
    try:
        found = load_steered(server.workspace, run.id)
        if found is not None and found.steps:
            _texts(server, run, found)
    except AtlasError as error:
        sentence(str(error))


def _texts(server: Server, run: Run, found: Steered) -> None:
    vocab = load_vocab(server.workspace, found.subject["slug"])
    step = _step(found)
    # Reversed at the end: while it grows, the newest token is the one to look at.
    at = found.steps - 1 if step is None and run.active else step if step is not None else (found.differ or 0)
    quiet(_summary(found))
    columns = st.columns(2, gap="large")
    for place, (column, side) in enumerate(zip(columns, SIDES, strict=True)):
        text = found.side(side)
        with column:
            st.html(f'<p class="na-small na-muted"><b>{side.capitalize()}</b></p>')
            hovers = [f"log-probability {words.number(log_p)}" for log_p in text.log_p]
            mine = at if at < len(text.tokens) else None
            clicked = marked_text(
                found.text, text.tokens, vocab, Marks(changed=text.changed if place else (), hovers=hovers), picked=mine,
                label=f"What the model wrote, {side}", key=f"steer-text-{side}",
            )  # fmt: skip
            _next(found, vocab, "steered" if place else "original", at)
        if clicked is not None and clicked != step and 0 <= clicked < len(text.tokens):
            state.write(step=clicked)
            st.rerun(scope="fragment")
    if not run.active:
        st.download_button(
            "Save as CSV", lambda: to_csv(found, vocab), f"{run.id}.csv", "text/csv", on_click="ignore", type="tertiary", key="steer-csv"
        )


def _next(found: Steered, vocab: Vocab, side: Side, at: int) -> None:
    text = found.side(side)
    if at >= len(text.tokens):
        quiet("The text had ended before this token.")
        return
    same = found.differ is None or at <= found.differ
    note = f"for token {at + 1}, “{vocab.label(text.tokens[at])}”" + ("" if same else " · after texts that differ")
    next_tokens(text.top[at], vocab, side=side, names=_NAMES, note=note, key=f"steer-next-{side}")


def _summary(found: Steered) -> str:
    marked = len(found.steered.changed)
    if found.differ is None:
        return f"{words.count(found.steps, 'token')}, the same on both sides."
    means = [sum(side.log_p) / len(side.log_p) if side.log_p else float("nan") for side in (found.original, found.steered)]
    return (
        f"They differ from token {found.differ + 1} on; on grey: {words.count(marked, 'token')} of the steered text without a counterpart. "
        f" Mean log-probability {words.number(means[0])} and {words.number(means[1])}, each under its own model."
    )


def _step(found: Steered) -> int | None:
    """The step in the address; a sentence when it is none."""
    try:
        return state.whole("step", "a token of what was written", 0, found.steps - 1)
    except AtlasError as error:
        sentence(str(error))
        return None


def to_csv(found: Steered, vocab: Vocab) -> bytes:
    """One line a step and listed token as UTF-8 CSV; a cell that a spreadsheet would take for a formula is kept as text."""
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_NONNUMERIC)
    columns = ("side", "step", "token", "text", "log_probability", "changed", "rank", "next_token", "next_text")
    writer.writerow([*columns, "probability_original", "probability_steered"])
    for side in SIDES:
        text = found.side(side)
        for step, token in enumerate(text.tokens):
            line = [side, step, token, inert(vocab.label(token)), text.log_p[step], int(step in text.changed)]
            for rank, chance in enumerate(text.top[step]):
                writer.writerow(
                    [*line, rank, chance.token, inert(vocab.label(chance.token)), _cell(chance.original), _cell(chance.steered)]
                )
    return out.getvalue().encode()


def _cell(value: float | None) -> float | str:
    return "" if value is None else value
