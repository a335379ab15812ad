"""Ratings: how well a person found that what was simulated from an explanation matches what is true, from 1 to 5."""

import sqlite3
import time
from dataclasses import dataclass

from core.errors import AtlasError
from core.findings.database import connect
from core.units import UnitName
from core.workspace import Workspace

LOWEST, HIGHEST = 1, 5
MEANINGS = {
    1: "nothing in common",
    2: "a little in common",
    3: "half of it",
    4: "mostly the same",
    5: "the same",
}
"""What the numbers say, as the Rate page shows it."""


@dataclass(frozen=True)
class Rating:
    """One judgement. seconds: how long it took; created: when, in seconds since 1970."""

    id: int
    explanation: str
    unit: UnitName
    rating: int
    seconds: float
    created: float


# Named here because the class has a method called `list`.
Found = list[Rating]


class Ratings:
    """The ratings of one workspace. Cheap to make; safe from any thread and process. Every method may raise AtlasError."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def add(self, explanation: str, unit: UnitName, rating: int, seconds: float = 0.0) -> Rating:
        """Keep a rating. An explanation may be rated again: its newest rating is the one that counts."""
        if not LOWEST <= rating <= HIGHEST:
            raise AtlasError(f"{rating} is not a rating: choose {LOWEST} to {HIGHEST}.")
        if not explanation or len(explanation) > 500:
            raise AtlasError("Name the explanation that is rated.")
        created = time.time()
        values = (explanation, str(unit), rating, max(0.0, seconds), created)
        with connect(self._workspace) as connection:
            sql = "INSERT INTO ratings (explanation, unit, rating, seconds, created) VALUES (?, ?, ?, ?, ?)"
            identity = connection.execute(sql, values).lastrowid
        return Rating(int(identity or 0), explanation, unit, rating, values[3], created)

    def undo(self, identity: int | None = None) -> Rating | None:
        """Take back a rating, the newest one if none is named. Returns what was taken back, None when there is nothing."""
        with connect(self._workspace) as connection:
            where, values = ("id = ?", (identity,)) if identity is not None else ("id = (SELECT max(id) FROM ratings)", ())
            row = connection.execute(f"DELETE FROM ratings WHERE {where} RETURNING *", values).fetchone()
        return None if row is None else _rating(row)

    def list(self, *, newest_only: bool = False) -> Found:
        """All ratings, the oldest first; with `newest_only` one for each explanation, its newest."""
        with connect(self._workspace, write=False) as connection:
            newest = "WHERE id IN (SELECT max(id) FROM ratings GROUP BY explanation)" if newest_only else ""
            rows = connection.execute(f"SELECT * FROM ratings {newest} ORDER BY id").fetchall()
        return [_rating(row) for row in rows]


def _rating(row: sqlite3.Row) -> Rating:
    unit = UnitName.parse(row["unit"])
    return Rating(row["id"], row["explanation"], unit, row["rating"], row["seconds"], row["created"])
