"""The parts of the page Compare with a column for each unit: heads, explanations, statistics, charts, tables, records, provenance."""

import html
from collections.abc import Iterator, Sequence
from typing import TypeVar

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from core.errors import AtlasError
from core.findings.entry import Entry
from core.findings.findings import Findings
from core.findings.report.comparison import comparison_html
from core.store import explanation_queries
from core.store.compare.compared import LETTERS
from core.store.effects import EffectRun, effects_of
from core.store.recipes import flatten
from core.store.texts import load_vocab
from core.store.units import UnitView
from core.ui import charts, explanation_rows, findings_text, theme, unit_sections
from core.ui.address_fields import AddressFields
from core.ui.bars import bar_tables, pack_tables
from core.ui.compare_data import CompareData, address_of, named
from core.ui.compare_units import buttons
from core.ui.effect_tables import token_table
from core.ui.prose import heading, quiet, sentence
from core.ui.records import row_of, shown_bands, try_address, write_view
from core.ui.saved_page import save_page
from core.ui.server import Server
from core.ui.tokens import Band, Heading, View, pack, token_view
from core.ui.unit_tables import effect_table, file_name, significant, top_token_table
from core.workspace import Workspace

RECORDS = 6
T = TypeVar("T")
X_SCALES = {"own": "each its own", "shared": "one for all"}
STYLE = """<style>
[class*="st-key-nc-row-"] > [data-testid="stLayoutWrapper"] > [data-testid="stHorizontalBlock"] {align-items: flex-start}
[class*="st-key-nc-row-"] [data-testid="stColumn"] {min-width: 0}
.nc-head {display: flex; flex-wrap: wrap; gap: 0 .5rem; align-items: baseline}
.nc-head a {font-size: 1.12rem; font-weight: 650; letter-spacing: -.01em; overflow-wrap: anywhere}
.nc-head p {flex-basis: 100%; margin: 0}
.nc-mark {font-weight: 700; font-size: .8rem; border: 1px solid var(--na-muted); border-radius: 4px; padding: 0 .35rem;
  color: var(--na-text); background: var(--na-surface)}
.nc-small {display: none; margin: 0}
[class*="st-key-nc-acts-"] button {min-height: 0; padding: 0 .1rem}
[class*="st-key-nc-acts-"] button p {font-size: .8rem}
[class*="st-key-nc-acts-"] {min-height: 1.4rem}
@media (max-width: 800px) {
  [class*="st-key-nc-row-"] > [data-testid="stLayoutWrapper"] > [data-testid="stHorizontalBlock"],
  [class*="st-key-nc-row-"] > [data-testid="stHorizontalBlock"] {flex-direction: column}
  [class*="st-key-nc-row-"] [data-testid="stColumn"] {width: 100% !important; min-width: 100% !important; flex: 1 1 100% !important}
  .nc-small {display: block}
}
</style>"""


def heads(server: Server, data: CompareData) -> None:
    """Each unit's name with its letter, its model and text, and what moves it or takes it out."""
    columns = _columns(data, "head")
    for place, (column, view) in enumerate(zip(columns, data.views, strict=True)):
        with column:
            beside = f"{view.name.subject} · {unit_sections.read_over(view)}"
            link = f'<a href="{html.escape(address_of(view), quote=True)}" target="_self">{html.escape(named(view))}</a>'
            st.html(
                f'<div class="nc-head" role="heading" aria-level="2"><span class="nc-mark">{LETTERS[place]}</span>{link}'
                f'<p class="na-muted na-small na-num">{html.escape(beside)}</p></div>'
            )
            unit_sections.progress(server.workspace, view.index)
            buttons(data.names, place)


def explanations(server: Server, data: CompareData) -> None:
    """The best explanation of each, with its score and controls."""
    st.html(explanation_rows.STYLE)
    for view, rows in _cells(data, "explanations", [explanation_queries.rows_of_unit(server.cache, view.name) for view in data.views]):
        made = [row for row in rows if not row["failed"]]
        if made:
            st.html(explanation_rows.entry_html(made[0], best=True))
        else:
            address = html.escape(address_of(view), quote=True)
            st.html(f'<p class="na-muted na-small">No explanation yet. <a href="{address}" target="_self">Its page</a> makes one.</p>')


def statistics(data: CompareData) -> None:
    """A line of small numbers of each."""
    st.html(unit_sections.STYLE)
    for _, unit in _cells(data, "statistics", data.units):
        unit_sections.statistics(unit)


def histograms(data: CompareData) -> None:
    """The activation histogram of each, on its own scale or on one for all."""
    heading("Activations", "tokens per 1 of activation, logarithmic")
    fields = AddressFields("compare")
    scale = fields.choice("x", "Scale of the activation", list(X_SCALES), "own", names=X_SCALES.__getitem__, segmented=True)
    _say(fields)
    ends = [end for view in data.views for end in view.limits]
    span = min(0.0, *ends), max(0.0, *ends)
    dark = theme.is_dark()
    for place, (view, unit) in enumerate(_cells(data, "histograms", data.units)):
        if not unit.bars.counts.size:
            quiet("Exactly zero on every token." if unit.bars.zeros else "No token was counted yet.")
            continue
        figure = charts.histogram(unit.bars, dark)
        if scale == "shared":
            edge = 0.02 * (span[1] - span[0])
            figure.update_xaxes(range=[span[0] - edge, span[1] + edge])
        charts.show(
            figure, key=f"compare-histogram-{place}", file=file_name(view, "histogram").removesuffix(".csv"),
            alt=f"Histogram of the activations of {view.name}, log scale",
        )  # fmt: skip


