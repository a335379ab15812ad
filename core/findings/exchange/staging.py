"""Staging of another program's files: read, made into runs of our own, checked and proved as a bundle's, in a process of its own."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import AtlasError, shown
from core.findings.bundle.archive import Refused
from core.findings.bundle.checks import check, check_subject
from core.findings.bundle.proving import prove
from core.findings.bundle.staging import Staged, answer, apart, put_subject, staged_runs
from core.findings.exchange.describing import Made, Origin
from core.findings.exchange.foreign import Gathering
from core.findings.exchange.making import made
from core.findings.exchange.read_delphi import TITLE, is_cache, load_tokenizer, read_delphi
from core.findings.exchange.read_neuronpedia import Neuronpedia
from core.findings.exchange.read_openai import OpenAI
from core.findings.exchange.sources import Budget, Piece, documents, pieces
from core.workspace import Workspace

_READERS = (OpenAI, Neuronpedia)
_Reader = OpenAI | Neuronpedia


@dataclass(frozen=True)
class Wishes:
    """What a person says beside the file. model: what it is called, where the file does not say. units: which numbers, "" for all.

    tokenizer: a tokenizer.json for tokens that come as numbers. subjects: where the workspace keeps vocabularies that may be theirs.
    """

    model: str = ""
    units: str = ""
    tokenizer: str = ""
    subjects: str = ""


NONE = Wishes()


def stage_foreign(path: Path, scratch: Path, wishes: Wishes = NONE) -> Staged:
    """Do it in this process. scratch: an empty folder. Raises Refused and AtlasError."""
    wanted = _chosen(wishes.units)
    with pieces(path) as files:
        if is_cache(files):
            vocab = load_tokenizer(Path(wishes.tokenizer)) if wishes.tokenizer else None
            found, remarks = read_delphi(files, wanted, wishes.model, vocab, Path(wishes.subjects) if wishes.subjects else None)
            title = TITLE
        else:
            found, remarks, title = _documents(path, files, wanted, wishes.model)
    workspace = Workspace.open(scratch / "workspace")
    check_subject(found.card)
    put_subject(workspace, found.card, found.vocabulary)
    for run in found.runs:
        check(run)
        run.write(workspace.runs / run.run)
    prove(workspace, found.runs)
    title = f"{title} of {shown(found.card['name_or_path'])}"
    return Staged(workspace, title, tuple(map(str, found.units)), staged_runs(found.runs), (), tuple(remarks))


def stage_foreign_apart(path: Path, scratch: Path, wishes: Wishes = NONE) -> Staged:
    """The same in a process of its own. Raises Refused and AtlasError."""
    tokenizer = str(Path(wishes.tokenizer).expanduser().absolute()) if wishes.tokenizer else ""
    return apart("core.findings.exchange.staging", path, scratch, wishes.model, wishes.units, tokenizer, wishes.subjects)


def _documents(path: Path, files: Sequence[Piece], wanted: range | None, model: str) -> tuple[Made, list[str], str]:
    """What files of JSON hold, sentences on what could not be carried, and the format."""
    gathering = Gathering(wanted)
    reader, passed = _read(files, gathering)
    if reader is None:
        known = "a bundle of Neuron Atlas, OpenAI's neuron records, files of Neuronpedia or SAEDashboard, or a cache of delphi's"
        raise Refused(f"{shown(path.name)} is nothing that is taken in: give {known}.")
    reader.finish()
    origin = Origin(reader.word, reader.title, model or reader.model or path.name.partition(".")[0], reader.bands)
    remarks = [f"{count:,} × {said}" if count > 1 else said for said, count in sorted(gathering.left_out.items())]
    if passed:
        remarks.append(f"{passed:,} files that are of another kind")
    return made(gathering, origin), remarks, reader.title


def _read(files: Sequence[Piece], gathering: Gathering) -> tuple[_Reader | None, int]:
    """The reader that took the files in, and how many files it passed over."""
    reader: _Reader | None = None
    passed = 0
    budget = Budget()
    for piece in files:
        took, before = False, budget.left
        for document in documents(piece, budget):
            kind = next((kind for kind in _READERS if kind.knows(document)), None)
            if kind is None:
                break
            if reader is None:
                reader = kind(gathering)
            if type(reader) is not kind:
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


def _main(path: str, scratch: str, *wishes: str) -> dict[str, Any]:
    return answer(lambda: stage_foreign(Path(path), Path(scratch), Wishes(*wishes)))


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_main(*sys.argv[1:])))
