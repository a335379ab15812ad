"""One person's way through a review queue: what keys and buttons did, in order and exactly once, and where it leads. No Streamlit.

The browser goes on by itself and tells what was done, each act with a number, the unit that it was done on and the unit that is shown now.
Until it has heard that an act arrived it tells it again, so an act may be heard twice and is done once.
"""

import secrets
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from core.errors import AtlasError, shown
from core.findings.entry import Entry
from core.findings.findings import Findings
from core.findings.review import LAST, Queue, pace
from core.units import UnitName

KINDS = ("rate", "note", "label", "skip", "undo", "show", "next", "previous", "random")
MOST_ACTS = 1000
_KEPT = 500
"""So many things can be taken back."""


@dataclass(frozen=True)
class Act:
    """One press. unit: on what; value: the rating, note or label; to: the unit shown since, empty where the browser waits to be told."""

    number: int
    kind: str
    unit: str
    value: str = ""
    to: str = ""


@dataclass(frozen=True)
class Done:
    """What can be taken back. entry: empty where nothing was written. base: the entry as the act left it."""

    unit: str
    entry: str = ""
    base: tuple[str, ...] = ()


def read_acts(told: Mapping[str, Any]) -> tuple[str, list[Act]]:
    """What the browser tells: which mount of the page it is, and its acts in order. Raises AtlasError when it is nothing of ours."""
    mount, given = told.get("mount"), told.get("acts")
    if (
        not isinstance(mount, str)
        or len(mount) > 100
        or not isinstance(given, (list, tuple))
        or len(cast(Sequence[Any], given)) > MOST_ACTS
    ):
        raise _foreign()
    return mount, [_read(one) for one in cast(Sequence[Any], given)]


@dataclass
class Pass:
    """One visit's pass through a queue. at: the unit that is shown; passed: units that were passed over, and come again at the end."""

    key: str
    at: str = ""
    passed: dict[str, None] = field(default_factory=dict[str, None])
    trouble: str = ""
    """Why something could not be done; empty again with the next acts."""
    mount: str = ""
    heard: int = 0
    """The number of the last act that was heard from this mount."""
    _done: list[Done] = field(default_factory=list[Done])
    _times: deque[float] = field(default_factory=lambda: deque[float](maxlen=LAST))
    _chance: str = ""

    def settle(self, queue: Queue, judged: Collection[str]) -> None:
        """Be at a unit of the queue, the first not yet done where nothing else is known."""
        if self.at not in queue.places:
            self.at = next(iter(queue.following("", judged, 1)), "")

    def hear(self, mount: str, acts: Sequence[Act], findings: Findings, queue: Queue, judged: Callable[[], Collection[str]]) -> None:
        """Do what is new among these acts. What cannot be done becomes `trouble`; the acts after it are done."""
        if mount != self.mount:
            self.mount, self.heard = mount, 0
        new = [act for act in acts if act.number > self.heard]
        if new:
            self.trouble = ""
        for act in new:
            try:
                undone = self._do(act, findings)
            except AtlasError as error:
                self.trouble, undone = str(error), ""
            self._move(act, undone, queue, judged)
            self.heard = act.number

    def ahead(self, queue: Queue, judged: Collection[str], n: int) -> list[str]:
        """The units that come next, those that were passed over only when no other is left."""
        return queue.following(self.at, {*judged, *self.passed}, n) or queue.following(self.at, judged, n)

    def chance(self, queue: Queue, judged: Collection[str]) -> str:
        """An interesting unit by chance, the same until it is shown or done."""
        gone = {*judged, *self.passed, self.at}
        if not self._chance or self._chance in gone or self._chance not in queue.places:
            self._chance = queue.chance(gone, np.random.default_rng(secrets.randbits(63)))
        return self._chance

    @property
    def pace(self) -> float | None:
        """Judgements an hour in this visit."""
        return pace(self._times)

    def _do(self, act: Act, findings: Findings) -> str:
        """Write what an act says. Returns the unit that an undo leads back to."""
        if act.kind == "undo":
            return self._undo(act, findings)
        if act.kind == "skip":
            self.passed[act.unit] = None
            self._remember(Done(act.unit))
        elif act.kind in ("rate", "note", "label"):
            unit = UnitName.parse(act.unit)
            before = {entry.id: entry.base for entry in findings.entries(unit=unit)}
            entry = _write(act, unit, findings)
            written = entry is not None and before.get(entry.id) != entry.base
            self._remember(Done(act.unit, entry.id, entry.base) if entry is not None and written else Done(act.unit))
            if act.kind != "note":
                self._times.append(time.time())
                self.passed.pop(act.unit, None)
            elif act.to != act.unit:
                self.passed[act.unit] = None
        return ""

    def _undo(self, act: Act, findings: Findings) -> str:
        if not self._done:
            raise AtlasError("There is nothing to take back in this visit: every unit's page has the history of what was written on it.")
        if act.unit and self._done[-1].unit != act.unit:
            raise AtlasError(f"Nothing was taken back: what was last done on {shown(act.unit)} had not been kept.")
        last = self._done.pop()
        self.passed.pop(last.unit, None)
        if last.entry:
            findings.undo(last.entry, base=last.base)
        return last.unit

    def _move(self, act: Act, undone: str, queue: Queue, judged: Callable[[], Collection[str]]) -> None:
        if act.to or act.kind == "undo":
            to = act.to or undone
            self.at = to if to in queue.places else self.at
        elif act.kind in ("next", "previous"):
            self.at = queue.step(self.at, 1 if act.kind == "next" else -1)
        elif act.kind == "random":
            self.at = self.chance(queue, judged()) or self.at
        else:
            self._go_on(act.unit, queue, judged())

    def _go_on(self, unit: str, queue: Queue, judged: Collection[str]) -> None:
        """To the next unit that is not done; at last to none."""
        self.at = unit if unit in queue.places else self.at
        ahead = self.ahead(queue, judged, 1)
        self.at = ahead[0] if ahead else self.at if self.at and self.at not in judged else ""

    def _remember(self, done: Done) -> None:
        self._done.append(done)
        del self._done[:-_KEPT]


def _write(act: Act, unit: UnitName, findings: Findings) -> Entry | None:
    if act.kind == "rate":
        return findings.rate(unit, int(act.value) if act.value in set("12345") else 0)
    if act.kind == "label":
        return findings.label(unit, act.value)
    text, author = act.value.strip(), findings.author
    same = (entry for entry in findings.notes(unit) if entry.current.text == text and entry.current.author == author)
    return next(same, None) or findings.save_note(unit, text)  # heard again in another session, a note is not written twice


def _read(given: Any) -> Act:
    if not isinstance(given, Mapping):
        raise _foreign()
    one = cast(Mapping[str, Any], given)
    number, kind = one.get("number"), one.get("kind")
    texts = [one.get(name, "") for name in ("unit", "value", "to")]
    if isinstance(number, float) and number.is_integer():  # JavaScript knows no other numbers
        number = int(number)
    if type(number) is not int or number < 1 or kind not in KINDS or not all(isinstance(text, str) for text in texts):
        raise _foreign()
    return Act(number, str(kind), *texts)


def _foreign() -> AtlasError:
    return AtlasError("What the page told was not understood: reload it.")
