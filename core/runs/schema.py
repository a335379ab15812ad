"""The registry's tables, as numbered migrations, and how its file is opened. No torch."""

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from core import sqlite
from core.errors import AtlasError
from core.workspace import Workspace

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


@contextmanager
def connect(workspace: Workspace, *, reading: bool = False) -> Generator[sqlite3.Connection]:
    """A connection for one operation, in which each statement commits by itself unless it stands in a `transaction`.

    One connection an operation is safe from any thread and survives the file's removal. `reading` also works on a full disk or a
    folder that may not be written, where SQLite's helper files cannot be made. Raises AtlasError when the file is newer than this
    program, damaged, not writable, or the disk is full, and ReadOnly where the workspace is only to be read and `reading` is not said.
    """
    path = workspace.registry
    if not reading:
        workspace.check_writable()
    try:
        connection = _snapshot(path) if workspace.read_only else _open(path, reading)
        try:
            yield connection
        finally:
            connection.close()
    except sqlite3.DatabaseError as error:
        raise explain(error, path) from None


def explain(error: sqlite3.DatabaseError, path: Path) -> AtlasError:
    """A sentence for what SQLite said of the registry."""
    return sqlite.explain(
        error,
        path,
        full="Free some space; finished parts are kept.",
        damaged="move it away, then `python -m core rebuild` restores the list of runs.",
    )


def _snapshot(path: Path) -> sqlite3.Connection:
    connection = sqlite.snapshot(path, MIGRATIONS)
    connection.row_factory = sqlite3.Row
    return connection


def _open(path: Path, reading: bool) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=sqlite.BUSY_SECONDS, isolation_level=None)
    try:
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA synchronous = NORMAL")
        sqlite.migrate(connection, path, MIGRATIONS)
    except BaseException as error:
        connection.close()
        log = path.with_name(f"{path.name}-wal")
        # Without a log beside it the file is whole, and can be read without helper files.
        whole = path.exists() and path.stat().st_size > 0 and not (log.exists() and log.stat().st_size)
        if not (reading and whole and isinstance(error, sqlite3.OperationalError)):
            raise
        connection = sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True, isolation_level=None)
        connection.row_factory = sqlite3.Row
        sqlite.version(connection, path, len(MIGRATIONS))
    return connection
