"""What steering writes: `stream.jsonl`, a line a step while it goes on, then `manifest.json`, which holds all of it. No torch.

The first line says what is written about and with what; a line that a kill cut short is dropped.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from core.workspace import write_json

SCHEMA = 1
STREAM = "stream.jsonl"
SIDES = ("original", "steered")


class Stream:
    """The growing file of one run. Lines are there for readers as soon as they are added."""

    def __init__(self, run_dir: Path, head: Mapping[str, Any]) -> None:
        """Goes on with what an earlier attempt left if that was about the same; `steps` is what it wrote."""
        self._path = run_dir / STREAM
        found = read_stream(run_dir)
        same = found is not None and _same(found[0], head)
        self.steps: list[dict[str, Any]] = found[1] if found is not None and same else []
        self.head = dict(head)
        lines = [self.head, *self.steps]
        temporary = self._path.with_name(f".{STREAM}.{os.getpid()}.tmp")
        temporary.write_text("".join(map(_line, lines)), "utf8")
        temporary.replace(self._path)

    def add(self, step: Mapping[str, Any]) -> None:
        self.steps.append(dict(step))
        with self._path.open("a", encoding="utf8") as file:
            file.write(_line(step))

    def complete(self) -> None:
        """Everything is written: the manifest takes the stream's place."""
        write_json(self._path.with_name("manifest.json"), {**self.head, "state": "complete", **summary(self.steps), "steps": self.steps})
        self._path.unlink(missing_ok=True)


def read_stream(run_dir: Path) -> tuple[dict[str, Any], list[dict[str, Any]]] | None:
    """The first line and the steps of a run that is at work, or was; None where there is none. Lines after a damaged one are left out."""
    try:
        lines = (run_dir / STREAM).read_text("utf8").split("\n")[:-1]  # what follows the last line break is not whole yet
    except (FileNotFoundError, UnicodeDecodeError):
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
    return (found[0], found[1:]) if found and found[0].get("schema") == SCHEMA else None


def summary(steps: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The tokens of both sides, and the first step at which they differ (null while they are the same)."""
    tokens = {side: [step[side]["token"] for step in steps if step[side] is not None] for side in SIDES}
    pairs = enumerate(tuple(step[side]["token"] if step[side] else None for side in SIDES) for step in steps)
    return {**tokens, "differ": next((number for number, (one, other) in pairs if one != other), None)}


def _same(found: Mapping[str, Any], head: Mapping[str, Any]) -> bool:
    """Whether an earlier attempt read the same tokens through the same weights with the same units."""
    told = [
        json.dumps([one.get(key) for key in ("request", "tokens", "first", "units", "subject")], sort_keys=True) for one in (found, head)
    ]
    return told[0] == told[1]


def _line(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n"
