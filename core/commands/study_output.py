"""A study's table as commands print it: the same numbers as on its page."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from core.autointerp.comparison import Mean
from core.autointerp.studies import STUDIES
from core.autointerp.study_tables import Cell, Line, Record, by_basis, by_layer, by_setting
from core.commands.output import number, printable, table


def study_result(study: str, records: Sequence[Record]) -> tuple[dict[str, Any], list[str]]:
    """The table for `--json`, and as lines for people. records: of `core.autointerp.study_tables.record`, in the run's order."""
    if study in STUDIES and STUDIES[study].across:
        series = by_basis(records)
        found = [(one, cell) for one in series for cell in one.cells]
        rows = [["BASIS", "MEAN RHO", "INTERVAL", "LOOKUP", "SHUFFLED", "UNITS", "UNDEFINED", "FAILED"]]
        rows += [[f"{cell.site} {one.label}", *_score(cell.score), *_counts(cell)] for one, cell in found]
        document = [{"basis": one.basis, "subject": one.subject, "control": one.control, **asdict(cell)} for one, cell in found]
        return {"lines": document}, table(rows, (1, 3, 4, 5, 6, 7))
    made = by_layer(records) if study == "layer" else by_setting(records)
    rows = [["SETTING", "MEAN RHO", "INTERVAL", "DIFF", "INTERVAL", "LOOKUP", "SHUFFLED", "UNITS", "UNDEFINED", "FAILED"]]
    rows += [[printable(line.label), *_score(line.score), *_score(line.difference, sign=True), *_counts(line)] for line in made.lines]
    lines = table(rows, (1, 3, 5, 6, 7, 8, 9))
    if made.shared is not None:
        lines.append(f"over the {made.shared:,} units that have a number under every setting{' that has any' if made.without else ''}")
    return asdict(made), lines


def _score(one: Mean | None, *, sign: bool = False) -> list[str]:
    if one is None or one.value != one.value:
        return ["" if one is None else "–", ""]
    plus = "+" if sign and one.value > 0 else ""
    return [plus + number(one.value), f"{number(one.low)} to {number(one.high)}" if one.low == one.low else ""]


def _counts(line: Line | Cell) -> list[str]:
    return [number(line.lookup.value), number(line.shuffled.value), *(f"{n:,}" for n in (line.units, line.undefined, line.failed))]
