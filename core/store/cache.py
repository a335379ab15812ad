"""The cache: cache.duckdb, the light tables that Explore and Overview query.

One process owns it, and every row can be made again from the runs.
"""

import threading
import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import duckdb

from core.errors import AtlasError, explain_os_error
from core.store import catalog, explained
from core.store.catalog import IndexInfo
from core.store.explained import ExplainedRun
from core.store.explained_ingest import delete_explained, update_run
from core.store.ingest import delete_run, fingerprint, replace_run, sweep, verify
from core.store.migrations import NotACache, check_version, migrate, schema_version
from core.store.parts import DamagedPart
from core.workspace import Workspace

_COMPACT_BYTES = 64 << 20
"""A smaller file is never worth compacting."""
_COMPACT_TIMES = 3.0
"""Compact when the file is more than this many times what its tables use. Replacing runs over and over settles at 2.2 times."""
_PATIENCE = 30.0
"""Seconds to wait for running queries before the file is exchanged."""
_SETTINGS: dict[str, Any] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "memory_limit": "2GB",
    "perfect_ht_threshold": 20,  # Groups by `ordinal` are counted in an array, up to a million units, instead of hashed.
    "preserve_insertion_order": True,
}


class Cache:
    """The owner's connection. Safe to use from many threads: every query takes a cursor of its own from `cursor()`."""

    def __init__(self, workspace: Workspace, connection: duckdb.DuckDBPyConnection, notices: list[str]) -> None:
        """Use `Cache.open`."""
        self.workspace = workspace
        self.notices = notices
        """Sentences about what was found damaged while opening."""
        self._connection = connection
        self._writing = threading.RLock()
        self._idle = threading.Condition()
        self._readers = 0
        self._exchanging = False
        self._failed: dict[str, tuple[Any, str]] = {}

    @classmethod
    def open(cls, workspace: Workspace) -> "Cache":
        """Open or create the workspace's cache for reading and writing.

        A damaged file is moved aside, noted in `notices`, and a new one begun. Raises AtlasError when another process owns it, when a
        newer program made it (the file is left untouched), or when the disk refuses.
        """
        path, notices = workspace.cache, list[str]()
        for attempt in range(2):
            try:
                if path.exists():
                    _peek(path)
                connection = duckdb.connect(str(path), config=_SETTINGS)
                try:
                    migrate(connection)
                except BaseException:
                    connection.close()
                    raise
                break
            except (duckdb.Error, NotACache) as error:
                if attempt:
                    raise AtlasError(f"{path} cannot be opened ({_first_line(error)}): delete it and run python -m core rebuild.") from None
                refusal = _refusal(path, error)
                if refusal is not None:
                    raise refusal from None
                notices.append(_move_aside(path))
        else:  # pragma: no cover - the second attempt either breaks or raises
            raise AssertionError
        for leftover in workspace.scratch.glob("cache-*.duckdb*"):
            leftover.unlink(missing_ok=True)
        return cls(workspace, connection, notices)

    @contextmanager
    def cursor(self) -> Generator[duckdb.DuckDBPyConnection, None, None]:
        """A cursor for one query or a few. Never hand it to another thread. Raises AtlasError when the file turns out damaged."""
        with self._idle:
            self._idle.wait_for(lambda: not self._exchanging)
            self._readers += 1
        try:
            cursor = self._connection.cursor()
            try:
                yield cursor
            finally:
                cursor.close()
        except duckdb.Error as error:
            sentence = _query_failure(self.workspace.cache, error)
            if sentence is None:
                raise
            raise sentence from None
        finally:
            with self._idle:
                self._readers -= 1
                self._idle.notify_all()

    def ingest(self) -> list[str]:
        """Bring the tables up to date with the manifests; return one sentence for each run that could not be read.

        Each run is replaced in one transaction: a reader sees all of its old rows or all of its new ones, and a run that cannot be read
        keeps the rows it had. Runs whose folder is gone disappear.
        """
        return self._ingest(whole=False)

    def rebuild(self) -> list[str]:
        """Make the cache again from the runs alone, checking every file's hash, and exchange it for the old one.

        Returns sentences like `ingest`. Queries wait while the files are exchanged.
        """
        with self._writing:
            fresh = self.workspace.scratch / f"cache-{time.time_ns()}.duckdb"
            try:
                builder = Cache(self.workspace, duckdb.connect(str(fresh), config=_SETTINGS), [])
                try:
                    migrate(builder._connection)
                    sentences = builder._ingest(whole=True)
                finally:
                    builder.close()
            except duckdb.Error as error:
                raise (
                    _refusal(fresh, error) or AtlasError(f"The new cache could not be written ({_first_line(error)}): try again.")
                ) from None
            self._exchange(fresh)
            self._failed.clear()
            return sentences

    def close(self) -> None:
        """Write everything to the file and let go of it."""
        with self._writing:
            self._connection.close()

    def _ingest(self, *, whole: bool) -> list[str]:
        with self._writing:
            found, broken = catalog.scan(self.workspace)
            with self.cursor() as cursor:
                rows: list[Any] = cursor.execute("SELECT run, fingerprint FROM indexes").fetchall()
                stored: dict[str, str] = dict(rows)
                changed = False
                gone = stored.keys() - {index.run for index in found} - broken.keys()
                if gone:
                    with _transaction(cursor):
                        for run in gone:
                            delete_run(cursor, run)
                    changed = True
                for index in sorted(found, key=lambda index: index.run):
                    if stored.get(index.run) == fingerprint(index):
                        self._failed.pop(index.run, None)
                        continue
                    sentence = self._take_in(cursor, index, whole=whole)
                    if sentence is None:
                        changed = True
                    else:
                        broken[index.run] = sentence
                if changed:
                    with _transaction(cursor):
                        sweep(cursor)
                explained_changed = self._ingest_explained(cursor, broken, whole=whole)
                if changed or explained_changed:
                    _checkpoint(cursor)
            if changed and self._wasteful():
                self._compact()
            return [broken[run] for run in sorted(broken)]

    def _ingest_explained(self, cursor: duckdb.DuckDBPyConnection, broken: dict[str, str], *, whole: bool) -> bool:
        """The same for runs of explaining; sentences are added to `broken`. Returns whether any row changed."""
        found, unreadable = explained.scan(self.workspace)
        broken |= unreadable
        rows: list[Any] = cursor.execute("SELECT run, fingerprint FROM explain_runs").fetchall()
        stored: dict[str, str] = dict(rows)
        gone = stored.keys() - {run.run for run in found} - unreadable.keys()
        if gone:
            with _transaction(cursor):
                for run in gone:
                    delete_explained(cursor, run)
        changed = bool(gone)
        for run in sorted(found, key=lambda run: run.run):
            known = self._failed.get(run.run)
            if known is not None and known[0] == _explained_signature(run):
                broken[run.run] = known[1]
            elif known is not None or stored.get(run.run) != run.fingerprint:
                with _transaction(cursor):
                    wrong = update_run(cursor, run, whole=whole)
                changed = True
                self._failed.pop(run.run, None)
                if wrong is not None and self._still_there(run):
                    broken[run.run] = catalog.broken_file(self.workspace, run.run, *wrong)
                    self._failed[run.run] = (_explained_signature(run), broken[run.run])
        return changed

    def _still_there(self, run: ExplainedRun) -> bool:
        """Whether the run is as it was read: not deleted or published anew meanwhile, which the next ingest sees."""
        current = next((one for one in explained.explained_runs(self.workspace) if one.run == run.run), None)
        return current is not None and current.generation == run.generation

    def _take_in(self, cursor: duckdb.DuckDBPyConnection, index: IndexInfo, *, whole: bool) -> str | None:
        """Replace one run's rows; the sentence that says why not, when they cannot be read."""
        signature = _signature(index)
        known = self._failed.get(index.run)
        if known is not None and known[0] == signature:
            return known[1]
        for attempt in range(2):
            try:
                verify(index, whole=whole)
                with _transaction(cursor):
                    replace_run(cursor, self.workspace, index)
                self._failed.pop(index.run, None)
                return None
            except FileNotFoundError as error:
                try:
                    current = catalog.load_index(self.workspace, index.run)
                except AtlasError as gone:
                    return str(gone)
                if attempt == 0 and current.generation != index.generation:
                    index = current  # a newer generation was published meanwhile
                    continue
                sentence = catalog.broken_file(self.workspace, index.run, Path(str(error.filename)), "is missing")
            except DamagedPart as damage:
                sentence = catalog.broken_file(self.workspace, index.run, damage.path, "is damaged")
            except AtlasError as error:
                sentence = str(error)
            self._failed[index.run] = (signature, sentence)
            return sentence
        raise AssertionError  # pragma: no cover - the second attempt always returns

    def _wasteful(self) -> bool:
        with self.cursor() as cursor:
            sizes: list[Any] = cursor.execute("SELECT block_size, total_blocks, used_blocks FROM pragma_database_size()").fetchall()
        block, total, used = sizes[0]
        return total * block > max(_COMPACT_BYTES, _COMPACT_TIMES * used * block)

    def _compact(self) -> None:
        """Copy the tables to a new file, which leaves the space of replaced rows behind, and exchange the files."""
        fresh = self.workspace.scratch / f"cache-{time.time_ns()}.duckdb"
        with self.cursor() as cursor:
            names: list[Any] = cursor.execute("SELECT current_database()").fetchall()
            cursor.execute(f"ATTACH '{str(fresh).replace(chr(39), chr(39) * 2)}' AS fresh")
            try:
                cursor.execute(f'COPY FROM DATABASE "{names[0][0]}" TO fresh')
            finally:
                cursor.execute("DETACH fresh")
        self._exchange(fresh)

    def _exchange(self, fresh: Path) -> None:
        """Put `fresh` in the place of the cache. DuckDB must have let go of the old file first, so queries wait. Raises AtlasError."""
        with self._idle:
            self._exchanging = True
            try:
                if not self._idle.wait_for(lambda: self._readers == 0, timeout=_PATIENCE):
                    fresh.unlink(missing_ok=True)
                    raise AtlasError("The cache is in use by a query that does not end: try again in a minute.")
                self._connection.close()
                try:
                    _wal(self.workspace.cache).unlink(missing_ok=True)  # whatever it held belongs to the old file
                    fresh.replace(self.workspace.cache)
                except OSError as error:
                    raise explain_os_error(error, "exchanging the cache") from None
                finally:
                    self._connection = duckdb.connect(str(self.workspace.cache), config=_SETTINGS)
            finally:
                self._exchanging = False
                self._idle.notify_all()


