"""The file of findings: `findings.sqlite` in the workspace, WAL, with its tables as numbered migrations."""

import sqlite3
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from core.errors import AtlasError
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
)
"""Applied in order; the number of those applied is the file's `user_version`. Never change one that was released."""
BUSY_SECONDS = 30.0


@contextmanager
def connect(workspace: Workspace) -> Generator[sqlite3.Connection]:
    """A connection for one operation, in one transaction that is committed at the end.

    Raises AtlasError when the file is newer than this program, damaged, not writable, locked, or the disk is full.
    """
    path = workspace.path / FILE
    try:
        connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
        try:
            connection.row_factory = sqlite3.Row
            if _version(connection, path) < len(MIGRATIONS):
                _migrate(connection, path)
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")
        finally:
            connection.close()  # what was not committed is rolled back
    except sqlite3.DatabaseError as error:
        raise _explain(error, path) from None


def _version(connection: sqlite3.Connection, path: Path) -> int:
    found = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if found > len(MIGRATIONS):
        raise AtlasError(f"{path} was made by a newer Neuron Atlas (schema {found}, this one reads {len(MIGRATIONS)}): update the program.")
    return found


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    _use_wal(connection)
    connection.execute("BEGIN IMMEDIATE")
    # Asked again inside the transaction: another process may have migrated meanwhile.
    for number in range(_version(connection, path), len(MIGRATIONS)):
        for statement in filter(str.strip, MIGRATIONS[number].split(";")):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {number + 1}")
    connection.execute("COMMIT")


def _use_wal(connection: sqlite3.Connection) -> None:
    """SQLite does not wait for other connections here, whatever the timeout."""
    end = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > end:
                raise
            time.sleep(0.02)


def _explain(error: sqlite3.DatabaseError, path: Path) -> AtlasError:
    text = str(error)
    if "full" in text or "disk I/O" in text:
        return AtlasError(f"The disk is full: {path.name} could not be written. Free some space and try again.")
    if "readonly" in text or "unable to open" in text:
        return AtlasError(f"No permission to write {path}. Choose a folder you may write to with --workspace.")
    if "locked" in text:
        return AtlasError(f"{path} was locked by another program for {BUSY_SECONDS:.0f} seconds: close it and try again.")
    return AtlasError(f"{path} is damaged ({text}): restore it from a backup, or move it away to begin anew.")
