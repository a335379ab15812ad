"""Dictionaries side by side: their numbers, how often their units fire, and sparsity against fidelity."""

import csv
import html
import io
from collections.abc import Callable, Mapping, Sequence

import streamlit as st

from core.bases.metric_names import METRICS, Metric
from core.errors import AtlasError, shown
from core.runs.registry import Run
from core.ui import charts
from core.ui.dictionary_alike import alike
from core.ui.dictionary_charts import Axis, Density, Look, Point, density_figure, frontier_figure, legend, looks
from core.ui.dictionary_facts import CONVENTIONS, conventions, measured_on, text_of
from core.ui.dictionary_shelf import MAX_COMPARED
from core.ui.dictionary_table import Entry, kind_of, label_of, place_of, shown_metric, sparsity_of, to_csv
from core.ui.dictionary_work import measure, one_text, submit, under_way
from core.ui.prose import heading, quiet
from core.ui.server import Server

PLAIN = tuple(metric for metric in METRICS if metric.name not in ("density", "encoder_decoder_cosine", "mmcs"))
"""Metrics that are one number."""
FRONTIERS = {"explained_variance": "explained variance", "loss_recovered": "loss recovered"}


def chosen(found: Sequence[Entry], asked: str, run: Run | None) -> tuple[list[Entry], list[Entry]]:
    """Those to lay side by side, and those of the frontier. Raises AtlasError for a wrong choice in the address.

    asked: keys with commas, `none`, or nothing for all that a run made or measured, or where these are fewer than two, for all at the site
    of the last one that was made.
    """
    if asked:
        by_key = {entry.key: entry for entry in found}
        keys = [] if asked == "none" else list(dict.fromkeys(asked.split(",")))
        strange = next((key for key in keys if key not in by_key), None)
        if strange is not None:
            raise AtlasError(f"There is no dictionary “{shown(strange)}” to compare: mark some of the list.")
        if len(keys) > MAX_COMPARED:
            raise AtlasError(f"The address compares {len(keys)} dictionaries: at most {MAX_COMPARED} can be seen side by side.")
        return [by_key[key] for key in keys], [by_key[key] for key in keys]
    named = [] if run is None else [run.id, *(run.params.get("dictionaries") or ())]
    of_run = [entry for entry in found if {entry.run, entry.key, entry.info.metrics.get("run")} & set(named)]
    if len(of_run) < 2 and found:
        last = max(of_run or found, key=lambda entry: entry.info.created).info
        of_run = [entry for entry in found if (entry.info.subject, entry.info.site) == (last.subject, last.site)]
    if len(of_run) <= MAX_COMPARED:
        return of_run, of_run
    places = [round(i * (len(of_run) - 1) / (MAX_COMPARED - 1)) for i in range(MAX_COMPARED)]
    return [of_run[place] for place in places], of_run


def compare(server: Server, side: Sequence[Entry], frontier: Sequence[Entry]) -> None:
    """side: at most six, laid side by side. frontier: those of the curve of sparsity against fidelity."""
    many = f"{len(side)} of {len(frontier)}" if len(frontier) > len(side) else str(len(side))
    heading("Compare", f"{many} side by side: mark others in the list above" if side else "")
    if not side:
        quiet("Mark up to six dictionaries in the list above to see their numbers side by side.", small=False)
        return
    drawn = dict(zip((entry.key for entry in side), looks(len(side)), strict=True))
    st.html(table_html(side, drawn))
    quiet(_texts(side))
    _buttons(server, side)
    left, right = st.columns([1, 1], gap="large")
    with left:
        _densities(side, drawn)
    with right:
        _frontiers(frontier)
    alike(server, side)


def words_of(found: Sequence[Entry]) -> str:
    """`paper-a1`, or `the 3 without numbers`."""
    return found[0].info.name if len(found) == 1 else f"the {len(found)} without all numbers"


