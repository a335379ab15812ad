"""How a run function tells what it does and hears that it should stop. No torch."""

import time
from collections import deque
from pathlib import Path
from typing import Protocol

from core.runs.registry import Registry

WRITE_SECONDS = 0.5
"""Progress is written at most this often; a cancel is heard within this time of the next report."""
RATE_SECONDS = 30.0


class Cancelled(Exception):
    """Somebody asked the run to stop: an order, not an error. Let it pass through."""


class Progress(Protocol):
    """What run functions are given. They call `update` at least once a second or so: it is also where a cancel is heard."""

    def update(self, done: int, total: int, message: str = "", unit: str = "contexts") -> None:
        """`done` of `total` units are finished. Raises Cancelled when the run should stop."""
        ...

    def stage(self, name: str) -> None:
        """What is being done now, in a few words: “loading the model”. Raises Cancelled."""
        ...

    def log(self, line: str) -> None:
        """Add a line to the run's log.txt."""
        ...


class RunProgress:
    """Progress into the registry and log.txt of one run. One thread at a time."""

    def __init__(self, registry: Registry, run: str) -> None:
        self._registry = registry
        self._run = run
        self._log: Path = registry.folder(run) / "log.txt"
        self._stage = ""
        self._message = ""
        self._unit = ""
        self._done = 0
        self._total = 0
        self._written = float("-inf")
        self._seen: deque[tuple[float, int]] = deque()

    def update(self, done: int, total: int, message: str = "", unit: str = "contexts") -> None:
        now = time.monotonic()
        if unit != self._unit or total != self._total or done < self._done:
            self._seen.clear()
        self._done, self._total, self._message, self._unit = int(done), int(total), message, unit
        if now - self._written >= WRITE_SECONDS or (done >= total and (not self._seen or self._seen[-1][1] < done)):
            self._seen.append((now, self._done))
            while len(self._seen) > 2 and now - self._seen[0][0] > RATE_SECONDS:
                self._seen.popleft()
            self._write(now)

    def stage(self, name: str) -> None:
        if name != self._stage:
            self._stage, self._message = name, ""
            self._seen.clear()
            self.log(name)
            self._write(time.monotonic())

    def log(self, line: str) -> None:
        with self._log.open("a", encoding="utf8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")

    @property
    def rate(self) -> float | None:
        """Units a second over the last half minute, or None when too little has been seen."""
        if len(self._seen) < 2 or self._seen[-1][0] <= self._seen[0][0]:
            return None
        return (self._seen[-1][1] - self._seen[0][1]) / (self._seen[-1][0] - self._seen[0][0])

    def _write(self, now: float) -> None:
        self._written = now
        if self._registry.update(
            self._run, done=self._done, total=self._total, unit=self._unit, stage=self._stage, message=self._message, rate=self.rate
        ):
            raise Cancelled
