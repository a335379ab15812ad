"""The list of runs: what was asked for, by what state it is in, and who works on it. SQLite in WAL mode; no torch.

Any process may read and write it at any time. A run whose worker died is noticed by whoever reads next.
"""

import hashlib
import json
import os
import secrets
import shutil
import sqlite3
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from core.errors import AtlasError, explain_os_error
from core.runs import processes, schema
from core.sqlite import transaction
from core.units import check_slug
from core.workspace import Workspace, write_json

Lane = Literal["batch", "interactive", "model"]
LANES: tuple[Lane, ...] = get_args(Lane)
State = Literal["queued", "running", "done", "failed", "cancelled"]

MAX_ATTEMPTS = 3
"""How often a run that keeps losing its worker is started without being asked."""
STOPPED = "The worker stopped unexpectedly (perhaps out of memory); resume it: no finished part is done again."
DISK_FULL = "The disk is full and the worker stopped; free some space and resume: no finished part is done again."
LOST = "The list of runs was lost while this one was unfinished; resume it: no finished part is done again."
_FULL_BYTES = 4 << 20


@dataclass(frozen=True)
class Run:
    """One row of the registry. Times are seconds since 1970; `rate` is in `unit`s a second over the last half minute."""

    id: str
    kind: str
    lane: Lane
    state: State
    params: dict[str, Any]
    fingerprint: str
    created: float
    queued: float
    started: float | None
    finished: float | None
    done: int
    total: int
    unit: str
    stage: str
    message: str
    rate: float | None
    error: str | None
    interrupted: bool
    """Failed because its worker died, not because of what it did."""
    pid: int | None
    pid_start_ticks: int | None
    cancel_requested: bool
    attempt: int

    @property
    def active(self) -> bool:
        return self.state in ("queued", "running")

    @property
    def resumable(self) -> bool:
        return self.state in ("failed", "cancelled")

    @property
    def seconds_left(self) -> float | None:
        """Time left at the present rate, or None when it cannot be told."""
        if self.state != "running" or not self.rate or self.total <= 0:
            return None
        return max(0, self.total - self.done) / self.rate


# Named here because the class has a method called `list`.
Runs = list[Run]
Names = list[str]


