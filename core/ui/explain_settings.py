"""How explanations are scored and what may be spent: the fields that Explain and Studies share, and the address of who explains."""

from collections.abc import Sequence
from dataclasses import replace
from typing import cast, get_args

import streamlit as st

from core.autointerp.request import CONTROLS, Control, ExplainerChoice, Setting, SimulatorChoice
from core.autointerp.scoring import KINDS, Kind
from core.autointerp.splits import EACH, Split
from core.errors import AtlasError
from core.llm.endpoint import Endpoint
from core.ui import state
from core.ui.address_fields import AddressFields
from core.ui.explain_choices import EXPLAINER_NAMES, SIMULATOR_NAMES, endpoint_fields, explainer_fields, simulator_fields
from core.ui.explain_form import attempt, told
from core.ui.explanation_rows import KIND_TIPS, ROLE_TIPS
from core.ui.prose import quiet
from core.ui.server import Server

SPLITS = tuple(split for split in get_args(Split) if split != "calibration")
NAMES = ("explainer", "simulator", "calibration", "kinds", "split", "each", "active", "controls", "calls", "tokens", "money")
"""The parameters of the address that say how to explain and score."""
RHO = (
    "ρ: the correlation of simulated with true activations over all tokens of the records together. 1 is perfect; 0 says that the words "
    "predict nothing."
)
COVERAGE = "The share of records for which the simulator gave a usable answer. The others are left out, never counted as zeros."
KIND_HELP = RHO + " " + " ".join(f"{kind}: {tip}" for kind, tip in KIND_TIPS.items())
CONTROL_HELP = " ".join(f"{role}: {tip}" for role, tip in ROLE_TIPS.items())
_LINKED = {"explainer": EXPLAINER_NAMES, "simulator": SIMULATOR_NAMES, "calibration": ("none", "linear", "percentile")}


def who_fields(
    server: Server, page: str, explainers: Sequence[str] = tuple(EXPLAINER_NAMES)
) -> tuple[ExplainerChoice | AtlasError, SimulatorChoice | AtlasError]:
    """Who explains and who simulates. Names and calibration are in the address; the models' are not. What is incomplete is an error."""
    # Where other explainers are offered the fields are others: a field may not hold what it does not offer.
    key = page if explainers == tuple(EXPLAINER_NAMES) else f"{page}-{'-'.join(explainers)}"
    for name, known in (_LINKED | {"explainer": explainers}).items():
        here = f"{key}-{name}"
        if here not in st.session_state and state.raw(name) in known:
            st.session_state[here] = state.raw(name)
    left, right = st.columns(2, gap="large")
    with left:
        explainer = attempt(lambda: explainer_fields(server, key, explainers))
    with right:
        same = None if isinstance(explainer, AtlasError) else explainer.endpoint
        simulator = attempt(lambda: simulator_fields(server, key, same=same))
    usual = {"explainer": "pattern", "simulator": "pattern", "calibration": "none"}
    chosen = {name: st.session_state.get(f"{key}-{name}") for name in _LINKED}
    state.write(**{name: None if value in (None, usual[name]) else value for name, value in chosen.items()})
    return explainer, simulator


def setting_fields(server: Server, fields: AddressFields, index: str, explainers: Sequence[str] = tuple(EXPLAINER_NAMES)) -> Setting:
    """Who explains and simulates, and how that is scored. index: the run to read, empty for the largest. Raises AtlasError."""
    explainer, simulator = who_fields(server, fields.page, explainers)
    made = attempt(lambda: scoring_fields(fields, index))
    found = replace(told(made), explainer=told(explainer), simulator=told(simulator))
    if "paraphrase" in found.controls:
        found = replace(found, paraphraser=_paraphraser(server, fields.page, found))
    return found.asked()


def scoring_fields(fields: AddressFields, index: str) -> Setting:
    """What is scored, on which records, beside which controls."""
    first, second, third = st.columns([1.7, 1.4, 2], vertical_alignment="bottom")
    with first:
        kinds = fields.several("kinds", "Kinds of score", KINDS, KINDS[:1], help=KIND_HELP)
    with second:
        controls = fields.several("controls", "Controls", CONTROLS, CONTROLS[:2], help=CONTROL_HELP)
    with third:
        split, each, active = st.columns([1.3, 1, 1.4], vertical_alignment="bottom")
    with split:
        on = fields.choice(
            "split", "Scored on", SPLITS, SPLITS[0], help="Validation while choosing between ways; test for the final number."
        )
    with each:
        records = fields.number("each", "Records each", 1, EACH, EACH, help=f"Strongest and random records, {EACH} of each at most.")
    with active:
        active_only = fields.flag("active", "Active only", help="Random records only where the unit is active (Cunningham et al. 2023).")
    return replace(
        Setting(),
        kinds=cast(tuple[Kind, ...], tuple(kinds)),
        split=cast(Split, on),
        each=records or EACH,
        controls=cast(tuple[Control, ...], tuple(controls)),
        active_only=active_only,
        index=index,
    )


def _paraphraser(server: Server, page: str, setting: Setting) -> Endpoint | None:
    """Who restates explanations; None for the model that is there already."""
    there = setting.explainer.endpoint or setting.simulator.endpoint
    if there is not None and st.checkbox(f"{there.model} restates, too", value=True, key=f"{page}-same-paraphraser"):
        return None
    quiet("Who restates the explanations, for the paraphrase control:")
    return endpoint_fields(server, f"{page}-paraphraser")


def budget_fields(fields: AddressFields) -> dict[str, float] | None:
    """What may be spent, None for no limit. Shown only where a language model is asked over HTTP."""
    help = "The run stops before it would pass this. What is finished is kept, and the run can be resumed."
    calls, tokens, money, _ = st.columns([1, 1, 1, 2], vertical_alignment="bottom")
    with calls:
        most_calls = fields.number("calls", "At most calls", 1, 999_999_999, None, hint="no limit", help=help)
    with tokens:
        most_tokens = fields.number("tokens", "At most tokens", 1, 999_999_999, None, hint="no limit", step=10_000, help=help)
    with money:
        most_money = fields.number("money", "At most money", 0, 999_999, None, hint="no limit", help=f"{help} Needs the model's prices.")
    caps = {"calls": most_calls, "tokens": most_tokens, "money": most_money}
    return {name: float(cap) for name, cap in caps.items() if cap is not None} or None
