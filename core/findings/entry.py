"""An entry: one word of a person, as versions that are never changed. What holds now is its newest versions, its tips."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict, get_args

from core.errors import AtlasError
from core.units import UnitName

Kind = Literal["note", "rating", "label", "explanation", "alike", "collection", "member"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""`member` is a unit's place in a collection; a `collection` belongs to no unit."""

SOMEONE = "someone"
"""How a person without a name is shown."""


class Row(TypedDict):
    """A version as plain values: what the table holds and what bundles carry.

    version: 32 hexadecimal digits over all the rest, so equal ids mean equal content. parents, and the ids in it, sorted, with a space
    between them. unit: a unit's name, empty for a collection. created: seconds since 1970. restores: the version whose content an undo
    wrote again, or empty. body: JSON with sorted keys.
    """

    version: str
    entry: str
    parents: str
    kind: str
    unit: str
    author: str
    created: float
    removed: int
    restores: str
    body: str


@dataclass(frozen=True)
class Version:
    """One state of an entry, as somebody saved it. `removed`: taken away by this version; `body` is then what was taken away."""

    id: str
    entry: str
    parents: tuple[str, ...]
    kind: Kind
    unit: UnitName | None
    author: str
    created: float
    removed: bool
    restores: str
    body: Mapping[str, Any]

    @property
    def text(self) -> str:
        """What a person reads: the words of a note or an explanation, a label, a rating, the other unit, a title."""
        return str(next((self.body[key] for key in ("text", "label", "rating", "unit", "title") if key in self.body), ""))

    @property
    def by(self) -> str:
        return self.author or SOMEONE


@dataclass(frozen=True)
class Entry:
    """What holds of an entry now. tips: versions that nothing was made from yet, the newest first: one, or more after a merge of two

    workspaces in which it was changed (a fork), until somebody saves over them."""

    id: str
    kind: Kind
    unit: UnitName | None
    tips: tuple[Version, ...]

    @property
    def current(self) -> Version:
        """The newest state that was not taken away; the newest of all when every one was."""
        return next((tip for tip in self.tips if not tip.removed), self.tips[0])

    @property
    def removed(self) -> bool:
        """Whether nothing is left of it: a fork in which only one side took it away is still there."""
        return self.current.removed

    @property
    def alternatives(self) -> tuple[Version, ...]:
        """The differing states that hold side by side: one, or the sides of a fork, the newest first."""
        different = {canonical(tip.body): tip for tip in reversed(self.tips) if not tip.removed}
        return tuple(sorted(different.values(), key=_age, reverse=True))

    @property
    def base(self) -> tuple[str, ...]:
        """What a change has to name as that which it was made from."""
        return tuple(tip.id for tip in self.tips)


class Conflict(AtlasError):
    """An entry was saved by somebody else meanwhile. entry: as it is now; mine: what was to be saved. Nothing was written."""

    def __init__(self, entry: Entry, mine: str) -> None:
        what = {"note": "note", "explanation": "explanation", "collection": "collection"}.get(entry.kind, "entry")
        super().__init__(f"{entry.tips[0].by} saved this {what} meanwhile: bring both texts together, then save again.")
        self.entry = entry
        self.mine = mine


def canonical(body: Mapping[str, Any]) -> str:
    """The one way in which a body is written."""
    return json.dumps(body, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def version_id(row: Mapping[str, Any]) -> str:
    """The id that follows from a row's content."""
    content = [row[name] for name in ("entry", "parents", "kind", "unit", "author", "created", "removed", "restores", "body")]
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("utf8")).hexdigest()[:32]


def derived_id(*parts: str) -> str:
    """The id of an entry of which there can be only one, such as a person's rating of a unit: the same in every workspace."""
    return hashlib.sha256(json.dumps(parts, ensure_ascii=False).encode("utf8")).hexdigest()[:32]


def to_version(row: Mapping[str, Any]) -> Version:
    """A checked row as a version."""
    unit = UnitName.parse(row["unit"]) if row["unit"] else None
    parents = tuple(row["parents"].split())
    body: dict[str, Any] = json.loads(row["body"])
    return Version(
        row["version"], row["entry"], parents, row["kind"], unit, row["author"], row["created"], bool(row["removed"]), row["restores"], body
    )  # fmt: skip


def to_entry(tips: Sequence[Version]) -> Entry:
    """The entry whose tips these are, in any order."""
    newest = tuple(sorted(tips, key=_age, reverse=True))
    return Entry(newest[0].entry, newest[0].kind, newest[0].unit, newest)


def _age(version: Version) -> tuple[float, str]:
    return version.created, version.id
