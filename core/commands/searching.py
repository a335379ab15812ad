"""The command `search`: the same answers as the page, also while the dashboard is open."""

import argparse
from dataclasses import asdict
from typing import Any

from core.commands.output import emit, note, number, printable, table
from core.errors import AtlasError
from core.findings.search.question import Hit, Question, read_kinds
from core.findings.search.search import AT_ONCE, Progress, Search
from core.findings.search.words import Asked, excerpt
from core.ui import words
from core.ui.explore_filters import parse_layers
from core.workspace import Workspace

MOST = 10_000
SHOWN_CHARACTERS = 100
_LAYERS = 10_000


def search(arguments: argparse.Namespace, workspace: Workspace) -> int:
    """Print what fits best."""
    if not 1 <= arguments.limit <= MOST:
        raise AtlasError(f"The number of results must be from 1 to {MOST:,}.")
    told: list[int] = []

    def progress(progress: Progress) -> None:
        if not told and progress.total > AT_ONCE:
            told.append(progress.total)
            note(f"reading {words.count(progress.total, 'text')} once; the next search is quick…")

    index = Search(workspace, on_progress=progress)
    found = index.find(question(arguments), limit=arguments.limit)
    if index.failed:
        note(index.failed)
    rows = [["SCORE", "KIND", "UNIT", "RHO", "AUTHOR", "TEXT"], *(_line(hit, found.asked) for hit in found.hits)]
    emit(
        arguments,
        {"query": " ".join(arguments.words), "total": found.total, "hits": list(map(as_document, found.hits))},
        table(rows, (0, 3)),
    )
    if found.total > len(found.hits):
        note(f"{len(found.hits):,} of {found.total:,}; --limit prints more")
    elif not found.hits:
        note("nothing fits")
    return 0


def question(arguments: argparse.Namespace) -> Question:
    """What was asked for. Raises AtlasError."""
    return Question(
        " ".join(arguments.words), read_kinds(arguments.kind or ()), arguments.model or "", arguments.site or "",
        parse_layers(arguments.layers or "", _LAYERS), arguments.basis or "", arguments.labelled, arguments.least, arguments.by or "",
    )  # fmt: skip


def as_document(hit: Hit) -> dict[str, Any]:
    """A hit as `--json` prints it. id: of the explanation, the finding or the collection; null for tokens."""
    document = asdict(hit)
    del document["identity"]
    return {**document, "unit": None if hit.unit is None else str(hit.unit), "author": hit.author or None, "id": hit.identity or None}


def _line(hit: Hit, asked: Asked) -> list[str]:
    unit = "–" if hit.unit is None else str(hit.unit)
    text = printable(excerpt(hit.text, asked, SHOWN_CHARACTERS))
    return [f"{hit.score:.2f}", hit.kind, unit, number(hit.rho), printable(hit.author), text]
