"""The registry's tables, as numbered migrations, and how its file is opened. No torch."""

import sqlite3
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from core.errors import AtlasError

MIGRATIONS: tuple[str, ...] = (
    # 1: the runs. At most one queued or running run has a given fingerprint.
    """
    CREATE TABLE runs (
        id TEXT PRIMARY KEY,
        kind TEXT NOT NULL,
        lane TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'done', 'failed', 'cancelled')),
        params TEXT NOT NULL,
        fingerprint TEXT NOT NULL,
        created REAL NOT NULL,
        queued REAL NOT NULL,
        started REAL,
        finished REAL,
        done INTEGER NOT NULL DEFAULT 0,
        total INTEGER NOT NULL DEFAULT 0,
        unit TEXT NOT NULL DEFAULT '',
        stage TEXT NOT NULL DEFAULT '',
        message TEXT NOT NULL DEFAULT '',
        rate REAL,
        error TEXT,
        interrupted INTEGER NOT NULL DEFAULT 0,
        pid INTEGER,
        pid_start_ticks INTEGER,
        cancel_requested INTEGER NOT NULL DEFAULT 0,
        attempt INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE UNIQUE INDEX runs_active ON runs (fingerprint) WHERE state IN ('queued', 'running');
    CREATE INDEX runs_waiting ON runs (lane, state, queued);
    """,
)
"""Applied in order; the number of those applied is the file's `user_version`. Never change one that was released."""

BUSY_SECONDS = 30.0


@contextmanager
def connect(path: Path, *, reading: bool = False) -> Generator[sqlite3.Connection]:
    """A connection for one operation, in which each statement commits by itself unless it stands in a `transaction`.

    One connection an operation is safe from any thread and survives the file's removal. `reading` also works on a full disk or a
    folder that may not be written, where SQLite's helper files cannot be made. Raises AtlasError when the file is newer than this
    program, damaged, not writable, or the disk is full.
    """
    try:
        connection = _open(path, reading)
        try:
            yield connection
        finally:
            connection.close()
    except sqlite3.DatabaseError as error:
        raise explain(error, path) from None


@contextmanager
def transaction(connection: sqlite3.Connection) -> Generator[None]:
    """One write transaction: all of it or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if connection.in_transaction:  # a full disk has ended it already
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def explain(error: sqlite3.DatabaseError, path: Path) -> AtlasError:
    """A sentence for what SQLite said."""
    text = str(error)
    if "full" in text or "disk I/O" in text:
        return AtlasError(f"The disk is full: {path.name} could not be written. Free some space; finished parts are kept.")
    if "readonly" in text or "unable to open" in text:
        return AtlasError(f"No permission to write {path}. Choose a folder you may write to with --workspace.")
    if "locked" in text:
        return AtlasError(f"{path} was locked by another program for {BUSY_SECONDS:.0f} seconds: close it and try again.")
    return AtlasError(f"{path} is damaged ({text}): move it away, then `python -m core rebuild` restores the list of runs.")


def _open(path: Path, reading: bool) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
    try:
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA synchronous = NORMAL")
        if _version(connection, path) < len(MIGRATIONS):
            _migrate(connection, path)
    except BaseException as error:
        connection.close()
        log = path.with_name(f"{path.name}-wal")
        # Without a log beside it the file is whole, and can be read without helper files.
        whole = path.exists() and path.stat().st_size > 0 and not (log.exists() and log.stat().st_size)
        if not (reading and whole and isinstance(error, sqlite3.OperationalError)):
            raise
        connection = sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True, isolation_level=None)
        connection.row_factory = sqlite3.Row
        _version(connection, path)
    return connection


def _version(connection: sqlite3.Connection, path: Path) -> int:
    found = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if found > len(MIGRATIONS):
        raise AtlasError(f"{path} was made by a newer Neuron Atlas (schema {found}, this one reads {len(MIGRATIONS)}): update the program.")
    return found


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    _use_wal(connection)
    with transaction(connection):
        # Asked again inside the transaction: another process may have migrated meanwhile.
        for number in range(_version(connection, path), len(MIGRATIONS)):
            for statement in filter(str.strip, MIGRATIONS[number].split(";")):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number + 1}")


def _use_wal(connection: sqlite3.Connection) -> None:
    """Switch the file to WAL. SQLite itself does not wait for other connections here, whatever the timeout."""
    end = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > end:
                raise
            time.sleep(0.02)
