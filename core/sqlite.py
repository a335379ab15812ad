"""What the SQLite files of a workspace share: waiting, WAL, numbered migrations, transactions, and the sentences for what goes wrong."""

import sqlite3
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from core.errors import AtlasError

BUSY_SECONDS = 30.0


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


def version(connection: sqlite3.Connection, path: Path, newest: int) -> int:
    """How many migrations the file has seen. Raises AtlasError when a newer program made it."""
    found = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if found > newest:
        raise AtlasError(f"{path} was made by a newer Neuron Atlas (schema {found}, this one reads {newest}): update the program.")
    return found


def migrate(connection: sqlite3.Connection, path: Path, migrations: Sequence[str]) -> None:
    """Apply the migrations that the file lacks, in WAL mode, all or none. Raises AtlasError when a newer program made it."""
    if version(connection, path, len(migrations)) == len(migrations):
        return
    use_wal(connection)
    with transaction(connection):
        # Asked again inside the transaction: another process may have migrated meanwhile.
        for number in range(version(connection, path, len(migrations)), len(migrations)):
            for statement in filter(str.strip, migrations[number].split(";")):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number + 1}")


def use_wal(connection: sqlite3.Connection) -> None:
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


def explain(error: sqlite3.Error, path: Path, *, full: str, damaged: str) -> AtlasError:
    """A sentence for what SQLite said. full, damaged: what to do when the disk is full, and when the file is damaged."""
    text = str(error)
    if "full" in text or "disk I/O" in text:
        return AtlasError(f"The disk is full: {path.name} could not be written. {full}")
    if "readonly" in text or "unable to open" in text:
        return AtlasError(f"No permission to write {path}. Choose a folder you may write to with --workspace.")
    if "locked" in text:
        return AtlasError(f"{path} was locked by another program for {BUSY_SECONDS:.0f} seconds: close it and try again.")
    return AtlasError(f"{path} is damaged ({text}): {damaged}")