class Registry:
    """The runs of one workspace. Cheap to make; safe to use from any thread. Every method may raise AtlasError."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        with self._look():
            pass

    def folder(self, run: str) -> Path:
        """Where the run's files are."""
        return self.workspace.runs / check_slug(run, "run")

    def submit(self, kind: str, params: dict[str, Any], *, lane: Lane = "batch") -> Run:
        """Queue a piece of work, or return the run that already does it.

        The same kind and parameters that are queued or running are not started twice; a failed or cancelled run with them is
        resumed in its own folder, so that its finished parts are used, under the new budget if there is one. `find_active` tells
        beforehand.
        """
        fingerprint = fingerprint_of(kind, params)
        with self._connect() as connection, transaction(connection):
            self._reap(connection)
            row = connection.execute(
                "SELECT * FROM runs WHERE fingerprint = ? AND state != 'done'"
                " ORDER BY state IN ('queued', 'running') DESC, created DESC LIMIT 1",
                (fingerprint,),
            ).fetchone()
            if row is not None:
                run = _run(row)
                return run if run.active else self._requeue(connection, self._told_again(connection, run, params), attempt=0)
            now = time.time()
            name = f"{check_slug(kind, 'kind of run')}-{time.strftime('%Y%m%d', time.gmtime(now))}-{secrets.token_hex(3)}"
            connection.execute(
                "INSERT INTO runs (id, kind, lane, state, params, fingerprint, created, queued) VALUES (?, ?, ?, 'queued', ?, ?, ?, ?)",
                (name, kind, lane, _canonical(params), fingerprint, now, now),
            )
            self._write_params(name, {"run": name, "kind": kind, "lane": lane, "created": now, "params": params})
            return self._read(connection, name)

    def find_active(self, kind: str, params: dict[str, Any]) -> Run | None:
        """The queued or running run that does exactly this work."""
        with self._look() as connection:
            row = connection.execute(
                "SELECT * FROM runs WHERE fingerprint = ? AND state IN ('queued', 'running')", (fingerprint_of(kind, params),)
            ).fetchone()
        run = None if row is None else self._checked(_run(row))
        return run if run is not None and run.active else None

    def newest(self, kind: str, params: dict[str, Any]) -> Run | None:
        """The newest run of exactly this work, whatever became of it."""
        with self._look() as connection:
            row = connection.execute(
                "SELECT * FROM runs WHERE fingerprint = ? ORDER BY created DESC, id LIMIT 1", (fingerprint_of(kind, params),)
            ).fetchone()
        return None if row is None else self._checked(_run(row))

    def get(self, run: str) -> Run:
        """One run, its state true at this moment."""
        with self._look() as connection:
            return self._checked(self._read(connection, run))

    def list(self, *, active: bool = False, limit: int = 200) -> Runs:
        """Runs, the newest first; only queued and running ones when `active`."""
        with self._look() as connection:
            rows = connection.execute(
                "SELECT * FROM runs WHERE ? = 0 OR state IN ('queued', 'running') ORDER BY created DESC, id LIMIT ?", (active, limit)
            ).fetchall()
        runs = [self._checked(_run(row)) for row in rows]
        return [run for run in runs if run.active] if active else runs

    def waiting(self, lane: Lane) -> bool:
        """Whether a run is queued in the lane."""
        with self._look() as connection:
            return connection.execute("SELECT 1 FROM runs WHERE lane = ? AND state = 'queued' LIMIT 1", (lane,)).fetchone() is not None

    def claim_next(self, lane: Lane) -> Run | None:
        """Take the longest queued run of the lane for this process, or None. No two processes get the same one."""
        with self._connect() as connection, transaction(connection):
            self._reap(connection)
            row = connection.execute(
                "SELECT id FROM runs WHERE lane = ? AND state = 'queued' ORDER BY queued, created, id LIMIT 1", (lane,)
            ).fetchone()
            if row is None:
                return None
            pid = os.getpid()
            connection.execute(
                "UPDATE runs SET state = 'running', started = ?, pid = ?, pid_start_ticks = ?, attempt = attempt + 1 WHERE id = ?",
                (time.time(), pid, processes.start_ticks(pid), row["id"]),
            )
            return self._read(connection, row["id"])

    def update(self, run: str, *, done: int, total: int, unit: str, stage: str, message: str, rate: float | None) -> bool:
        """Record progress of a running run. Returns whether somebody asked to cancel it."""
        with self._connect() as connection:
            row = connection.execute(
                "UPDATE runs SET done = ?, total = ?, unit = ?, stage = ?, message = ?, rate = ? WHERE id = ? AND state = 'running' "
                "RETURNING cancel_requested",
                (done, total, unit, stage, message, rate, run),
            ).fetchone()
        return row is None or bool(row[0])

    def cancel_requested(self, run: str) -> bool:
        """Whether the run should stop: somebody asked, or it is no longer this process's to do."""
        with self._look() as connection:
            row = connection.execute("SELECT cancel_requested FROM runs WHERE id = ? AND state = 'running'", (run,)).fetchone()
        return row is None or bool(row[0])

    def finish(self, run: str) -> None:
        """A running run is done."""
        self._end(run, "done", None)

    def fail(self, run: str, sentence: str) -> None:
        """A running run failed, in one sentence."""
        self._end(run, "failed", sentence)

    def cancelled(self, run: str) -> None:
        """A running run has stopped because it was asked to."""
        self._end(run, "cancelled", None)

    def request_cancel(self, run: str) -> Run:
        """Ask a run to stop: a queued one is cancelled now, a running one at its next progress report."""
        with self._connect() as connection, transaction(connection):
            self._reap(connection)
            found = self._read(connection, run)
            if found.state == "queued":
                connection.execute("UPDATE runs SET state = 'cancelled', finished = ? WHERE id = ?", (time.time(), run))
            elif found.state == "running":
                connection.execute("UPDATE runs SET cancel_requested = 1 WHERE id = ?", (run,))
            else:
                raise AtlasError(f"{run} cannot be cancelled: it is already {found.state}.")
            return self._read(connection, run)

    def resume(self, run: str, *, repair: bool = False) -> Run:
        """Queue a failed or cancelled run again, in the same folder: finished parts are used. Also what “retry” means.

        repair: a done one too, because its files were found damaged.
        """
        with self._connect() as connection, transaction(connection):
            self._reap(connection)
            found = self._read(connection, run)
            if found.active:
                return found
            if found.state == "done" and not repair:
                raise AtlasError(f"{run} is already done: there is nothing to resume.")
            twin = connection.execute(
                "SELECT id, state FROM runs WHERE fingerprint = ? AND state IN ('queued', 'running')", (found.fingerprint,)
            ).fetchone()
            if twin is not None:
                raise AtlasError(f"{run} cannot be resumed: {twin['id']} does the same work and is {twin['state']}.")
            return self._requeue(connection, found, attempt=0)

    def requeue_interrupted(self, lane: Lane = "batch") -> Runs:
        """Queue the runs that lost their worker, unless they lost it MAX_ATTEMPTS times. For the dashboard's start."""
        with self._connect() as connection, transaction(connection):
            self._reap(connection)
            rows = connection.execute(
                "SELECT * FROM runs AS r WHERE lane = ? AND state = 'failed' AND interrupted AND attempt < ? AND NOT EXISTS (SELECT 1"
                " FROM runs WHERE fingerprint = r.fingerprint AND id != r.id AND state IN ('queued', 'running', 'done')"
                " AND created >= r.created) ORDER BY queued",
                (lane, MAX_ATTEMPTS),
            ).fetchall()
            seen: dict[str, Run] = {}
            for run in map(_run, rows):
                if run.fingerprint not in seen:
                    seen[run.fingerprint] = self._requeue(connection, run, attempt=run.attempt)
            return list(seen.values())

    def delete(self, run: str) -> None:
        """Remove a run that is not active, and its files."""
        with self._connect() as connection, transaction(connection):
            self._reap(connection)
            if self._read(connection, run).active:
                raise AtlasError(f"{run} is still at work: cancel it first.")
            connection.execute("DELETE FROM runs WHERE id = ?", (run,))
        folder = self.folder(run)
        if folder.exists():
            # Renamed first, so that a reader sees either the whole run or none of it.
            doomed = self.workspace.scratch / f"deleted-{run}"
            try:
                folder.rename(doomed)
                shutil.rmtree(doomed)
            except OSError as error:
                raise explain_os_error(error, f"deleting the files of {run}") from None

    def restore(self) -> Names:
        """Enter runs that have a folder but no row: the registry was lost. Returns their ids."""
        restored: Names = []
        for path in sorted(self.workspace.runs.glob("*/params.json")):
            entry = _entry(path)
            if entry is None:
                continue
            state, error = ("done", None) if _complete(path.parent) else ("failed", LOST)
            with self._connect() as connection:
                new = connection.execute(
                    "INSERT INTO runs (id, kind, lane, state, params, fingerprint, created, queued, finished, error)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                    (
                        path.parent.name,
                        entry["kind"],
                        entry["lane"],
                        state,
                        _canonical(entry["params"]),
                        fingerprint_of(entry["kind"], entry["params"]),
                        entry["created"],
                        entry["created"],
                        path.stat().st_mtime,
                        error,
                    ),
                ).rowcount
            if new:
                restored.append(path.parent.name)
        return restored

    def _connect(self) -> AbstractContextManager[sqlite3.Connection]:
        return schema.connect(self.workspace)

    def _look(self) -> AbstractContextManager[sqlite3.Connection]:
        return schema.connect(self.workspace, reading=True)

    def _read(self, connection: sqlite3.Connection, run: str) -> Run:
        row = connection.execute("SELECT * FROM runs WHERE id = ?", (run,)).fetchone()
        if row is None:
            check_slug(run, "run")
            raise AtlasError(f"There is no run {run} in {self.workspace.path}: `python -m core runs --all` lists them.")
        return _run(row)

    def _end(self, run: str, state: State, error: str | None) -> None:
        with self._connect() as connection:
            connection.execute(
                "UPDATE runs SET state = :state, error = :error, finished = :now, pid = NULL, pid_start_ticks = NULL, interrupted = 0,"
                " done = CASE WHEN :state = 'done' THEN max(done, total) ELSE done END WHERE id = :run AND state = 'running'",
                {"state": state, "error": error, "now": time.time(), "run": run},
            )

    def _requeue(self, connection: sqlite3.Connection, run: Run, *, attempt: int) -> Run:
        connection.execute(
            "UPDATE runs SET state = 'queued', queued = ?, started = NULL, finished = NULL, rate = NULL, error = NULL, interrupted = 0,"
            " stage = '', message = '', pid = NULL, pid_start_ticks = NULL, cancel_requested = 0, attempt = ? WHERE id = ?",
            (time.time(), attempt, run.id),
        )
        return self._read(connection, run.id)

    def _reap(self, connection: sqlite3.Connection) -> None:
        """Inside a transaction: mark every running run whose worker is gone."""
        for run in map(_run, connection.execute("SELECT * FROM runs WHERE state = 'running'").fetchall()):
            if not processes.alive(run.pid, run.pid_start_ticks):
                self._bury(connection, run)

    def _checked(self, run: Run) -> Run:
        """The run as it truly is: one whose worker died is marked failed (or cancelled, when that was asked)."""
        if run.state != "running" or processes.alive(run.pid, run.pid_start_ticks):
            return run
        try:
            with self._connect() as connection:
                self._bury(connection, run)
                return self._read(connection, run.id)
        except AtlasError:
            # A full disk cannot take the note; the reader is told all the same.
            return _run({**_columns(run), "state": "failed", "error": self._why_stopped(), "interrupted": 1})

    def _bury(self, connection: sqlite3.Connection, run: Run) -> None:
        """Only if the row still names the dead process: the worker may have finished between our look and now."""
        state, error = ("cancelled", None) if run.cancel_requested else ("failed", self._why_stopped())
        connection.execute(
            "UPDATE runs SET state = ?, error = ?, interrupted = ?, finished = ?, pid = NULL, pid_start_ticks = NULL"
            " WHERE id = ? AND state = 'running' AND pid IS ? AND pid_start_ticks IS ?",
            (state, error, state == "failed", time.time(), run.id, run.pid, run.pid_start_ticks),
        )

    def _why_stopped(self) -> str:
        return DISK_FULL if shutil.disk_usage(self.workspace.path).free < _FULL_BYTES else STOPPED

    def _told_again(self, connection: sqlite3.Connection, run: Run, params: dict[str, Any]) -> Run:
        """A run that is to go on with parameters that differ from its own in the budget at most."""
        if params != run.params:
            connection.execute("UPDATE runs SET params = ? WHERE id = ?", (_canonical(params), run.id))
            entry = {"run": run.id, "kind": run.kind, "lane": run.lane, "created": run.created, "params": params}
            try:
                write_json(self.folder(run.id) / "params.json", entry)
            except OSError as error:
                raise explain_os_error(error, f"resuming {run.id}") from None
        return run

    def _write_params(self, run: str, entry: dict[str, Any]) -> None:
        """What `restore` reads when registry.sqlite is gone."""
        folder = self.folder(run)
        try:
            folder.mkdir(parents=True)
            write_json(folder / "params.json", entry)
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise explain_os_error(error, f"making the folder of {run}") from None


