"""Merging: the findings of two workspaces are the union of their versions, whichever comes first and however often."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import cast

from core.errors import AtlasError
from core.findings import checks, versions
from core.findings.database import connect
from core.findings.entry import Row
from core.units import UnitName
from core.workspace import Workspace


@dataclass(frozen=True)
class Merged:
    """added: versions that were new here; known: those that were not; forked: entries that two people changed apart."""

    added: int
    known: int
    forked: tuple[str, ...]


def rows(workspace: Workspace, units: Iterable[UnitName] | None, collections: Iterable[str]) -> list[Row]:
    """Every version of all that was written, or of what belongs to some units and collections, in the order of their ids.

    With units named (none at all is fine): all that was written on them but their places in other collections, and the collections with
    all their members. Raises AtlasError.
    """
    named = ", ".join(versions.COLUMNS)
    with connect(workspace, write=False) as connection:
        found = [cast(Row, dict(row)) for row in connection.execute(f"SELECT {named} FROM versions ORDER BY version")]
    if units is None:
        return found
    wanted, chosen = {str(unit) for unit in units}, set(collections)
    return [row for row in found if _belongs(row, wanted, chosen)]


def merge(workspace: Workspace, given: Iterable[Mapping[str, object]]) -> Merged:
    """Take in versions from elsewhere, all or none. Raises AtlasError when one is not what this program writes."""
    checked = {row["version"]: row for row in map(checks.row, given)}
    owners: dict[str, tuple[str, str]] = {}
    for row in checked.values():
        _same_owner(row, owners.setdefault(row["entry"], (row["kind"], row["unit"])))
    with connect(workspace) as connection:
        for identity in owners:
            known = connection.execute("SELECT kind, unit FROM versions WHERE entry = ? LIMIT 1", (identity,)).fetchone()
            if known is not None and tuple(known) != owners[identity]:
                raise _other_owner()
        new = [row for row in checked.values() if versions.insert(connection, row)]
        changed = sorted({row["entry"] for row in new})
        versions.supersede(connection, changed)
        forked = tuple(identity for identity in changed if len(versions.entry(connection, identity).alternatives) > 1)
    return Merged(len(new), len(checked) - len(new), forked)


def _belongs(row: Row, units: set[str], collections: set[str]) -> bool:
    if row["kind"] == "collection":
        return row["entry"] in collections
    if row["kind"] == "member":
        return json.loads(row["body"])["collection"] in collections
    return row["unit"] in units


def _same_owner(row: Row, owner: tuple[str, str]) -> None:
    if (row["kind"], row["unit"]) != owner:
        raise _other_owner()


def _other_owner() -> AtlasError:
    return AtlasError("A finding has the id of one of another kind or unit: the file was not written by this program.")
