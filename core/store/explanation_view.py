"""One explanation, whole: its row, all its scores and what was simulated beside what was true, read straight from the run's files."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from core.autointerp.pattern import Pattern
from core.autointerp.scoring import KINDS, Kind, Score
from core.errors import AtlasError
from core.remembered import FileKey, Remembered, file_key
from core.store.catalog import broken_file, load_index, read_current
from core.store.explained import ExplainedPart, ExplainedRun, load_explained
from core.store.explained_ingest import places
from core.store.parts import DamagedPart, read_columns
from core.store.texts import load_text, load_vocab
from core.units import UnitName
from core.workspace import Workspace

ROLES = ("simulated", "lookup", "shuffled", "paraphrase")
SPLITS = ("calibration", "validation", "test")
DIGITS = 11


@dataclass(frozen=True)
class ScoreView:
    """A score with what it was made from. said, said_of: the words that were simulated when they are not the explanation's own."""

    role: str
    split: str
    simulator: str
    calibration: str
    score: Score
    contexts: tuple[int, ...]
    said: str
    said_of: str
    recipe: dict[str, Any]


@dataclass(frozen=True)
class SimulationView:
    """One record: what was simulated beside what was true. Arrays have the shape (tokens,); a BOS is no part of them.

    simulated: NaN throughout when it failed, and then `failed` says why. scale: `tenths` for 0
    to 10 (a sentence: −10 to 10), `activation` for the unit's own.
    probabilities: (tokens, 11) over the integers 0 to 10, or None. tokens, pieces: the record's token ids and the text of each; empty when
    the text is no longer there.
    """

    role: str
    split: str
    origin: str
    context: int
    activations: npt.NDArray[np.float32]
    simulated: npt.NDArray[np.float32]
    probabilities: npt.NDArray[np.float32] | None
    scale: str
    failed: str
    document: str
    tokens: tuple[int, ...]
    pieces: tuple[str, ...]


@dataclass(frozen=True)
class ExplanationView:
    """Everything that is kept of one explanation."""

    identity: str
    run: str
    unit: UnitName
    index: str
    setting: str
    settings: dict[str, Any]
    """The setting's parameters, as JSON."""
    step: int
    explainer: str
    author: str
    text: str
    pattern: Pattern | None
    recipe: dict[str, Any]
    train: tuple[int, ...]
    failed: str
    seconds: float
    created: float
    scores: tuple[ScoreView, ...]
    simulations: tuple[SimulationView, ...]
    text_missing: str
    """Why the records' text cannot be shown, else empty."""
    provenance: dict[str, Any]

    def of_role(self, role: str, split: str | None = None) -> list[SimulationView]:
        """The simulations of a role, in the order written; of one split if it is named."""
        return [one for one in self.simulations if one.role == role and split in (None, one.split)]

    def headline(self, split: str | None = None) -> ScoreView | None:
        """The score of the explanation itself that is shown before others, of one split if it is named; the same as in the cache.

        Both kinds of records before random ones alone before top ones alone, then test before validation before calibration.
        """
        own = [one for one in self.scores if one.role == "simulated" and split in (None, one.split)]
        return min(own, key=lambda one: (_place(KINDS, one.score.kind), -_place(SPLITS, one.split)), default=None)

    def score(self, role: str, kind: str, split: str) -> ScoreView | None:
        return next((one for one in self.scores if (one.role, one.score.kind, one.split) == (role, kind, split)), None)


def load_explanation(workspace: Workspace, identity: str) -> ExplanationView:
    """Read one explanation. Raises AtlasError: no such explanation, or a file that is missing or damaged."""
    run = identity.rsplit(".", 3)[0]
    found = load_explained(workspace, run)
    try:
        try:
            return _load(workspace, found, identity)
        except FileNotFoundError:
            current = load_explained(workspace, run)  # a part that was damaged may have been made again meanwhile
            if current.generation == found.generation:
                raise
            return _load(workspace, current, identity)
    except FileNotFoundError as error:
        raise AtlasError(broken_file(workspace, run, Path(str(error.filename)), "is missing")) from None
    except DamagedPart as damage:
        raise AtlasError(broken_file(workspace, run, damage.path, "is damaged")) from None


def load_scored(workspace: Workspace, run: str) -> list[ExplanationView]:
    """Every explanation of a run with its scores, in the run's order; patterns and simulations, which are large, are left out.

    Raises AtlasError.
    """
    found = load_explained(workspace, run)
    try:
        views = [view for part in found.parts for view in _scored(found, part)]
    except FileNotFoundError as error:
        raise AtlasError(broken_file(workspace, run, Path(str(error.filename)), "is missing")) from None
    except DamagedPart as damage:
        raise AtlasError(broken_file(workspace, run, damage.path, "is damaged")) from None
    return sorted(views, key=lambda view: places(run, view.identity))


def _scored(found: ExplainedRun, part: ExplainedPart) -> list[ExplanationView]:
    scores: dict[str, list[dict[str, Any]]] = {}
    for row in _rows(found.path(part, "scores")):
        scores.setdefault(row["explanation"], []).append(row)
    path, scored = found.path(part, "explanations"), found.path(part, "scores")
    return [_view(path, found, row, _scores(scored, scores.get(row["explanation"], [])), (), "") for row in _rows(path, without="pattern")]


_identities: Remembered[FileKey, frozenset[str]] = Remembered(4096)


def _part_of(found: ExplainedRun, identity: str) -> ExplainedPart | None:
    wrong: DamagedPart | FileNotFoundError | None = None
    for part in found.parts:
        path = found.path(part, "explanations")
        try:
            held = _identities.get(
                file_key(path), lambda path=path: frozenset(read_columns(path, ["explanation"]).column("explanation").to_pylist())
            )
        except (DamagedPart, FileNotFoundError) as error:
            wrong = wrong or error
            continue  # it may lie in another part
        if identity in held:
            return part
    if wrong is not None:
        raise wrong
    return None


