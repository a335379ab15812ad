"""Choosing the units of the study “Interpretability by basis”: which bases, at which sites, how many of each."""

import streamlit as st

from core.autointerp.selection import Selection, select_across
from core.autointerp.study_tables import RANDOM_WEIGHTS
from core.errors import AtlasError
from core.store.catalog import load_index, shown_sites
from core.ui import words
from core.ui.address_fields import AddressFields
from core.ui.index_choice import ready
from core.ui.prose import quiet
from core.ui.server import Server
from core.units import NEURONS, UnitName
from core.workspace import Workspace

SAMPLE = 50


def unit_fields(server: Server, fields: AddressFields) -> tuple[UnitName, ...]:
    """The fields, and what is drawn. Raises AtlasError."""
    found = ready(server)
    subjects = list(dict.fromkeys(index.slug for index in found if not index.slug.endswith(RANDOM_WEIGHTS))) or [found[0].slug]
    with st.container(key="bases"):
        places = st.columns([1.6, 1.6, 1, 1], vertical_alignment="bottom")
        with places[0]:
            subject = subjects[0] if len(subjects) < 2 else fields.choice("subject", "Model", subjects, subjects[0])
        mine = [index for index in found if index.slug in (subject, f"{subject}{RANDOM_WEIGHTS}")]
        sites = {site for index in mine if index.basis != NEURONS for site in index.published}
        usual = shown_sites(sites) if sites else ""
        with places[1]:
            chosen = fields.text(
                "sites",
                "Sites",
                usual=usual,
                hint="resid.3,resid.9",
                help="Where bases are compared: those with a dictionary to begin with.",
            )
        with places[2]:
            sample = fields.number("sample", "Units of each", 1, 100_000, SAMPLE, help="Drawn of every basis at every site.")
        with places[3]:
            seed = fields.number("seed", "Seed", 0, 999_999_999, 0, help="The same seed draws the same units.")
    if not sites:
        quiet("Only neurons are indexed so far: train or fit a dictionary on the Features page and index it, to compare it with them.")
    units = _drawn(
        str(server.workspace.path),
        tuple((index.run, index.generation, index.written) for index in mine),
        chosen,
        sample or SAMPLE,
        seed or 0,
    )
    bases = list(dict.fromkeys((unit.subject, unit.basis) for unit in units))
    names = ", ".join(f"{basis} (random weights)" if slug.endswith(RANDOM_WEIGHTS) else basis for slug, basis in bases)
    if not any(slug.endswith(RANDOM_WEIGHTS) for slug, _ in bases):
        quiet(f"A control, the same model with random weights, is another line once random:{subject} and its bases are indexed.")
    quiet(f"{words.count(len(units), 'unit')} of {names}.")
    return units


@st.cache_resource(max_entries=16, show_spinner="Drawing units…")
def _drawn(workspace: str, indexes: tuple[tuple[str, int, float], ...], sites: str, sample: int, seed: int) -> tuple[UnitName, ...]:
    """Kept while no index changes; the result is never changed. Raises AtlasError."""
    if not sites.strip():
        raise AtlasError("No site was chosen: write resid.9 or resid.3,resid.9.")
    opened = Workspace.open(workspace)
    selection = Selection(sites=sites, sample=sample, seed=seed)
    return tuple(select_across(opened, [load_index(opened, run) for run, *_ in indexes], selection))
