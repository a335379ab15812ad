"""What a person asks for on the page IOI: the sentences, and which features are patched into them in which order."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

from core.bases.info import BasisInfo
from core.bases.job_request import DEFAULT_MODEL
from core.causal.ioi_request import (
    AGAIN,
    MAX_SEEDS,
    MAX_THRESHOLDS,
    ORDER_NAMES,
    SEARCH_ORDERS,
    USUAL_ORDERS,
    USUAL_PAIRS,
    USUAL_SEEDS,
    USUAL_THRESHOLDS,
    IoiRequest,
    offered,
)
from core.causal.ioi_sentences import MAX_PAIRS, MAX_SEED, NAMES, OBJECTS, PLACES, TEMPLATES, Pair, Wording, draw
from core.causal.linear import titled
from core.errors import AtlasError, shown
from core.store.texts import load_vocab
from core.subject.info import registered
from core.ui.address_fields import AddressFields
from core.ui.first_run import missing_packages
from core.ui.server import Server
from core.units import NEURONS

SHOWN_PAIRS = 6
_AREA = 20_000
_IN_ADDRESS = 1500
_BOS = {"auto": "as the tokenizer does", "with": "with BOS", "without": "without BOS"}
_ORDER_HELP = (
    "ACDC sweep: from all features, leave one out when the mean KL rises by less than a rising threshold (Cunningham et al. 2023). Greedy: "
    "the feature that lowers the KL most comes next. Single effect: by what each does alone. Gradient: by a first-order guess of that. "
    "Every point of every curve is measured by patching. Gradient takes seconds for each dictionary and seed, the others minutes: they try "
    "every feature."
)
_SPARE_HELP = (
    "A feature that raised the KL by more than so many thresholds when it was last left out is not tried again until it comes near. "
    "0 tries every feature at every threshold, as published, and takes many times longer."
)
_PAIRS_HELP = (
    "A sentence and its counterfactual, which has a third name in place of the indirect object, half of them in each order of names."
)
_BOS_HELP = "Whether the token that begins a text stands before each sentence."
_AT_HELP = "What the activations of a site are read as: the features of a dictionary there, or the numbers themselves (neurons)."
_SEEDS_HELP = "Each draws its own sentences, and the order in which the sweep visits features. The bands are over them."


@dataclass(frozen=True)
class Sentences:
    """What is asked of the sentences, as parameters of a run, and whether they can be made at all."""

    model: str
    params: dict[str, Any]
    wording: Wording


def models_of(server: Server) -> list[str]:
    """Models that are known here, and the embedded one where it can be loaded."""
    known = registered(server.workspace)
    return [*known, *([DEFAULT_MODEL] if DEFAULT_MODEL not in known and not missing_packages() else [])]


def sentence_fields(fields: AddressFields, models: Sequence[str]) -> Sentences:
    """The fields of the sentences. Raises AtlasError for words that make none."""
    usual = DEFAULT_MODEL if DEFAULT_MODEL in models else models[0]
    first, second, third, fourth, fifth = st.columns([2, 1, 1, 1, 1.4], vertical_alignment="bottom")
    with first:
        model = fields.choice("model", "Model", models, usual)
    with second:
        pairs = fields.number("pairs", "Pairs", 1, MAX_PAIRS, USUAL_PAIRS, help=_PAIRS_HELP)
    with third:
        seeds = fields.number("seeds", "Seeds", 1, MAX_SEEDS, USUAL_SEEDS, help=_SEEDS_HELP)
    with fourth:
        seed = fields.number(
            "seed", "First seed", 0, min(MAX_SEED - MAX_SEEDS, 999_999_999), 0, help="The seeds are this one and those after it."
        )
    with fifth:
        bos = fields.choice("bos", "Beginning of text", list(_BOS), "auto", names=_BOS.__getitem__, help=_BOS_HELP)
    with st.expander("Templates and words of your own"):
        given = {
            "templates": _lines(
                fields.area(
                    "templates", "Templates, one a line", hint="\n".join(TEMPLATES[:2]), limit=_AREA, in_address=_IN_ADDRESS,
                    help="{IO} once, {S} twice, {PLACE} and {OBJECT} where wanted; the name that follows is the answer. Empty: our own.",
                )
            ),
            "names": _words(
                fields.area(
                    "names", "Names, with commas", hint=", ".join(NAMES[:12]) + " …", limit=_AREA, in_address=_IN_ADDRESS,
                    help="Each must be a single token of the model after a space. Empty: our own, less those that are not.",
                )
            ),
        }  # fmt: skip
        left, right = st.columns(2)
        with left:
            given["places"] = _words(
                fields.area("places", "Places, with commas", hint=", ".join(PLACES), limit=_AREA, in_address=_IN_ADDRESS)
            )
        with right:
            given["objects"] = _words(
                fields.area("objects", "Objects, with commas", hint=", ".join(OBJECTS), limit=_AREA, in_address=_IN_ADDRESS)
            )
    fields.check()
    wording = Wording.from_json({name: value or None for name, value in given.items()})
    params = {"model": model, "pairs": pairs or USUAL_PAIRS, "seeds": seeds or USUAL_SEEDS, "first_seed": seed or 0}
    params |= {"bos": {"auto": None, "with": True, "without": False}[bos], "wording": wording.to_json()}
    return Sentences(model, params, wording)


def patch_fields(server: Server, fields: AddressFields, sentences: Sentences) -> IoiRequest:
    """The fields of the patching, and the whole request. Raises AtlasError."""
    there = offered(server.workspace, sentences.model)
    chosen = fields.several("at", "Decompositions", list(there), usual_of(there), names=lambda key: named(key, there), help=_AT_HELP)
    first, second, third = st.columns([3, 1, 1.3], vertical_alignment="bottom")
    with first:
        orders = fields.several("orders", "Orders of search", SEARCH_ORDERS, USUAL_ORDERS, names=ORDER_NAMES.__getitem__, help=_ORDER_HELP)
    params = sentences.params | {"decompositions": chosen, "orders": orders}
    if "acdc" in orders:
        with second:
            params["thresholds"] = fields.number(
                "thresholds", "Thresholds", 2, MAX_THRESHOLDS, USUAL_THRESHOLDS, help="Of the sweep, from 1e-5 to 1 nat."
            )
        with third:
            params["again"] = fields.decimal("again", "Spares visits beyond", AGAIN, help=_SPARE_HELP)
    fields.check()
    request = IoiRequest.from_params(params)
    if not chosen:
        raise AtlasError("No decomposition is chosen: choose at least one, such as the neurons or a dictionary.")
    request.check_here(server.workspace)
    return request


def usual_of(there: dict[str, BasisInfo | None]) -> list[str]:
    """What is chosen to begin with, of the first site: the newest trained dictionary and what it has to beat, PCA, else the neurons."""
    if not there:
        return []
    site = next(iter(there)).split("/")[0]
    here = [key for key in there if key.split("/")[0] == site]
    infos = [info for key in here if (info := there[key]) is not None]
    trained = sorted((info for info in infos if info.family == "sae"), key=lambda info: info.created)
    rival = next((f"{site}/{info.name}" for info in infos if info.family == "pca"), f"{site}/{NEURONS}")
    return [*(f"{site}/{info.name}" for info in trained[-1:]), rival]


def named(key: str, there: dict[str, BasisInfo | None]) -> str:
    """`resid.9 · tied-r4 · α 0.9`."""
    site, name = key.split("/", 1)
    return f"{site} · {titled(name, there.get(key))}"


def preview(server: Server, sentences: Sentences) -> tuple[list[Pair], list[str]]:
    """Some sentences of the first seed, as the run will draw them, and our names that it will leave out.

    Names are looked up in the model's vocabulary; the run asks the tokenizer itself. Raises AtlasError.
    """
    names, dropped = list(dict.fromkeys(sentences.wording.names)), list[str]()
    if sentences.model in registered(server.workspace):
        vocab = load_vocab(server.workspace, sentences.model)
        single = {vocab.bytes_of(token) for token in range(vocab.size)}
        dropped = [name for name in names if f" {name}".encode() not in single]
        if dropped and sentences.wording.own_names:
            raise AtlasError(f"“{shown(dropped[0])}” is not a single token of this model after a space: leave that name out.")
        names = [name for name in names if name not in set(dropped)]
        if len(names) < 3:
            raise AtlasError("Fewer than three of our names are single tokens of this model: give names of your own that are.")
    return draw(sentences.wording, names, int(sentences.params["pairs"]), int(sentences.params["first_seed"])), dropped


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.replace("\n", ",").split(",") if word.strip()]