def _load(workspace: Workspace, found: ExplainedRun, identity: str) -> ExplanationView:
    part = _part_of(found, identity)
    if part is None:
        raise AtlasError(f"There is no explanation “{identity[:120]}” in the run {found.run}.")
    path = found.path(part, "explanations")
    row = _rows(path, identity)[0]
    scored = found.path(part, "scores")
    subject = str(row["unit"]).partition("/")[0]
    simulations, missing = _simulations(workspace, found.path(part, "simulations"), identity, row["index"], subject)
    return _view(path, found, row, _scores(scored, _rows(scored, identity)), simulations, missing)


def _view(
    path: Path,
    found: ExplainedRun,
    row: dict[str, Any],
    scores: tuple[ScoreView, ...],
    simulations: tuple[SimulationView, ...],
    missing: str,
) -> ExplanationView:
    """A row of the file `path` with what was read elsewhere. Raises DamagedPart."""
    identity = str(row["explanation"])
    try:
        unit = UnitName.parse(row["unit"])
        _, place = places(found.run, identity)
        pattern = Pattern.from_json(json.loads(row["pattern"])) if row.get("pattern") else None
        recipe = dict(json.loads(row["recipe"] or "{}"))
    except (AtlasError, ValueError, KeyError, TypeError) as error:
        raise DamagedPart(path, str(error)) from None
    return ExplanationView(
        identity=identity,
        run=found.run,
        unit=unit,
        index=row["index"],
        setting=row["setting"],
        settings=found.settings[place] if place < len(found.settings) else {},
        step=row["step"],
        explainer=row["explainer"],
        author=row["author"],
        text=row["text"],
        pattern=pattern,
        recipe=recipe,
        train=tuple(row["train"]),
        failed=row["failed"],
        seconds=row["seconds"],
        created=row["created"],
        scores=scores,
        simulations=simulations,
        text_missing=missing,
        provenance=found.provenance,
    )


def _scores(path: Path, rows: Sequence[dict[str, Any]]) -> tuple[ScoreView, ...]:
    """The scores of one explanation, from its rows of the file `path`."""
    made: list[ScoreView] = []
    try:
        for row in rows:
            score = Score(
                cast(Kind, row["kind"]),
                **{name: float(row[name]) for name in ("rho", "low", "high", "r2", "explained", "record_rho", "coverage")},
                n_tokens=row["n_tokens"],
                n_records=row["n_records"],
                reason=row["reason"],
            )
            words: dict[str, str] = {name: row[name] for name in ("role", "split", "simulator", "calibration", "said", "said_of")}
            made.append(ScoreView(score=score, contexts=tuple(row["contexts"]), recipe=dict(json.loads(row["recipe"] or "{}")), **words))
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedPart(path, str(error)) from None
    return tuple(sorted(made, key=lambda one: (_place(ROLES, one.role), _place(SPLITS, one.split), _place(KINDS, one.score.kind))))


def _simulations(workspace: Workspace, path: Path, identity: str, index: str, subject: str) -> tuple[tuple[SimulationView, ...], str]:
    """The simulations, and why their text cannot be shown (empty when it can)."""
    rows = _rows(path, identity)
    missing = ""
    try:
        told = load_index(workspace, index)
        text, vocab, first = (
            read_current(workspace, told, partial(load_text, workspace)),
            load_vocab(workspace, subject),
            int(told.slice["bos"]),
        )
    except AtlasError as error:
        text, vocab, first, missing = None, None, 0, str(error)
    made: list[SimulationView] = []
    for row in rows:
        try:
            true, simulated = (np.array(row[name], np.float32) for name in ("activations", "simulated"))
            probabilities = None if row["probabilities"] is None else np.array(row["probabilities"], np.float32).reshape(len(true), DIGITS)
            if len(true) != len(simulated):
                raise ValueError("a simulation is not as long as its record")
            document, tokens = "", ()
            if text is not None:
                if not 0 <= row["context"] < len(text):
                    raise ValueError("a simulation is of no record of the slice")
                document = text.document_ids[int(text.document[row["context"]])]
                tokens = tuple(int(token) for token in text.of(row["context"])[first:])
                if len(tokens) != len(true):
                    raise ValueError("a simulation is not as long as its record")
        except (ValueError, KeyError, TypeError) as error:
            raise DamagedPart(path, str(error)) from None
        pieces = tuple(vocab.pieces(tokens)) if vocab is not None else ()
        made.append(
            SimulationView(
                role=row["role"],
                split=row["split"],
                origin=row["origin"],
                context=row["context"],
                activations=true,
                simulated=simulated,
                probabilities=probabilities,
                scale=row["scale"],
                failed=row["failed"],
                document=document,
                tokens=tokens,
                pieces=pieces,
            )
        )
    return tuple(made), missing


def _rows(path: Path, identity: str | None = None, without: str = "") -> list[dict[str, Any]]:
    """The rows of one explanation in a file, or all. without: a column that is not read. Raises FileNotFoundError and DamagedPart."""
    file_key(path)
    chosen = None if identity is None else [("explanation", "==", identity)]
    try:
        columns = [name for name in pq.read_schema(path).names if name != without] if without else None
        return pq.read_table(path, columns=columns, filters=chosen, memory_map=True).to_pylist()
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise DamagedPart(path, str(error)) from None


def _place(order: Sequence[str], name: str) -> int:
    return order.index(name) if name in order else len(order)
