"""What a run of steering has written, while it is at work and afterwards. Tokens that differ are found by an alignment of both texts."""

import difflib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from core.errors import AtlasError
from core.store.catalog import broken_file
from core.units import check_slug
from core.workspace import Workspace

SIDES = ("original", "steered")
STREAM = "stream.jsonl"
"""What grows while the run writes: a line that says what it is about, then one a step. The manifest takes its place at the end."""
_SCHEMA = 1

Step = Mapping[str, Any]
"""What each side wrote, by its name; None for one that had ended."""


@dataclass(frozen=True)
class Chance:
    """A next token and its probability on each side; None for a side that had ended."""

    token: int
    original: float | None
    steered: float | None


@dataclass(frozen=True)
class SideText:
    """One side. log_p, top: of each token, the likeliest first. changed: the places whose tokens the other side has not, when aligned."""

    tokens: tuple[int, ...]
    log_p: tuple[float, ...]
    top: tuple[tuple[Chance, ...], ...]
    changed: frozenset[int]


@dataclass(frozen=True)
class Steered:
    """text: the tokens that both go on from, without a BOS. units: see docs/formats.md. differ: the first step at which they differ."""

    run: str
    complete: bool
    request: dict[str, Any]
    subject: dict[str, Any]
    units: list[dict[str, Any]]
    text: tuple[int, ...]
    original: SideText
    steered: SideText
    differ: int | None
    provenance: dict[str, Any]

    @property
    def steps(self) -> int:
        """How many steps were written."""
        return max(len(self.original.tokens), len(self.steered.tokens))

    def side(self, name: str) -> SideText:
        return self.original if name == "original" else self.steered


def load_steered(workspace: Workspace, run: str) -> Steered | None:
    """What run `run` has written so far; None before its first line. Raises AtlasError when it is damaged."""
    folder = workspace.runs / check_slug(run, "run")
    try:
        # The manifest takes the stream's place when all is written: between looking for one and the other it may have come.
        document = _manifest(folder) or _stream(folder) or _manifest(folder)
        return None if document is None else _read(run, document)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise AtlasError(broken_file(workspace, run, folder / "manifest.json", "is damaged")) from None


def changed(one: Sequence[int], other: Sequence[int]) -> tuple[frozenset[int], frozenset[int]]:
    """The places of each that have no counterpart in the other, by the longest matching blocks (difflib, Ratcliff and Obershelp)."""
    blocks = difflib.SequenceMatcher(None, one, other, autojunk=False).get_matching_blocks()
    same = [{block[side] + step for block in blocks for step in range(block.size)} for side in (0, 1)]
    return frozenset(range(len(one))) - same[0], frozenset(range(len(other))) - same[1]


def read_stream(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]] | None:
    """The first line of a run that is at work, or was, and its steps; None where there is no line yet.

    A line is whole when a line break follows it. Steps after a damaged one are left out: the run goes on before it.
    """
    try:
        lines = (folder / STREAM).read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return None
    found: list[dict[str, Any]] = []
    for line in lines:
        try:
            value = json.loads(line)
        except ValueError:
            break
        if not isinstance(value, dict):
            break
        found.append(cast(dict[str, Any], value))
    return (found[0], found[1:]) if found else None


def tokens_of(steps: Sequence[Step]) -> dict[str, list[int]]:
    """What each side wrote, by its name."""
    return {side: [int(step[side]["token"]) for step in steps if step[side] is not None] for side in SIDES}


def first_difference(steps: Sequence[Step]) -> int | None:
    """The first step at which the sides differ; None while they are the same."""
    pairs = enumerate(tuple(step[side]["token"] if step[side] else None for side in SIDES) for step in steps)
    return next((number for number, (one, other) in pairs if one != other), None)


def _manifest(folder: Path) -> dict[str, Any] | None:
    try:
        return json.loads((folder / "manifest.json").read_text("utf8"))
    except FileNotFoundError:
        return None


def _stream(folder: Path) -> dict[str, Any] | None:
    found = read_stream(folder)
    return None if found is None else {**found[0], "state": "partial", "steps": found[1]}


def _read(run: str, document: Mapping[str, Any]) -> Steered | None:
    if document["kind"] != "steer" or document["schema"] > _SCHEMA:
        raise ValueError("not a run of steering that this program knows")
    steps: list[Step] = document["steps"]
    tokens = tokens_of(steps)
    marked = dict(zip(SIDES, changed(tokens["original"], tokens["steered"]), strict=True))
    sides = {side: _side(side, steps, tokens[side], marked[side]) for side in SIDES}
    first = int(document["first"])
    return Steered(
        run=run,
        complete=document["state"] == "complete",
        request=dict(document["request"]),
        subject=dict(document["subject"]),
        units=list(document["units"]),
        text=tuple(int(token) for token in document["tokens"][first:]),
        original=sides["original"],
        steered=sides["steered"],
        differ=first_difference(steps),
        provenance=dict(document["provenance"]),
    )


def _side(side: str, steps: Sequence[Step], tokens: Sequence[int], marked: frozenset[int]) -> SideText:
    mine = [step[side] for step in steps if step[side] is not None]
    top = tuple(tuple(Chance(int(token), _probability(one), _probability(other)) for token, one, other in each["top"]) for each in mine)
    return SideText(tuple(tokens), tuple(float(each["log_p"]) for each in mine), top, marked)


def _probability(log_p: float | None) -> float | None:
    return None if log_p is None else math.exp(log_p)
