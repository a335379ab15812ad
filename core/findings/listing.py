"""A list of findings: which of them somebody wants to see, in the words of an address or a command, and the list as CSV."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from core.errors import AtlasError, shown
from core.findings.checks import HIGHEST, LOWEST
from core.findings.entry import KINDS, Entry
from core.findings.findings import Findings
from core.units import UnitName

CSV_COLUMNS = ("unit", "kind", "text", "author", "saved", "edited", "id")


@dataclass(frozen=True)
class Wanted:
    """What is listed; an empty value wants all. rating: units that anybody rated at least so; collection: an id or a title.

    label, rating and collection choose units, and then everything that was written on them.
    """

    unit: UnitName | None = None
    kind: str = ""
    author: str = ""
    label: str = ""
    rating: int | None = None
    collection: str = ""

    @property
    def narrow(self) -> bool:
        """Whether anything is left out."""
        return self != Wanted()


def listed(findings: Findings, wanted: Wanted, everything: Sequence[Entry] | None = None) -> list[Entry]:
    """The entries that fit, what was changed last first. Raises AtlasError for a kind, rating or collection that there is not.

    everything: `findings.entries()`, where it was read before.
    """
    if wanted.kind and wanted.kind not in KINDS:
        raise AtlasError(f"“{shown(wanted.kind)}” is not a kind of finding: use {', '.join(KINDS)}.")
    if wanted.rating is not None and not LOWEST <= wanted.rating <= HIGHEST:
        raise AtlasError(f"{wanted.rating} is not a rating: choose {LOWEST} to {HIGHEST}.")
    everything = findings.entries() if everything is None else everything
    found = [entry for entry in everything if wanted.unit is None or entry.unit == wanted.unit]
    if wanted.label:
        labelled = {entry.unit for entry in everything if entry.kind == "label" and entry.current.text == wanted.label}
        found = [entry for entry in found if entry.unit in labelled]
    if wanted.rating is not None:
        rated = {entry.unit for entry in everything if entry.kind == "rating" and entry.current.body["rating"] >= wanted.rating}
        found = [entry for entry in found if entry.unit in rated]
    if wanted.collection:
        collection = findings.collections.find(wanted.collection)
        units = set(collection.units)
        found = [entry for entry in found if entry.unit in units or entry.id == collection.id]
    if wanted.kind:
        found = [entry for entry in found if entry.kind == wanted.kind]
    if wanted.author:
        found = [entry for entry in found if entry.current.by == wanted.author]
    return found


def as_document(entry: Entry) -> dict[str, Any]:
    """An entry as `--json` prints it. saved: when, in UTC; versions: how many differing ones hold side by side."""
    version = entry.current
    return {
        "id": entry.id,
        "unit": None if entry.unit is None else str(entry.unit),
        "kind": entry.kind,
        **version.body,
        "author": version.author,
        "saved": _saved(version.created),
        "removed": entry.removed,
        "versions": len(entry.alternatives),
    }


def to_csv(entries: Sequence[Entry]) -> str:
    """The columns of `CSV_COLUMNS`. A text that a spreadsheet would take for a formula gets an apostrophe before it."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for entry in entries:
        version = entry.current
        row = [entry.unit or "", entry.kind, version.text, version.by, _saved(version.created), int(bool(version.parents)), entry.id]
        writer.writerow(["'" + cell if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell for cell in row])
    return out.getvalue()


def _saved(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
