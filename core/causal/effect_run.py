"""The run that ablates units: over the unit's strongest records or a person's own text, then the ablation scores that were asked for."""

import json
import math
import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

import core
from core.causal import effect_files as files
from core.causal.ablation_score import ablation_score
from core.causal.as_indexed import bos_of, own_text
from core.causal.effect import Read, measure
from core.causal.effect_request import EffectRequest, explanation_of
from core.causal.effect_units import ChosenUnit, chosen_units, subject_for
from core.errors import AtlasError
from core.runs.progress import Progress
from core.store.units import load_unit
from core.subject.subject import Subject
from core.workspace import FileNote, Workspace, write_json

SCHEMA = 1
BATCH = 4
"""Contexts in a pass, unless their log-probabilities would be larger than `BATCH_BYTES`."""
BATCH_BYTES = 256 << 20
_ABOUT = ("request", "subject", "units", "texts")
"""Of a manifest: what was read, through which weights. It is something else when an index grew or a dictionary was replaced since."""
_DIRECT = {
    "resid": "exact: the change of the stream at the site goes past all later blocks",
    "mlp": "exact: the change of the stream after the block goes past all later blocks",
    "attn": "through the write directions: what the attention adds goes past its own block's MLP and all later blocks",
}


def run_effect(workspace: Workspace, run_dir: Path, params: dict[str, Any], progress: Progress) -> None:
    """Ablate, or go on with a run: batches that are there are not read again. Raises AtlasError, and Cancelled."""
    request = EffectRequest.from_params(params)
    subject = subject_for(workspace, request, progress)
    units = chosen_units(workspace, subject, request)
    texts = _texts(workspace, subject, request, units)
    reads = [text.pop("read") for text in texts]
    document = _document(run_dir, subject, request, units, texts)
    before = _before(run_dir, document)
    if before is not None:
        document = before
    else:
        batches = [[read.tokens for read in batch] for batch in _batches(subject, reads)]
        files.keep_parts_about(run_dir, {name: document[name] for name in _ABOUT} | {"batches": batches})
        progress.stage("ablating")
        with _threads():
            _measure(run_dir, subject, request, units, reads, progress)
        notes, positions, vocabulary = files.join_parts(run_dir, len(batches))
        document |= {"files": notes, **summary(request, positions, vocabulary)}
        _publish(run_dir, request, document)
    files.remove_parts(run_dir)
    _score(workspace, run_dir, subject, request, units, document, progress)


def _measure(
    run_dir: Path, subject: Subject, request: EffectRequest, units: Sequence[ChosenUnit], reads: Sequence[Read], progress: Progress
) -> None:
    done = 0
    progress.update(done, len(reads), "", "texts")
    for number, batch in enumerate(_batches(subject, reads)):
        if not files.has_part(run_dir, number):
            measured = measure(subject, units, request.rule, batch, request.positions, request.listed)
            files.write_part(run_dir, number, done, measured)
        done += len(batch)
        progress.update(done, len(reads), "", "texts")


def _score(
    workspace: Workspace,
    run_dir: Path,
    subject: Subject,
    request: EffectRequest,
    units: Sequence[ChosenUnit],
    document: dict[str, Any],
    progress: Progress,
) -> None:
    """The ablation scores that are not there yet, each published as it comes."""
    for identity in request.explanations[len(document["scores"]) :]:
        progress.stage("scoring by ablation")
        view = explanation_of(workspace, identity, units[0].name)
        bos = bos_of(subject, units[0].index)
        with _threads():
            made = ablation_score(subject, units[0], view, bos, lambda done, total: progress.update(done, total, "", "records"))
        document["scores"].append(made.to_json())
        _publish(run_dir, request, document)


