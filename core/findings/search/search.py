"""Search: what can be searched, kept up to date. One part on disk for what runs made, small ones in memory for what came since.

The part on disk lies in scratch/search/, named by what it was made from. It is derived: delete it, and it is made again.
"""

import hashlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import AtlasError, explain_os_error
from core.findings.entry import Entry
from core.findings.findings import Findings
from core.findings.search import sources as known
from core.findings.search.part import KINDS, LAYOUT, DamagedPart, Part, PartMaker, TextKind
from core.findings.search.question import Found, Question, Searched, find
from core.findings.search.sources import ExplainedSource, Source, TokenSource
from core.units import UnitName
from core.workspace import Workspace, whole_folder

FOLDER = "search"
AT_ONCE = 20_000
"""Documents that are read while somebody waits. When more came since, or are gone, the part on disk is made again."""
PAUSE = 10.0
"""After making it, so many times as long as that took nothing is made again: a run that goes on publishes every few seconds."""
_CHUNK = 16_384


@dataclass(frozen=True)
class Progress:
    """How many of how many documents have been read for the part that is being made, about."""

    done: int
    total: int


class Search:
    """Answers questions about one workspace, from many threads. background: large parts are made in a thread of their own, and until

    then the answer is from what there is; else making them is waited for."""

    def __init__(self, workspace: Workspace, *, background: bool = False, on_progress: Callable[[Progress], None] | None = None) -> None:
        self._workspace = workspace
        self._background = background
        self._on_progress = on_progress or (lambda _: None)
        self._lock = threading.Lock()
        self._signature: Any = None
        self._wanted: dict[str, Source] = {}
        self._base: Part | None = None
        self._alive: Any = None
        self._since: Part | None = None
        self._written: tuple[int, Part, frozenset[UnitName]] | None = None
        self._making: threading.Thread | None = None
        self._rest_until = 0.0
        self.progress: Progress | None = None
        """Of the part that is being made behind the pages; None while none is."""
        self.failed = ""
        """Why the part could not be made or kept, in a sentence."""

    def find(self, question: Question, *, limit: int = 25, offset: int = 0) -> Found:
        """A page of the texts that fit, the best first. Raises AtlasError for what cannot be asked."""
        question.check()
        parts, labelled = self._parts()
        return find(parts, question, labelled, limit, offset)

    def counts(self) -> dict[TextKind, int]:
        """How many texts of each kind are searched now. Raises AtlasError."""
        total = np.zeros(len(KINDS), np.int64)
        for each in self._parts()[0]:
            kinds = each.part.column("kind")
            total += np.bincount(kinds if each.alive is None else kinds[each.alive], minlength=len(KINDS))
        return dict(zip(KINDS, total.tolist(), strict=True))

    def choices(self) -> dict[str, list[str]]:
        """What the filters can be set to: subjects, site_kinds, bases, authors; each sorted. Raises AtlasError."""
        parts = [each.part for each in self._parts()[0]]
        places = {place for part in parts for place in part.places}
        return {
            "subjects": sorted({place.subject for place in places}),
            "site_kinds": sorted({place.site.kind for place in places}),
            "bases": sorted({place.basis for place in places}),
            "authors": sorted({author for part in parts for author in part.authors} - {""}),
        }

    def wait(self, seconds: float) -> bool:
        """Wait until nothing is being made, at most so long. Returns whether that is so."""
        making = self._making
        if making is not None:
            making.join(seconds)
        return making is None or not making.is_alive()

    def _parts(self) -> tuple[list[Searched], Collection[UnitName]]:
        with self._lock:
            self._follow_runs()
            _, written, labelled = self._follow_findings()
            found = [Searched(written)]
            if self._base is not None:
                found.append(Searched(self._base, self._alive))
            if self._since is not None:
                found.append(Searched(self._since))
            return found, labelled

    def _follow_findings(self) -> tuple[int, Part, frozenset[UnitName]]:
        findings = Findings(self._workspace)
        number = findings.number
        if self._written is None or self._written[0] != number:
            entries = findings.entries()
            maker = PartMaker()
            known.add_findings(maker, entries)
            self._written = (number, maker.finish(), _labelled(entries))
        return self._written

    def _follow_runs(self) -> None:
        """Take in what runs made since, at once if it is little."""
        if self._base is None and self._signature is None:
            self._base = _newest(self._folder) or self._borrowed()
        now = known.signature(self._workspace)
        resting = time.monotonic() < self._rest_until
        if now == self._signature and (resting or self._making is not None or not self._due()):
            return
        if now != self._signature:
            self._wanted = {source.name: source for source in known.run_sources(self._workspace)}
            self._signature = now
            self._compare()
        if self._due() and self._making is None and not resting:
            if self._background and self._size_of(self._wanted.values()) > AT_ONCE:
                self.progress = Progress(0, self._size_of(self._wanted.values()))
                self._making = threading.Thread(target=self._make_behind, args=(dict(self._wanted),), name="search", daemon=True)
                self._making.start()
            else:
                self._exchange(self._made(dict(self._wanted), self._on_progress))

    @property
    def _folder(self) -> Path:
        return self._workspace.scratch / FOLDER

    def _borrowed(self) -> Part | None:
        """Where the workspace is only read: what was made in it, which stays as it is."""
        return _newest(self._workspace.path / "scratch" / FOLDER, mend=False) if self._workspace.read_only else None

    def _size_of(self, found: Collection[Source]) -> int:
        return sum(source.about for source in found)

    def _behind(self) -> list[Source]:
        """What the part on disk lacks."""
        held = set() if self._base is None else set(self._base.sources)
        return [source for name, source in self._wanted.items() if name not in held]

    def _due(self) -> bool:
        """Whether the part on disk is to be made again."""
        if self._base is None:
            return bool(self._wanted)
        dead = 0 if self._alive is None else len(self._base) - int(self._alive.sum())
        late = self._size_of(self._behind()) + dead
        return late > (AT_ONCE if len(self._base) > AT_ONCE else 0)

    def _compare(self) -> None:
        """Leave out what is gone, and read what came since, if it is little."""
        self._since, self._alive = None, None
        if self._base is None:
            return
        new, gone = self._behind(), [name not in self._wanted for name in self._base.sources]
        if self._size_of(new) > AT_ONCE:
            # What a run has published anew is found as it was, until all is made again; what is gone with its run is not found.
            wanted, held = ({name.rpartition("/")[0] for name in names} for names in (self._wanted, self._base.sources))
            gone = [each and name.rpartition("/")[0] not in wanted for each, name in zip(gone, self._base.sources, strict=True)]
            new = _first([source for source in new if source.place not in held], AT_ONCE)
        if any(gone):
            self._alive = ~np.array(gone)[self._base.column("source")]
        if new:
            self._since = _read(self._workspace, new, lambda _: None, self._base.averages)

    def _made(self, wanted: dict[str, Source], told: Callable[[Progress], None]) -> Part:
        """The part of everything that runs made, on disk if the disk takes it. Raises AtlasError."""
        begin = time.monotonic()
        self.failed = ""
        made = _load(self._folder / _name(wanted))  # another process may have made it
        if made is not None:
            return made
        part = _read(self._workspace, list(wanted.values()), told)
        try:
            part = _keep(part, self._folder)
        except OSError as error:
            self.failed = str(explain_os_error(error, "keeping the search index"))
        except DamagedPart as error:
            self.failed = f"The search index could not be read back and stays in memory: {error}."
        self._rest_until = time.monotonic() + PAUSE * (time.monotonic() - begin)
        return part

    def _exchange(self, part: Part) -> None:
        self._base = part
        self._compare()

    def _make_behind(self, wanted: dict[str, Source]) -> None:
        def told(progress: Progress) -> None:
            self.progress = progress

        try:
            part = self._made(wanted, told)
            with self._lock:
                self._exchange(part)
        except Exception as error:  # noqa: BLE001 - a thread has nobody to raise to; the page says it
            self.failed = (
                str(error) if isinstance(error, AtlasError) else f"The search index could not be made: {type(error).__name__}: {error}."
            )
            self._rest_until = time.monotonic() + 60
        finally:
            self.progress = None
            self._making = None


