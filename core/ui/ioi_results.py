"""What a run of patching found: its baseline, the curves, how many features it takes, and the ranked features."""

import html
import statistics
from typing import Any, Literal, cast

import numpy as np
import pandas as pd
import streamlit as st

from core.bases import shelf
from core.bases.info import BasisInfo
from core.causal.ioi_request import ORDER_NAMES, SEARCH_ORDERS
from core.causal.linear import split_name, titled
from core.errors import AtlasError
from core.store.catalog import indexes
from core.store.ioi import POINTS, IoiRun, band, features_needed, load_ioi, pairs, points, ranked
from core.ui import charts, words
from core.ui.address_fields import AddressFields
from core.ui.dictionary_charts import Look, legend, looks
from core.ui.ioi_charts import Scale, Series, patching_figure
from core.ui.ioi_tables import Cells, baseline_html, ranked_html, table, to_csv
from core.ui.prose import heading, quiet, sentence
from core.ui.server import Server
from core.units import NEURONS

SHOWN = 20
SIZES = (1, 4, 16, 64, 256)
_SENTENCES = {"all": "all", "ABBA": "ABBA", "BABA": "BABA"}
_SCALES = {"log": "logarithmic", "linear": "linear, to 512"}


def results(server: Server, run: str, baseline: bool) -> None:
    """Everything of one run, or what is wrong with it in a sentence. baseline: also that, where the page has not shown it already."""
    try:
        _results(server, run, baseline)
    except AtlasError as error:
        sentence(str(error))


def _results(server: Server, run: str, baseline: bool) -> None:
    found = load_ioi(server.workspace, run)
    heading("Baseline", f"{found.slug} · {run}" if baseline else f"of {run}: above, below the sentences")
    if baseline:
        st.html(baseline_html(found.sentences))
    dropped = sorted({name for one in found.sentences for name in one.dropped})
    if dropped:
        quiet(f"{words.count(len(dropped), 'name')} of ours left out, no single token here: {', '.join(dropped[:12])}.")
    _save_pairs(server, found)
    if not found.curves:
        if found.total:
            quiet("The first curve is being made.", small=False)
        return
    fields = AddressFields("ioi_view")
    heading("Curves", f"{len(found.curves):,} of {found.total:,} finished")
    order, chosen, scale = _choices(found, fields)
    fields.check()
    everything = points(server.workspace, found)
    _curves(server, found, everything, order, chosen, scale)
    _features(server, found, order, fields)


def _choices(found: IoiRun, fields: AddressFields) -> tuple[str, str, Scale]:
    there = [order for order in SEARCH_ORDERS if any(curve.order == order for curve in found.curves)]
    first, second, third = st.columns([2.4, 1.4, 1.6], vertical_alignment="bottom")
    with first:
        order = fields.choice("order", "Order of search", there, there[0], names=ORDER_NAMES.__getitem__, segmented=True)
    with second:
        chosen = fields.choice("sentences", "Sentences", list(_SENTENCES), "all", segmented=True)
    with third:
        scale = fields.choice("scale", "Number of features", list(_SCALES), "log", names=_SCALES.__getitem__, segmented=True)
    return order, chosen, cast(Scale, scale)


def _curves(server: Server, found: IoiRun, everything: Any, order: str, chosen: str, scale: Scale) -> None:
    value = "kl" if chosen == "all" else f"kl_{chosen.lower()}"
    keys = list(dict.fromkeys(curve.key for curve in found.curves))
    drawn = dict(zip(keys, looks(len(keys)), strict=True))
    mine = everything[everything["order"] == order]
    curves: dict[str, list[pd.DataFrame]] = {}
    for key in keys:
        here = [frame for _, frame in mine[mine["key"] == key].groupby("seed") if frame[value].notna().any()]
        if here:
            curves[key] = here
    names = _names(server, found)
    if not curves:
        quiet("No curve of this order has such sentences.", small=False)
        return
    st.html(legend([(names[key], drawn[key]) for key in curves]))
    ceiling = float(np.mean([one.baseline[chosen]["kl"] for one in found.sentences if chosen in one.baseline]))
    left, right = st.columns(2, gap="medium")
    alongs: tuple[tuple[Any, Literal["features", "edit"], str], ...] = (
        (left, "features", "KL against the number of patched features"),
        (right, "edit", "KL against the size of the edit"),
    )
    for place, along, title in alongs:
        series = [Series(names[key], drawn[key], band(here, along, value)) for key, here in curves.items()]
        with place:
            st.html(f'<p class="na-small na-muted"><b>{title}</b></p>')
            figure = patching_figure(series, along, scale, ceiling)
            charts.show(figure, key=f"ioi_{along}", file=f"{found.run}-{order}-{along}", alt=title)
    quiet(
        "KL(z‖y) at the last position, z the patched sentence and y the counterfactual, a mean over pairs; bands from the least to the "
        "most over seeds. Dashed: nothing patched. Dotted: everything."
    )
    st.html(_summary(found, order, curves, names, drawn, value, ceiling))
    st.download_button(
        "Save all points as CSV",
        lambda: to_csv(["key", "order", "seed", *POINTS], everything.to_dict("records")),
        f"{found.run}-points.csv",
        "text/csv",
        on_click="ignore",
        type="tertiary",
        key="ioi_points_csv",
    )


