"""The fields that choose who explains, who simulates and which language model is asked. Shared by every page that explains."""

import os
from collections.abc import Sequence
from typing import Any

import streamlit as st

from core.autointerp.calibration import CALIBRATIONS
from core.autointerp.request import ARMS, LOGPROBS, NEED_MODEL, Arm, ExplainerChoice, SimulatorChoice
from core.errors import AtlasError
from core.llm.endpoint import IN_PROCESS, MAX_CONCURRENCY, Endpoint
from core.llm.listing import list_models
from core.subject.info import registered
from core.ui.prose import sentence
from core.ui.server import Server

EXPLAINER_NAMES = {
    "pattern": "pattern: no language model",
    "token-activation": "token–activation pairs",
    "token-list": "token list",
    "logit-effect": "logit effect",
}
SIMULATOR_NAMES = {
    "pattern": "pattern: no language model",
    "sentence": "sentence: its *words* only",
    "lookup": "token table: single tokens only",
    "chat": "structured chat",
    "completions": "all at once, over HTTP",
    "local": "all at once, loaded here",
}
EXPLAINER_HELP = (
    "pattern: tokens and their left contexts with their mean activation, put into words. Token–activation pairs: a model reads records "
    "with activations 0 to 10 (Bills et al. 2023). Token list: a model reads the strongest tokens. Logit effect: a model reads which "
    "tokens the unit makes likelier."
)
SIMULATOR_HELP = (
    "pattern: looks tokens up in the pattern behind an explanation and adds some of what it expected of the tokens before, or takes its "
    "starred words. Sentence: the starred words only, as a reader has them. Token table: the single tokens of that pattern, without what "
    "stands before them. Structured chat: a model writes each "
    "activation as JSON. All at once: one prompt, activations read from the probabilities of its number tokens; over HTTP this needs a "
    "completions endpoint that returns log probabilities of the prompt."
)
CALIBRATION_HELP = (
    "How simulated values are mapped to the unit's own before scoring, learned on records of their own. ρ is the same with none and linear."
)
_LOGPROBS_HELP = (
    "Log probabilities of so many tokens are asked for wherever an activation is read. Fewer see less of what the model thinks possible; "
    "some endpoints give no more than 5."
)
ARM_NAMES: dict[Arm, str] = {
    "re-explanation": "re-explanation: the explainer reviews its own",
    "revision": "revision: tested on sentences written for it",
    "revision with random": "revision with random records",
}
SOURCES = {"top": "the strongest", "random": "random", "quantile": "from a quantile up"}
NORMALISED = {"shown": "the shown records' maximum", "unit": "the unit's maximum"}
_LISTED = "explain-models-listed"


def explainer_fields(server: Server, key: str, names: Sequence[str] = tuple(EXPLAINER_NAMES)) -> ExplainerChoice:
    """Who explains, from what, with which model. Raises AtlasError saying what is still missing."""
    name = st.selectbox("Explainer", names, key=f"{key}-explainer", format_func=EXPLAINER_NAMES.__getitem__, help=EXPLAINER_HELP)
    endpoint = endpoint_fields(server, f"{key}-explainer") if name in NEED_MODEL else None
    more: dict[str, Any] = explainer_parameters(key) if name == "token-activation" else {}
    return ExplainerChoice(name, endpoint, **more).checked()


def explainer_parameters(key: str) -> dict[str, Any]:
    """What the explainer is shown: the parameters of the paper's studies."""
    usual = ExplainerChoice()
    with st.popover("What it is shown", width="content"):
        source = st.selectbox("Records", list(SOURCES), key=f"{key}-source", format_func=SOURCES.__getitem__)
        quantile = usual.quantile
        if source == "quantile":
            quantile = st.number_input("Lowest quantile", 0.0, 0.9999, 0.99, step=0.01, format="%.4g", key=f"{key}-quantile",
                                       help="Of the records' maxima over the text: 0.99 leaves the strongest hundredth.")  # fmt: skip
        return {
            "source": source,
            "quantile": float(quantile),
            "records": int(st.number_input("How many", 1, 50, usual.records, key=f"{key}-records")),
            "length": int(st.number_input("Tokens of each, 0 for all", 0, 4096, usual.length, key=f"{key}-length")),
            "normalise": st.selectbox("10 stands for", list(NORMALISED), key=f"{key}-normalise", format_func=NORMALISED.__getitem__),
            "temperature": float(st.number_input("Temperature", 0.0, 2.0, usual.temperature, step=0.1, key=f"{key}-temperature")),
        }


