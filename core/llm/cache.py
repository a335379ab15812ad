"""Answers that were paid for once, kept on disk: one SQLite file that threads and processes share and a kill does not harm."""

import hashlib
import json
import sqlite3
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from core import sqlite
from core.errors import AtlasError, explain_os_error

FILE = "llm.sqlite"
"""Its name in the workspace."""
SCHEMA = 1
_TABLE = """
    CREATE TABLE IF NOT EXISTS responses (
        key TEXT PRIMARY KEY,
        base_url TEXT NOT NULL,
        model TEXT NOT NULL,
        route TEXT NOT NULL,
        created REAL NOT NULL,
        tokens_in INTEGER NOT NULL,
        tokens_out INTEGER NOT NULL,
        response BLOB NOT NULL
    ) STRICT
"""
_MEND = "move it away; only answers that were paid for before are lost."
_T = TypeVar("_T")


def request_key(base_url: str, model: str, route: str, body: dict[str, Any], **more: Any) -> str:
    """The sha256 of a whole request in one canonical spelling. more: what tells like requests apart, such as a sample's number."""
    whole = {"base_url": base_url, "model": model, "route": route, "body": body, **more}
    return hashlib.sha256(json.dumps(whole, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()).hexdigest()


class ResponseCache:
    """Answers by the key of their request. Every method may raise AtlasError; safe from any thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise explain_os_error(error, f"making the folder of {path.name}") from None
        self._connection = self._open()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __len__(self) -> int:
        return int(self._do(lambda on: on.execute("SELECT count(*) FROM responses").fetchone())[0])

    def get(self, key: str) -> dict[str, Any] | None:
        """The answer to this request, or None."""
        row = self._do(lambda on: on.execute("SELECT response FROM responses WHERE key = ?", (key,)).fetchone())
        if row is None:
            return None
        try:
            return json.loads(zlib.decompress(row[0]))
        except (ValueError, zlib.error):
            raise self._damaged("an answer cannot be read") from None

    def put(self, key: str, response: dict[str, Any], *, base_url: str, model: str, route: str, tokens_in: int, tokens_out: int) -> None:
        """Keep an answer. It is in the file when this returns; of two answers to one request the first is kept."""
        packed = zlib.compress(json.dumps(response, separators=(",", ":")).encode(), 6)
        row = (key, base_url, model, route, time.time(), tokens_in, tokens_out, packed)
        self._do(lambda on: on.execute("INSERT OR IGNORE INTO responses VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row))

    def close(self) -> None:
        """The object is of no use afterwards."""
        with self._lock:
            self._connection.close()

    def _do(self, ask: Callable[[sqlite3.Connection], _T]) -> _T:
        try:
            with self._lock:
                return ask(self._connection)
        except sqlite3.Error as error:
            raise self._explain(error) from None

    def _open(self) -> sqlite3.Connection:
        try:
            # Each statement commits by itself. With the WAL a killed process loses at most the statement it was in.
            connection = sqlite3.connect(self.path, timeout=sqlite.BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            try:
                sqlite.use_wal(connection)
                connection.execute("PRAGMA synchronous = NORMAL")
                found = int(connection.execute("PRAGMA user_version").fetchone()[0])
                if found > SCHEMA:
                    raise AtlasError(f"{self.path} was made by a newer Neuron Atlas: update the program, or move the file away.")
                if found < SCHEMA:
                    connection.execute(_TABLE)
                    connection.execute(f"PRAGMA user_version = {SCHEMA}")
            except BaseException:
                connection.close()
                raise
        except sqlite3.Error as error:
            raise self._explain(error) from None
        return connection

    def _explain(self, error: sqlite3.Error) -> AtlasError:
        if "closed" in str(error):
            return AtlasError("The answers' file was closed while it was in use: start again.")
        return sqlite.explain(error, self.path, full="Free some space and resume.", damaged=_MEND)

    def _damaged(self, why: str) -> AtlasError:
        return AtlasError(f"{self.path} is damaged ({why}): {_MEND}")
