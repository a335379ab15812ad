"""How commands print: one JSON document, or lines for people."""

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from core.runs.frames import finite
from core.ui import words


def emit(arguments: argparse.Namespace, document: Any, lines: Iterable[str]) -> None:
    """Print the document with `--json` (NaN and infinities as null), else the lines."""
    if arguments.json:
        sys.stdout.write(json.dumps(finite(document), ensure_ascii=False, allow_nan=False) + "\n")
    else:
        sys.stdout.writelines(f"{line}\n" for line in lines)


def note(text: str) -> None:
    """A remark beside the result, on standard error."""
    sys.stderr.write(f"{text}\n")


def table(rows: Sequence[Sequence[str]], numbers: Sequence[int] = ()) -> list[str]:
    """Aligned lines, two spaces between columns. The columns in `numbers` are aligned to the right."""
    if not rows:
        return []
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell.rjust(widths[i]) if i in numbers else cell.ljust(widths[i]) for i, cell in enumerate(row)).rstrip() for row in rows
    ]


def printable(text: str) -> str:
    """On one line, with nothing in it that a terminal would obey: control and direction marks are shown by their number."""
    marks = {"\n": "↵", "\t": "⇥", "\r": "␍"}
    return "".join(marks.get(c) or (c if c.isprintable() else f"⟨U+{ord(c):04X}⟩") for c in text)


def number(value: float | None, digits: int = 3) -> str:
    """A number for a table; `–` where it is undefined."""
    if value is None or value != value:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:.{digits}f}"


def duration(seconds: float | None) -> str:
    """As pages say it: `45 s`, `3 min 20 s`, `3 h 20 min`; `–` where it is unknown."""
    return "–" if seconds is None else words.duration(seconds)
