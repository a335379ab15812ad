"""Choosing the units of a run: by what the index says of them, a sample of those, or a pasted list of names."""

import re
from dataclasses import replace

import streamlit as st

from core.autointerp.selection import Selection, select
from core.errors import AtlasError, shown
from core.store.catalog import IndexInfo, find_unit, load_index, shown_sites
from core.ui import words
from core.ui.address_fields import AddressFields
from core.ui.explore_filters import parse_span
from core.ui.index_choice import of_basis, ready, what_text
from core.ui.prose import quiet
from core.ui.server import Server
from core.units import Site, UnitName
from core.workspace import Workspace

MAX_LISTED = 5000
_LONGEST_LIST = 300_000
_IN_ADDRESS = 1500
_NUMBER = re.compile(r"\d{1,9}")
FILTERS = ("sites", "density", "kurtosis", "max", "token", "sample", "seed")
NAMES = ("index", "choose", "units", *FILTERS)
"""The parameters of the address that choose units."""
_WAYS = {"index": "From an index", "list": "A list of names"}


def index_field(server: Server, fields: AddressFields) -> IndexInfo:
    """The index that units are chosen from; a picker only where there are several. Call it when at least one is ready."""
    found = {index.run: index for index in ready(server)}
    largest = next(iter(found))
    if len(found) < 2 and st.query_params.get("index", largest) == largest:
        return found[largest]
    run = fields.choice("index", "Index", list(found), largest, names=lambda run: _short(found[run]))
    return found[run]


def unit_fields(server: Server, fields: AddressFields, index: IndexInfo, *, sample: int) -> tuple[UnitName, ...]:
    """The fields and how many units fit. sample: of each site, unless the address says otherwise. Raises AtlasError."""
    if fields.choice("choose", "Units", list(_WAYS), "index", names=_WAYS.__getitem__, segmented=True) == "list":
        return _listed(server, fields, index)
    with st.container(key="filters"):
        places = st.columns([1.6, 1, 1, 1, 1.2, 1, 0.9], vertical_alignment="bottom")
        with places[0]:
            sites = fields.text(
                "sites", "Sites", hint=f"all: {shown_sites(index.published)}", help="mlp.0-5, resid.3 or mixtures with commas."
            )
        with places[1]:
            density = fields.text(
                "density", "Density %", hint="<1", help="Share of tokens on which the unit is clearly active: <1, >5, 0.1..2."
            )
        with places[2]:
            kurtosis = fields.text(
                "kurtosis", "Kurtosis", hint=">100", help="3 for a Gaussian, large for units that fire rarely and strongly."
            )
        with places[3]:
            largest = fields.text("max", "Maximum", hint="2..10", help="Largest activation over the text.")
        with places[4]:
            token = fields.text("token", "Top token", hint="a whole token", help="One of the unit's top tokens, ignoring case and spaces.")
        with places[5]:
            most = fields.number(
                "sample", "Sample a site", 0, 1_000_000, sample, help="At most so many units of each site; 0 for all that fit."
            )
        with places[6]:
            seed = fields.number("seed", "Seed", 0, 999_999_999, 0, help="Which units the sample draws: the same seed, the same units.")
    low, high = parse_span(density, "density (in %)")
    selection = Selection(
        sites=sites,
        density=(None if low is None else low / 100, None if high is None else high / 100),
        kurtosis=parse_span(kurtosis, "kurtosis"),
        maximum=parse_span(largest, "maximum"),
        token=token,
        sample=most or None,
        seed=seed or 0,
    )
    fit, chosen = _selected(str(server.workspace.path), index.run, index.generation, index.written, selection)
    drawn = "" if len(chosen) == fit else f"; {words.count(most or 0, 'unit')} of each site at most are drawn: {len(chosen):,}"
    quiet(f"{words.count(fit, 'unit fits', 'units fit')} of {index.slug}{drawn}.")
    return chosen


@st.cache_resource(max_entries=16, show_spinner="Looking for units…")
def _selected(workspace: str, run: str, generation: int, written: float, selection: Selection) -> tuple[int, tuple[UnitName, ...]]:
    """How many units fit, and those that are drawn. Kept while the index does not change; the result is never changed."""
    opened = Workspace.open(workspace)
    index = load_index(opened, run)
    everything = select(opened, index, replace(selection, sample=None))
    drawn = everything if selection.sample is None else select(opened, index, selection)
    return len(everything), tuple(drawn)


def _listed(server: Server, fields: AddressFields, index: IndexInfo) -> tuple[UnitName, ...]:
    text = fields.area(
        "units",
        "Names, with spaces, commas or line breaks between them",
        hint=f"{index.slug}/{index.published[0]}/{index.basis}/0 or {index.published[0]}/0",
        help="Whole names, or site/number as the lists here show them.",
        limit=_LONGEST_LIST,
        in_address=_IN_ADDRESS,
    )
    names = parse_names(text, index)
    if not names:
        raise AtlasError("Name at least one unit, or choose units from an index.")
    for name in names:
        if (
            name.subject != index.slug
            or name.basis != index.basis
            or name.site not in index.published
            or name.index not in index.units_of(name.site)
        ):
            find_unit(server.workspace, name)
    quiet(f"{words.count(len(names), 'unit')}.")
    return names


def parse_names(text: str, index: IndexInfo) -> tuple[UnitName, ...]:
    """The names in a text, each once, in order. `mlp.3/17` is meant in the index's subject and basis. Raises AtlasError."""
    found: dict[UnitName, None] = {}
    for item in re.split(r"[\s,;]+", text.strip()):
        if not item:
            continue
        site, slash, number = item.partition("/")
        if slash and number.isascii() and _NUMBER.fullmatch(number):
            found[UnitName(index.slug, Site.parse(site), index.basis, int(number))] = None
        elif item.count("/") == 3:
            found[UnitName.parse(item)] = None
        else:
            raise AtlasError(
                f"“{shown(item)}” is not a unit: write {index.slug}/{index.published[0]}/{index.basis}/0 or {index.published[0]}/0."
            )
        if len(found) > MAX_LISTED:
            raise AtlasError(f"At most {MAX_LISTED:,} names are taken in a list: choose from an index instead.")
    return tuple(found)


def _short(index: IndexInfo) -> str:
    return f"{index.slug} · {of_basis(index)}{what_text(index)}, {index.contexts_total:,} contexts · {index.run}"