@contextmanager
def _transaction(cursor: duckdb.DuckDBPyConnection) -> Generator[None, None, None]:
    cursor.begin()
    try:
        yield
    except BaseException:
        with suppress(duckdb.Error):  # after a failed write there is nothing left to roll back, and the failure is what matters
            cursor.rollback()
        raise
    cursor.commit()


def _checkpoint(cursor: duckdb.DuckDBPyConnection) -> None:
    try:
        cursor.execute("CHECKPOINT")
    except duckdb.TransactionException:
        return  # a query is running: the next checkpoint, or closing, does it


def _peek(path: Path) -> None:
    """Look at the schema without any chance of writing. Raises AtlasError, NotACache and duckdb.Error."""
    with duckdb.connect(str(path), read_only=True, config=_SETTINGS) as connection:
        version = schema_version(connection)
        sizes: list[Any] = connection.execute("SELECT block_size, used_blocks FROM pragma_database_size()").fetchall()
        # Every used block is in the file; free ones at its end need not be.
        if path.stat().st_size < sizes[0][0] * sizes[0][1]:
            raise NotACache("the file is cut short")
    check_version(version, str(path))


def _refusal(path: Path, error: Exception) -> AtlasError | None:
    """The sentence for a file that is sound but not ours to open; None for a damaged one."""
    text = str(error)
    if "Could not set lock" in text or "Conflicting lock" in text:
        return AtlasError(f"{path} is in use: the dashboard is open in another process. Use that one, or close it first.")
    if "different configuration" in text:
        return AtlasError(f"{path} is already open in this process.")
    if "No space left" in text or "Disk full" in text:
        return AtlasError("The disk is full, found while opening the cache. Free some space and try again.")
    if "Permission denied" in text or "Read-only file system" in text:
        return AtlasError(f"No permission to write {path}. Choose a folder you may write to with --workspace.")
    if "version number" in text:
        return AtlasError(f"{path} was made by a newer DuckDB: update the program, or delete the file and run python -m core rebuild.")
    return None


