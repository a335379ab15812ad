"""A study's table as HTML and as CSV: mean ρ with its interval, the difference to the first setting, the controls. No Streamlit."""

import csv
import html
import io
import math

from core.autointerp.comparison import Mean, spanned
from core.autointerp.study_tables import Line, Table
from core.ui.spreadsheet import inert

CSV_COLUMNS = (
    *("setting", "units", "failed", "undefined", "mean_rho", "low", "high", "over_units", "difference", "difference_low"),
    *("difference_high", "lookup_rho", "lookup_low", "lookup_high", "shuffled_rho", "shuffled_low", "shuffled_high"),
    *("stand_out", "judged", "coverage"),
)
STYLE = """<style>
.nt {overflow-x: auto} .nt table {border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; width: 100%}
.nt th, .nt td {border: 0; border-bottom: 1px solid var(--na-hairline); padding: .34rem .9rem .34rem 0; text-align: right;
  white-space: nowrap; background: none; color: var(--na-text)}
.nt th {font-weight: 500; font-size: .8rem; color: var(--na-muted)} .nt th:first-child, .nt td:first-child {text-align: left}
.nt td span {color: var(--na-muted)} .nt th[title] {cursor: help}
</style>"""


def to_csv(table: Table) -> bytes:
    """The table as UTF-8 CSV; undefined numbers are empty."""
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_NONNUMERIC)
    writer.writerow(CSV_COLUMNS)
    for line in table.lines:
        difference = line.difference or Mean(0, math.nan, math.nan, math.nan)
        writer.writerow(
            [inert(line.label), line.units, line.failed, line.undefined]
            + [_cell(value) for value in (line.score.value, line.score.low, line.score.high)]
            + [line.score.n]
            + [_cell(value) for value in (difference.value, difference.low, difference.high)]
            + [_cell(value) for one in (line.lookup, line.shuffled) for value in (one.value, one.low, one.high)]
            + [line.stand_out, line.judged, _cell(line.coverage)]
        )
    return out.getvalue().encode()


def to_html(table: Table, axis: str) -> str:
    """The table as inert HTML."""
    heads = [
        (axis, ""),
        ("mean ρ [95 %]", "Mean over units of the correlation of simulated with true activations; its interval from drawing units again"),
        *([(f"less {table.against}", "The mean difference to that line on the same units, with its interval")] if table.against else []),
        ("lookup", "The token lookup table on the same records"),
        ("shuffled", "The same simulator given another unit's explanation"),
        ("stand out", "Explanations whose interval lies above that of their shuffled control"),
        ("units", "Units with a number, of those explained"),
        ("covered", "The mean share of records for which the simulator gave a usable answer"),
    ]
    top = "".join(
        f'<th title="{html.escape(tip, quote=True)}">{html.escape(name)}</th>' if tip else f"<th>{html.escape(name)}</th>"
        for name, tip in heads
    )
    body = "".join(_html_line(line, differences=bool(table.against)) for line in table.lines)
    return f'<div class="nt"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>{STYLE}'


def _html_line(line: Line, *, differences: bool) -> str:
    cells = [f"<td>{html.escape(line.label)}</td>", f"<td>{_html_span(line.score)}</td>"]
    if differences:
        cells.append(f"<td>{_html_span(line.difference, sign=True) if line.difference is not None else ''}</td>")
    cells += [f"<td>{_html_span(one)}</td>" for one in (line.lookup, line.shuffled)]
    judged = f"{line.stand_out:,} of {line.judged:,}" if line.judged else "–"
    covered = f"{100 * line.coverage:.0f} %" if math.isfinite(line.coverage) else "–"
    numbers = f"{line.units - line.failed - line.undefined:,} of {line.units:,}"
    return f"<tr>{''.join(cells)}<td>{judged}</td><td>{numbers}</td><td>{covered}</td></tr>"


def _html_span(one: Mean, *, sign: bool = False) -> str:
    return spanned(one, sign=sign, between=(" <span>[", "]</span>"))


def _cell(value: float) -> float | str:
    return value if math.isfinite(value) else ""
