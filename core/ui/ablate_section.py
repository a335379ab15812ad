"""“Ablate”: a text of one's own with units silenced: how much likelier each of its tokens became, and the next tokens at one position."""

import csv
import io
import math
import re
from collections.abc import Sequence

import numpy as np
import streamlit as st

from core.causal import effect_request as asked
from core.causal.effect_request import EffectRequest
from core.errors import AtlasError, shown
from core.store.effects import EffectView, load_effect
from core.store.steered import Chance
from core.store.texts import load_vocab
from core.ui import asked_run, state, words
from core.ui.address_fields import AddressFields
from core.ui.chosen_units import Chosen
from core.ui.marked_text import Marks, marked_text
from core.ui.next_tokens import next_tokens
from core.ui.prose import heading, quiet, sentence
from core.ui.server import Server
from core.ui.spreadsheet import inert
from core.vocab import Vocab

_NAMES = ("original", "ablated")
_SPAN = re.compile(r"(\d{1,4})(?:-(\d{1,4}))?")


def ablate_section(server: Server, units: Sequence[Chosen], text: str) -> None:
    """Fields, the button, and what was found."""
    heading("Ablate", "the text is read with the units silenced · underlined: tokens that become less likely (solid) or likelier (dashed)")
    fields = AddressFields("ablate", ("at",))
    with st.container(key="ablate-fields"):
        left, right = st.columns([2, 1], vertical_alignment="bottom")
    with left:
        rule = fields.choice(
            "rule", "Set them to", asked.RULES, "zero", names=asked.RULE_NAMES.__getitem__, segmented=True,
            help="The minimal subtraction moves the site against the unit's direction until its encoder says zero.",
        )  # fmt: skip
    with right:
        typed = fields.text(
            "positions", "At tokens", hint="all", help="All tokens of the text, or some, numbered from 1: 3, 5-8.", limit=1000
        )
    try:
        fields.check()
        request = EffectRequest(
            tuple(str(unit.name) for unit in units),
            rule=rule,  # pyright: ignore[reportArgumentType] - it was chosen among the rules
            text=text,
            positions=parse_positions(typed),
            listed=state.whole("listed", "how many tokens can be listed", 1, asked.MOST_LISTED) or EffectRequest.listed,
            index=state.raw("index") or None,
        )
        request.check_here(server.workspace)
    except AtlasError as error:
        if units:
            sentence(str(error))
        else:
            then = "what was kept of ablating it is shown" if server.read_only else "the text can be read without it"
            quiet(f"Add a unit above: then {then}.")
        if not server.read_only:
            st.button("Ablate", key="ablate-start", disabled=True)
        return
    params = request.to_params()
    run = server.registry.newest("effect", params)
    if not server.read_only and (run is None or not run.active):
        label = "Ablate" if run is None else "Ablate again" if run.state == "done" else "Try again"
        kind = "secondary" if label == "Ablate again" else "primary"
        st.button(label, key="ablate-start", type=kind, on_click=asked_run.start, args=(server, "effect", params))
    active = run is not None and run.active
    st.fragment(_live, run_every=asked_run.LIVE_SECONDS if active else None)(server, None if run is None else run.id, active)


def parse_positions(typed: str) -> tuple[int, ...] | None:
    """`3, 5-8`, counted from 1, as positions from 0; None for an empty text. Raises AtlasError."""
    found: set[int] = set()
    for piece in typed.replace(",", " ").split():
        match = _SPAN.fullmatch(piece)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 1 <= first <= last <= asked.MOST_TOKENS:
            raise AtlasError(f"“{shown(piece)}” is not a choice of tokens: write numbers from 1 to {asked.MOST_TOKENS}, such as 3, 5-8.")
        found.update(range(first - 1, last))
    return tuple(sorted(found)) or None


def positions_text(positions: Sequence[int]) -> str:
    """What `parse_positions` reads as these positions."""
    spans: list[list[int]] = []
    for place in sorted(set(positions)):
        if spans and place == spans[-1][1] + 1:
            spans[-1][1] = place
        else:
            spans.append([place, place])
    return ", ".join(str(first + 1) if first == last else f"{first + 1}-{last + 1}" for first, last in spans)


