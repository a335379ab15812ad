"""Neuronpedia's bulk layout: gzipped lines of JSON, features, activations and explanations of each source, by their published fields."""

import gzip
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from core.errors import AtlasError, explain_os_error
from core.findings.exchange.openai import WrittenFolder
from core.findings.report.gathered import Gathered, gather
from core.store.explanation_view import ExplanationView
from core.store.units import Record
from core.units import UnitName
from core.vocab import Vocab
from core.workspace import Workspace, write_atomic

BATCH = 1024
"""Features in a file, as their own exporter writes them."""
NOT_CARRIED = (
    "scores with their intervals and controls (their export has none)",
    "moments, quantiles, ablations, and everything below zero but in its records",
    "records drawn by chance, and those of the most negative activations",
    "the provenance, but for the model, the site and the basis",
    "the bytes of tokens that are a part of a character: they are written as ⟨e2 80⟩",
    "what people wrote, but for explanations of their own",
)
_HOOKS = {"mlp": "blocks.{}.mlp.hook_post", "resid": "blocks.{}.hook_resid_post", "attn": "blocks.{}.attn.hook_z"}
_BANDS = {"q3": 0.009, "q2": 0.09, "q1": 0.4, "q0": 0.5}
_TOP = -1.0
"""What stands for the bounds of the strongest records, which are of no interval."""


def write_neuronpedia(workspace: Workspace, units: Sequence[UnitName], folder: Path, *, run: str | None = None) -> WrittenFolder:
    """Write `<folder>/v1/<model>/<source>/{features,activations,explanations}/batch-N.jsonl.gz`. Raises AtlasError.

    The source is `<layer>-<kind of site>-<basis>`, and rows are in the order of their index as text, as theirs are.
    """
    if not units:
        raise AtlasError("There is nothing to export: name at least one unit, or a collection with units in it.")
    sources: dict[tuple[str, str], list[UnitName]] = {}
    for unit in dict.fromkeys(units):
        sources.setdefault((unit.subject, source_of(unit)), []).append(unit)
    explained = 0
    try:
        for (model, source), mine in sources.items():
            place = folder / "v1" / model / source
            mine.sort(key=lambda unit: str(unit.index))
            for batch, start in enumerate(range(0, len(mine), BATCH)):
                rows: dict[str, list[dict[str, Any]]] = {"features": [], "activations": [], "explanations": []}
                for unit in mine[start : start + BATCH]:
                    found = gather(workspace, unit, run)
                    rows["features"].append(feature(found))
                    rows["activations"] += activations(found)
                    rows["explanations"] += explanations(found)
                explained += len(rows["explanations"])
                for name, lines in rows.items():
                    _write(place / name / f"batch-{batch}.jsonl.gz", lines)
    except OSError as error:
        raise explain_os_error(error, f"writing {folder}") from None
    return WrittenFolder(folder, len(set(units)), explained, NOT_CARRIED)


def source_of(unit: UnitName) -> str:
    return f"{unit.site.layer}-{unit.site.kind}-{unit.basis}"


def feature(found: Gathered) -> dict[str, Any]:
    """A unit as their `Neuron`. The histogram has our bins above zero, an eighth of an octave wide: the middle and the count of each."""
    view = found.view
    name, shown, effects = view.name, view.histogram, view.effects
    positive = shown.highs > 0
    ends = zip(shown.lows[positive].tolist(), shown.highs[positive].clip(max=view.limits[1]).tolist(), strict=True)
    near = [one for one in effects.similar if one.name.site == name.site] if effects else []
    tokens = view.stats["tokens"]
    raised, lowered = (effects.raised, effects.lowered) if effects else ([], [])
    return {
        **_identity(name),
        "maxActApprox": _number(view.stats["max"]),
        "frac_nonzero": view.stats["nonzero"] / tokens if tokens else None,
        "freq_hist_data_bar_values": [(low + high) / 2 for low, high in ends],
        "freq_hist_data_bar_heights": shown.counts[positive].tolist(),
        "pos_str": [one.text for one in raised],
        "pos_values": [one.logit for one in raised],
        "neg_str": [one.text for one in lowered],
        "neg_values": [one.logit for one in lowered],
        "topkCosSimIndices": [one.name.index for one in near],
        "topkCosSimValues": [one.cosine for one in near],
        "hasVector": False,
        "hookName": _HOOKS[name.site.kind].format(name.site.layer),
    }


def activations(found: Gathered) -> list[dict[str, Any]]:
    """The records of a unit as their `Activation`: the strongest, and by quantile of the records' maxima with the share of records."""
    view = found.view
    rows = [_activation(view.name, one, found.vocab, (_TOP, _TOP, _TOP)) for one in view.bands.get("top", [])]
    for band, share in _BANDS.items():
        records = view.bands.get(band, [])
        if records:
            bounds = (min(one.value for one in records), max(one.value for one in records), share)
            rows += [_activation(view.name, one, found.vocab, bounds) for one in records]
    return rows


def explanations(found: Gathered) -> list[dict[str, Any]]:
    """The explanations of a unit, runs' and people's own, as their `Explanation`."""
    name = found.view.name
    rows = [
        _explanation(name, one.identity, one.text, one.author, f"neuron-atlas_{one.explainer}", _model(one)) for one in found.explanations
    ]
    for entry in found.findings:
        if entry.kind == "explanation":
            rows += [_explanation(name, one.id, one.text, one.author, "human", None) for one in entry.alternatives]
    return rows


def _activation(name: UnitName, one: Record, vocab: Vocab, bounds: tuple[float, float, float]) -> dict[str, Any]:
    values: list[float] = one.activations[one.first :].astype(float).tolist()
    peak = one.position - one.first
    return {
        **_identity(name),
        "tokens": [piece.replace("\0", " ") for piece in vocab.pieces(one.tokens[one.first :].tolist())],
        "values": values,
        "maxValue": max(values, default=0.0),
        "maxValueTokenIndex": peak,
        "minValue": min(values, default=0.0),
        "binMin": bounds[0],
        "binMax": bounds[1],
        "binContains": bounds[2],
        "qualifyingTokenIndex": peak,
        "dataIndex": str(one.context),
        "dataSource": one.document,
    }


def _explanation(name: UnitName, identity: str, text: str, author: str, kind: str, model: str | None) -> dict[str, Any]:
    said = {"id": identity, "description": text, "authorId": author, "typeName": kind, "explanationModelName": model}
    return {**_identity(name), **said}


def _model(one: ExplanationView) -> str | None:
    return None if one.author in ("pattern", "by hand") else one.author


def _identity(name: UnitName) -> dict[str, str]:
    return {"modelId": name.subject, "layer": source_of(name), "index": str(name.index)}


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
    write_atomic(path, gzip.compress(lines.encode(), mtime=0))