def table_html(found: Sequence[Entry], drawn: Mapping[str, Look]) -> str:
    """Properties and metrics, a column a dictionary, as inert HTML."""
    several = len({entry.info.subject for entry in found}) > 1
    heads = "".join(
        f'<th scope="col" title="{html.escape(entry.key, quote=True)}"><i style="background:{drawn[entry.key].colour}"></i>'
        f"{html.escape(entry.info.name)}{f'<br><span>{html.escape(entry.info.subject)}</span>' if several else ''}</th>"
        for entry in found
    )
    about = [conventions(entry.info) for entry in found]
    lines = "".join(
        f'<tr><th scope="row">{html.escape(name)}</th>' + "".join(f"<td>{html.escape(one.get(name, ''))}</td>" for one in about) + "</tr>"
        for name in CONVENTIONS
        if any(name in one for one in about)
    )
    numbers = "".join(_metric_line(metric, found) for metric in PLAIN if any(entry.metric(metric.name) is not None for entry in found))
    none = "" if numbers else f'<tr><th scope="row">metrics</th><td colspan="{len(found)}">not measured yet</td></tr>'
    body = f"<tbody>{lines}</tbody><tbody>{numbers}{none}</tbody>"
    return f'<div class="dc"><table><thead><tr><th></th>{heads}</tr></thead>{body}</table></div>{_STYLE}'


def densities(found: Sequence[Entry], drawn: Mapping[str, Look]) -> list[Density]:
    """The density histograms of those that have one."""
    made: list[Density] = []
    for entry in found:
        stored = entry.info.metrics.get("density") if entry.current else None
        if isinstance(stored, dict) and len(stored.get("edges") or ()) == len(stored.get("counts") or ()) + 1:
            made.append(Density(entry.info.name, drawn[entry.key], stored["edges"], stored["counts"], int(stored["dead"])))
    return made


def points(found: Sequence[Entry], metric: str) -> list[Point]:
    """L0 and a metric of those that have both."""
    made: list[Point] = []
    for entry in found:
        x, y = entry.metric("l0"), entry.metric(metric)
        if x is not None and y is not None:
            family = f"{kind_of(entry.info)} at {place_of(entry.info)}, {entry.info.units:,} units"
            made.append(Point(sparsity_of(entry.info) or kind_of(entry.info), f"{entry.info.name}: {label_of(entry.info)}", family, x, y))
    return made


def density_csv(found: Sequence[Entry]) -> bytes:
    """The density histograms as UTF-8 CSV: a line a bin, and one for the dead units."""
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_NONNUMERIC)
    writer.writerow(["dictionary", "log10_low", "log10_high", "units"])
    for one in densities(found, {entry.key: Look("", "", "") for entry in found}):
        writer.writerow([one.label, "", "", one.dead])
        writer.writerows([one.label, low, high, count] for low, high, count in zip(one.edges, one.edges[1:], one.counts, strict=False))
    return out.getvalue().encode()


def _save(label: str, content: Callable[[], bytes], file: str) -> None:
    st.download_button(label, content, file, "text/csv", on_click="ignore", type="tertiary", key=file)


def _metric_line(metric: Metric, found: Sequence[Entry]) -> str:
    tip = html.escape(metric.formula, quote=True)
    cells = "".join(
        f'<td title="{html.escape(entry.why(metric.name), quote=True)}">–</td>'
        if entry.metric(metric.name) is None
        else f"<td>{html.escape(shown_metric(entry, metric.name))}</td>"
        for entry in found
    )
    unit = f" <span>{html.escape(metric.unit)}</span>" if metric.unit and metric.unit != "share" else ""
    return f'<tr><th scope="row" title="{tip}">{html.escape(metric.label)}{unit}</th>{cells}</tr>'


