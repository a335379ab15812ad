"""A part of what is searched: documents in columns and their ranking, in memory or memory-mapped from a folder. It never changes."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from core.errors import AtlasError
from core.findings.search.ranking import DamagedRanking, Ranking
from core.units import Site, UnitName
from core.workspace import write_json

TextKind = Literal["explanation", "tokens", "note", "own", "label", "collection"]
KINDS: tuple[TextKind, ...] = get_args(TextKind)
"""What a text is: an explanation that a run made, a unit's top tokens; a person's note, own explanation, label; a collection's title and

description."""

NOWHERE = -1
"""The place of a document that belongs to no unit."""
SCHEMA = pa.schema(
    [
        ("kind", pa.int8()),
        ("place", pa.int32()),
        ("unit", pa.int32()),
        ("author", pa.int32()),
        ("source", pa.int32()),
        ("length", pa.int32()),
        ("rho", pa.float32()),
        ("identity", pa.string()),
        ("text", pa.string()),
    ]
)
"""One row a document. kind: its number in KINDS. place, author, source: numbers in the part's lists. length: in words. rho: of an

explanation, the headline score, NaN where there is none. identity: of the explanation, the finding or the collection; empty for tokens."""

LAYOUT = 1
_ABOUT, _DOCUMENTS, _RANKING = "part.json", "documents.arrow", "ranking"

Array = npt.NDArray[Any]


class DamagedPart(Exception):
    """The files of a part cannot be read, or do not belong together."""


@dataclass(frozen=True)
class Place:
    """Where units are: a subject, a site, a basis."""

    subject: str
    site: Site
    basis: str

    @classmethod
    def parse(cls, text: str) -> "Place":
        """Read `subject/site/basis`. Raises AtlasError."""
        name = UnitName.parse(f"{text}/0")
        return cls(name.subject, name.site, name.basis)

    def __str__(self) -> str:
        return f"{self.subject}/{self.site}/{self.basis}"

    def unit(self, number: int) -> UnitName:
        return UnitName(self.subject, self.site, self.basis, number)


@dataclass(frozen=True)
class Part:
    """Documents (a table of SCHEMA) with the lists that their numbers mean, and their ranking.

    sources: what names the files that the documents came from. averages: the mean length of each kind's documents, in words.
    """

    documents: Any
    places: tuple[Place, ...]
    authors: tuple[str, ...]
    sources: tuple[str, ...]
    averages: dict[str, float]
    ranking: Ranking

    def __len__(self) -> int:
        return int(self.documents.num_rows)

    def column(self, name: str) -> Array:
        """A column of numbers, without copying it."""
        return self._columns[name]

    @cached_property
    def _columns(self) -> dict[str, Array]:
        numbers = [name for name in SCHEMA.names if name not in ("identity", "text")]
        return {name: self.documents.column(name).combine_chunks().to_numpy(zero_copy_only=False) for name in numbers}

    def text(self, document: int) -> str:
        return self.documents.column("text")[document].as_py()

    def identity(self, document: int) -> str:
        return self.documents.column("identity")[document].as_py()

    def unit(self, document: int) -> UnitName | None:
        place = int(self.column("place")[document])
        return None if place == NOWHERE else self.places[place].unit(int(self.column("unit")[document]))

    def save(self, folder: Path) -> None:
        """Write everything into an empty folder."""
        with pa.OSFile(str(folder / _DOCUMENTS), "wb") as file, pa.ipc.new_file(file, SCHEMA) as writer:
            writer.write_table(self.documents)
        self.ranking.save(folder / _RANKING)
        sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in sorted(folder.rglob("*")) if path.is_file()}
        about = {"layout": LAYOUT, "places": [str(place) for place in self.places], "authors": self.authors, "sources": self.sources}
        write_json(folder / _ABOUT, about | {"averages": self.averages, "sizes": sizes})

    @classmethod
    def load(cls, folder: Path) -> "Part":
        """What `save` wrote, memory-mapped. Raises DamagedPart."""
        try:
            about: dict[str, Any] = json.loads((folder / _ABOUT).read_text("utf8"))
            if about["layout"] != LAYOUT:
                raise ValueError("another layout")
            for name, size in about["sizes"].items():
                if (folder / name).stat().st_size != size:
                    raise ValueError(f"{name} has another size")
            documents: Any = pa.ipc.open_file(pa.memory_map(str(folder / _DOCUMENTS))).read_all()
            documents.validate(full=True)
            places = tuple(Place.parse(place) for place in about["places"])
            averages = {kind: float(average) for kind, average in about["averages"].items()}
            ranking = Ranking.load(folder / _RANKING)
            part = cls(documents, places, tuple(map(str, about["authors"])), tuple(map(str, about["sources"])), averages, ranking)
            part._check()
        except (OSError, ValueError, KeyError, TypeError, AttributeError, pa.ArrowException, AtlasError, DamagedRanking) as error:
            raise DamagedPart(f"{folder}: {error}") from None
        return part

    def _check(self) -> None:
        """Whatever a file holds, no question may fail on it. Raises ValueError."""
        if not self.documents.schema.equals(SCHEMA) or any(column.null_count for column in self.documents.columns):
            raise ValueError("other columns")
        limits = {"kind": len(KINDS), "place": len(self.places), "author": len(self.authors), "source": len(self.sources)}
        for name, limit in limits.items():
            values, least = self.column(name), NOWHERE if name == "place" else 0
            if len(values) and not least <= values.min() <= values.max() < limit:
                raise ValueError(f"{name} out of range")
        if len(self) != self.ranking.documents:
            raise ValueError("documents without a ranking")


class PartMaker:
    """Collects documents and their words, and makes a part of them. on_document: told how many more there are."""

    def __init__(self, on_documents: Callable[[int], None] = lambda _: None) -> None:
        self._words: dict[str, int] = {}
        self._held: list[Array] = []
        self._rows: list[Any] = []
        self._places: dict[str, int] = {}
        self._authors: dict[str, int] = {}
        self._sources: dict[str, int] = {}
        self._told = on_documents

    def word(self, word: str) -> int:
        """The number of a word while the part is being made."""
        return self._words.setdefault(word, len(self._words))

    def place(self, text: str) -> int:
        """The number of a place written `subject/site/basis`. Raises AtlasError."""
        if text not in self._places:
            Place.parse(text)
            self._places[text] = len(self._places)
        return self._places[text]

    def author(self, name: str) -> int:
        return self._authors.setdefault(name, len(self._authors))

    def source(self, name: str) -> int:
        return self._sources.setdefault(name, len(self._sources))

    def add(self, rows: dict[str, Any], held: Array, lengths: Array) -> None:
        """Add documents. rows: the columns of SCHEMA but for `length`. held: their words end to end, as numbers of `word`."""
        table: Any = pa.table(rows | {"length": lengths.astype(np.int32)}).select(SCHEMA.names).cast(SCHEMA)
        self._rows.append(table)
        self._held.append(np.asarray(held, np.int32))
        self._told(table.num_rows)

    def finish(self, averages: dict[str, float] | None = None) -> Part:
        """The part. averages: mean lengths to use for the kinds that they name; other kinds get those of this part."""
        documents: Any = pa.concat_tables([*self._rows, SCHEMA.empty_table()]).combine_chunks()
        kinds, lengths = (documents.column(name).to_numpy() for name in ("kind", "length"))
        sums, counts = np.bincount(kinds, weights=lengths, minlength=len(KINDS)), np.bincount(kinds, minlength=len(KINDS))
        mean = {kind: float(sums[place] / counts[place]) for place, kind in enumerate(KINDS) if counts[place]} | (averages or {})
        order = sorted(self._words)
        places = np.empty(len(order), np.int32)
        places[[self._words[word] for word in order]] = np.arange(len(order), dtype=np.int32)
        held = places[np.concatenate([*self._held, np.empty(0, np.int32)])]
        like = np.array([mean.get(kind, 1.0) for kind in KINDS])[kinds]
        return Part(
            documents, tuple(map(Place.parse, self._places)), tuple(self._authors), tuple(self._sources), mean,
            Ranking.build(order, held, lengths, like),
        )  # fmt: skip


def columns(
    kind: TextKind, *, place: Any, unit: Any, author: Any, source: int, identity: Sequence[str] | Any, text: Any, rho: Any = np.nan
) -> dict[str, Any]:
    """Rows of one kind from one source for `PartMaker.add`; a single value stands for all rows."""
    size = len(text)

    def whole(value: Any, dtype: npt.DTypeLike) -> Array:
        return np.broadcast_to(np.asarray(value, dtype), (size,))

    return {
        "kind": whole(KINDS.index(kind), np.int8),
        "place": whole(place, np.int32),
        "unit": whole(unit, np.int32),
        "author": whole(author, np.int32),
        "source": whole(source, np.int32),
        "rho": pa.array(whole(rho, np.float32)),
        "identity": identity,
        "text": text,
    }
