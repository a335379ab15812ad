"""A study as a report: its figure, the scores of each setting with intervals, the differences between settings, its recipe."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from core.autointerp.comparison import Mean, spanned
from core.autointerp.studies import STUDIES
from core.autointerp.study_tables import Cell, Line, Record, Series, Table, by_basis, by_layer, by_setting, pairwise, record
from core.autointerp.study_tables import number as cell
from core.errors import AtlasError, shown
from core.findings.report.intervals import curves, rows
from core.findings.report.page import Written, document, put
from core.findings.report.text import escaped, fitting, number, table
from core.findings.report.unit import provenance
from core.store.explained import ExplainedRun, explained_runs, load_explained
from core.store.explained_ingest import places
from core.store.explanation_view import load_scored
from core.store.parts import DamagedPart, read_columns
from core.workspace import Workspace

MOST_BYTES = 240_000
"""Of a study, its page's head not counted. The table of units has what is left of it."""
_SETTINGS = 30_000
"""Bytes of what the settings say."""
_BASES = 50_000
MOST_LINES = 60
MOST_CELLS = 240
"""Settings, or pairs of them, in a table; points in the figure of bases."""
_LONGEST = 80


def find_study(workspace: Workspace, name: str) -> ExplainedRun:
    """A study by its run's id, or the newest of a name such as `layer`. Raises AtlasError saying what there is."""
    studies = [run for run in explained_runs(workspace) if run.study]
    for run in studies:
        if name in (run.run, run.study):
            return run
    if any(run.run == name for run in explained_runs(workspace)):
        raise AtlasError(f"The run “{shown(name)}” compares nothing: name a study’s run.")
    there = ", ".join(dict.fromkeys(run.study for run in studies))
    raise AtlasError(f"There is no study “{shown(name)}” here{f': there is {there}' if there else ': python -m core study makes one'}.")


def write_study(workspace: Workspace, name: str, path: Path) -> Written:
    """Write the report of a study. name: as `find_study` takes it. units: in what is returned, how many there are. Raises AtlasError."""
    run = find_study(workspace, name)
    return put(path, run.units, lambda: study_html(workspace, run.run, study_records(workspace, run)))


def study_records(workspace: Workspace, run: ExplainedRun) -> list[Record]:
    """Every explanation of a run with its headline score, in the run's order. Raises AtlasError."""
    return [record(view, *places(run.run, view.identity)) for view in load_scored(workspace, run.run)]


def study_html(workspace: Workspace, run: str, records: Sequence[Record], kind: str = "") -> str:
    """The whole page. records: of the run's explanations, in its order. kind: of score, where they are of one. Raises AtlasError."""
    found = load_explained(workspace, run)
    if not records:
        raise AtlasError(f"The run {run} finished no explanation yet: there is nothing to report.")
    study = STUDIES.get(found.study)
    units = {places(found.run, identity)[0]: name for identity, name in _names(found).items()}
    head = [
        f'<p class="words">{escaped(study.asks if study is not None else found.study)}</p>',
        f'<p class="quiet">{escaped(_about(found, kind))}</p>',
    ]
    if study is not None and study.across:
        series = _fewer(by_basis(records))
        body = [f"<h3>Mean score by layer <small>95 % intervals, from drawing units again</small></h3>{curves(series)}", _bases(series)]
    else:
        made = by_layer(records) if found.study == "layer" else by_setting(records)
        body = [
            f"<h3>Mean score <small>95 % intervals, from drawing units again</small></h3>{rows(made.lines[:MOST_LINES])}",
            _settings(made, study.axis if study is not None else "setting"),
            _pairs(records) if found.study != "layer" else "",
        ]
    recipe = {"run": found.run, "state": found.state, "indexes": list(found.index), **found.provenance, "spent": found.spend}
    tail = [_asked(found), provenance(recipe)]
    room = MOST_BYTES - sum(len(part.encode()) for part in [*head, *body, *tail])
    title = study.title if study is not None else found.study or found.run
    return document(title, "".join(head), ["<article>", *body, _by_unit(records, units, room), *tail, "</article>"])


def _about(run: ExplainedRun, kind: str) -> str:
    state = "" if run.complete else f" · {run.work_done:,} of {run.work_total:,} done"
    over = f" · scores over {kind} records" if kind else ""
    ways = f" · {len(run.settings):,} settings" if len(run.settings) > 1 else ""
    return f"{run.run} · {run.units:,} units{ways}{over}{state}"


def _settings(made: Table, axis: str) -> str:
    head = [
        axis,
        "mean ρ [95 %]",
        *([f"less {_cut(made.against)}"] if made.against else []),
        "lookup",
        "shuffled",
        "stand out",
        "units",
        "covered",
    ]
    lines = [_setting(line, differences=bool(made.against)) for line in made.lines[:MOST_LINES]]
    said = _left_out(len(made.lines), MOST_LINES, "settings")
    if made.shared is not None:
        none = f" No unit has a number under {', '.join(map(_cut, made.without[:8]))}." if made.without else ""
        said += f"ρ and differences are over the {made.shared:,} units that have a number under every setting that has any.{none}"
    shown_table = table(map(escaped, head), lines, range(1, len(head)))
    note = f'<p class="quiet">{escaped(said)}</p>' if said else ""
    return f'<div class="scroll">{shown_table}</div>{note}'