def _query_failure(path: Path, error: duckdb.Error) -> AtlasError | None:
    """The sentence for what disks and files do to a query; None for a mistake in the query itself."""
    text = str(error)
    if "No space left" in text:
        return AtlasError("The disk is full, found while writing the cache. Free some space and try again; the runs are intact.")
    if "invalidated" in text:
        return AtlasError("The cache stopped after an error of the disk: close the dashboard and start it again.")
    if isinstance(error, duckdb.ConnectionException):
        return AtlasError("The cache is closed: reload the page.")
    if isinstance(error, duckdb.IOException | duckdb.InternalException | duckdb.SerializationException | duckdb.FatalException):
        return AtlasError(f"{path} is damaged ({_first_line(error)}): close the dashboard and run python -m core rebuild.")
    return None


def _move_aside(path: Path) -> str:
    aside = path.with_name(f"{path.stem}.damaged-{time.strftime('%Y%m%d-%H%M%S')}.duckdb")
    try:
        path.replace(aside)
        if _wal(path).exists():
            _wal(path).replace(_wal(aside))
    except OSError as error:
        raise explain_os_error(error, f"moving the damaged cache to {aside}") from None
    return f"The cache was damaged: it was moved to {aside.name} and is made again from the runs."


def _wal(path: Path) -> Path:
    return path.with_name(f"{path.name}.wal")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _signature(index: IndexInfo) -> Any:
    """Changes when trying again may succeed: another manifest, or another file behind it."""
    return _files_signature(fingerprint(index), (path for *_, path, _entry in index.parts()))


def _explained_signature(run: ExplainedRun) -> Any:
    return _files_signature(run.fingerprint, (run.path(part, name) for part in run.parts for name in explained.FILES))


def _files_signature(fingerprint: str, paths: Iterable[Path]) -> Any:
    found: list[Any] = [fingerprint]
    for path in paths:
        try:
            stat = path.stat()
            found.append((stat.st_mtime_ns, stat.st_size, stat.st_ino))
        except FileNotFoundError:
            found.append(None)
    return tuple(found)
