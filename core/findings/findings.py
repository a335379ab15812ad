"""Findings: what people wrote about units, in `findings.sqlite`. Nothing is ever deleted; what is removed can be brought back."""

import json
from collections.abc import Iterable, Mapping, Sequence

from core.errors import AtlasError, shown
from core.findings import checks, merging, versions
from core.findings.collections import Collections
from core.findings.database import connect
from core.findings.entry import Entry, Kind, Row, Version, derived_id
from core.findings.merging import Merged
from core.units import UnitName
from core.workspace import Workspace

_AUTHOR = "author"


class Findings:
    """The findings of one workspace. Cheap to make; safe from any thread and process. Every method may raise AtlasError.

    author: who writes through this object; the workspace's own author where none is given. What a method returned is on the disk.
    """

    def __init__(self, workspace: Workspace, author: str | None = None) -> None:
        self._workspace = workspace
        self._author = None if author is None else checks.line(author, "name")

    @property
    def author(self) -> str:
        """Who writes: a name, or empty for someone without one."""
        return self._author if self._author is not None else self.usual_author or ""

    @property
    def usual_author(self) -> str | None:
        """The workspace's author; None as long as nobody said."""
        with connect(self._workspace, write=False) as connection:
            row = connection.execute("SELECT value FROM settings WHERE name = ?", (_AUTHOR,)).fetchone()
        return None if row is None else str(row["value"])

    def set_usual_author(self, name: str) -> None:
        """Who writes from now on where nobody is named. What was written keeps its author."""
        value = checks.line(name, "name")
        with connect(self._workspace) as connection:
            connection.execute(
                "INSERT INTO settings VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value", (_AUTHOR, value)
            )

    @property
    def collections(self) -> Collections:
        """Units in an order, under a title."""
        return Collections(self._workspace, self.author)

    # What there is

    def entries(self, *, unit: UnitName | None = None, kind: Kind | None = None, removed: bool = False) -> list[Entry]:
        """Everything written (of a unit, of a kind), what was changed last first; with `removed` what was taken away instead."""
        wheres, values = ["1"], list[str]()
        for column, value in (("unit", unit), ("kind", kind)):
            if value is not None:
                wheres.append(f"{column} = ?")
                values.append(str(value))
        with connect(self._workspace, write=False) as connection:
            found = versions.entries(connection, " AND ".join(wheres), values)
        return [entry for entry in found if entry.removed == removed]

    def entry(self, identity: str) -> Entry:
        """One entry, removed or not."""
        with connect(self._workspace, write=False) as connection:
            return versions.entry(connection, identity)

    def notes(self, unit: UnitName) -> list[Entry]:
        """The notes on a unit, the one changed last first."""
        return self.entries(unit=unit, kind="note")

    def labels(self, unit: UnitName) -> list[str]:
        """The labels of a unit, each once, in alphabetical order."""
        return sorted({entry.current.text for entry in self.entries(unit=unit, kind="label")})

    def known_labels(self) -> list[str]:
        """Every label that any unit has, in alphabetical order."""
        with connect(self._workspace, write=False) as connection:
            rows = connection.execute("SELECT DISTINCT body FROM versions WHERE superseded = 0 AND kind = 'label' AND removed = 0")
            return sorted(json.loads(row["body"])["label"] for row in rows)

    def rating(self, unit: UnitName) -> int | None:
        """The author's own rating of a unit."""
        with connect(self._workspace, write=False) as connection:
            found = versions.entries(connection, "entry = ?", (self._rating_of(unit),))
        return None if not found or found[0].removed else int(found[0].current.body["rating"])

    def history(self, identity: str) -> list[Version]:
        """All versions of an entry, the newest first."""
        with connect(self._workspace, write=False) as connection:
            return versions.history(connection, identity)

    @property
    def number(self) -> int:
        """Grows with every version that arrives: as long as it is the same, so is everything else."""
        with connect(self._workspace, write=False) as connection:
            return int(connection.execute("SELECT coalesce(max(number), 0) FROM versions").fetchone()[0])

    def changed_since(self, number: int) -> tuple[list[Entry], int]:
        """The entries, removed ones too, with a version that arrived here after `number` (0: all), and the number to ask with next."""
        with connect(self._workspace, write=False) as connection:
            last = int(connection.execute("SELECT coalesce(max(number), 0) FROM versions").fetchone()[0])
            if last <= number:
                return [], last
            return versions.entries(connection, f"entry IN (SELECT entry FROM versions WHERE number > {int(number)})"), last

    # What is written

    def save_note(self, unit: UnitName, text: str, *, entry: str | None = None, base: Sequence[str] = ()) -> Entry:
        """A new note, or a new text for the one named. base: the `Entry.base` that the text was made from.

        Raises Conflict, which holds both texts, when somebody else saved meanwhile.
        """
        return self._save_text("note", unit, text, entry, base)

    def explain(self, unit: UnitName, text: str, *, entry: str | None = None, base: Sequence[str] = ()) -> Entry:
        """The author's own explanation of a unit; as `save_note`."""
        return self._save_text("explanation", unit, text, entry, base)

    def rate(self, unit: UnitName, rating: int | None) -> Entry | None:
        """The author's rating of a unit, 1 to 5, instead of the one before; None takes it back."""
        who, identity = self.author, self._rating_of(unit)
        with connect(self._workspace) as connection:
            if rating is not None:
                return versions.save(connection, identity, "rating", unit, {"rating": checks.rating(rating)}, author=who)
            found = versions.entries(connection, "entry = ?", (identity,))
            return versions.remove(connection, found[0], author=who) if found else None

    def label(self, unit: UnitName, label: str) -> Entry:
        """Give a unit a label, once however often it is given."""
        word, who = checks.needed(checks.line(label, "label"), "label"), self.author
        with connect(self._workspace) as connection:
            return versions.save(connection, derived_id("label", str(unit), who, word), "label", unit, {"label": word}, author=who)

    def unlabel(self, unit: UnitName, label: str) -> list[Entry]:
        """Take a label off a unit, whoever gave it."""
        word, who = checks.line(label, "label"), self.author
        with connect(self._workspace) as connection:
            found = versions.entries(connection, "unit = ? AND kind = 'label'", (str(unit),))
            given = [entry for entry in found if not entry.removed and entry.current.text == word]
            if not given:
                raise AtlasError(f"{unit} has no label “{shown(word)}”.")
            return [versions.remove(connection, entry, author=who) for entry in given]

    def alike(self, unit: UnitName, other: UnitName) -> Entry:
        """Say that a unit looks like another one."""
        if unit == other:
            raise AtlasError(f"{unit} is the unit itself: name another one that it looks like.")
        who = self.author
        with connect(self._workspace) as connection:
            return versions.save(
                connection, derived_id("alike", str(unit), who, str(other)), "alike", unit, {"unit": str(other)}, author=who
            )

    def remove(self, identity: str, *, base: Sequence[str] | None = None) -> Entry:
        """Take an entry away. Its history stays, and undo brings it back. Raises Conflict when `base` is not what holds now."""
        who = self.author
        with connect(self._workspace) as connection:
            return versions.remove(connection, versions.entry(connection, identity), author=who, base=base)

    def undo(self, identity: str, *, base: Sequence[str] | None = None) -> Entry:
        """Write again what an entry was before its last change; undo after undo goes further back, in the end to nothing.

        Raises Conflict when `base` is not what holds now.
        """
        who = self.author
        with connect(self._workspace) as connection:
            return versions.undo(connection, versions.entry(connection, identity), author=who, base=base)

    # Other workspaces

    def rows(self, units: Iterable[UnitName] | None = None, collections: Iterable[str] = ()) -> list[Row]:
        """Every version of everything; or of what was written on some units, and of some collections with their members."""
        return merging.rows(self._workspace, units, collections)

    def merge(self, rows: Iterable[Mapping[str, object]]) -> Merged:
        """Take in versions from elsewhere, all or none: a union, in any order and as often as one likes."""
        return merging.merge(self._workspace, rows)

    def _save_text(self, kind: Kind, unit: UnitName, text: str, entry: str | None, base: Sequence[str]) -> Entry:
        body, who = {"text": checks.needed(checks.prose(text, kind), kind)}, self.author
        with connect(self._workspace) as connection:
            if entry is None:
                return versions.save(connection, versions.new_id(), kind, unit, body, author=who)
            known = versions.entry(connection, entry)
            if (known.kind, known.unit) != (kind, unit):
                raise AtlasError(f"“{shown(entry)}” is no {kind} on {unit}.")
            return versions.save(connection, entry, kind, unit, body, author=who, base=base)

    def _rating_of(self, unit: UnitName) -> str:
        return derived_id("rating", str(unit), self.author)