def _labelled(entries: Sequence[Entry]) -> frozenset[UnitName]:
    return frozenset(entry.unit for entry in entries if entry.kind == "label" and entry.unit is not None)


def _read(
    workspace: Workspace, wanted: Sequence[Source], told: Callable[[Progress], None], averages: dict[str, float] | None = None
) -> Part:
    """A part of some sources, in memory."""
    total, done = sum(source.about for source in wanted), 0

    def more(number: int) -> None:
        nonlocal done
        done += number
        told(Progress(done, max(total, done)))

    maker = PartMaker(more)
    chunk: list[ExplainedSource] = []
    explained = [source for source in wanted if isinstance(source, ExplainedSource)]
    for place, source in enumerate(explained):
        chunk.append(source)
        if sum(one.about for one in chunk) >= _CHUNK or place == len(explained) - 1:
            known.add_explanations(maker, chunk)
            chunk = []
    known.add_tokens(maker, workspace, [source for source in wanted if isinstance(source, TokenSource)])
    return maker.finish(averages)


def _first(found: Sequence[Source], most: int) -> list[Source]:
    """The sources before that with which they have more than `most` documents."""
    return [source for source, size in zip(found, accumulate(source.about for source in found), strict=True) if size <= most]


def _name(sources: Iterable[str]) -> str:
    """The folder of the part of some sources."""
    return hashlib.sha256("\n".join([str(LAYOUT), *sources]).encode("utf8")).hexdigest()[:32]


def _keep(part: Part, folder: Path) -> Part:
    """Write a part, take it back memory-mapped, and remove those before it. Raises OSError and DamagedPart."""
    name = _name(part.sources)
    folder.mkdir(parents=True, exist_ok=True)
    with whole_folder(folder / name) as made:
        part.save(made)
    kept = Part.load(folder / name)
    for other in folder.iterdir():
        if other.name != name and not other.name.startswith(f".{name}") and not _being_made(other):
            shutil.rmtree(other, ignore_errors=True)
    return kept


def _being_made(folder: Path) -> bool:
    """Whether another process may be writing it: one that was left half done is removed an hour later."""
    with suppress(OSError):
        return folder.name.startswith(".") and time.time() - folder.stat().st_mtime < 3600
    return False


def _newest(folder: Path, *, mend: bool = True) -> Part | None:
    """The part that was made last and can be read."""
    with suppress(FileNotFoundError):
        for path in sorted(folder.iterdir(), key=os.path.getmtime, reverse=True):
            if not path.name.startswith(".") and (part := _load(path, mend=mend)) is not None:
                return part
    return None


def _load(path: Path, *, mend: bool = True) -> Part | None:
    """A part on disk; None where there is none. mend: a damaged one is removed."""
    if not path.is_dir():
        return None
    try:
        return Part.load(path)
    except DamagedPart:
        if mend:
            shutil.rmtree(path, ignore_errors=True)
        return None
