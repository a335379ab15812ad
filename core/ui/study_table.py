"""A study's results by setting: mean ρ over the units its interval, the difference to the first setting, the controls. No Streamlit."""

import csv
import html
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from core.autointerp.comparison import Mean, mean, means, paired
from core.ui.explanation_rows import evident, figure
from core.ui.scored_rows import Record, inert, number

Floats = npt.NDArray[np.float64]
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


@dataclass(frozen=True)
class Line:
    """One setting. score: over the units that all settings share when they are paired. difference: to the first setting, on those units.

    judged: explanations with a shuffled control, stand_out: of those, how many stand out from it. coverage: the mean.
    """

    label: str
    units: int
    failed: int
    undefined: int
    score: Mean
    difference: Mean | None
    lookup: Mean
    shuffled: Mean
    stand_out: int
    judged: int
    coverage: float


@dataclass(frozen=True)
class Table:
    """lines: in the study's order. shared: units with a number under every setting; None where settings are not over the same units."""

    lines: tuple[Line, ...]
    shared: int | None


def by_setting(records: Sequence[Record]) -> Table:
    """Compare settings over the units they share. records: of `explanation_queries.study`; of revisions the last step counts."""
    groups = _groups(records, lambda record: (int(record["setting_place"]), str(record["setting"])))
    places = sorted({int(record["unit_place"]) for record in records})
    rho = {key: _aligned(found, places, "rho") for key, found in groups.items()}
    shared = paired(list(rho.values()))
    rows = [values[shared] for values in rho.values()]
    over = means(rows) if rows else []
    differs = means([row - rows[0] for row in rows]) if len(rows) > 1 else [None] * len(rows)
    lines = [
        _line(label or "as asked", found, score, None if place == 0 else difference)
        for place, ((_, label), found, score, difference) in enumerate(zip(groups, groups.values(), over, differs, strict=True))
    ]
    return Table(tuple(lines), int(shared.sum()))


def by_layer(records: Sequence[Record]) -> Table:
    """One line a site, each over its own units."""
    groups = _groups(records, lambda record: (int(record["layer"]), f"{record['site_kind']}.{record['layer']}"))
    lines = [_line(label, found, mean(_column(found, "rho")), None) for (_, label), found in sorted(groups.items())]
    return Table(tuple(lines), None)


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
    first = html.escape(table.lines[0].label) if table.lines else ""
    heads = [
        (axis, ""),
        ("mean ρ [95 %]", "Mean over units of the correlation of simulated with true activations; its interval from drawing units again"),
        *(
            [(f"less {first}", "The mean difference to the first line on the same units, with its interval")]
            if _has_differences(table)
            else []
        ),
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
    body = "".join(_html_line(line, _has_differences(table)) for line in table.lines)
    return f'<div class="nt"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>{STYLE}'


def span(one: Mean) -> str:
    """`0.52 [0.45, 0.58]`, or a dash."""
    if not math.isfinite(one.value):
        return "–"
    return f"{figure(one.value)} [{figure(one.low)}, {figure(one.high)}]" if math.isfinite(one.low) else figure(one.value)


def _html_line(line: Line, differences: bool) -> str:
    cells = [f"<td>{html.escape(line.label)}</td>", f"<td>{_html_span(line.score)}</td>"]
    if differences:
        cells.append(f"<td>{_html_span(line.difference, sign=True) if line.difference is not None else ''}</td>")
    cells += [f"<td>{_html_span(one)}</td>" for one in (line.lookup, line.shuffled)]
    judged = f"{line.stand_out:,} of {line.judged:,}" if line.judged else "–"
    covered = f"{100 * line.coverage:.0f} %" if math.isfinite(line.coverage) else "–"
    numbers = f"{line.units - line.failed - line.undefined:,} of {line.units:,}"
    return f"<tr>{''.join(cells)}<td>{judged}</td><td>{numbers}</td><td>{covered}</td></tr>"


def _html_span(one: Mean, *, sign: bool = False) -> str:
    if not math.isfinite(one.value):
        return "–"
    plus = "+" if sign and one.value > 0 else ""
    ends = f" <span>[{figure(one.low)}, {figure(one.high)}]</span>" if math.isfinite(one.low) else ""
    return f"{plus}{figure(one.value)}{ends}"


def _has_differences(table: Table) -> bool:
    return any(line.difference is not None for line in table.lines)


def _groups(records: Sequence[Record], key: Callable[[Record], tuple[int, str]]) -> dict[tuple[int, str], list[Record]]:
    """Records by key, of each unit under each setting only the last step."""
    last: dict[tuple[int, int], Record] = {}
    for record in records:
        last[int(record["setting_place"]), int(record["unit_place"])] = record
    groups: dict[tuple[int, str], list[Record]] = {}
    for record in last.values():
        groups.setdefault(key(record), []).append(record)
    return groups


def _line(label: str, found: Sequence[Record], score: Mean, difference: Mean | None) -> Line:
    made = [record for record in found if not str(record["failed"])]
    known = [one for one in map(evident, made) if one is not None]
    covered = [value for value in _column(made, "coverage") if math.isfinite(value)]
    return Line(
        label=label,
        units=len(found),
        failed=len(found) - len(made),
        undefined=sum(not math.isfinite(value) for value in _column(made, "rho")),
        score=score,
        difference=difference,
        lookup=mean(_column(made, "lookup_rho")),
        shuffled=mean(_column(made, "shuffled_rho")),
        stand_out=sum(known),
        judged=len(known),
        coverage=sum(covered) / len(covered) if covered else math.nan,
    )


def _column(found: Sequence[Record], name: str) -> list[float]:
    return [number(record[name]) for record in found]


def _aligned(found: Sequence[Record], places: Sequence[int], name: str) -> Floats:
    """A column [units of the run], NaN where a unit has no number."""
    by_place = {int(record["unit_place"]): number(record[name]) for record in found}
    return np.array([by_place.get(place, math.nan) for place in places], np.float64)


def _cell(value: float) -> float | str:
    return value if math.isfinite(value) else ""
