"""The form that trains dictionaries: what, where, how; what that will cost; and the button."""

import itertools
from typing import Any, get_args

import streamlit as st

from core.bases.info import Centre
from core.bases.shelf import check_free, shelved
from core.bases.train_request import KINDS, Reduction, TrainRequest, contexts_for
from core.errors import AtlasError
from core.subject.info import registered
from core.ui.address_fields import AddressFields
from core.ui.dictionary_estimate import converted, train_expected
from core.ui.dictionary_job import ChosenModel, job_fields, model_field, start_button
from core.ui.explain_form import attempt, told
from core.ui.server import Server
from core.units import SITE_KINDS, Site

START = "Start training"
_USUAL = TrainRequest()
_KINDS = {"tied": "tied ReLU", "topk": "TopK"}
_SITES = {"resid": "resid: residual stream", "mlp": "mlp: inside the MLP", "attn": "attn: heads' outputs"}
_MANY_LAYERS = 10_000
_CENTRES = {"none": "no", "per_token": "per token"}
_TIED = (
    "c = ReLU(Mx + b), x̂ = Mᵀc with rows of norm 1; the loss is ‖x − x̂‖² + α‖c‖₁ (Cunningham et al. 2023). TopK keeps the k largest codes "
    "of a token instead, with an auxiliary term for dead units (Gao et al. 2024)."
)
_ALPHAS = "Weights of the L1 term. Several are trained side by side over one pass of the data: the curve of sparsity against fidelity."
_MSE = (
    "Whether α stands beside the squared error summed over the d numbers of a token (the paper's equation 4) or beside their mean (its "
    "code): α_sum = d · α_mean."
)
_CENTRE = (
    "Subtract each token's mean over its d numbers first, and add it back after decoding. The paper in effect does, through its library's "
    "centred weights."
)
_TOKENS = "Activation vectors in all. More than the text has means several passes over it, each in another order."
_REVIVE = "Give dead units new directions in the first half of the run. Not in the paper."


def train_form(server: Server, fields: AddressFields) -> None:
    """Draw the form and queue what it asks for."""
    model = attempt(lambda: _where(server, fields))
    given = {} if isinstance(model, AtlasError) else _what(server, fields, model)
    with st.expander("Text, optimiser and more"):
        job = job_fields(fields, contexts=None, why="Of the text. Left out: as many as give the activation vectors in one pass.")
        given |= _how(fields, str(given.get("kind", "tied")), str(given.get("site", "")).startswith("attn"))

    def prepare() -> tuple[dict[str, Any], str]:
        chosen = told(model)
        corpus = dict(job["corpus"])
        if corpus["contexts"] is None:
            corpus["contexts"] = contexts_for(int(given["tokens"]), int(corpus["length"]))
        request = TrainRequest.from_params({**given, **job, "corpus": corpus, "model": chosen.name})
        request.check_here()
        _check_names(server, request)
        other = converted(request, chosen.shape)
        names = request.names()
        named = f"{', '.join(names) if len(names) < 5 else f'{names[0]} to {names[-1]}'}: "
        expected = train_expected(request, chosen.shape, server.registry.list())
        return request.params(), f"{named}{expected}{' ' if other else ''}{other}"

    start_button(server, fields, START, "sae", prepare)


def _where(server: Server, fields: AddressFields) -> ChosenModel:
    left, _ = st.columns([3, 2])
    with left:
        return model_field(server, fields)


