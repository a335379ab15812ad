"""The results of a run of puzzles, read from its manifest."""

import json
import math
from dataclasses import dataclass
from typing import Any

from core.errors import AtlasError
from core.store.catalog import broken_file
from core.units import check_slug
from core.workspace import Workspace


@dataclass(frozen=True)
class PuzzleVerdict:
    """An explanation of a puzzle and its score; NaN where undefined, and then `reason` says why."""

    text: str
    rho: float
    low: float
    high: float
    coverage: float
    reason: str


@dataclass(frozen=True)
class PuzzleLine:
    """One puzzle. true: None when the explainer gave nothing. margin: of the true explanation over the best false one."""

    puzzle: str
    passed: bool
    margin: float
    reason: str
    true: PuzzleVerdict | None
    false: tuple[PuzzleVerdict, ...]
    given: PuzzleVerdict | None


@dataclass(frozen=True)
class PuzzleResults:
    """total: puzzles that were asked for. lines: those that are finished, in their order."""

    run: str
    total: int
    lines: tuple[PuzzleLine, ...]
    spend: dict[str, Any]

    @property
    def passed(self) -> int:
        return sum(line.passed for line in self.lines)


def load_puzzle_results(workspace: Workspace, run: str) -> PuzzleResults | None:
    """What a run of puzzles has published; None before the first puzzle is done. Raises AtlasError when it is damaged."""
    path = workspace.runs / check_slug(run, "run") / "manifest.json"
    try:
        document: dict[str, Any] = json.loads(path.read_text("utf8"))
        lines = tuple(_line(one) for one in document["results"])
        return PuzzleResults(run, int(document["puzzles"]), lines, dict(document.get("spend") or {}))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        raise AtlasError(broken_file(workspace, run, path, "is damaged")) from None


def _line(one: dict[str, Any]) -> PuzzleLine:
    false = tuple(_known(verdict) for verdict in one["false"])
    return PuzzleLine(
        str(one["puzzle"]),
        bool(one["passed"]),
        _number(one["margin"]),
        str(one["reason"]),
        _verdict(one["true"]),
        false,
        _verdict(one["given"]),
    )


def _verdict(one: dict[str, Any] | None) -> PuzzleVerdict | None:
    return None if one is None else _known(one)


def _known(one: dict[str, Any]) -> PuzzleVerdict:
    rho, low, high, coverage = (_number(one[name]) for name in ("rho", "low", "high", "coverage"))
    return PuzzleVerdict(str(one["text"]), rho, low, high, coverage, str(one["reason"]))


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
