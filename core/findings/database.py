"""The file of findings: `findings.sqlite` in the workspace, WAL, with its tables as numbered migrations."""

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from core import sqlite
from core.workspace import Workspace

FILE = "findings.sqlite"
MIGRATIONS: tuple[str, ...] = (
    # 1: how well a person found that an explanation's simulation matches the truth. Who rated again has several rows.
    """
    CREATE TABLE ratings (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        explanation TEXT NOT NULL,
        unit TEXT NOT NULL,
        rating INTEGER NOT NULL CHECK (rating BETWEEN 1 AND 5),
        seconds REAL NOT NULL,
        created REAL NOT NULL
    ) STRICT;
    CREATE INDEX ratings_of ON ratings (explanation);
    """,
    # 2: what a person wrote, as versions that are never changed. `number` is the order of arrival here and means nothing elsewhere;
    # `superseded` follows from the parents and is kept so that what holds now is found without reading all there ever was.
    """
    CREATE TABLE versions (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        version TEXT NOT NULL UNIQUE,
        entry TEXT NOT NULL,
        parents TEXT NOT NULL,
        kind TEXT NOT NULL,
        unit TEXT NOT NULL,
        author TEXT NOT NULL,
        created REAL NOT NULL,
        removed INTEGER NOT NULL CHECK (removed IN (0, 1)),
        restores TEXT NOT NULL,
        body TEXT NOT NULL,
        superseded INTEGER NOT NULL DEFAULT 0 CHECK (superseded IN (0, 1))
    ) STRICT;
    CREATE INDEX versions_of_entry ON versions (entry);
    CREATE INDEX versions_of_unit ON versions (unit, kind) WHERE superseded = 0;
    CREATE INDEX versions_of_kind ON versions (kind) WHERE superseded = 0;
    CREATE TABLE settings (
        name TEXT PRIMARY KEY,
        value TEXT NOT NULL
    ) STRICT
    """,
)
"""Applied in order; the number of those applied is the file's `user_version`. Never change one that was released."""


@contextmanager
def connect(workspace: Workspace, *, write: bool = True) -> Generator[sqlite3.Connection]:
    """A connection for one operation, in one transaction that is committed at the end. With `write` it is the only one that may write.

    Raises AtlasError when the file is newer than this program, damaged, not writable, locked, or the disk is full; ReadOnly when `write` is
    asked for where the workspace is only to be read.
    """
    path = workspace.path / FILE
    if write:
        workspace.check_writable()
    try:
        connection = sqlite.snapshot(path, MIGRATIONS) if workspace.read_only else _open(path)
        try:
            connection.row_factory = sqlite3.Row
            if write:
                with sqlite.transaction(connection):
                    yield connection
            else:
                connection.execute("BEGIN")  # one state of the file for all that is read
                yield connection
        finally:
            connection.close()
    except sqlite3.DatabaseError as error:
        raise sqlite.explain(
            error, path, full="Free some space and try again.", damaged="restore it from a backup, or move it away to begin anew."
        ) from None


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=sqlite.BUSY_SECONDS, isolation_level=None)
    try:
        sqlite.migrate(connection, path, MIGRATIONS)
    except BaseException:
        connection.close()
        raise
    return connection
