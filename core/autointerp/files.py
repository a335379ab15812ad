"""Results of explaining as Parquet: explanations, their scores, and what was simulated on each record. Schemas are in docs/formats.md.

A part is a folder `parts/<number>/` with the three files and all that belongs to some finished pieces of work. It is written under a
temporary name and renamed, so that a piece of work is on disk whole or not at all.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from core.autointerp.calibration import Calibration
from core.autointerp.explanation import Example, Explanation, Simulation
from core.autointerp.scoring import Score
from core.autointerp.splits import Split
from core.workspace import FileNote, is_intact, note_file, whole_folder, write_json

Role = Literal["simulated", "lookup", "shuffled", "paraphrase"]
"""The score itself, and the controls beside it."""

_FLOAT = pa.float64()
EXPLANATIONS = pa.schema(
    [
        ("explanation", pa.string()),
        ("unit", pa.string()),
        ("index", pa.string()),
        ("setting", pa.string()),
        ("step", pa.int16()),
        ("explainer", pa.string()),
        ("author", pa.string()),
        ("text", pa.string()),
        ("pattern", pa.string()),
        ("recipe", pa.string()),
        ("train", pa.list_(pa.int32())),
        ("failed", pa.string()),
        ("seconds", _FLOAT),
        ("created", _FLOAT),
    ]
)
SCORES = pa.schema(
    [
        ("explanation", pa.string()),
        ("role", pa.string()),
        ("kind", pa.string()),
        ("split", pa.string()),
        ("simulator", pa.string()),
        ("calibration", pa.string()),
        *((name, _FLOAT) for name in ("rho", "low", "high", "r2", "explained", "record_rho")),
        ("n_tokens", pa.int32()),
        ("n_records", pa.int32()),
        ("coverage", _FLOAT),
        ("reason", pa.string()),
        ("contexts", pa.list_(pa.int32())),
        ("said", pa.string()),
        ("said_of", pa.string()),
        ("recipe", pa.string()),
    ]
)
SIMULATIONS = pa.schema(
    [
        ("explanation", pa.string()),
        ("role", pa.string()),
        ("split", pa.string()),
        ("origin", pa.string()),
        ("context", pa.int32()),
        ("activations", pa.list_(pa.float32())),
        ("simulated", pa.list_(pa.float32())),
        ("probabilities", pa.list_(pa.float32())),
        ("scale", pa.string()),
        ("failed", pa.string()),
    ]
)
SCHEMAS: dict[str, Any] = {"explanations": EXPLANATIONS, "scores": SCORES, "simulations": SIMULATIONS}


@dataclass(frozen=True)
class Scored:
    """A score with what it was made from. said, said_of: the words that were simulated when they are not the explanation's own."""

    role: Role
    split: Split
    simulator: str
    calibration: Calibration
    score: Score
    contexts: Sequence[int]
    said: str = ""
    said_of: str = ""
    recipe: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class Simulated:
    """A simulation beside the record it is of."""

    role: Role
    split: Split
    example: Example
    simulation: Simulation


@dataclass(frozen=True)
class Outcome:
    """One explanation of one unit with all its scores. `step` counts the revisions before it. failed: why there is none."""

    identity: str
    """Unique in the workspace: the run's id, the place of the unit in the run, the setting's place and the step, joined by dots."""
    index: str
    """The index run that the records come from."""
    setting: str
    step: int
    explanation: Explanation
    train: Sequence[int]
    """Contexts whose activations the explainer was given."""
    scores: Sequence[Scored] = ()
    simulations: Sequence[Simulated] = ()
    failed: str = ""
    seconds: float = 0.0
    created: float = 0.0


def write_outcomes(run_dir: Path, number: int, outcomes: Sequence[Outcome], work: Sequence[str]) -> dict[str, Any]:
    """Write part `number`, whole or not at all. work: the pieces of work it finishes. Returns its entry for the manifest."""
    notes: dict[str, FileNote] = {}
    indexes = sorted({outcome.index for outcome in outcomes} - {""})
    entry: dict[str, Any] = {"number": number, "work": list(work), "indexes": indexes, "files": notes}
    with whole_folder(run_dir / "parts" / f"{number:06d}") as folder:
        for name, rows in _rows(outcomes).items():
            path = folder / f"{name}.parquet"
            pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMAS[name]), path, compression="zstd")
            note = note_file(path, folder)
            notes[name] = {**note, "path": f"parts/{number:06d}/{note['path']}"}
        write_json(folder / "part.json", entry)
    return entry


def find_parts(run_dir: Path) -> list[dict[str, Any]]:
    """The entries of the intact parts in order. What is not finished or damaged is removed: its work is done again."""
    found: list[dict[str, Any]] = []
    for folder in sorted((run_dir / "parts").glob("*")):
        entry = None if folder.name.startswith(".") else _entry(folder)
        if entry is not None and all(is_intact(run_dir, note) for note in entry["files"].values()):
            found.append(entry)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return found


def _entry(folder: Path) -> dict[str, Any] | None:
    try:
        entry = json.loads((folder / "part.json").read_text("utf8"))
        return entry if isinstance(entry["work"], list) and set(entry["files"]) == set(SCHEMAS) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _rows(outcomes: Sequence[Outcome]) -> dict[str, list[dict[str, Any]]]:
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in SCHEMAS}
    for outcome in outcomes:
        explanation = outcome.explanation
        rows["explanations"].append(
            {
                "explanation": outcome.identity,
                "unit": str(explanation.unit),
                "index": outcome.index,
                "setting": outcome.setting,
                "step": outcome.step,
                "explainer": explanation.explainer,
                "author": explanation.author,
                "text": explanation.text,
                "pattern": "" if explanation.pattern is None else json.dumps(explanation.pattern.to_json()),
                "recipe": json.dumps(explanation.recipe, ensure_ascii=False),
                "train": list(outcome.train),
                "failed": outcome.failed,
                "seconds": outcome.seconds,
                "created": outcome.created,
            }
        )
        rows["scores"] += [_score_row(outcome.identity, scored) for scored in outcome.scores]
        rows["simulations"] += [_simulation_row(outcome.identity, simulated) for simulated in outcome.simulations]
    return rows


def _score_row(identity: str, scored: Scored) -> dict[str, Any]:
    return {
        "explanation": identity,
        **{name: getattr(scored, name) for name in ("role", "split", "simulator", "calibration", "said", "said_of")},
        **asdict(scored.score),
        "contexts": list(scored.contexts),
        "recipe": json.dumps(scored.recipe, ensure_ascii=False),
    }


def _simulation_row(identity: str, simulated: Simulated) -> dict[str, Any]:
    simulation, example = simulated.simulation, simulated.example
    probabilities = simulation.probabilities
    return {
        "explanation": identity,
        "role": simulated.role,
        "split": simulated.split,
        "origin": example.origin,
        "context": example.context,
        "activations": example.activations.astype(np.float32).tolist(),
        "simulated": simulation.values.astype(np.float32).tolist(),
        "probabilities": None if probabilities is None else probabilities.astype(np.float32).reshape(-1).tolist(),
        "scale": simulation.scale,
        "failed": simulation.failed,
    }
