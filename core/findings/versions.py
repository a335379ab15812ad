"""The table of versions: what is read from it, and the one way in which a version is added."""

import sqlite3
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from core.errors import AtlasError, shown
from core.findings.entry import Conflict, Entry, Kind, Row, Version, canonical, to_entry, to_version, version_id
from core.units import UnitName

COLUMNS = ("version", "entry", "parents", "kind", "unit", "author", "created", "removed", "restores", "body")
_NAMED = ", ".join(COLUMNS)
_TICK = 1e-6
"""Seconds between a version and one made from it, at least, also where a clock went back. A float of this century can tell them apart."""


def new_id() -> str:
    """The id of an entry of which there may be many, such as a note: never the same twice, anywhere."""
    return uuid.uuid4().hex


def entries(connection: sqlite3.Connection, where: str = "1", values: Sequence[str | int] = ()) -> list[Entry]:
    """The entries that fit a condition, removed ones too, the one changed last first."""
    rows = connection.execute(f"SELECT {_NAMED} FROM versions WHERE superseded = 0 AND {where} ORDER BY entry", values)
    found = [to_entry([to_version(row) for row in tips]) for _, tips in groupby(rows, key=lambda row: row["entry"])]
    return sorted(found, key=lambda entry: (entry.current.created, entry.id), reverse=True)


def entry(connection: sqlite3.Connection, identity: str) -> Entry:
    """Raises AtlasError when there is none of that id."""
    found = entries(connection, "entry = ?", (identity,))
    if not found:
        raise AtlasError(f"There is no finding “{shown(identity)}”: `python -m core findings list` shows those there are.")
    return found[0]


def history(connection: sqlite3.Connection, identity: str) -> list[Version]:
    """Every version of an entry, the newest first."""
    rows = connection.execute(f"SELECT {_NAMED} FROM versions WHERE entry = ? ORDER BY created DESC, version DESC", (identity,))
    return [to_version(row) for row in rows]


def save(
    connection: sqlite3.Connection,
    identity: str,
    kind: Kind,
    unit: UnitName | None,
    body: Mapping[str, Any],
    *,
    author: str,
    base: Sequence[str] | None = None,
    removed: bool = False,
    restores: str = "",
) -> Entry:
    """Add a version over all tips of an entry, or its first one, and return the entry. What already holds is not written again.

    base: the tips that the change was made from, none for an entry that is new; None where the last word simply counts.
    Raises Conflict when the tips are others by now.
    """
    before = entries(connection, "entry = ?", (identity,))
    tips = before[0].tips if before else ()
    if len(tips) == 1 and tips[0].body == body and tips[0].removed == removed:
        return before[0]
    if base is not None and set(base) != {tip.id for tip in tips}:
        if not before:
            raise AtlasError("What this was made from is not in this workspace: open the page again.")
        raise Conflict(before[0], str(body.get("text", body.get("description", ""))))
    created = max([time.time(), *(tip.created + _TICK for tip in tips)])
    row = Row(
        version="", entry=identity, parents=" ".join(sorted(tip.id for tip in tips)), kind=kind, unit="" if unit is None else str(unit),
        author=author, created=created, removed=int(removed), restores=restores, body=canonical(body),
    )  # fmt: skip
    row["version"] = version_id(row)
    insert(connection, row)
    connection.executemany("UPDATE versions SET superseded = 1 WHERE version = ?", [(tip.id,) for tip in tips])
    return to_entry([to_version(row)])


def remove(connection: sqlite3.Connection, found: Entry, *, author: str, base: Sequence[str] | None = None) -> Entry:
    """Take an entry away, by one more version that repeats what it was. Raises Conflict."""
    body = found.current.body
    return save(connection, found.id, found.kind, found.unit, body, author=author, base=base, removed=True)


def undo(connection: sqlite3.Connection, found: Entry, *, author: str, base: Sequence[str] | None = None) -> Entry:
    """Write again what an entry was before its newest version; before its first version it was not there.

    Raises Conflict; and AtlasError for an entry that two people changed apart, of which neither side is the one before.
    """
    if len(found.alternatives) > 1:
        raise AtlasError("Two versions of this hold side by side: bring both together and save, then undo works again.")
    known = {version.id: version for version in history(connection, found.id)}
    newest = found.tips[0]
    # What an undo wrote is a version of before: what was before that one comes next.
    stands_for = known.get(newest.restores, newest)
    before = max((known[one] for one in stands_for.parents if one in known), key=lambda version: version.created, default=None)
    if before is None:
        return remove(connection, found, author=author, base=base)
    return save(
        connection, found.id, found.kind, found.unit, before.body, author=author, base=base, removed=before.removed, restores=before.id
    )  # fmt: skip


def insert(connection: sqlite3.Connection, row: Row) -> bool:
    """Add a row unless it is there. Returns whether it was added."""
    marks = ", ".join("?" * len(COLUMNS))
    done = connection.execute(f"INSERT OR IGNORE INTO versions ({_NAMED}) VALUES ({marks})", [row[name] for name in COLUMNS])
    return done.rowcount == 1


def supersede(connection: sqlite3.Connection, identities: Iterable[str]) -> None:
    """Find the tips of entries anew from their parents: whatever the order in which rows arrived, the same rows give the same tips."""
    for identity in identities:
        rows = connection.execute("SELECT version, parents FROM versions WHERE entry = ?", (identity,))
        known = {row["version"]: row["parents"].split() for row in rows}
        over = {parent for parents in known.values() for parent in parents}
        connection.executemany("UPDATE versions SET superseded = ? WHERE version = ?", [(int(one in over), one) for one in known])
