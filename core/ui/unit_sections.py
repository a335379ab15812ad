"""The parts of the Unit page around its records: heading with statistics, chart, tables, progress, provenance."""

import html
import math

import streamlit as st

from core.runs.registry import Registry
from core.store.catalog import IndexInfo, indexes
from core.store.recipes import flatten
from core.store.units import UnitView
from core.ui import charts, nav, theme
from core.ui.bars import bar_tables
from core.ui.feature_section import token_section
from core.ui.feature_tables import weights
from core.ui.setup import sentence
from core.ui.unit_data import UnitData
from core.ui.unit_tables import file_name, number, percent, significant
from core.units import UnitName
from core.workspace import Workspace

REFRESH_SECONDS = 2.0

_STATISTICS = (
    ("max", "maximum", "The largest activation: max aᵢ over all tokens i of the text."),
    ("min", "minimum", "The smallest activation: min aᵢ over all tokens i of the text."),
    ("density", "density", "Share of tokens with |aᵢ| > 5 % of max |aⱼ|, from the histogram."),
    ("nonzero", "non-zero", "Share of tokens with aᵢ ≠ 0, exactly."),
    ("kurtosis", "kurtosis", "Σ (aᵢ − μ)⁴ / (n σ⁴): the plain fourth standardised moment, 3 for a Gaussian. Large: rare and strong."),
    ("skewness", "skewness", "Σ (aᵢ − μ)³ / (n σ³): above 0 when the strong activations are positive."),
    ("mean", "mean", "μ = Σ aᵢ / n over all n tokens of the text."),
    ("variance", "variance", "σ² = Σ (aᵢ − μ)² / n over all n tokens of the text."),
)

STYLE = """<style>
.st-key-unit-head [data-testid="stHorizontalBlock"], .st-key-unit-head {align-items: flex-start}
.nu-title {display: flex; flex-wrap: wrap; gap: 0 .7rem; align-items: baseline}
.nu-title h1 {font-size: 1.5rem !important; font-weight: 680; padding: 0 !important; margin: 0; letter-spacing: -.01em}
.nu-title span {color: var(--na-muted); font-size: .9rem}
.nu-stats {display: flex; flex-wrap: wrap; gap: .35rem 1.7rem; margin: 0 0 .3rem !important; padding: 0 !important}
.nu-stats > div {position: relative; cursor: help; outline: none; line-height: 1.3}
.nu-stats dd, .nu-stats dt {margin: 0 !important; padding: 0}
.nu-stats dd { font-weight: 650; font-size: .98rem; font-variant-numeric: tabular-nums}
.nu-stats dt {color: var(--na-muted); font-size: .78rem; font-weight: 400}
.nu-stats > div:focus-visible {outline: 2px solid var(--na-accent); outline-offset: 3px; border-radius: 3px}
.nu-stats > div:hover::after, .nu-stats > div:focus::after {content: attr(data-tip); position: absolute; left: 0; top: calc(100% + 4px);
  z-index: 20; width: max-content; max-width: min(20rem, 60vw); padding: .4rem .6rem; border: 1px solid var(--na-hairline);
  border-radius: 6px;
  background: var(--na-surface); color: var(--na-text); font-size: .8rem; line-height: 1.45; box-shadow: 0 2px 10px rgb(0 0 0 / .14)}
.nu-facts {padding: 0 !important; margin: 0 !important}
.nu-near a {color: var(--na-accent)}
.nu-partial {color: var(--na-muted); font-size: .84rem; margin: 0}
.nu-partial b {color: var(--na-accent); font-weight: 600}
.st-key-unit-steps {min-height: 2rem}
.st-key-feature-tokens-choice {margin-bottom: .7rem}
.st-key-feature-tokens-choice button {min-height: 0; padding: .12rem .5rem}
.st-key-feature-tokens-choice button p {font-size: .8rem}
.st-key-unit-steps button {min-height: 0; padding: .22rem .6rem; font-size: .84rem}
.st-key-unit-steps input {font-size: .84rem; padding: .22rem .6rem}
.st-key-unit-steps [data-testid="stTextInputRootElement"] {min-height: 0; height: 2rem}
.st-key-unit-steps [data-testid="InputInstructions"] {display: none}
@media (max-width: 800px) {
  .nu-title {padding-top: 1rem}
  .st-key-unit-body > [data-testid="stLayoutWrapper"] > [data-testid="stHorizontalBlock"],
  .st-key-unit-body > [data-testid="stHorizontalBlock"] {flex-direction: column}
  .st-key-unit-body [data-testid="stColumn"] {width: 100% !important; min-width: 100% !important; flex: 1 1 100% !important}
}
</style>"""