def _what(server: Server, fields: AddressFields, model: ChosenModel) -> dict[str, Any]:
    """The fields that matter most. Returns parameters of the request."""
    first, second, third, fourth, fifth = st.columns([1.7, 0.8, 1.4, 0.8, 1.7], vertical_alignment="bottom")
    with first:
        at = fields.choice("at", "Site", SITE_KINDS, "resid", names=_SITES.__getitem__)
    with second:
        layers = model.layers
        layer = fields.number("layer", "Layer", 0, (layers or _MANY_LAYERS) - 1, (layers or 2) // 2)
    with third:
        kind = fields.choice("kind", "Kind", KINDS, "tied", names=_KINDS.__getitem__, segmented=True, help=_TIED)
    with fourth:
        ratio = fields.decimal("ratio", "Ratio R", 4 if kind == "tied" else 8, help="Units for each number that the dictionary reads.")
    site = f"{at}.{layer or 0}"
    given: dict[str, Any] = {"site": site, "kind": kind, "ratio": ratio}
    with fifth:
        name = fields.text("name", "Name", hint=(free := free_name(server, model.name, site, f"{kind}-r{ratio:g}")), limit=80)
    given["name"] = name or free
    first, second, third, fourth = st.columns([1.7, 1.7, 1.4, 1.6], vertical_alignment="bottom")
    if kind == "tied":
        with first:
            given["alphas"] = tuple(fields.decimals("alphas", "Alpha, or several", "1", hint="0.5, 1, 2", help=_ALPHAS))
        with second:
            mse = fields.choice(
                "mse", "Squared error is the", get_args(Reduction), "sum", names={"sum": "sum over d", "mean": "mean over d"}.__getitem__,
                segmented=True, help=_MSE,
            )  # fmt: skip
            given["mse_reduction"] = mse
    else:
        with first:
            given["k"] = fields.number("k", "k, active units a token", 1, 1_000_000, _USUAL.k)
    with third:
        given["centre"] = fields.choice(
            "centre", "Centre activations", get_args(Centre), "none", names=_CENTRES.__getitem__, segmented=True, help=_CENTRE
        )
    with fourth:
        tokens = fields.number("tokens", "Activation vectors", 1, 999_999_999, _USUAL.tokens, step=100_000, help=_TOKENS)
    return given | {"tokens": tokens or _USUAL.tokens}


def _how(fields: AddressFields, kind: str, has_heads: bool) -> dict[str, Any]:
    """The fields of the optimiser. Returns parameters of the request."""
    columns = st.columns(6, vertical_alignment="bottom")
    given: dict[str, Any] = {}
    with columns[0]:
        given["seed"] = fields.number("seed", "Seed", 0, 999_999_999, _USUAL.seed)
    with columns[1]:
        given["batch"] = fields.number("batch", "Batch", 1, 1 << 20, _USUAL.batch)
    with columns[2]:
        given["lr"] = fields.decimal("lr", "Learning rate", _USUAL.lr, help="Of Adam.")
    with columns[3]:
        given["warmup"] = fields.decimal("warmup", "Rises for", _USUAL.warmup, help="Share of the steps in which the rate rises from 0.")
    with columns[4]:
        given["decay"] = fields.decimal("decay", "Falls for", _USUAL.decay, help="Share of the steps in which the rate falls to 0.")
    with columns[5]:
        given["scale"] = fields.decimal(
            "scale",
            "Scale",
            None,
            hint="√d / mean norm",
            help="Activations are multiplied by it, so that an α means the same at every site.",
        )
    columns = st.columns([1.2, 1.2, 2.4], vertical_alignment="bottom")
    with columns[0]:
        given["dead_tokens"] = fields.number(
            "dead",
            "Dead after",
            1,
            999_999_999,
            None,
            hint="a tenth of all",
            help="Tokens without activity until a unit counts as dead.",
        )
    if has_heads:
        with columns[1]:
            given["head"] = fields.number("head", "Head", 0, 10_000, None, hint="all", help="Only this head's part of the site.")
    if kind == "tied":
        with columns[2]:
            given["revive"] = fields.flag("revive", "New directions for dead units", help=_REVIVE)
    else:
        with columns[2]:
            given["k_aux"] = fields.number(
                "kaux",
                "Dead units in the auxiliary term",
                1,
                1_000_000,
                None,
                hint="d/2",
                help="So many predict what is left over.",
            )
    return given


def free_name(server: Server, model: str, site: str, wanted: str) -> str:
    """A name that no dictionary of the model has at the site yet: the wanted one, or with a number behind it."""
    taken = {one.info.name for one in shelved(server.workspace) if one.info.subject == model and str(one.info.site) == site}
    tries = (wanted if number == 1 else f"{wanted}-{number}" for number in itertools.count(1))
    return next(tried for tried in tries if not any(name == tried or name.startswith(f"{tried}-a") for name in taken))


def _check_names(server: Server, request: TrainRequest) -> None:
    """Raises AtlasError when a dictionary of one of the names is there: the run would refuse to replace it."""
    if request.model in registered(server.workspace):
        for name in request.names():
            check_free(server.workspace, request.model, Site.parse(request.site), name, lambda before: False)
