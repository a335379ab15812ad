"""What came of loading a published dictionary: what its file says, what was found here, and what to doubt."""

import json
from collections.abc import Mapping
from typing import Any, cast

from core.bases.metric_names import BY_NAME
from core.runs.registry import Run
from core.ui import words
from core.ui.prose import facts, heading, quiet, sentence
from core.ui.server import Server

COMPARED = ("explained_variance", "l0", "dead", "mse")


def report(server: Server, run: Run) -> None:
    """The result of a loading run; nothing before it has one, since its line among the runs says how it goes."""
    try:
        found = json.loads((server.registry.folder(run.id) / "manifest.json").read_text("utf8"))
        document = cast(dict[str, Any], found) if isinstance(found, dict) else {}
    except FileNotFoundError:
        return
    except (OSError, ValueError):
        sentence(f"The results of {run.id} are damaged: load the dictionary again.")
        return
    heading("Loaded", str(document.get("dictionary") or ""))
    for text in _sentences(document, "warnings"):
        sentence(text)
    facts(compared(document))
    for text in _sentences(document, "notes"):
        quiet(text)


def compared(document: Mapping[str, Any]) -> dict[str, str]:
    """Measured here, and in brackets what the file says, where it says something."""
    metrics, said = document.get("metrics") or {}, document.get("said") or {}
    rows: dict[str, str] = {}
    for name in COMPARED:
        value, claimed = metrics.get(name), said.get(name)
        if isinstance(value, int | float):
            text = words.share(value) if BY_NAME[name].unit == "share" else words.number(value)
            rows[BY_NAME[name].label] = f"{text}{f' (its file says {words.number(float(claimed))})' if claimed is not None else ''}"
    return rows


def _sentences(document: Mapping[str, Any], name: str) -> list[str]:
    found = document.get(name)
    return [str(one) for one in found] if isinstance(found, list) else []
