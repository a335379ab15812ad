"""The run that makes baselines: read the text once for some sites at a time, then put a dictionary of each family on the shelf."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import core
from core.bases.baselines import ICA_NUMBERS, fit, signed
from core.bases.batches import batches, count_tokens
from core.bases.fit_request import Baseline, FitRequest
from core.bases.held_out import Ranks
from core.bases.info import BasisInfo
from core.bases.moments import Moments
from core.bases.part import Part, part_of
from core.bases.prepare import Job, load_job
from core.bases.shelf import Shelved, check_free, check_weights, find
from core.corpus.slice import Slice
from core.errors import AtlasError
from core.runs.progress import Progress
from core.units import Site, parse_sites
from core.workspace import Workspace, write_json

SCHEMA = 1
_CONTEXTS = 32
_BYTES = 1 << 30
"""Moments and samples of the sites that are read in one pass."""


def run_fit(workspace: Workspace, run_dir: Path, params: dict[str, Any], progress: Progress) -> None:
    """Make the baselines, or go on: those that this run has put on the shelf are not made again. Raises AtlasError, and Cancelled."""
    request = FitRequest.from_params(params)
    job = load_job(workspace, request, progress)
    sites = parse_sites(request.sites, job.subject.info.n_layers)
    for site in sites:
        part_of(job.subject, site, request.head)  # a wrong head is told before anything is read
    done: dict[tuple[Site, Baseline], Shelved] = {}
    for site in sites:
        for family in request.families:
            check_free(
                workspace, job.subject.info.slug, site, request.name_of(family), lambda info, family=family: _is_like(info, request, family)
            )
            made = _made(workspace, job, site, request.name_of(family), run_dir.name)
            if made is not None:
                done[site, family] = made
    ranks = _chosen(job.piece, job.train, request)
    left = [site for site in sites if any((site, family) not in done for family in request.families)]
    _publish(run_dir, request, job, done.values(), len(sites) * len(request.families))
    for group in _groups(left, job, request):
        for site, moments in _read(job, group, ranks, request, progress).items():
            for family in request.families:
                if (site, family) in done:
                    continue
                progress.stage(f"fitting {family} at {site}")
                done[site, family] = _fit(workspace, run_dir, request, job, site, family, moments, progress)
                _publish(run_dir, request, job, done.values(), len(sites) * len(request.families))
    total = len(sites) * len(request.families)
    progress.update(total, total, "", "dictionaries")


def _fit(
    workspace: Workspace, run_dir: Path, request: FitRequest, job: Job, site: Site, family: Baseline, moments: Moments, progress: Progress
) -> Shelved:
    directions = fit(
        family,
        moments,
        seed=request.seed,
        iterations=request.ica_iterations,
        on_iteration=lambda done, total: progress.update(done, total, "", "iterations"),
    )
    recipe = {
        "run": run_dir.name,
        "corpus": request.corpus.to_json(),
        "slice": job.piece.id,
        "tokens": moments.count,
        "model": {"dtype": job.subject.dtype_name, "device": str(job.subject.device)},
        "code": core.__version__,
    }
    made = signed(
        directions,
        moments.mean,
        subject=job.subject.info,
        site=site,
        head=request.head,
        family=family,
        name=request.name_of(family),
        k=request.k,
        recipe=recipe,
    )
    if directions.recipe.get("converged") is False:
        progress.log(f"ICA at {site} did not converge within {request.ica_iterations} iterations: the recipe says so")
    progress.log(f"{made.info.key}: {made.info.units} units from {moments.count} tokens")
    return made.save(workspace)


def _read(job: Job, sites: Sequence[Site], ranks: Ranks, request: FitRequest, progress: Progress) -> dict[Site, Moments]:
    """One pass over the contexts of `ranks`, to the last of the sites."""
    total = count_tokens(job.piece, ranks)
    if total < 2:
        raise AtlasError("The text has fewer than two tokens to fit on: choose more text.")
    moments: dict[Site, Moments] = {}
    parts = {site: part_of(job.subject, site, request.head) for site in sites}
    for site, part in parts.items():
        width = part.width
        wanted = min(total, request.ica_tokens, max(1, ICA_NUMBERS // width)) if "ica" in request.families else 0
        kept = np.sort(np.random.default_rng(request.seed).choice(total, wanted, replace=False))
        moments[site] = Moments(width, kept)
    progress.stage(f"reading the text at {', '.join(map(str, sites))}")
    done = 0
    for batch in batches(job.piece, ranks, _CONTEXTS):
        counted = batch.counted.to(job.subject.device)

        def handler(part: Part, into: Moments, counted: Tensor = counted) -> Callable[[Tensor], None]:
            return lambda activations: into.add(part.of(activations)[counted].float())

        with torch.inference_mode():
            job.subject.read(batch.tokens, {site: handler(parts[site], into) for site, into in moments.items()})
        done += len(batch.tokens)
        progress.update(done, len(ranks), "", "contexts")
    return moments


def _chosen(piece: Slice, train: Ranks, request: FitRequest) -> Ranks:
    """The contexts to read: all of those for training, or a sample of them with about `tokens` tokens, in order."""
    if count_tokens(piece, train) <= request.tokens:
        return train
    shuffled = np.random.default_rng(request.seed).permutation(train)
    counts = np.maximum(piece.lengths[shuffled].astype(np.int64) - piece.first, 0)
    return np.sort(shuffled[: max(1, int(np.searchsorted(np.cumsum(counts), request.tokens, side="right")))])


def _groups(sites: Sequence[Site], job: Job, request: FitRequest) -> Iterable[list[Site]]:
    """Sites that are read together, so that what is held of them is bounded."""
    group: list[Site] = []
    held = 0
    for site in sites:
        width = part_of(job.subject, site, request.head).width
        size = 8 * width * width + (4 * min(width * request.ica_tokens, ICA_NUMBERS) if "ica" in request.families else 0)
        if group and held + size > _BYTES:
            yield group
            group, held = [], 0
        group.append(site)
        held += size
    if group:
        yield group


def _is_like(before: BasisInfo, request: FitRequest, family: Baseline) -> bool:
    """Whether a dictionary on the shelf is an earlier one of the kind that is made: it may be replaced."""
    return before.family == family and before.head == request.head


def _made(workspace: Workspace, job: Job, site: Site, name: str, run: str) -> Shelved | None:
    """What an earlier attempt of this run put on the shelf, whole."""
    try:
        one = find(workspace, job.subject.info.slug, site, name)
        check_weights(one)
    except AtlasError:
        return None
    return one if one.info.recipe.get("run") == run else None


def _publish(run_dir: Path, request: FitRequest, job: Job, done: Iterable[Shelved], total: int) -> None:
    results = [
        {"key": one.info.key, "family": one.info.family, "k": one.info.k, "units": one.info.units, "weights": one.hash} for one in done
    ]
    write_json(
        run_dir / "manifest.json",
        {
            "schema": SCHEMA,
            "kind": "basis",
            "run": run_dir.name,
            "state": "complete" if len(results) == total else "partial",
            "subject": job.subject.info.to_json(),
            "slice": job.piece.info,
            "request": request.params(),
            "dictionaries": results,
            "provenance": {**job.subject.provenance(), "code": core.__version__},
        },
    )