def _batches(subject: Subject, reads: Sequence[Read]) -> list[Sequence[Read]]:
    longest = max(len(read.tokens) for read in reads)
    size = max(1, min(BATCH, BATCH_BYTES // (longest * subject.info.vocab_size * 4)))
    return [reads[first : first + size] for first in range(0, len(reads), size)]


def _texts(workspace: Workspace, subject: Subject, request: EffectRequest, units: Sequence[ChosenUnit]) -> list[dict[str, Any]]:
    """What is read, as the manifest names it, with `read`. Raises AtlasError: nothing to read, too long, or a position past the end."""
    unit = units[0]
    if request.text is None:
        assert unit.index is not None
        records = load_unit(workspace, unit.name, unit.index.run).bands["top"][: request.records]
        if not records:
            raise AtlasError(f"The index has no record of {unit.name} yet: wait for its first part, or give a text of your own.")
        made = [
            {
                "read": Read(tuple(record.tokens.tolist()), record.first),
                **{name: getattr(record, name) for name in ("context", "document", "source", "start")},
            }
            for record in records
        ]
        _check_positions(request, max(len(record.tokens) - record.first for record in records), "the longest record")
        return made
    tokens, first = own_text(subject, request.text, unit.index)
    _check_positions(request, len(tokens) - first, "the text")
    return [{"read": Read(tokens, first), "context": None, "document": "", "source": "own text", "start": 0}]


def _check_positions(request: EffectRequest, length: int, what: str) -> None:
    beyond = next((place for place in request.positions or () if place >= length), None)
    if beyond is not None:
        # The page counts tokens from 1, the command line and the files from 0.
        raise AtlasError(f"Token {beyond + 1} (position {beyond}) is past the end: {what} has {length:,} tokens.")


def _document(
    run_dir: Path, subject: Subject, request: EffectRequest, units: Sequence[ChosenUnit], texts: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """What is known of the run before anything is read."""
    kinds = sorted({unit.name.site.kind for unit in units})
    return {
        "schema": SCHEMA,
        "kind": "effect",
        "run": run_dir.name,
        "request": request.to_params(),
        "subject": subject.info.to_json(),
        "units": [unit.said(request.rule) for unit in units],
        "texts": list(texts),
        "direct": {kind: _DIRECT[kind] for kind in kinds},
        "scores": [],
        "provenance": {**subject.provenance(), "code": core.__version__},
    }


def summary(request: EffectRequest, positions: Any, vocabulary: Any) -> dict[str, Any]:
    """Means over the positions, and the tokens that are changed most where the unit fires."""
    fires = positions.column("fires").to_numpy()
    kl, change = (positions.column(name).to_numpy() for name in ("kl", "change"))
    raised, lowered = files.most_changed(vocabulary, request.listed)
    columns = {name: vocabulary.column(name).to_numpy() for name in files.SUMS}
    return {
        "positions": len(kl),
        "predicted": int(np.isfinite(change).sum()),
        "firing": int(fires.sum()),
        "kl": _mean(kl),
        "kl_firing": _mean(kl[fires]),
        "loss_change": _mean(-change),
        "loss_change_firing": _mean(-change[fires]),
        **{
            name: [{"token": token, **{key: float(values[token]) for key, values in columns.items()}} for token in tokens]
            for name, tokens in (("raised", raised), ("lowered", lowered))
        },
        "undefined": "" if fires.any() else "No unit fires on this text, so no token has a mean change where one does.",
    }


def _mean(values: Any) -> float | None:
    known = values[np.isfinite(values)]
    mean = float(known.mean(dtype=np.float64)) if len(known) else math.nan
    return mean + 0.0 if math.isfinite(mean) else None  # never −0


def _publish(run_dir: Path, request: EffectRequest, document: dict[str, Any]) -> None:
    complete = len(document["scores"]) == len(request.explanations)
    write_json(run_dir / "manifest.json", {**document, "state": "complete" if complete else "partial"})


def _before(run_dir: Path, now: Mapping[str, Any]) -> dict[str, Any] | None:
    """What an earlier attempt of this run published, if its files are intact and it read what would be read now."""
    try:
        document: dict[str, Any] = json.loads((run_dir / "manifest.json").read_text("utf8"))
        notes: dict[str, FileNote] = document["files"]
        same = all(document[name] == json.loads(json.dumps(now[name])) for name in _ABOUT)
        return document if same and files.finished(run_dir, notes) and isinstance(document["scores"], list) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


@contextmanager
def _threads() -> Generator[None]:
    """While batches are read, as many threads as cores are idle: several texts gain from them, unless others want the cores, too."""
    before = torch.get_num_threads()
    busy = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    torch.set_num_threads(max(before, (os.cpu_count() or 1) - math.ceil(busy)))
    try:
        yield
    finally:
        torch.set_num_threads(before)
