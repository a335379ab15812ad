"""Collections: units in an order that a person chose, under a title and with a description."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from core.errors import AtlasError, shown
from core.findings import checks, versions
from core.findings.database import connect
from core.findings.entry import Entry, canonical, derived_id
from core.units import UnitName
from core.workspace import Workspace


@dataclass(frozen=True)
class Collection:
    """One collection: its own entry, and the entries of its members in their order."""

    entry: Entry
    members: tuple[Entry, ...]

    @property
    def id(self) -> str:
        return self.entry.id

    @property
    def title(self) -> str:
        return str(self.entry.current.body["title"])

    @property
    def description(self) -> str:
        return str(self.entry.current.body["description"])

    @property
    def units(self) -> list[UnitName]:
        """The units in order."""
        return [member.unit for member in self.members if member.unit is not None]


# Named here because the class has a method called `list`.
Found = list[Collection]


class Collections:
    """The collections of one workspace. Every method may raise AtlasError."""

    def __init__(self, workspace: Workspace, author: str) -> None:
        self._workspace = workspace
        self._author = author

    def list(self) -> Found:
        """All of them by title, with their members."""
        with connect(self._workspace, write=False) as connection:
            titled = [entry for entry in versions.entries(connection, "kind = 'collection'") if not entry.removed]
            members = [entry for entry in versions.entries(connection, "kind = 'member'") if not entry.removed]
        found = [Collection(entry, _ordered(members, entry.id)) for entry in titled]
        return sorted(found, key=lambda collection: (collection.title.lower(), collection.id))

    def titles(self) -> dict[str, str]:
        """The title of each by its id, in the order of titles, without looking at members."""
        with connect(self._workspace, write=False) as connection:
            titled = [entry for entry in versions.entries(connection, "kind = 'collection'") if not entry.removed]
        return {entry.id: entry.current.text for entry in sorted(titled, key=lambda entry: (entry.current.text.lower(), entry.id))}

    def find(self, name: str) -> Collection:
        """The collection of an id or, where only one has it, a title."""
        known = self.titles()
        found = [name] if name in known else [one for one, title in known.items() if title.lower() == name.strip().lower()]
        if not found:
            some = ", ".join(f"“{shown(title)}”" for title in list(known.values())[:5])
            raise AtlasError(f"There is no collection “{shown(name)}”" + (f": there are {some}." if some else ", and no other either."))
        if len(found) > 1:
            raise AtlasError(f"{len(found)} collections are called “{shown(name)}”: use the id of one, such as {found[0]}.")
        with connect(self._workspace, write=False) as connection:
            return Collection(versions.entry(connection, found[0]), _members(connection, found[0]))

    def create(self, title: str, description: str = "") -> Collection:
        """A new collection without members."""
        body = _described(title, description)
        with connect(self._workspace) as connection:
            return Collection(versions.save(connection, versions.new_id(), "collection", None, body, author=self._author), ())

    def describe(self, identity: str, title: str, description: str, *, base: Sequence[str]) -> Entry:
        """Another title and description. base: the `Entry.base` that they were made from. Raises Conflict."""
        body = _described(title, description)
        with connect(self._workspace) as connection:
            if versions.entry(connection, identity).kind != "collection":
                raise AtlasError(f"“{shown(identity)}” is no collection.")
            return versions.save(connection, identity, "collection", None, body, author=self._author, base=base)

    def add(self, identity: str, units: Sequence[UnitName]) -> int:
        """Put units at the end; those that are in it stay where they are. Returns how many were new."""
        with connect(self._workspace) as connection:
            if versions.entry(connection, identity).kind != "collection":
                raise AtlasError(f"“{shown(identity)}” is no collection.")
            members = _members(connection, identity)
            held = {member.unit for member in members}
            place = _place(members[-1]) if members else 0.0
            new = [unit for unit in dict.fromkeys(units) if unit not in held]
            for unit in new:
                place += 1.0
                body = {"collection": identity, "place": place}
                versions.save(connection, derived_id("member", identity, str(unit)), "member", unit, body, author=self._author)
        return len(new)

    def take_out(self, identity: str, unit: UnitName) -> Entry:
        """Take a unit out of a collection."""
        with connect(self._workspace) as connection:
            return versions.remove(connection, versions.entry(connection, derived_id("member", identity, str(unit))), author=self._author)

    def move(self, identity: str, unit: UnitName, to: int) -> None:
        """Put a member at place `to`, from 0; what does not fit is the nearest end."""
        with connect(self._workspace) as connection:
            members = list(_members(connection, identity))
            moved = next((member for member in members if member.unit == unit), None)
            if moved is None:
                raise AtlasError(f"{unit} is not in this collection.")
            at = max(0, min(to, len(members) - 1))
            if members[at] is moved:
                return
            members.remove(moved)
            members.insert(at, moved)
            low = _place(members[at - 1]) if at else _place(members[1]) - 2.0
            high = _place(members[at + 1]) if at + 1 < len(members) else low + 2.0
            places = {moved.id: (low + high) / 2}
            if not low < places[moved.id] < high:  # halved so often, or merged so, that nothing fits between: all get whole numbers
                places = {member.id: float(number) for number, member in enumerate(members, 1)}
            for member in members:
                if member.id in places and places[member.id] != _place(member):
                    body = {"collection": identity, "place": places[member.id]}
                    versions.save(connection, member.id, "member", member.unit, body, author=self._author)


def _described(title: str, description: str) -> dict[str, str]:
    return {"title": checks.needed(checks.line(title, "title"), "title"), "description": checks.prose(description, "description")}


def _members(connection: sqlite3.Connection, identity: str) -> tuple[Entry, ...]:
    """What is in one collection, in its order: a member's body begins with the collection's id."""
    beginning = canonical({"collection": identity})[:-1]
    found = versions.entries(connection, "kind = 'member' AND substr(body, 1, ?) = ?", (len(beginning), beginning))
    return _ordered([member for member in found if not member.removed], identity)


def _ordered(members: Sequence[Entry], identity: str) -> tuple[Entry, ...]:
    mine = [member for member in members if member.current.body["collection"] == identity]
    return tuple(sorted(mine, key=lambda member: (_place(member), str(member.unit))))


def _place(member: Entry) -> float:
    return float(member.current.body["place"])