def fingerprint_of(kind: str, params: dict[str, Any]) -> str:
    """The same for the same work, whatever the order of its parameters, and whatever it may cost."""
    work = {name: value for name, value in params.items() if name != "budget"}
    return hashlib.sha256(f"{kind}\n{_canonical(work)}".encode()).hexdigest()


def _canonical(params: dict[str, Any]) -> str:
    return json.dumps(params, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def _run(row: sqlite3.Row | dict[str, Any]) -> Run:
    values = dict(row)
    values["params"] = json.loads(values["params"])
    values["interrupted"] = bool(values["interrupted"])
    values["cancel_requested"] = bool(values["cancel_requested"])
    return Run(**values)


def _columns(run: Run) -> dict[str, Any]:
    return {**vars(run), "params": _canonical(run.params)}


def _entry(path: Path) -> dict[str, Any] | None:
    """A run's params.json, or None when it is not one."""
    try:
        entry = json.loads(path.read_text("utf8"))
        ok = isinstance(entry["params"], dict) and entry["lane"] in LANES and isinstance(entry["kind"], str)
        return cast(dict[str, Any], entry) if ok and isinstance(entry["created"], int | float) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _complete(folder: Path) -> bool:
    try:
        return json.loads((folder / "manifest.json").read_text("utf8"))["state"] == "complete"
    except (OSError, ValueError, KeyError, TypeError):
        return False
