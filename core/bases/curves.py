"""The live curves of a training run: `curves.jsonl` in its folder, one line for each dictionary and point. No torch.

Keys of a line: `name` (the dictionary), `alpha` (None for TopK), `tokens` and `step` so far, and, as means since the line before: `loss`
(in the run's own convention), `mse` (‖x − x̂‖² / d), `l1`, `l0`, `explained_variance`; then `dead` (share of units without activity in
the last `dead_tokens` tokens), `rate` (of learning). Errors and codes are of the activations as prepared (centred, scaled).
`loss_recovered` is on lines where it was looked at, over a few held-out contexts, and None elsewhere; where it was looked at and there is
none, `undefined` has the reason, by the same name.
"""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

FILE = "curves.jsonl"


def load_curves(run_dir: Path) -> list[dict[str, Any]]:
    """The lines so far, in order; none for a run that has not begun. A last line that is being written is left out."""
    try:
        content = (run_dir / FILE).read_bytes()
    except FileNotFoundError:
        return []
    found: list[dict[str, Any]] = []
    for line in content[: content.rfind(b"\n") + 1].splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            continue  # what a power cut left
        if isinstance(value, dict):
            found.append(value)
    return found


class CurveWriter:
    """Adds lines to a run's curves. `size` is part of a checkpoint: what was added after it is cut off when the run goes on from there."""

    def __init__(self, run_dir: Path, size: int = 0) -> None:
        self._path = run_dir / FILE
        self._path.touch()
        self.size = min(size, self._path.stat().st_size)
        os.truncate(self._path, self.size)

    def add(self, lines: Iterable[Mapping[str, Any]]) -> None:
        content = "".join(json.dumps(line, sort_keys=True) + "\n" for line in lines).encode()
        with self._path.open("ab") as file:
            file.write(content)
        self.size += len(content)
