"""Commands that share: `export`, `import` and `report`."""

import argparse
from dataclasses import asdict
from functools import partial
from pathlib import Path

from core.commands.output import emit, note, printable, table
from core.commands.work import take_in
from core.errors import AtlasError
from core.findings.bundle.exporting import export_bundle
from core.findings.exchange.importing import import_any
from core.findings.exchange.neuronpedia import write_neuronpedia
from core.findings.exchange.openai import write_openai
from core.findings.exchange.staging import Wishes
from core.findings.exchange.tables import write_table
from core.findings.findings import Findings
from core.findings.report.comparison import write_comparison
from core.findings.report.page import Written, write_report
from core.findings.report.study import write_study
from core.ui import words
from core.units import UnitName
from core.workspace import Workspace


def chosen(findings: Findings, what: list[str]) -> tuple[list[UnitName], list[str], str]:
    """The units that are named, or in collections that are; the ids of these, and their titles. Raises AtlasError."""
    units: list[UnitName] = []
    collections: list[str] = []
    titles: list[str] = []
    for name in what:
        if name.count("/") == 3:
            units.append(UnitName.parse(name))
            continue
        found = findings.collections.find(name)
        units += found.units
        collections.append(found.id)
        titles.append(found.title)
    return list(dict.fromkeys(units)), collections, ", ".join(titles)


def export(arguments: argparse.Namespace, workspace: Workspace) -> int:
    """Write a bundle, or another program's format, and say what is in it."""
    findings = Findings(workspace)
    units, collections, title = chosen(findings, arguments.what)
    if arguments.format != "bundle":
        return _exchange(arguments, workspace, units)
    done = export_bundle(
        workspace,
        units,
        Path(arguments.out).expanduser(),
        run=arguments.run,
        title=title,
        findings=None if arguments.without_findings else findings,
        collections=collections,
    )
    for remark in done.remarks:
        note(remark)
    rows = [
        ["units", f"{done.units:,}"],
        ["runs", f"{len(done.runs):,}"],
        ["explanations", f"{done.explanations:,}"],
        ["ablations", f"{done.effects:,}"],
        ["words of people", f"{done.findings:,}"],
    ]
    emit(
        arguments,
        {**asdict(done), "path": str(done.path)},
        [f"wrote {done.path} ({words.size(done.bytes)})", *table(rows, (1,))],
    )
    return 0


def _exchange(arguments: argparse.Namespace, workspace: Workspace, units: list[UnitName]) -> int:
    """Write what other programs read, and say what their format cannot carry."""
    debugger = partial(write_openai, debugger=True)
    write = {"openai": write_openai, "openai-debugger": debugger, "neuronpedia": write_neuronpedia, "table": write_table}[arguments.format]
    done = write(workspace, units, Path(arguments.out).expanduser(), run=arguments.run)
    for lacking in done.not_carried:
        note(f"not carried: {lacking}")
    lines = [f"wrote {done.path} ({words.count(done.units, 'unit')}, {words.count(done.explanations, 'explanation')})"]
    emit(arguments, {**asdict(done), "path": str(done.path)}, lines)
    return 0


def import_(arguments: argparse.Namespace, workspace: Workspace) -> int:
    """Take in a bundle, bring the cache up to date, and say what was new."""
    wishes = Wishes(arguments.model, arguments.units, arguments.tokenizer)
    done = import_any(workspace, Path(arguments.file).expanduser(), findings=Findings(workspace), wishes=wishes)
    for lacking in done.remarks:
        note(f"not carried: {printable(lacking)}")
    remarks = take_in(workspace) if done.runs else []
    for remark in remarks:
        note(remark)
    lines = [f"{printable(done.title) or Path(arguments.file).name}: {words.count(len(done.units), 'unit')}"]
    if not done.changed:
        lines.append("everything in it is here already: nothing was changed")
    else:
        lines += [f"new {run}" for run in done.runs]
        lines += [f"here already: {run}" for run in done.known]
        lines += [f"{words.count(done.findings, 'new word', 'new words')} of people"] if done.findings else []
    if done.forked:
        entries = words.count(done.forked, "entry was", "entries were")
        lines.append(f"{entries} changed on both sides: both texts are shown until somebody merges them")
    document = {**asdict(done), "units": [str(unit) for unit in done.units], "changed": done.changed, "notices": remarks}
    emit(arguments, document, lines)
    return 0


def report(arguments: argparse.Namespace, workspace: Workspace) -> int:
    """Write units, a comparison or a study as one HTML file."""
    path = Path(arguments.html).expanduser()
    if sum(map(bool, (arguments.what, arguments.compare, arguments.study))) != 1:
        raise AtlasError("A report is of units and collections, or --compare units, or --study a study: name one of these.")
    if arguments.study and arguments.run:
        raise AtlasError("A study was read from its own indexes: leave out --run.")
    if arguments.compare or arguments.study:
        names = [UnitName.parse(name) for name in arguments.compare or []]
        done = write_comparison(workspace, names, path, run=arguments.run) if names else write_study(workspace, arguments.study, path)
        return _written(arguments, done)
    findings = Findings(workspace)
    units, collections, title = chosen(findings, arguments.what)
    about = "\n\n".join(findings.collections.find(one).description for one in collections)
    done = write_report(workspace, units, path, title=title, description=about, run=arguments.run)
    return _written(arguments, done)


def _written(arguments: argparse.Namespace, done: Written) -> int:
    document = {"path": str(done.path), "units": done.units, "bytes": done.bytes}
    emit(arguments, document, [f"wrote {done.path} ({words.count(done.units, 'unit')}, {words.size(done.bytes)})"])
    return 0