def _setting(line: Line, *, differences: bool) -> list[str]:
    cells = [escaped(_cut(line.label)), spanned(line.score)]
    if differences:
        cells.append(spanned(line.difference, sign=True) if line.difference is not None else "")
    judged = f"{line.stand_out:,} of {line.judged:,}" if line.judged else "–"
    covered = f"{100 * line.coverage:.0f} %" if math.isfinite(line.coverage) else "–"
    numbers = f"{line.units - line.failed - line.undefined:,} of {line.units:,}"
    return [*cells, spanned(line.lookup), spanned(line.shuffled), judged, numbers, covered]


def _pairs(records: Sequence[Record]) -> str:
    """Every two settings over the same units; nothing where there are not three, whose differences the table above does not have."""
    found = pairwise(records)
    if len(found) < 3:
        return ""
    lines = [[escaped(_cut(one)), escaped(_cut(other)), spanned(by, sign=True), _judged(by)] for one, other, by in found[:MOST_LINES]]
    head = ("setting", "less", "mean difference [95 %]", "")
    return (
        f"<h3>Differences <small>on the same units, in pairs; no correction for how many there are</small></h3>{table(head, lines, (2,))}"
        f'<p class="quiet">{_left_out(len(found), MOST_LINES, "pairs")}</p>'
    )


def _judged(by: Mean) -> str:
    if not math.isfinite(by.low):
        return ""
    return "zero is inside" if by.low <= 0 <= by.high else "zero is outside"


def _bases(series: Sequence[Series]) -> str:
    lines = [
        [
            escaped(_cut(one.label)),
            f'<span class="whole">{escaped(found.site)}</span>',
            *map(spanned, (found.score, found.lookup, found.shuffled)),
            _counted(found),
        ]
        for one in series
        for found in one.cells
    ]
    head = ("basis", "site", "mean ρ [95 %]", "lookup", "shuffled", "units")
    shown_lines = lines[: len(_fitting(lines, _BASES))]
    return f'<div class="scroll">{table(head, shown_lines, (2, 3, 4, 5))}</div>'


def _counted(found: Cell) -> str:
    return f"{found.score.n:,} of {found.units:,}"


def _fewer(series: Sequence[Series]) -> list[Series]:
    """The first of the bases, with as many points as a figure may have."""
    found, points = list[Series](), 0
    for one in series:
        points += len(one.cells)
        if found and points > MOST_CELLS:
            break
        found.append(one)
    return found


def _fitting(lines: Sequence[Sequence[str]], room: int) -> list[str]:
    """As many of a table's lines as have room."""
    return fitting(("".join(line) + '<td class="r"></td>' * (len(line) + 1) for line in lines), room)


def _left_out(many: int, most: int, what: str) -> str:
    return f"The first {most} of {many:,} {what}. " if many > most else ""


def _cut(label: str) -> str:
    return label if len(label) <= _LONGEST else f"{label[: _LONGEST - 1]}…"


def _by_unit(records: Sequence[Record], units: Mapping[int, str], room: int) -> str:
    """ρ of every unit under every setting, as far as there is room."""
    every = dict.fromkeys((int(one["setting_place"]), _cut(str(one["setting"]) or "as asked")) for one in records)
    settings = list(every)[:MOST_LINES]
    scores = {(int(one["unit_place"]), int(one["setting_place"])): one for one in records}  # of revisions the last step counts
    lines = [
        [escaped(units.get(place, "")[:300]), *(_rho(scores.get((place, setting))) for setting, _ in settings)]
        for place in sorted({place for place, _ in scores})
    ]
    fit = _fitting(lines, room - 20_000)
    head = ["unit", *(escaped(label) for _, label in settings)]
    more = f" · {len(fit):,} of {len(lines):,}, the others had no room" if len(fit) < len(lines) else ""
    body = f'<div class="scroll">{table(head, lines[: len(fit)], range(1, len(head)))}</div>'
    return f"<details><summary>ρ of every unit{more}</summary>{body}</details>"


def _rho(one: Record | None) -> str:
    if one is None:
        return ""
    if str(one["failed"]):
        return "failed"
    value = cell(one["rho"])
    return number(value, 2) if math.isfinite(value) else "undefined"


def _asked(run: ExplainedRun) -> str:
    made = (provenance(setting, f"Setting: {setting.get('label') or 'as asked'}") for setting in run.settings)
    return "".join(fitting(made, _SETTINGS))


def _names(run: ExplainedRun) -> dict[str, str]:
    """The unit of each explanation by its identity. Raises AtlasError."""
    found: dict[str, str] = {}
    for part in run.parts:
        try:
            read = read_columns(run.path(part, "explanations"), ["explanation", "unit"])
        except (DamagedPart, FileNotFoundError):
            raise AtlasError(f"A part of the run {run.run} is missing or damaged: resume the run on the page Runs.") from None
        found |= dict(zip(read.column("explanation").to_pylist(), read.column("unit").to_pylist(), strict=True))
    return found
