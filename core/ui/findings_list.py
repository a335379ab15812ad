"""The Findings page's list: filters in the address, everything written that fits, the newest first, and the same as CSV."""

import html

import streamlit as st

from core.errors import AtlasError
from core.findings.checks import HIGHEST, LOWEST
from core.findings.entry import KINDS, SOMEONE, Entry
from core.findings.findings import Findings
from core.findings.listing import Wanted, listed, to_csv
from core.ui import nav, state, words
from core.ui.address_fields import AddressFields
from core.ui.findings_author import findings
from core.ui.findings_entries import clipped
from core.ui.prose import quiet
from core.ui.server import Server
from core.units import UnitName
from core.workspace import Workspace

PAGE_ROWS = 40
KIND_NAMES = {
    "note": "notes", "rating": "ratings", "label": "labels", "explanation": "own explanations", "alike": "looks like",
    "collection": "collections", "member": "places in collections",
}  # fmt: skip
FILTERS = ("kind", "label", "author", "rating", "collection")

STYLE = """<style>
.nfl {width: 100%; border-collapse: collapse; font-size: .92rem}
.nfl th {text-align: left; font-weight: 400; font-size: .78rem; color: var(--na-muted); padding: .2rem .8rem .2rem 0;
  border-bottom: 1px solid var(--na-hairline)}
.nfl td {vertical-align: top; padding: .4rem .8rem .4rem 0; border-bottom: 1px solid var(--na-hairline); overflow-wrap: anywhere}
.nfl td.when, .nfl td.kind, .nfl td.who {color: var(--na-muted); font-size: .82rem; font-variant-numeric: tabular-nums}
.nfl td.when, .nfl td.unit {white-space: nowrap}
.nfl td.said {white-space: pre-line; max-width: 48rem; width: 60%}
@media (max-width: 800px) {
  .nfl thead {display: none}
  .nfl tr {display: block; border-bottom: 1px solid var(--na-hairline); padding: .35rem 0}
  .nfl td {display: inline; border: 0; padding: 0 .6rem 0 0}
  .nfl td.said {display: block; width: auto}
}
</style>"""


def everything(server: Server) -> tuple[Entry, ...]:
    """All entries, read again only when something was written. Raises AtlasError."""
    return _everything(str(server.workspace.path), findings(server).number)


@st.cache_resource(max_entries=2, show_spinner=False)
def _everything(workspace: str, number: int) -> tuple[Entry, ...]:
    return tuple(Findings(Workspace.open(workspace)).entries())


def filters(server: Server) -> Wanted:
    """The filters as the address has them. Raises AtlasError for a wrong one, after all were drawn."""
    known = findings(server)
    labels, collections = known.known_labels(), known.collections.titles()
    authors = sorted({entry.current.by for entry in everything(server)}, key=lambda name: (name == SOMEONE, name.lower()))
    fields = AddressFields("findings", ("page",))
    with st.container(key="findings-filters"):
        places = st.columns(5, vertical_alignment="bottom")
        with places[0]:
            kind = fields.choice("kind", "Kind", ["", *KINDS], "", names=lambda one: KIND_NAMES.get(one, "everything"))
        with places[1]:
            label = fields.choice("label", "Label", ["", *labels], "", names=lambda one: one or "any")
        with places[2]:
            author = fields.choice("author", "Author", ["", *authors], "", names=lambda one: one or "anybody")
        with places[3]:
            stars = ["", *map(str, range(LOWEST, HIGHEST + 1))]
            rating = fields.choice("rating", "Rated", stars, "", names=lambda one: f"{one} or more" if one else "any or not")
        with places[4]:
            collection = fields.choice(
                "collection", "Collection", ["", *collections], "", names=lambda one: collections.get(one, "any or none")
            )
    fields.check()
    return Wanted(None, kind, author, label, int(rating) if rating else None, collection)


def forget() -> None:
    """Show everything again."""
    state.write(**dict.fromkeys((*FILTERS, "page")))


def findings_list(server: Server, wanted: Wanted) -> None:
    """A page of what fits. Raises AtlasError."""
    found = listed(findings(server), wanted, everything(server))
    if not found:
        if wanted.narrow:
            quiet("Nothing that was written fits.", small=False)
            st.button("Show everything", on_click=forget)
        elif server.read_only:
            quiet("Nothing is written yet.", small=False)
        else:
            quiet(
                "Nothing is written yet. Every unit's page has a section “Findings”: notes, a rating, labels, your own explanation, units "
                "it looks like, and collections. What you write there appears here, and stays when the cache is rebuilt.",
                small=False,
            )
        return
    pages = -(-len(found) // PAGE_ROWS)
    page = state.whole("page", "a page", 1, 100_000, 1) or 1
    if page > pages:
        raise AtlasError(f"Page {page} is out of range: {words.there_are(pages, 'page')}.")
    titles = findings(server).collections.titles()
    first = (page - 1) * PAGE_ROWS
    shown = found[first : first + PAGE_ROWS]
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        span = f"{first + 1:,}–{first + len(shown):,} of <b>{len(found):,}</b>, the newest first"
        st.html(f'<p class="na-muted na-small na-num">{span}</p>', width="stretch")
        st.download_button(
            "Save as CSV", lambda: to_csv(found), "findings.csv", "text/csv", key="findings-csv", on_click="ignore", type="tertiary"
        )  # fmt: skip
        if pages > 1:
            st.button("← Previous", key="findings-back", on_click=_go, args=(page - 1,), disabled=page == 1)
            st.button("Next →", key="findings-next", on_click=_go, args=(page + 1,), disabled=page == pages)
    head = "".join(f"<th>{name}</th>" for name in ("saved", "unit", "kind", "", "by"))
    body = "".join(_row(entry, titles) for entry in shown)
    st.html(STYLE)
    st.html(f'<table class="nfl"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>')


def unit_link(unit: UnitName | None) -> str:
    """A unit's name that leads to its page, as inert HTML."""
    if unit is None:
        return ""
    short = f"{unit.site}/{unit.index}" if unit.basis == "neurons" else f"{unit.site}/{unit.basis}/{unit.index}"
    address = html.escape(nav.unit_address(unit), quote=True)
    return f'<a href="{address}" target="_self" title="{html.escape(str(unit), quote=True)}">{html.escape(short)}</a>'


def _row(entry: Entry, titles: dict[str, str]) -> str:
    version = entry.current
    if entry.kind == "alike":
        said = unit_link(UnitName.parse(str(version.body["unit"])))
    elif entry.kind in ("member", "collection"):
        identity = entry.id if entry.kind == "collection" else str(version.body["collection"])
        address = html.escape(nav.address("findings", {"collection": identity}), quote=True)
        said = f'<a href="{address}" target="_self"><bdi>{html.escape(titles.get(identity, "a collection that was removed"))}</bdi></a>'
    else:
        said = f"<bdi>{html.escape(clipped(version.text, 400))}</bdi>"
    kind = {"alike": "looks like", "member": "put into", "explanation": "own explanation"}.get(entry.kind, entry.kind)
    if len(entry.alternatives) > 1:
        kind += f" · {len(entry.alternatives)} versions side by side"
    cells = (
        ("when", words.when(version.created)), ("unit", unit_link(entry.unit)), ("kind", kind), ("said", said),
        ("who", f"<bdi>{html.escape(version.by)}</bdi>"),
    )  # fmt: skip
    return "<tr>" + "".join(f'<td class="{name}">{cell}</td>' for name, cell in cells) + "</tr>"


def _go(page: int) -> None:
    state.write(page=page if page > 1 else None)
