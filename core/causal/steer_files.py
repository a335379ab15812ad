"""What steering writes: `stream.jsonl`, a line a step while it goes on, then `manifest.json`, which holds all of it. No torch.

The first line says what is written about and with what; a line that a kill cut short is dropped.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.store.steered import STREAM, first_difference, read_stream, tokens_of
from core.workspace import write_atomic, write_json

SCHEMA = 1


class Stream:
    """The growing file of one run. Lines are there for readers as soon as they are added."""

    def __init__(self, run_dir: Path, head: Mapping[str, Any]) -> None:
        """Goes on with what an earlier attempt left if that was about the same; `steps` is what it wrote."""
        self._path = run_dir / STREAM
        found = read_stream(run_dir) or _finished(run_dir)
        same = found is not None and _same(found[0], head)
        self.steps: list[dict[str, Any]] = found[1] if found is not None and same else []
        self.head = dict(head)
        write_atomic(self._path, "".join(map(_line, [self.head, *self.steps])).encode())

    def add(self, step: Mapping[str, Any]) -> None:
        self.steps.append(dict(step))
        with self._path.open("a", encoding="utf8") as file:
            file.write(_line(step))

    def complete(self) -> None:
        """Everything is written: the manifest takes the stream's place."""
        told = {**tokens_of(self.steps), "differ": first_difference(self.steps)}
        write_json(self._path.with_name("manifest.json"), {**self.head, "state": "complete", **told, "steps": self.steps})
        self._path.unlink(missing_ok=True)


def _finished(run_dir: Path) -> tuple[dict[str, Any], list[dict[str, Any]]] | None:
    """What the manifest holds of a run that ended without the registry hearing of it."""
    try:
        document: dict[str, Any] = json.loads((run_dir / "manifest.json").read_text("utf8"))
        return document, list(document["steps"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _same(found: Mapping[str, Any], head: Mapping[str, Any]) -> bool:
    """Whether an earlier attempt read the same tokens through the same weights with the same units."""
    keys = ("schema", "request", "tokens", "first", "units", "subject")
    told = [json.dumps([one.get(key) for key in keys], sort_keys=True) for one in (found, head)]
    return told[0] == told[1]


def _line(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n"
