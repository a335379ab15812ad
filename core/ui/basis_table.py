"""The table of the study “Interpretability by basis” as HTML and as CSV: mean score of each basis at each layer. No Streamlit."""

import csv
import html
import io
import math
from collections.abc import Sequence

from core.autointerp.comparison import spanned
from core.autointerp.study_tables import Cell, Series
from core.ui.spreadsheet import inert

CSV_COLUMNS = ("basis", "subject", "site", "layer", "mean_rho", "low", "high", "units", "undefined", "failed", "lookup_rho", "shuffled_rho")


def to_csv(series: Sequence[Series]) -> bytes:
    """A row for each basis and site; undefined numbers are empty."""
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_NONNUMERIC)
    writer.writerow(CSV_COLUMNS)
    for one in series:
        for cell in one.cells:
            score = [_blank(value) for value in (cell.score.value, cell.score.low, cell.score.high)]
            controls = [_blank(cell.lookup.value), _blank(cell.shuffled.value)]
            counts = [cell.units, cell.undefined, cell.failed]
            writer.writerow([inert(one.basis), one.subject, cell.site, cell.layer, *score, *counts, *controls])
    return out.getvalue().encode()


def to_html(series: Sequence[Series]) -> str:
    """Bases down, sites across: mean ρ with its interval, and over how many units."""
    sites = list(dict.fromkeys((cell.layer, cell.site) for one in series for cell in one.cells))
    head = "".join(f"<th>{html.escape(site)}</th>" for _, site in sorted(sites))
    body = ""
    for one in series:
        cells = {cell.site: cell for cell in one.cells}
        row = "".join(_html(cells.get(site)) for _, site in sorted(sites))
        body += f"<tr><td>{html.escape(one.label)}</td>{row}</tr>"
    tip = "Mean over units of the correlation of simulated with true activations, its 95 % interval, and the number of units"
    top = f'<tr><th title="{tip}">mean ρ [95 %], units</th>{head}</tr>'
    return f'<div class="nt"><table><thead>{top}</thead><tbody>{body}</tbody></table></div>'


def _html(cell: Cell | None) -> str:
    if cell is None:
        return "<td>–</td>"
    missing = cell.undefined + cell.failed
    told = f' title="{missing:,} more have no score"' if missing else ""
    return f"<td{told}>{html.escape(spanned(cell.score))} <span>n = {cell.score.n:,}</span></td>"


def _blank(value: float) -> float | str:
    return value if math.isfinite(value) else ""
