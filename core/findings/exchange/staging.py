"""Staging of another program's files: read, made into runs of our own, checked and proved as a bundle's, in a process of its own."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import AtlasError, shown
from core.findings.bundle.archive import Refused
from core.findings.bundle.checks import check, check_subject
from core.findings.bundle.proving import prove
from core.findings.bundle.staging import Staged, answer, apart, put_subject, staged_runs
from core.findings.exchange.foreign import Gathering
from core.findings.exchange.making import Origin, made
from core.findings.exchange.read_neuronpedia import Neuronpedia
from core.findings.exchange.read_openai import OpenAI
from core.findings.exchange.sources import Budget, Piece, documents, pieces
from core.workspace import Workspace

_READERS = (OpenAI, Neuronpedia)
_Reader = OpenAI | Neuronpedia


@dataclass(frozen=True)
class Wishes:
    """What a person says beside the file. model: what it is called, where the file does not say. units: which numbers, "" for all."""

    model: str = ""
    units: str = ""


NONE = Wishes()


def stage_foreign(path: Path, scratch: Path, wishes: Wishes = NONE) -> Staged:
    """Do it in this process. scratch: an empty folder. Raises Refused and AtlasError."""
    gathering = Gathering(_chosen(wishes.units))
    reader, passed = _read(path, gathering)
    if reader is None:
        known = "a bundle of Neuron Atlas, OpenAI's neuron records, or files of Neuronpedia or SAEDashboard"
        raise Refused(f"{shown(path.name)} is nothing that is taken in: give {known}.")
    reader.finish()
    model = wishes.model or reader.model or path.name.partition(".")[0]
    origin = Origin(reader.word, reader.title, model, getattr(reader, "bands", {}))
    found = made(gathering, origin)
    workspace = Workspace.open(scratch / "workspace")
    check_subject(found.card)
    put_subject(workspace, found.card, found.vocabulary)
    for run in found.runs:
        check(run)
        run.write(workspace.runs / run.run)
    prove(workspace, found.runs)
    remarks = [f"{count:,} × {said}" if count > 1 else said for said, count in sorted(gathering.left_out.items())]
    if passed:
        remarks.append(f"{passed:,} files that are of another kind")
    return Staged(workspace, f"{reader.title} of {shown(model)}", tuple(map(str, found.units)), staged_runs(found.runs), (), tuple(remarks))


def stage_foreign_apart(path: Path, scratch: Path, wishes: Wishes = NONE) -> Staged:
    """The same in a process of its own. Raises Refused and AtlasError."""
    return apart("core.findings.exchange.staging", path, scratch, wishes.model, wishes.units)


def _read(path: Path, gathering: Gathering) -> tuple[_Reader | None, int]:
    """The reader that took the files in, and how many files it passed over."""
    reader: _Reader | None = None
    passed = 0
    budget = Budget()
    with pieces(path) as found:
        for piece in found:
            took, before = False, budget.left
            for document in documents(piece, budget):
                kind = next((kind for kind in _READERS if kind.knows(document)), None)
                if kind is None:
                    break
                if reader is None:
                    reader = kind(gathering)
                if not isinstance(reader, kind):
                    raise Refused("The files are of several programs: import those of one at a time.")
                _take(reader, document, piece)
                took = True
            passed += not took and budget.left != before  # an empty file is none of another kind
    return reader, passed


def _take(reader: _Reader, document: dict[str, Any], piece: Piece) -> None:
    try:
        reader.take(document, piece.name)
    except Refused as error:
        raise Refused(f"“{shown(piece.name)}” cannot be taken in: {_small(str(error))}") from None
    except (KeyError, TypeError, AttributeError, ValueError, IndexError, OverflowError, AtlasError):
        raise Refused(f"“{shown(piece.name)}” cannot be taken in: it is not as {reader.title} are.") from None


def _small(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


def _chosen(text: str) -> range | None:
    """`0-99` or `7` as numbers. Raises AtlasError."""
    if not text:
        return None
    first, _, last = text.partition("-")
    if not all(part.isascii() and part.isdigit() and len(part) < 10 for part in (first, last or first)):
        raise AtlasError(f"“{shown(text)}” is not a choice of units: write a number, or two with a dash between, such as 0-999.")
    return range(int(first), int(last or first) + 1)


def _main(path: str, scratch: str, model: str, units: str) -> dict[str, Any]:
    return answer(lambda: stage_foreign(Path(path), Path(scratch), Wishes(model, units)))


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_main(*sys.argv[1:])))