def _buttons(server: Server, side: Sequence[Entry]) -> None:
    """Measuring what lacks numbers, or all on one text where their texts differ; and the numbers as files."""
    measuring, _ = under_way(server)
    lacking = [entry for entry in side if not entry.measured and entry.key not in measuring]
    alike = one_text(side) if len(_by_text(side)) > 1 and not measuring.intersection(entry.key for entry in side) else None
    with st.container(horizontal=True, gap="small"):
        if alike is not None and not server.read_only and st.button("Measure all on one text", key="measure_alike"):
            submit(server, [alike])
        if lacking and not server.read_only and st.button(f"Measure {words_of(lacking)}", key="measure_compared"):
            measure(server, lacking)
        _save("Save the numbers as CSV", lambda: to_csv(side), "comparison.csv")
        _save("Save the densities as CSV", lambda: density_csv(side), "densities.csv")


def _by_text(found: Sequence[Entry]) -> list[list[Entry]]:
    """Those that were measured, by the text of that."""
    groups: dict[str, list[Entry]] = {}
    for entry in found:
        if entry.current:
            groups.setdefault(text_of(entry), []).append(entry)
    return list(groups.values())


def _texts(found: Sequence[Entry]) -> str:
    """On what the numbers were measured, and whether that is the same."""
    groups = _by_text(found)
    if len(groups) < 2:
        return f"Measured on {measured_on(groups[0][0])}." if groups else "None of them has been measured yet."
    said = "; ".join(f"{', '.join(one.info.name for one in some)} on {measured_on(some[0])}" for some in groups)
    return f"Not all were measured on the same text, so small differences mean nothing: {said}."


def _densities(found: Sequence[Entry], drawn: Mapping[str, Look]) -> None:
    heading("How often units fire", "share of the units at each frequency, log scale; dead units apart")
    made = densities(found, drawn)
    if not made:
        quiet("Measure the dictionaries to see how often their units fire.", small=False)
        return
    st.html(legend([(one.label, one.look) for one in made]))
    alt = "Histogram of how often units fire, one line a dictionary"
    charts.show(density_figure(made), key="densities", file="densities", alt=alt)


def _frontiers(found: Sequence[Entry]) -> None:
    heading("Sparsity against fidelity", "each point a dictionary; up and to the left is better")
    known = {metric: points(found, metric) for metric in FRONTIERS}
    families = list(dict.fromkeys(point.family for some in known.values() for point in some))
    if not families:
        quiet("Measure the dictionaries to see what their sparsity costs.", small=False)
        return
    drawn = dict(zip(families, looks(len(families)), strict=True))
    st.html(legend(list(drawn.items())))
    for metric, some in known.items():
        if some:
            figure = frontier_figure(some, Axis(FRONTIERS[metric]), drawn)
            charts.show(figure, key=f"frontier_{metric}", file=f"frontier-{metric}", alt=f"L0 against {FRONTIERS[metric]}")
        else:
            quiet(f"No {FRONTIERS[metric]} yet: measuring with the model's output gives it.")


_STYLE = """<style>
.dc {overflow-x: auto} .dc table {border-collapse: separate; border-spacing: 0; font-size: .86rem; font-variant-numeric: tabular-nums}
.dc th, .dc td {border: 0; border-bottom: 1px solid var(--na-hairline); padding: .28rem 1.6rem .28rem 0; text-align: right;
  background: none; color: var(--na-text); font-weight: 400; vertical-align: top}
.dc th:first-child {text-align: left; color: var(--na-muted); white-space: nowrap; position: sticky; left: 0;
  background: var(--na-background)}
.dc td {white-space: nowrap} .dc thead th {font-weight: 600; min-width: 6rem; overflow-wrap: anywhere}
.dc th[title], .dc td[title] {cursor: help} .dc th span {color: var(--na-muted); font-weight: 400; font-size: .8rem}
.dc i {display: inline-block; width: .7rem; height: .7rem; border-radius: 2px; margin-right: .4rem}
.dc tbody + tbody tr:first-child > * {border-top: 2px solid var(--na-hairline)}
</style>"""
