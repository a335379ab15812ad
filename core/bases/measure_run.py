"""The run that measures dictionaries on held-out text and writes what it found beside each of them."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

import core
from core.bases.dictionary import load
from core.bases.held_out import Ranks
from core.bases.measure_request import MeasureRequest, split_key
from core.bases.metrics import measure
from core.bases.prepare import Job, load_job
from core.bases.shelf import Shelved, describe, find
from core.bases.unseen import unseen
from core.errors import AtlasError
from core.runs.progress import Progress
from core.units import Site
from core.workspace import Workspace, write_json

SCHEMA = 1


def run_measure(workspace: Workspace, run_dir: Path, params: dict[str, Any], progress: Progress) -> None:
    """Measure the dictionaries site by site, or go on: a site that is done is not measured again. Raises AtlasError, and Cancelled."""
    request = MeasureRequest.from_params(params)
    shelf = [find(workspace, *split_key(key)) for key in dict.fromkeys(request.dictionaries)]
    job = load_job(workspace, request, progress)
    if job.subject.info.slug != request.subject:
        raise AtlasError(
            f"The dictionaries belong to {request.subject}, and the model is {job.subject.info.slug}: measure them with their own."
        )
    held_out = unseen(workspace, job.piece, request.corpus, [one.info for one in shelf])
    if len(held_out) != len(job.held_out):
        progress.log(
            f"the text was cut otherwise in training: measured on the {len(held_out)} contexts of documents that were not read then"
        )
    ranks, output_ranks = spread(held_out, request.contexts), spread(held_out, min(request.output_contexts, request.contexts))
    results = _before(run_dir, shelf)
    for site in sorted({one.info.site for one in shelf}):
        here = [one for one in shelf if one.info.site == site and one.info.key not in results]
        if here:
            text = {"corpus": request.corpus.to_json(), "slice": job.piece.id, "held_out_contexts": len(held_out), "part": "held out"}
            _measure_site(workspace, run_dir, job, site, here, (ranks, output_ranks), text, results, progress)
        _publish(run_dir, request, job, results, len(shelf))


def spread(ranks: Ranks, count: int) -> Ranks:
    """`count` of the contexts, evenly over all of them, in order; all when there are no more."""
    return ranks if len(ranks) <= count else ranks[np.arange(count) * len(ranks) // max(1, count)]


def _measure_site(
    workspace: Workspace,
    run_dir: Path,
    job: Job,
    site: Site,
    here: Sequence[Shelved],
    texts: tuple[Ranks, Ranks],
    text: Mapping[str, Any],
    results: dict[str, dict[str, Any]],
    progress: Progress,
) -> None:
    progress.stage(f"measuring at {site}")
    found = measure(
        job.subject,
        [load(one, job.subject.device) for one in here],
        job.piece,
        texts[0],
        lambda done, total: progress.update(done, total, "", "contexts"),
        outputs=len(texts[1]) > 0,
        output_ranks=texts[1],
    )
    for one, metrics in zip(here, found, strict=True):
        made_by = {"run": run_dir.name, "measured": time.time(), "dtype": job.subject.dtype_name, "code": core.__version__}
        metrics = {**metrics, "text": dict(text), "weights": one.hash, **made_by}
        # Read again: somebody else may have described it meanwhile.
        current = find(workspace, *split_key(one.info.key))
        if current.hash != one.hash:
            raise AtlasError(f"The dictionary {one.info.key} was replaced while it was being measured: measure it again.")
        describe(current, current.info.with_metrics({**current.info.metrics, **metrics}))
        results[one.info.key] = metrics
        progress.log(f"{one.info.key}: explained variance {metrics['explained_variance']}, L0 {metrics['l0']}, dead {metrics['dead']}")


def _publish(run_dir: Path, request: MeasureRequest, job: Job, results: Mapping[str, Mapping[str, Any]], total: int) -> None:
    write_json(
        run_dir / "manifest.json",
        {
            "schema": SCHEMA,
            "kind": "measure",
            "run": run_dir.name,
            "state": "complete" if len(results) == total else "partial",
            "subject": job.subject.info.to_json(),
            "slice": job.piece.info,
            "request": request.params(),
            "metrics": dict(results),
            "provenance": {**job.subject.provenance(), "code": core.__version__},
        },
    )


def _before(run_dir: Path, shelf: Sequence[Shelved]) -> dict[str, dict[str, Any]]:
    """What earlier attempts of this run measured of these very weights, by key."""
    try:
        document = json.loads((run_dir / "manifest.json").read_text("utf8"))
        found = cast(dict[str, dict[str, Any]], document["metrics"])
        return {one.info.key: found[one.info.key] for one in shelf if found.get(one.info.key, {}).get("weights") == one.hash}
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise AtlasError(f"The results of {run_dir.name} are damaged: start the measuring again.") from None