def simulator_fields(
    server: Server,
    key: str,
    *,
    same: Endpoint | None = None,
    waits: bool = False,
    names: Sequence[str] = tuple(SIMULATOR_NAMES),
    usual: str = "pattern",
    calibrated: bool = True,
) -> SimulatorChoice:
    """Who simulates, with which calibration and model. same: the explainer's model, which is offered first. Raises AtlasError.

    waits: that model is still to be named, so none is asked for here yet. calibrated: whether a calibration can be chosen, where there are
    records to learn it on.
    """
    left, right = st.columns(2, vertical_alignment="bottom")
    place = names.index(usual) if usual in names else 0
    name = left.selectbox(
        "Simulator", names, index=place, key=f"{key}-simulator", format_func=SIMULATOR_NAMES.__getitem__, help=SIMULATOR_HELP
    )
    calibration = CALIBRATIONS[0]
    if calibrated:
        calibration = right.selectbox("Calibration", CALIBRATIONS, key=f"{key}-calibration", help=CALIBRATION_HELP)
    endpoint: Endpoint | None = None
    if name in NEED_MODEL:
        if waits:
            raise AtlasError("Name the explainer's model first.")
        shared = same is not None and (name != "local" or same.in_process) and not (name == "completions" and same.in_process)
        if shared and st.checkbox("The same model simulates", value=True, key=f"{key}-same"):
            endpoint = same
        else:
            endpoint = endpoint_fields(server, f"{key}-simulator", only_here=name == "local", over_http=name == "completions")
    logprobs = LOGPROBS
    if endpoint is not None and not endpoint.in_process:
        with st.popover("What is asked of it", width="content"):
            logprobs = st.number_input("Alternatives at each token", 1, LOGPROBS, LOGPROBS, key=f"{key}-logprobs", help=_LOGPROBS_HELP)
    return SimulatorChoice(name, endpoint, calibration, int(logprobs)).checked()


def arm_field(key: str) -> Arm:
    """How an explanation is revised."""
    return st.selectbox("Revise by", ARMS, index=1, key=f"{key}-arm", format_func=ARM_NAMES.__getitem__)


def endpoint_fields(server: Server, key: str, *, only_here: bool = False, over_http: bool = False) -> Endpoint:
    """Where a language model answers, and its name. Known ones are offered, anything may be typed. Raises AtlasError when incomplete."""
    used = used_endpoints(server)
    addresses = list(dict.fromkeys(one.base_url for one in used))
    if default := os.environ.get("OPENAI_BASE_URL"):
        addresses = list(dict.fromkeys([*addresses, default]))
    known_one = bool(addresses) or only_here
    addresses = [IN_PROCESS] if only_here else [one for one in [*addresses, IN_PROCESS] if one != IN_PROCESS or not over_http]
    addresses = list(dict.fromkeys(addresses))
    where, what, more = st.columns([3, 3, 1.4], vertical_alignment="bottom")
    address = where.selectbox(
        "Address", addresses, index=0 if known_one else None, key=f"{key}-address", accept_new_options=not only_here,
        placeholder="http://127.0.0.1:8000/v1",
        help="A server that speaks the OpenAI API, usually ending in /v1, or in-process: a Hugging Face model loaded here.",
    )  # fmt: skip
    here = address == IN_PROCESS
    listed: dict[str, list[str]] = st.session_state.setdefault(_LISTED, {})
    known = [one.model for one in used if one.base_url == address]
    known += registered(server.workspace) if here else listed.get(address or "", [])
    model = what.selectbox(
        "Model", list(dict.fromkeys(known)), index=0 if known else None, key=f"{key}-model", accept_new_options=True,
        placeholder="an id, a path or a slug" if here else "its name there",
    )  # fmt: skip
    with more.popover("More", width="stretch"):
        values: dict[str, Any] = {} if here else _http_fields(key)
        if not here:
            st.button("List its models", key=f"{key}-list", disabled=not address, on_click=_list, args=(key,))
    if said := st.session_state.pop(f"{key}-list-refused", None):
        sentence(said)
    if not address:
        raise AtlasError("Name the address of a language model, or choose in-process.")
    return Endpoint(address, model or "", **values)


def used_endpoints(server: Server) -> list[Endpoint]:
    """The endpoints of runs that explained, the latest first."""
    found: list[Endpoint] = []
    for run in server.registry.list(limit=100):
        if run.kind != "explain":
            continue
        for setting in run.params.get("settings", []):
            for role in ("explainer", "simulator"):
                given = setting.get(role, {}).get("endpoint")
                if given is not None:
                    try:
                        found.append(Endpoint.from_json(given))
                    except AtlasError:
                        continue  # written by another version: it is not offered
    return list(dict.fromkeys(found))


def _http_fields(key: str) -> dict[str, Any]:
    usual = Endpoint("http://127.0.0.1", "?")
    variable = st.text_input(
        "Variable that holds the key", usual.key_env, key=f"{key}-key-env", max_chars=64,
        help="The name of an environment variable, set where the dashboard is started. The key itself is never typed or stored.",
    )  # fmt: skip
    calls = st.number_input("Calls in flight", 1, MAX_CONCURRENCY, usual.concurrency, key=f"{key}-concurrency")
    timeout = st.number_input("Seconds for an answer", 1.0, 3600.0, usual.timeout, key=f"{key}-timeout")
    price_in = st.number_input("Price of a million tokens read", 0.0, None, None, key=f"{key}-price-in", placeholder="unknown")
    price_out = st.number_input("Price of a million tokens written", 0.0, None, None, key=f"{key}-price-out", placeholder="unknown")
    return {"key_env": variable, "concurrency": int(calls), "timeout": float(timeout), "price_in": price_in, "price_out": price_out}


def _list(key: str) -> None:
    """Ask the chosen address for its models; they are offered from then on."""
    address: str = st.session_state[f"{key}-address"]
    try:
        names = list_models(Endpoint(address, "?", key_env=st.session_state[f"{key}-key-env"]))
    except AtlasError as error:
        st.session_state[f"{key}-list-refused"] = str(error)
    else:
        st.session_state.setdefault(_LISTED, {})[address] = names
