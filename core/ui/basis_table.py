"""The study “Interpretability by basis”: mean score of each basis at each layer. No Streamlit."""

import csv
import html
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

from core.autointerp.comparison import Mean, mean
from core.ui.scored_rows import Record, inert, number
from core.ui.study_table import span
from core.units import NEURONS

RANDOM_WEIGHTS = "-random"
"""How the subject of the random-weights control ends, see core/subject/random_weights.py."""
CSV_COLUMNS = ("basis", "subject", "site", "layer", "mean_rho", "low", "high", "units", "undefined", "failed", "lookup_rho", "shuffled_rho")


@dataclass(frozen=True)
class Cell:
    """One basis at one site. score: mean ρ over its units that have one; undefined, failed: how many have none, and why."""

    site: str
    layer: int
    score: Mean
    lookup: Mean
    shuffled: Mean
    units: int
    undefined: int
    failed: int


@dataclass(frozen=True)
class Series:
    """One line of the figure: a basis of one subject, by layer."""

    basis: str
    subject: str
    cells: tuple[Cell, ...]

    @property
    def control(self) -> bool:
        """Whether the subject is the random-weights control."""
        return self.subject.endswith(RANDOM_WEIGHTS)

    @property
    def label(self) -> str:
        return f"{self.basis}, random weights" if self.control else self.basis


def by_basis(records: Sequence[Record]) -> list[Series]:
    """Neurons last, controls after the others, so that what is compared with them is drawn first. records: of `queries.study`."""
    groups: dict[tuple[str, str, str], dict[int, list[Record]]] = {}
    for record in records:
        key = (str(record["subject"]), str(record["basis"]), str(record["site_kind"]))
        groups.setdefault(key, {}).setdefault(int(record["layer"]), []).append(record)
    found = [
        Series(basis, subject, tuple(_cell(f"{kind}.{layer}", layer, rows) for layer, rows in sorted(layers.items())))
        for (subject, basis, kind), layers in groups.items()
    ]
    return sorted(found, key=lambda one: (one.control, one.basis == NEURONS, one.basis, one.cells[0].site))


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
    return f"<td{told}>{html.escape(span(cell.score))} <span>n = {cell.score.n:,}</span></td>"


def _cell(site: str, layer: int, rows: Sequence[Record]) -> Cell:
    made = [row for row in rows if not str(row["failed"])]
    rho = [number(row["rho"]) for row in made]
    return Cell(
        site,
        layer,
        mean(rho),
        mean([number(row["lookup_rho"]) for row in made]),
        mean([number(row["shuffled_rho"]) for row in made]),
        len(rows),
        sum(not math.isfinite(value) for value in rho),
        len(rows) - len(made),
    )


def _blank(value: float) -> float | str:
    return value if math.isfinite(value) else ""
