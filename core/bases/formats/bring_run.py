"""The run that brings in a published dictionary: read it, check it, put it on the shelf, and measure it on a little text."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import core
from core.bases.dictionary import Dictionary
from core.bases.formats.bring import bring
from core.bases.formats.bring_request import BringRequest
from core.bases.info import BasisInfo
from core.bases.metrics import measure
from core.bases.shelf import Shelved, describe
from core.bases.unseen import made_from_this
from core.corpus.build import build_slice
from core.corpus.slice import Slice
from core.runs.progress import Progress
from core.subject.info import subject_folder
from core.subject.load import load_subject
from core.subject.subject import Subject
from core.subject.tokenizer import SubjectTokenizer
from core.units import Site
from core.vocab import Vocab
from core.workspace import Workspace, write_json

SCHEMA = 1
FAR_VARIANCE = 0.1
FAR_RATIO = 1.5
"""Text and tokens differ from those of the file's makers, so L0 may; beyond this factor it is said."""


def run_bring(workspace: Workspace, run_dir: Path, params: dict[str, Any], progress: Progress) -> None:
    """Do the run. Everything but the measuring takes seconds, so resuming begins anew. Raises AtlasError, and Cancelled."""
    request = BringRequest.from_params(params)
    progress.stage("loading the model")
    subject = load_subject(
        workspace, request.model, revision=request.revision, dtype=request.dtype, device=request.device, architecture=request.architecture
    )
    progress.stage("reading the dictionary")
    dictionary = bring(
        workspace,
        subject,
        request.source,
        revision=request.source_revision,
        file=request.file,
        name=request.name,
        site=None if request.site is None else Site.parse(request.site),
        any_model=request.any_model,
    )
    shelved = dictionary.save(workspace)
    progress.log(f"{dictionary.info.key}: {dictionary.info.units} units ({dictionary.info.source['format']}, {dictionary.info.rule})")
    progress.stage("cutting the text")
    piece = _text(workspace, subject, request, dictionary.info, progress)
    progress.stage("measuring")
    metrics = _measure(subject, dictionary, piece, progress)
    warnings = doubts(dictionary.info, metrics)
    if made_from_this(dictionary.info, request.corpus):
        warnings.append(
            "It was made from this text, so what is measured on it here flatters it: sae metrics measures on what was held out."
        )
    for sentence in [*dictionary.info.source["notes"], *warnings]:
        progress.log(sentence)
    text = {"corpus": request.corpus.to_json(), "slice": piece.id, "part": "all"}
    made_by = {"run": run_dir.name, "measured": time.time(), "dtype": subject.dtype_name, "code": core.__version__}
    shelved = describe(shelved, dictionary.info.with_metrics({**metrics, "text": text, "weights": shelved.hash, **made_by}))
    _publish(run_dir, request, subject, piece, shelved, warnings)


def doubts(info: BasisInfo, metrics: dict[str, Any]) -> list[str]:
    """A sentence for each number that is far from what the file itself says, or that no dictionary of this model and site would have."""
    said: dict[str, float] = info.source["said"]
    found: list[str] = []
    variance, claimed = metrics.get("explained_variance"), said.get("explained_variance")
    if isinstance(variance, float) and claimed is not None and abs(variance - claimed) > FAR_VARIANCE:
        found.append(f"Explained variance here {variance:.2f}, the file says {claimed:.2f}: is it the right model and text?")
    elif isinstance(variance, float) and variance < 0:
        found.append(f"Explained variance here {variance:.2f}, worse than the mean: is it the right model, site and text?")
    active, claimed = metrics.get("l0"), said.get("l0")
    if isinstance(active, int | float) and claimed is not None and not claimed / FAR_RATIO <= active <= claimed * FAR_RATIO:
        found.append(f"L0 here {active:.1f}, the file says {claimed:.1f}: is it the right model and text?")
    return found


def _text(workspace: Workspace, subject: Subject, request: BringRequest, info: BasisInfo, progress: Progress) -> Slice:
    """Cut as the dictionary's makers did: with a BOS or without, where they say and the request does not."""
    corpus, theirs = request.corpus, info.source["about"].get("bos")
    if corpus.bos is None and isinstance(theirs, bool) and (subject.info.bos_token_id is not None or not theirs):
        corpus = replace(corpus, bos=theirs)
    vocab = Vocab.load(subject_folder(workspace, subject.info.slug) / "vocab.parquet")
    return build_slice(
        workspace,
        corpus,
        SubjectTokenizer(subject, vocab),
        lambda done, total, doing: progress.update(done, total, doing, "contexts"),
    )


def _measure(subject: Subject, dictionary: Dictionary, piece: Slice, progress: Progress) -> dict[str, Any]:
    """On all of the text."""

    def tell(done: int, total: int) -> None:
        progress.update(done, total, "", "contexts")

    (metrics,) = measure(subject, [dictionary.to(subject.device)], piece, np.arange(len(piece)), tell, outputs=False)
    return metrics


def _publish(run_dir: Path, request: BringRequest, subject: Subject, piece: Slice, shelved: Shelved, warnings: list[str]) -> None:
    write_json(
        run_dir / "manifest.json",
        {
            "schema": SCHEMA,
            "kind": "dictionary",
            "run": run_dir.name,
            "state": "complete",
            "subject": subject.info.to_json(),
            "slice": piece.info,
            "request": request.params(),
            "dictionary": shelved.info.key,
            "weights": shelved.hash,
            "metrics": dict(shelved.info.metrics),
            "said": dict(shelved.info.source["said"]),
            "notes": list(shelved.info.source["notes"]),
            "warnings": warnings,
            "provenance": {**subject.provenance(), "code": core.__version__},
        },
    )