def tokens(data: CompareData) -> None:
    """The tokens on which each is most active, and those that it raises and lowers."""
    for place, (view, _) in enumerate(_cells(data, "tokens", data.units)):
        bar_tables(pack_tables([top_token_table(view), effect_table(view)]), key=f"compare-tokens-{place}")


def ablations(server: Server, data: CompareData) -> None:
    """What ablating each did to the next tokens, where a run holds it."""
    found = [_ablation(server.workspace, view) for view in data.views]
    if not any(found):
        return
    heading("Ablated", "what it does to the model's next tokens")
    for place, (view, run) in enumerate(_cells(data, "ablations", found)):
        if run is None:
            quiet("Not ablated yet: its page does it.")
            continue
        numbers = [("KL where it fires", run.kl_firing), ("loss change there", run.loss_change_firing), ("KL everywhere", run.kl)]
        items = "".join(f"<div><dd>{significant(value)}</dd><dt>{name}</dt></div>" for name, value in numbers)
        said = f"rule {run.rule} · {run.positions:,} positions, {run.firing:,} firing · nats"
        st.html(f'<dl class="nu-stats">{items}</dl><p class="na-muted na-small">{html.escape(said)}</p>')
        bar_tables(pack_tables([token_table(run, load_vocab(server.workspace, view.name.subject))]), key=f"compare-ablation-{place}")


def findings(server: Server, data: CompareData) -> None:
    """What people wrote on each, if anything."""
    written = Findings(server.workspace)
    found = [[entry for entry in written.entries(unit=name) if entry.kind not in ("member", "collection")] for name in data.names]
    if not any(found):
        return
    st.html(findings_text.STYLE)
    heading("What people wrote")
    for _, entries in _cells(data, "findings", found):
        for entry in entries[:12]:
            _finding(entry)
        if not entries:
            quiet("Nothing yet.")


def records(server: Server, data: CompareData) -> None:
    """The strongest records of each. The switches of one column are those of all."""
    asked, _ = View.read(st.query_params.to_dict())
    packs = [_pack(server.workspace, data, place) for place in range(len(data.units))]
    for place, (_, packed) in enumerate(_cells(data, "records", packs)):
        token_view(packed, asked, key=f"compare-records-{place}", on_view=write_view)


def save(server: Server, data: CompareData) -> None:
    """The comparison as one file."""
    file = "compare-" + "-".join(f"{view.name.site}-{view.name.index}" for view in data.views) + ".html"
    save_page(lambda: comparison_html(server.workspace, data.compared), file, key="compare-save")


def provenance(data: CompareData) -> None:
    """Where the numbers come from."""
    section = st.expander("Provenance: where these numbers come from", key="compare-provenance", on_change="rerun")
    if not section.open:
        return
    with section:
        for view, _ in _cells(data, "provenance", data.units):
            lines = "".join(f"<dt>{html.escape(key)}</dt><dd>{html.escape(value)}</dd>" for key, value in flatten(view.provenance))
            st.html(f'<dl class="na-facts">{lines}</dl>')


def _columns(data: CompareData, key: str) -> list[DeltaGenerator]:
    with st.container(key=f"nc-row-{key}"):
        return list(st.columns(len(data.units), gap="medium"))


def _cells(data: CompareData, key: str, values: Sequence[T]) -> Iterator[tuple[UnitView, T]]:
    """Go through the columns of a row, each with its unit and its value; what is drawn meanwhile is in the column."""
    for place, (column, view, value) in enumerate(zip(_columns(data, key), data.views, values, strict=True)):
        with column:
            st.html(f'<p class="nc-small"><span class="nc-mark">{LETTERS[place]}</span></p>')
            yield view, value


def _say(fields: AddressFields) -> None:
    try:
        fields.check()
    except AtlasError as error:
        sentence(str(error))


def _ablation(workspace: Workspace, view: UnitView) -> EffectRun | None:
    """The newest over the records of the index that is shown, else the newest."""
    found = effects_of(workspace, view.name)
    return next((one for one in found if one.index == view.index.run), next(iter(found), None))


def _finding(entry: Entry) -> None:
    for place, version in enumerate(entry.alternatives):
        if entry.kind in ("note", "explanation"):
            findings_text.prose(version.text, f"{entry.id}-{place}")
            st.html(findings_text.by_line(version, "own explanation" if entry.kind == "explanation" else ""))
            continue
        said = {"rating": f"{version.text} of 5", "alike": f"looks like {version.text}"}.get(entry.kind, version.text)
        st.html(f'<p class="nf-line"><b>{html.escape(said)}</b></p>' + findings_text.by_line(version, entry.kind))


def _pack(workspace: Workspace, data: CompareData, place: int) -> bytes:
    view = data.views[place]
    rows = [row_of(record) for record in dict(shown_bands(view))["top"][:RECORDS]]
    return pack(
        [Band("Top", f"{len(rows)} of {len(view.bands['top'])}, one per document", rows, "It is active on no text.", first=RECORDS)],
        data.vocab(place),
        key=f"{view.index.run}:{view.index.generation}:{view.name}:{place}",
        low=view.limits[0],
        high=view.limits[1],
        heading=Heading(
            title=f"{LETTERS[place]} · What it responds to",
            try_address=try_address(workspace, view, view.index.run),
            file=file_name(view, "records"),
        ),
    )