def _live(server: Server, run_id: str | None, active: bool) -> None:
    if run_id is None:
        how = "." if server.read_only else ": “Ablate” reads the text twice, in a few seconds."
        quiet(f"Nothing was ablated with these settings yet{how}", small=False)
        return
    run = server.registry.get(run_id)
    if run.active != active:
        st.rerun()
    asked_run.status(server, run, stopped="It was stopped before anything was measured: “Try again” goes on.", stoppable="Stop")
    if run.state != "done":
        return
    try:
        _shown(server, load_effect(server.workspace, run.id))
    except AtlasError as error:
        sentence(str(error))


def _shown(server: Server, found: EffectView) -> None:
    vocab = load_vocab(server.workspace, found.run.manifest["subject"]["slug"])
    tokens, own = found.token.tolist(), found.of_token()
    try:
        at = state.whole("at", "a token of this text", 0, len(tokens) - 1)
    except AtlasError as error:
        sentence(str(error))
        at = None
    picked = int(np.nanargmax(found.kl)) if at is None else at
    quiet(
        f"The loss rises by {words.number(found.run.loss_change)} a token over {words.count(found.run.predicted, 'prediction')}; "
        f"KL {words.number(found.run.kl)} nats a position. "
        f"A unit fires on {found.run.firing} of {words.count(found.run.positions, 'token')}."
    )
    largest = float(np.nanmax(np.abs(own), initial=0.0))
    clicked = marked_text(
        (), tokens, vocab, Marks(effects=own.tolist(), largest=largest, hovers=[_hover(found, i, own[i]) for i in range(len(tokens))]),
        picked=picked, label="The text, with the change of each token's log-probability", key="ablate-text",
    )  # fmt: skip
    for place, (column, name, side) in enumerate(
        zip(st.columns(2, gap="large"), ("before", "after"), ("original", "steered"), strict=True)
    ):
        listed = found.lists[name]
        chances = [
            Chance(int(token), math.exp(float(one)), math.exp(float(other)))
            for token, one, other in zip(listed.tokens[picked], listed.original[picked], listed.ablated[picked], strict=True)
        ]
        with column:
            note = f"after “{vocab.label(tokens[picked])}”, token {picked + 1}"
            next_tokens(chances, vocab, side="steered" if place else "original", names=_NAMES, note=note, key=f"ablate-next-{side}")
    st.download_button(
        "Save as CSV",
        lambda: to_csv(found, vocab),
        f"{found.run.run}.csv",
        "text/csv",
        on_click="ignore",
        type="tertiary",
        key="ablate-csv",
    )
    if clicked is not None and clicked != picked and 0 <= clicked < len(tokens):
        state.write(at=clicked)
        st.rerun(scope="fragment")


def _hover(found: EffectView, place: int, change: float) -> str:
    active = ", ".join(words.number(float(value)) for value in found.activations[place])
    told = "" if math.isnan(change) else f"log-probability {'+' if change > 0 else ''}{words.number(change)} · "
    return f"{told}activation {active} · KL of what follows {words.number(float(found.kl[place]))}"


def to_csv(found: EffectView, vocab: Vocab) -> bytes:
    """One line a token as UTF-8 CSV: its activations, the change of its own log-probability, KL of the next token's distribution."""
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_NONNUMERIC)
    names = [str(unit) for unit in found.run.units]
    writer.writerow(["position", "token", "text", *(f"activation of {name}" for name in names), "log_probability_change", "kl_after"])
    own = found.of_token()
    for place, token in enumerate(found.token.tolist()):
        active = [float(value) for value in found.activations[place]]
        change = "" if math.isnan(own[place]) else float(own[place])
        writer.writerow([place, token, inert(vocab.label(token)), *active, change, float(found.kl[place])])
    return out.getvalue().encode()
