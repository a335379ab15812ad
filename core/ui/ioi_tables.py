"""Sentences, baseline, what curves come to and ranked features, as inert HTML and as CSV. No Streamlit."""

import csv
import html
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from core.causal.ioi_sentences import ORDERS, Pair
from core.store.ioi import Sentences
from core.ui import nav, words
from core.ui.spreadsheet import inert
from core.units import UnitName

STYLE = """<style>
.it {overflow-x: auto} .it table {border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; width: 100%}
.it th, .it td {border: 0; border-bottom: 1px solid var(--na-hairline); padding: .3rem .9rem .3rem 0; text-align: right; background: none;
  white-space: nowrap; color: var(--na-text)}
.it th {font-weight: 500; font-size: .8rem; color: var(--na-muted)} .it th:not([title=""]) {cursor: help}
.it th.l, .it th.w, .it td.l {text-align: left} .it td.w {white-space: normal; min-width: 16rem; text-align: left}
.it td span {color: var(--na-muted)} .it b {font-weight: 650}
.it i {display: inline-block; width: 1.5rem; height: 0; margin-right: .5rem; vertical-align: middle}
</style>"""
Cells = Sequence[str]


def table(heads: Sequence[tuple[str, str]], rows: Iterable[Cells], *, left: int = 1, wide: Sequence[int] = ()) -> str:
    """heads: names and tooltips. rows: cells that are HTML already. left: so many columns stand to the left; wide: these wrap."""
    top = "".join(
        f'<th{_class(place, left, wide)} title="{html.escape(tip, quote=True)}">{html.escape(name)}</th>'
        for place, (name, tip) in enumerate(heads)
    )
    body = "".join(f"<tr>{''.join(f'<td{_class(place, left, wide)}>{cell}</td>' for place, cell in enumerate(row))}</tr>" for row in rows)
    return f'<div class="it"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>{STYLE}'


def pairs_html(pairs: Sequence[Pair]) -> str:
    """Each sentence with its answer, and what the counterfactual has in its place."""
    heads = [
        ("order", "ABBA: the indirect object is named first. BABA: the subject is."),
        ("sentence", ""),
        ("answer", ""),
        ("counterfactual's", "The third name, in place of the indirect object"),
    ]
    rows = [(html.escape(pair.order), f"{_marked(pair)} <span>…</span>", html.escape(pair.io), html.escape(pair.other)) for pair in pairs]
    return table(heads, rows, left=4, wide=(1,))


def baseline_html(found: Sequence[Sentences]) -> str:
    """What the subject makes of the sentences unpatched: a row for each seed and order, and the means."""
    heads = [
        ("seed", ""),
        ("sentences", ""),
        ("pairs", ""),
        ("accuracy", "Share in which the answer's logit is above the subject's"),
        ("logit difference", "Mean logit of the answer less that of the subject"),
        ("likeliest", "Share in which the answer is the likeliest token"),
        ("accuracy, c.f.", "The same of the counterfactual, whose answer is the third name"),
        ("logit difference, c.f.", ""),
        ("KL", "Of the two outputs, original from counterfactual, in nats: the ceiling of the curves"),
    ]
    rows: list[Cells] = []
    for one in found:
        for kind in ("all", *ORDERS):
            told: Mapping[str, Any] | None = one.baseline.get(kind)
            if told is None:
                continue
            here, there = told["original"], told["counterfactual"]
            rows.append(
                (
                    str(one.seed) if kind == "all" else "",
                    kind,
                    f"{told['pairs']:,}",
                    f"<b>{here['accuracy']:.0%}</b>",
                    words.number(here["logit_difference"]),
                    f"{here['likeliest']:.0%}",
                    f"{there['accuracy']:.0%}",
                    words.number(there["logit_difference"]),
                    words.number(told["kl"]),
                )
            )
    return table(heads, rows, left=2)


def ranked_html(rows: Iterable[Mapping[Any, Any]], subject: str, site: Any, basis: str, indexed: bool, seeds: int) -> str:
    """The most important features of a decomposition; each leads to its page where its units are indexed."""
    heads = [
        ("", "Place by mean rank"),
        ("unit", ""),
        ("mean rank", "Over the seeds; where it cannot matter it counts as last"),
        ("best to worst", ""),
        ("score", "What the order went by, a mean over seeds: nats gained, or the threshold at which it was left out"),
        ("pairs", "In how many its code differs between the sentence and its counterfactual"),
        ("seeds", "In which it can matter at all"),
    ]
    made: list[Cells] = []
    for place, row in enumerate(rows):
        unit = UnitName(subject, site, basis, int(row["unit"]))
        name = (
            f'<a href="{html.escape(nav.unit_address(unit), quote=True)}" target="_self">{unit.index:,}</a>'
            if indexed
            else f"{unit.index:,}"
        )
        score = float(row["score"])
        made.append(
            (
                str(place + 1),
                name,
                words.number(float(row["rank"])),
                f"{int(row['best']):,} to {int(row['worst']):,}",
                "never left out" if math.isnan(score) else words.number(score),
                words.number(float(row["pairs"])),
                f"{int(row['seeds'])} of {seeds}",
            )
        )
    return table(heads, made, left=2)


def to_csv(columns: Sequence[str], rows: Iterable[Mapping[Any, Any]]) -> bytes:
    """UTF-8 CSV; what is undefined is empty."""
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_NONNUMERIC)
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_cell(row[name]) for name in columns])
    return out.getvalue().encode()


def _cell(value: Any) -> Any:
    return "" if isinstance(value, float) and math.isnan(value) else inert(value)


def _marked(pair: Pair) -> str:
    """The sentence with the indirect object in bold: it stands where the template has it, for one name may begin another."""
    differs = next(place for place, (one, two) in enumerate(zip(pair.base, pair.counterfactual, strict=False)) if one != two)
    start = pair.base.rindex(" ", 0, differs) + 1
    before, after = pair.base[:start], pair.base[start + len(pair.io) :]
    return f"{html.escape(before)}<b>{html.escape(pair.io)}</b>{html.escape(after)}"


def _class(place: int, left: int, wide: Sequence[int]) -> str:
    return ' class="w"' if place in wide else ' class="l"' if place < left else ""
