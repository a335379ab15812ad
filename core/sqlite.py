"""What the SQLite files of a workspace share: waiting, WAL, numbered migrations, transactions, and the sentences for what goes wrong.

Where a workspace is only to be read, its files are read through `snapshot`: SQLite itself never comes near them.
"""

import sqlite3
import tempfile
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from core.errors import AtlasError

BUSY_SECONDS = 30.0
_SETTLED_SECONDS = 0.05
"""Longer than the clock of any usual file system stands still: two writes that far apart have different times."""
_Stamp = tuple[tuple[int, int, int] | None, ...]
_snapshots: dict[Path, tuple[_Stamp, bytes]] = {}
_snapshotting = threading.Lock()


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


def snapshot(path: Path, migrations: Sequence[str]) -> sqlite3.Connection:
    """The file as it is now, in memory, to be read only: no lock, no file beside it, no right to write and no owner that waits is needed.

    What the log beside the file holds is in it; a file of an older program is migrated, and one that is not there is empty. It is
    read again when it has changed. Raises AtlasError as `version` does, and sqlite3.DatabaseError for a damaged file.
    """
    with _snapshotting:
        stamp = _stamp(path)
        kept = _snapshots.get(path)
        if kept is None or kept[0] != stamp:
            stamp, content = _read_whole(path)
            with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
                if content:
                    connection.deserialize(content)
                migrate(connection, path, migrations)
                kept = _snapshots[path] = stamp, connection.serialize()
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.deserialize(kept[1])
    connection.execute("PRAGMA query_only = ON")
    return connection


def _read_whole(path: Path) -> tuple[_Stamp, bytes]:
    """File and log of one moment, as one file without a log. Raises AtlasError when they change all the time."""
    log = _log(path)
    end = time.monotonic() + BUSY_SECONDS
    while time.monotonic() < end:
        stamp = _stamp(path)
        if any(one is not None and abs(time.time_ns() - one[1]) < _SETTLED_SECONDS * 1e9 for one in stamp):
            time.sleep(_SETTLED_SECONDS)  # another write just now would not show in the times
            continue
        try:
            content = path.read_bytes() if stamp[0] is not None else b""
            logged = log.read_bytes() if stamp[1] is not None else b""
        except FileNotFoundError:
            continue
        if _stamp(path) == stamp:
            return stamp, _without_log(_merged(content, logged) if logged else content)
    raise AtlasError(f"{path} changed all the time for {BUSY_SECONDS:.0f} seconds: try again when less is being written.")


def _merged(content: bytes, logged: bytes) -> bytes:
    """What SQLite makes of a file and its log, on copies of both."""
    with tempfile.TemporaryDirectory(prefix="neuron-atlas-") as folder:
        copy = Path(folder) / "copy.sqlite"
        copy.write_bytes(content)
        _log(copy).write_bytes(logged)
        connection = sqlite3.connect(copy, isolation_level=None)
        try:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            connection.close()
        return copy.read_bytes()


def _without_log(content: bytes) -> bytes:
    """The same with the two bytes of the header that say “WAL” saying “no log”: in memory there is none."""
    return content[:18] + b"\x01\x01" + content[20:] if content[18:20] == b"\x02\x02" else content


def _stamp(path: Path) -> _Stamp:
    """Changes whenever the file or its log does. Both None where neither is there."""
    return tuple(_seen(one) for one in (path, _log(path)))


def _seen(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _log(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


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