def _summary(
    found: IoiRun,
    order: str,
    curves: dict[str, list[pd.DataFrame]],
    names: dict[str, str],
    drawn: dict[str, Look],
    value: str,
    ceiling: float,
) -> str:
    """Where the curves end, their height at some sizes, and how many features halve the KL."""
    heads = [
        ("decomposition", ""),
        *((f"KL at {size:,}", "With so many features patched, a mean over seeds") for size in SIZES),
        ("all", "With all features patched: the floor"),
        ("half at", "Features that are patched when the KL is half the ceiling, a median over seeds"),
        ("matter", "Units whose code differs in a pair at all, of all units"),
        ("time", "Of a curve, a mean over seeds"),
    ]
    rows: list[Cells] = []
    for key, frames in curves.items():
        one = band(frames, "features", value)
        style = {"solid": "solid", "dash": "dashed", "dot": "dotted", "dashdot": "dashed"}[drawn[key].dash]
        line = f'<i style="border-top:2.5px {style} {drawn[key].colour}"></i>'
        at = [words.number(float(np.interp(size, one.x, one.mean))) if size <= one.x[-1] else "–" for size in SIZES]
        halves = [half for half in features_needed([frame.assign(kl=frame[value]) for frame in frames], ceiling / 2) if half is not None]
        made = [curve for curve in found.curves if curve.key == key and curve.order == order]
        matter = f"{round(statistics.fmean(curve.supported for curve in made)):,} of {made[0].units:,}"
        half = f"{statistics.median(halves):,.0f}" if len(halves) == len(frames) else "never"
        spent = words.duration(statistics.fmean(curve.seconds for curve in made))
        rows.append((line + html.escape(names[key]), *at, words.number(float(one.mean[-1])), half, matter, spent))
    return table(heads, rows)


def _features(server: Server, found: IoiRun, order: str, fields: AddressFields) -> None:
    keys = list(dict.fromkeys(curve.key for curve in found.curves if curve.order == order))
    names = _names(server, found)
    heading("Ranked features", ORDER_NAMES[order])
    key = fields.choice("of", "Decomposition", keys, keys[0], names=names.__getitem__)
    fields.check()
    frame: Any = ranked(server.workspace, found, key, order)
    site, name = next((curve.site, curve.decomposition) for curve in found.curves if curve.key == key)
    basis, _ = split_name(name)
    indexed = any(one.slug == found.slug and one.basis == basis and site in one.published for one in indexes(server.workspace))
    seeds = sum(curve.key == key and curve.order == order for curve in found.curves)
    st.html(ranked_html(frame.head(SHOWN).to_dict("records"), found.slug, site, basis, indexed, seeds))
    if not indexed:
        quiet(f"The units of {basis} at {site} are not indexed: index them, and each leads to its page.")
    st.download_button(
        "Save all ranks as CSV",
        lambda: to_csv(list(frame.columns), frame.to_dict("records")),
        f"{found.run}-ranks.csv",
        "text/csv",
        on_click="ignore",
        type="tertiary",
        key="ioi_ranks_csv",
    )


def _save_pairs(server: Server, found: IoiRun) -> None:
    def save() -> bytes:
        frames = [pairs(server.workspace, found, one.seed).assign(seed=one.seed) for one in found.sentences]
        together = pd.concat(frames, ignore_index=True)
        return to_csv([str(name) for name in together.columns], together.to_dict("records"))

    st.download_button(
        "Save the sentences as CSV", save, f"{found.run}-sentences.csv", "text/csv", on_click="ignore", type="tertiary", key="ioi_pairs_csv"
    )


def _names(server: Server, found: IoiRun) -> dict[str, str]:
    """What each decomposition is called; with its site where there are several. A dictionary that is gone keeps its plain name."""
    many = len({curve.site for curve in found.curves}) > 1
    names: dict[str, str] = {}
    for curve in found.curves:
        basis, _ = split_name(curve.decomposition)
        info: BasisInfo | None = None
        if basis != NEURONS:
            try:
                info = shelf.find(server.workspace, found.slug, curve.site, basis).info
            except AtlasError:
                info = None
        name = titled(curve.decomposition, info)
        names[curve.key] = f"{curve.site} · {name}" if many else name
    return names