def read_over(view: UnitView) -> str:
    """How much text a unit's numbers are over, and from where they came."""
    origin = view.index.imported_from
    tokens = f"{int(view.stats['tokens']):,} tokens of text" if view.stats["tokens"] or not origin else ""
    return " · ".join(filter(None, (tokens, f"imported from {origin}" if origin else "")))


def title(view: UnitView, *, read_only: bool) -> None:
    """The unit's name, its subject, and over how much text the numbers are. read_only: no model may be asked to be steered with it."""
    name = view.name
    heading = f"{name.site} / {name.basis} / {name.index}"
    beside = f"{html.escape(name.subject)} · {html.escape(read_over(view))}"
    if view.index.dictionary(name.site) and not view.index.imported_from:
        address = nav.address("features", {"dictionary": f"{name.subject}/{name.site}/{name.basis}"})
        beside += f' · <a href="{html.escape(address, quote=True)}" target="_self">its dictionary</a>'
    if not read_only and not view.index.imported_from:
        steer = nav.address("ablate_steer", {"units": str(name)})
        beside += f' · <a href="{html.escape(steer, quote=True)}" target="_self">Steer with this unit</a>'
    beside += f' · <a href="{html.escape(nav.compare_address(name), quote=True)}" target="_self">Compare</a>'
    st.html(f'<div class="nu-title"><h1>{html.escape(heading)}</h1><span>{beside}</span></div>')


def statistics(data: UnitData) -> None:
    """One line of small numbers; each says its formula on hover and on keyboard focus."""
    view = data.view
    scale = max(map(abs, view.limits))
    tokens = view.stats["tokens"]
    shown = {key: number(view.stats[key], scale) for key in ("max", "min", "mean")}
    shown |= {key: significant(view.stats[key]) for key in ("kurtosis", "skewness", "variance")}
    shown |= {"density": percent(view.density), "nonzero": percent(view.stats["nonzero"] / tokens if tokens else math.nan)}
    told = [(shown[key], label, formula) for key, label, formula in _STATISTICS]
    told += weights(data.feature.feature) if data.feature is not None else []
    items = [
        f'<div tabindex="0" data-tip="{html.escape(formula, quote=True)}"><dd>{html.escape(value)}</dd><dt>{label}</dt></div>'
        for value, label, formula in told
    ]
    st.html(f'<dl class="nu-stats">{"".join(items)}</dl>')


def margin(data: UnitData) -> str | None:
    """Chart and tables beside the records; returns the name of a unit whose link was clicked."""
    bar_tables(data.over_histogram, key="unit-histogram-head")
    if data.bars.counts.size:
        figure = charts.histogram(data.bars, theme.is_dark())
        charts.show(
            figure,
            key="unit-histogram",
            file=file_name(data.view, "histogram").removesuffix(".csv"),
            alt=f"Histogram of the activations of {data.view.name}, log scale",
        )
    if data.feature is not None:
        token_section(data.view, data.feature)
    return bar_tables(data.margin, key="unit-margin")


def progress(workspace: Workspace, shown: IndexInfo) -> None:
    """While the run goes on: how far the numbers on this page are, and a fresh page as soon as there is more."""
    if shown.complete:
        return

    @st.fragment(run_every=REFRESH_SECONDS)
    def watch() -> None:
        now = next((index for index in indexes(workspace) if index.run == shown.run), shown)
        if (now.generation, now.state) != (shown.generation, shown.state):
            st.rerun()
        st.html(
            f'<p class="nu-partial" role="status"><b>partial:</b> {shown.contexts_done:,} of {shown.contexts_total:,} contexts. '
            f"{'The page follows the run.' if _at_work(workspace, shown.run) else 'The run was stopped: Runs resumes it.'}</p>"
        )

    watch()


def _at_work(workspace: Workspace, run: str) -> bool:
    """Whether the run goes on or waits to. One that the registry has lost does not."""
    return any(one.id == run for one in Registry(workspace).list(active=True))


def wrong(text: str, near: list[UnitName]) -> None:
    """What is wrong with the address, in one sentence, and units that do exist."""
    sentence(text)
    if near:
        links = " · ".join(
            f'<a href="{html.escape(nav.unit_address(name), quote=True)}" target="_self">{html.escape(str(name))}</a>' for name in near
        )
        st.html(f'<p class="na-lead nu-near">Nearby: {links}</p>')


def provenance(data: UnitData) -> None:
    """Every item of the recipe behind the numbers on this page."""
    recipe = dict(data.view.provenance)
    if data.feature is not None:
        recipe |= {"dictionary": data.feature.feature.dictionary, "dictionary made": data.feature.recipe or "not on the shelf any more"}
    lines = "".join(f"<dt>{html.escape(key)}</dt><dd>{html.escape(value)}</dd>" for key, value in flatten(recipe))
    st.html(f'<dl class="na-facts nu-facts">{lines}</dl>')
