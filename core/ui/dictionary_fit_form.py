"""The form that makes baselines: neurons, random directions, PCA and ICA, as dictionaries that anything can be held against."""

import itertools
from typing import Any

import streamlit as st

from core.bases.fit_request import BASELINES, MAX_TOKENS, FitRequest
from core.bases.shelf import check_free, shelved
from core.errors import AtlasError
from core.ui.address_fields import AddressFields
from core.ui.dictionary_estimate import fit_expected
from core.ui.dictionary_job import job_fields, model_field, start_button
from core.ui.explain_form import attempt, told
from core.ui.prose import quiet
from core.ui.server import Server
from core.units import parse_sites

START = "Make the baselines"
FAMILIES = {"axes": "neurons", "random": "random directions", "pca": "PCA", "ica": "ICA"}
_USUAL = FitRequest()
_CONTEXTS = 4096
_MANY_LAYERS = 10_000


def fit_form(server: Server, fields: AddressFields) -> None:
    """Draw the form and queue what it asks for."""
    first, second, third, fourth = st.columns([2, 2, 1.2, 1], vertical_alignment="bottom")
    with first:
        model = attempt(lambda: model_field(server, fields))
    with second:
        families = fields.several("families", "Baselines", BASELINES, ("random", "pca"), names=FAMILIES.__getitem__)
    with third:
        layers = 2 if isinstance(model, AtlasError) else model.layers or 2
        sites = fields.text(
            "sites", "Sites", usual=f"resid.{layers // 2}", hint="resid.9 or resid.0-5", help="mlp.all, resid.0-5, mlp.3,attn.3."
        )
    with fourth:
        top = fields.number(
            "top", "Keep the top", 1, 1 << 20, None, hint="all", help="Only so many of the largest codes of a token: the paper's control."
        )
    quiet("Each direction and its negative is a unit behind a ReLU, so that all dictionaries are read by the same rule.", small=False)
    with st.expander("Text, samples and more"):
        job = job_fields(fields, contexts=_CONTEXTS, why="Of the text.")
        columns = st.columns(4, vertical_alignment="bottom")
        with columns[0]:
            tokens = fields.number("tokens", "Tokens at most", 2, min(999_999_999, MAX_TOKENS), _USUAL.tokens, help="For mean and PCA.")
        with columns[1]:
            ica = fields.number("ica", "Tokens for ICA", 2, 10_000_000, _USUAL.ica_tokens)
        with columns[2]:
            iterations = fields.number("iterations", "ICA's iterations", 1, 100_000, _USUAL.ica_iterations)
        with columns[3]:
            seed = fields.number("seed", "Seed", 0, 999_999_999, 0)

    def prepare() -> tuple[dict[str, Any], str]:
        chosen = told(model)
        given = {"k": top, "tokens": tokens, "ica_tokens": ica, "ica_iterations": iterations, "seed": seed, "sites": sites}
        request = FitRequest.from_params({**given, **job, "families": tuple(families), "model": chosen.name})
        request.check_here()
        said = fit_expected(request, chosen.shape, server.registry.list())
        return request.params(), f"{said} {_replaced(server, request, chosen.layers)}".strip()

    start_button(server, fields, START, "basis", prepare)


def _replaced(server: Server, request: FitRequest, layers: int | None) -> str:
    """A sentence about baselines of the same names that are there: they are made anew. Raises AtlasError for a name that another has."""
    sites = parse_sites(request.sites, layers or _MANY_LAYERS)
    there = {(one.info.site, one.info.name) for one in shelved(server.workspace) if one.info.subject == request.model}
    anew: list[str] = []
    for site, family in itertools.product(sites, request.families):
        name = request.name_of(family)
        if (site, name) in there:
            check_free(server.workspace, request.model, site, name, lambda before, family=family: before.family == family)
            anew.append(f"{name} at {site}")
    return f"Made anew: {', '.join(anew[:6])}{' …' if len(anew) > 6 else ''}." if anew else ""
