"""What may be written: sizes, characters and types of every field, the same for pages, commands and bundles from elsewhere."""

import json
import math
import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any, cast

from core.errors import AtlasError, shown
from core.findings.entry import KINDS, Row, canonical, version_id
from core.units import UnitName

LONGEST = {"note": 20_000, "explanation": 2_000, "label": 60, "title": 200, "description": 5_000, "name": 80}
"""Characters."""
LOWEST, HIGHEST = 1, 5
LATEST = 7_258_118_400.0
"""No clock is right that shows the year 2200."""
MOST_PARENTS = 64

_ID = re.compile(r"[0-9a-f]{32}")
_TURNS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that turn the direction of the text after them: in one line they could make it read as another."""
_COLUMNS: dict[str, type] = {
    "version": str, "entry": str, "parents": str, "kind": str, "unit": str, "author": str, "removed": int, "restores": str, "body": str,
}  # fmt: skip


def prose(text: str, what: str) -> str:
    """Several lines: a note, an explanation, a description. Line ends become `\\n`, blank ends go. Raises AtlasError."""
    clean = text.replace("\r\n", "\n").replace("\r", "\n").strip()
    return _checked(clean, what, lines=True)


def line(text: str, what: str) -> str:
    """One line: a label, a title, a name. Raises AtlasError."""
    return _checked(" ".join(text.split()), what, lines=False)


def needed(text: str, what: str) -> str:
    """The same text unless it is empty. Raises AtlasError."""
    if not text:
        raise AtlasError(f"The {what} is empty: write something first.")
    return text


def rating(value: int) -> int:
    """Raises AtlasError for anything but 1 to 5."""
    if type(value) is not int or not LOWEST <= value <= HIGHEST:
        raise AtlasError(f"{shown(str(value))} is not a rating: choose {LOWEST} to {HIGHEST}.")
    return value


def row(given: Mapping[str, object]) -> Row:
    """A version that came from elsewhere, whole and as this program would have written it. Raises AtlasError saying what is wrong."""
    for name, kind in _COLUMNS.items():
        if type(given.get(name)) is not kind:
            raise AtlasError(f"A finding's “{name}” is missing or of the wrong type.")
    created = given.get("created")
    if type(created) is not float or not math.isfinite(created) or not 0 < created < LATEST:
        raise AtlasError("A finding's time is not one: seconds since 1970 are expected.")
    found = cast(Row, {name: given[name] for name in (*_COLUMNS, "created")})
    parents = found["parents"].split(" ") if found["parents"] else []
    ids = [found["version"], found["entry"], *parents, *filter(None, [found["restores"]])]
    if not all(_ID.fullmatch(one) for one in ids) or parents != sorted(set(parents)) or len(parents) > MOST_PARENTS:
        raise AtlasError("A finding's ids are not as this program writes them.")
    if found["removed"] not in (0, 1):
        raise AtlasError("A finding is neither there nor removed.")
    if found["author"] != line(found["author"], "name"):
        raise AtlasError("A finding's author is not written as this program writes names.")
    _body(found)
    if found["version"] != version_id(found):
        raise AtlasError("A finding is not what its id says: it was changed or damaged on its way.")
    return found


def _body(found: Row) -> None:
    if found["kind"] not in KINDS:
        raise AtlasError(f"“{shown(found['kind'])}” is not a kind of finding that this program knows: update it.")
    if found["kind"] == "collection":
        if found["unit"]:
            raise AtlasError("A collection belongs to no unit.")
    elif str(UnitName.parse(found["unit"])) != found["unit"]:
        raise AtlasError(f"“{shown(found['unit'])}” is not written as this program writes units.")
    try:
        body: Any = json.loads(found["body"])
        same = isinstance(body, dict) and canonical(cast(dict[str, Any], body)) == found["body"]
    except (ValueError, RecursionError):
        same, body = False, None
    if not same or set(body) != set(_FIELDS[found["kind"]]):
        raise AtlasError(f"The content of a {found['kind']} is not as this program writes it.")
    for name, fits in _FIELDS[found["kind"]].items():
        if not fits(body[name]):
            raise AtlasError(f"The “{name}” of a {found['kind']} is not as this program writes it.")


def _checked(text: str, what: str, *, lines: bool) -> str:
    if len(text) > LONGEST[what]:
        raise AtlasError(f"The {what} has {len(text):,} characters: at most {LONGEST[what]:,} are kept.")
    for character in text:
        if character in "\n\t" and lines:
            continue
        if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or (character in _TURNS and not lines):
            raise AtlasError(f"The {what} has a character that cannot be shown (U+{ord(character):04X}): take it out.")
    return text


def _text(what: str, *, empty: bool = False) -> Callable[[object], bool]:
    """Whether a value is a text that `prose` or `line` would have left as it is."""
    clean = prose if what in ("note", "explanation", "description") else line

    def fits(value: object) -> bool:
        return isinstance(value, str) and (empty or bool(value)) and clean(value, what) == value

    return fits


def _unit(value: object) -> bool:
    return isinstance(value, str) and str(UnitName.parse(value)) == value


def _id(value: object) -> bool:
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def _place(value: object) -> bool:
    return type(value) is float and math.isfinite(value)


_FIELDS: dict[str, dict[str, Callable[[object], bool]]] = {
    "note": {"text": _text("note")},
    "explanation": {"text": _text("explanation")},
    "rating": {"rating": lambda value: type(value) is int and LOWEST <= value <= HIGHEST},
    "label": {"label": _text("label")},
    "alike": {"unit": _unit},
    "collection": {"title": _text("title"), "description": _text("description", empty=True)},
    "member": {"collection": _id, "place": _place},
}
"""Kind -> key of its body -> whether a value may stand there."""
