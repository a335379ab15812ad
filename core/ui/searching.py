"""The dashboard's search: one for each workspace, what the Search page asks of it, and what is said while its index is being made."""

import html

import streamlit as st

from core.errors import AtlasError
from core.findings.search.part import KINDS, TextKind
from core.findings.search.question import Hit, Question, read_kinds
from core.findings.search.search import Search
from core.ui import nav, words
from core.ui.address_fields import AddressFields
from core.ui.explore_filters import parse_layers
from core.ui.findings_list import unit_link
from core.ui.prose import lead, sentence
from core.ui.server import Server
from core.ui.starred import unstarred
from core.units import SITE_KINDS, UnitName
from core.workspace import Workspace

NAMES = ("q", "kind", "subject", "site", "layer", "basis", "author", "least", "labelled", "page")
KIND_NAMES: dict[TextKind, str] = {
    "explanation": "explanations", "tokens": "top tokens", "note": "notes", "own": "own explanations", "label": "labels",
    "collection": "collections",
}  # fmt: skip
ONE: dict[TextKind, str] = {
    "explanation": "explanation", "tokens": "top tokens", "note": "note", "own": "own explanation", "label": "label",
    "collection": "collection",
}  # fmt: skip
_SHOWN: dict[str, str] = {**KIND_NAMES}
_COUNTED: dict[TextKind, str] = {"tokens": "units by their top tokens"}
LIVE_SECONDS = 1.0
MOST_LAYERS = 10_000
LONGEST = 300


@st.cache_resource(show_spinner="Opening the search index…", max_entries=4)
def searching(path: str) -> Search:
    """The search of the workspace at `path`, opened once a process."""
    return Search(Workspace.open(path), background=True)


def search_of(server: Server) -> Search:
    """The search of the dashboard's workspace. What it has to read first is read behind the pages, if it is much."""
    return searching(str(server.workspace.path))


def question_fields(search: Search) -> Question:
    """The field and the filters, as the address has them. Raises AtlasError for a wrong value, after all were drawn."""
    known = search.choices()
    fields = AddressFields("search", resets=("page",))
    text = fields.text("q", "Words", hint="river past tense 東京 …", limit=LONGEST, help=(
        "The more of the words a text has, and the rarer they are, the higher it stands. The last word also finds words that begin with it."
    ))  # fmt: skip
    kinds = fields.several("kind", "In", KINDS, (), names=lambda kind: _SHOWN[kind])
    with st.container(key="filters"):
        places = st.columns([2, 1, 1, 1.6, 1.6, 1, 1.2], vertical_alignment="bottom")
        with places[0]:
            subject = fields.choice("subject", "Subject", ["", *known["subjects"]], "", names=_or_all)
        with places[1]:
            site = fields.choice("site", "Site", ["", *SITE_KINDS], "", names=_or_all)
        with places[2]:
            layers = fields.text("layer", "Layers", hint="0-5", limit=100)
        with places[3]:
            basis = fields.choice("basis", "Basis", ["", *known["bases"]], "", names=_or_all)
        with places[4]:
            author = fields.choice("author", "Written by", ["", *known["authors"]], "", names=lambda one: one or "anybody")
        with places[5]:
            least = fields.decimal("least", "ρ at least", None, hint="0.5", help="Only explanations, by their score on held-out records.")
        with places[6]:
            labelled = fields.flag("labelled", "labelled only", help="Units that somebody gave a label.")
    fields.check()
    asked = Question(
        text, read_kinds(kinds), subject, site, parse_layers(layers, MOST_LAYERS), basis, labelled=labelled, least=least, author=author
    )
    asked.check()
    return asked


def being_made(search: Search) -> None:
    """What is said while the index is made, until it is there; and why it could not be."""
    if search.failed:
        sentence(search.failed)
    if search.progress is not None:
        st.fragment(_live, run_every=LIVE_SECONDS)(search)


def what_there_is(search: Search) -> None:
    """What can be searched, when nothing was asked yet."""
    counts = search.counts()
    if not sum(counts.values()):
        if search.progress is None:
            lead(
                "There is nothing to search yet: index a model over a text, explain some units, or write a note on a unit's page. "
                "Explanations, top tokens, notes, labels and collections are found here by their words."
            )
        return
    said = [f"{counts[kind]:,} {_COUNTED.get(kind, KIND_NAMES[kind])}" for kind in KINDS if counts[kind]]
    listed = said[0] if len(said) == 1 else f"{', '.join(said[:-1])} and {said[-1]}"
    lead(
        f"Searched are {listed}.",
        "Write one or more words above. The better a text fits, the higher it stands; Ctrl+K or / searches from every page.",
    )


def text_of(hit: Hit) -> str:
    """What a hit says: an explanation without the stars and escapes of its notation, as on its unit's page."""
    return unstarred(hit.text) if hit.kind in ("explanation", "own") else hit.text


def unit_here(unit: UnitName, explanation: str = "") -> str:
    """A unit's name that leads to its page, with an explanation opened there, as inert HTML."""
    if not explanation:
        return unit_link(unit)
    address = html.escape(nav.address("unit", {"unit": str(unit), "explanation": explanation}), quote=True)
    short = f"{unit.site}/{unit.index}" if unit.basis == "neurons" else f"{unit.site}/{unit.basis}/{unit.index}"
    return f'<a href="{address}" target="_self" title="{html.escape(str(unit), quote=True)}">{html.escape(short)}</a>'


def _live(search: Search) -> None:
    progress = search.progress
    if progress is None:
        st.rerun()
    share = min(1.0, progress.done / max(1, progress.total))
    st.html(
        '<p class="na-muted na-small na-num" role="status">Explanations and top tokens are being read for the search, once: '
        f"{progress.done:,} of about {words.count(progress.total, 'text')}. "
        "What people wrote, and what was read before, is found already.</p>"
        f'<div class="na-bar"><i style="width:{100 * share:.1f}%"></i></div>'
    )


def _or_all(value: str) -> str:
    return value or "all"


def page_of(total: int, rows: int, page: int) -> int:
    """How many pages there are. Raises AtlasError for one beyond."""
    pages = max(1, -(-total // rows))
    if page > pages:
        raise AtlasError(f"Page {page} is out of range: {words.there_are(pages, 'page')}.")
    return pages
