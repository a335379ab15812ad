"""The command `findings`: what people wrote on units, listed and written."""

import argparse
import sys
from typing import Any

from core.commands.output import emit, note, printable, table
from core.errors import AtlasError, shown
from core.findings.entry import Entry, Version
from core.findings.findings import Findings
from core.findings.listing import Wanted, as_document, listed
from core.store.catalog import find_unit
from core.ui import words
from core.units import UnitName
from core.workspace import Workspace

MAX_INPUT = 100_000


def findings(arguments: argparse.Namespace, workspace: Workspace) -> int:
    """One action on the findings of the workspace."""
    known = Findings(workspace, getattr(arguments, "author", None))
    actions = {"list": _list, "add": _add, "rate": _rate, "label": _label, "history": _history, "author": _name}
    act = actions.get(arguments.action, _change)
    act(arguments, workspace, known)
    return 0


def _list(arguments: argparse.Namespace, workspace: Workspace, known: Findings) -> None:
    unit = None if arguments.unit is None else UnitName.parse(arguments.unit)
    rating = None if arguments.rating is None else _whole(arguments.rating)
    wanted = Wanted(unit, arguments.kind or "", arguments.by or "", arguments.label or "", rating, arguments.collection or "")
    found = listed(known, wanted)
    if arguments.removed:
        found = [entry for entry in known.entries(removed=True) if unit in (None, entry.unit)]
    rows = [["SAVED", "AUTHOR", "KIND", "UNIT", "TEXT", "ID"], *map(_line, found)]
    emit(arguments, [as_document(entry) for entry in found], table(rows))
    if not found:
        note("nothing is written that fits")


def _add(arguments: argparse.Namespace, workspace: Workspace, known: Findings) -> None:
    unit = _unit(workspace, arguments.unit)
    linking = arguments.alike is not None or arguments.collection is not None
    if linking and (arguments.text is not None or arguments.entry is not None):
        raise AtlasError("A link to a unit or a collection has no text: write the note with a command of its own.")
    if not linking and arguments.text is None:
        raise AtlasError("Nothing is written: give the text after the unit, or - to read it from standard input.")
    if arguments.alike is not None:
        _done(arguments, known.alike(unit, _unit(workspace, arguments.alike)))
    elif arguments.collection is not None:
        _collect(arguments, known, unit)
    else:
        text = sys.stdin.read(MAX_INPUT) if arguments.text == "-" else str(arguments.text)
        save = known.explain if arguments.explanation else known.save_note
        base = () if arguments.entry is None else known.entry(arguments.entry).base
        _done(arguments, save(unit, text, entry=arguments.entry, base=base))


def _collect(arguments: argparse.Namespace, known: Findings, unit: UnitName) -> None:
    collections, name = known.collections, arguments.collection.strip()
    exists = any(name == one or name.lower() == title.lower() for one, title in collections.titles().items())
    collection = collections.find(name) if exists else collections.create(name)
    collections.add(collection.id, [unit])
    found = collections.find(collection.id)
    document = {**as_document(found.entry), "units": [str(one) for one in found.units]}
    emit(arguments, document, [f"{printable(found.title)} ({found.id}) has {words.count(len(found.members), 'unit')}"])


def _rate(arguments: argparse.Namespace, workspace: Workspace, known: Findings) -> None:
    unit = _unit(workspace, arguments.unit)
    entry = known.rate(unit, None if arguments.rating == "none" else _whole(arguments.rating))
    if entry is None:
        raise AtlasError(f"{unit} has no rating of yours to take back.")
    _done(arguments, entry)


def _label(arguments: argparse.Namespace, workspace: Workspace, known: Findings) -> None:
    unit = _unit(workspace, arguments.unit)
    if arguments.remove:
        known.unlabel(unit, arguments.label)
    else:
        known.label(unit, arguments.label)
    labels = known.labels(unit)
    emit(arguments, {"unit": str(unit), "labels": labels}, [f"{unit}: {', '.join(map(printable, labels)) or 'no label'}"])


def _history(arguments: argparse.Namespace, workspace: Workspace, known: Findings) -> None:
    known.entry(arguments.entry)
    found = known.history(arguments.entry)
    rows = [["SAVED", "AUTHOR", "DID", "TEXT"]]
    rows += [[words.when(one.created), printable(one.by), _did(one), printable(one.text)[:120]] for one in found]
    emit(arguments, [_version(one) for one in found], table(rows))


def _change(arguments: argparse.Namespace, workspace: Workspace, known: Findings) -> None:
    change = {"undo": known.undo, "remove": known.remove}[arguments.action]
    _done(arguments, change(arguments.entry))


def _name(arguments: argparse.Namespace, workspace: Workspace, known: Findings) -> None:
    known.set_usual_author(arguments.name)
    emit(arguments, {"author": known.usual_author}, [f"what is written here is by {printable(known.author) or 'someone'}"])


def _unit(workspace: Workspace, text: str) -> UnitName:
    """A unit that is indexed here: a slip of the finger must not hide what was written on a unit that nobody will open."""
    name = UnitName.parse(text)
    find_unit(workspace, name)
    return name


def _done(arguments: argparse.Namespace, entry: Entry) -> None:
    state = "is taken away" if entry.removed else "is saved"
    what = f"on {entry.unit}" if entry.unit is not None else printable(entry.current.text)
    emit(arguments, as_document(entry), [f"{entry.kind} {what} {state} ({entry.id})"])


def _line(entry: Entry) -> list[str]:
    version = entry.current
    text = printable(version.text)
    text = text if len(text) <= 60 else f"{text[:59]}…"
    return [words.when(version.created), printable(version.by), entry.kind, str(entry.unit or ""), text, entry.id]


def _did(version: Version) -> str:
    return "removed" if version.removed else "undid" if version.restores else "merged" if len(version.parents) > 1 else "saved"


def _version(version: Version) -> dict[str, Any]:
    return {
        "version": version.id, "parents": list(version.parents), **version.body, "author": version.author, "created": version.created,
        "removed": version.removed, "restores": version.restores or None,
    }  # fmt: skip


def _whole(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > 4:
        raise AtlasError(f"“{shown(text)}” is not a rating: choose 1 to 5.")
    return int(text)
