"""The training run: load the model and the text, train, put the dictionaries on the shelf."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import core
from core.bases import checkpoint
from core.bases.bounds import LOOKED_AT
from core.bases.curves import CurveWriter
from core.bases.dictionary import Dictionary
from core.bases.info import BasisInfo
from core.bases.metrics import measure
from core.bases.part import part_of
from core.bases.prepare import Job, load_job
from core.bases.shelf import Shelved, check_free
from core.bases.stream import Source, Stream
from core.bases.train_request import TrainRequest, estimate
from core.bases.trainer import Trainer
from core.errors import AtlasError
from core.runs.progress import Cancelled, Progress
from core.units import Site
from core.workspace import Workspace, write_json

SCHEMA = 1


def run_train(workspace: Workspace, run_dir: Path, params: dict[str, Any], progress: Progress) -> None:
    """Train the dictionaries of a request, or go on from the last checkpoint. Raises AtlasError, and Cancelled.

    A run that goes on ends with the same weights as one that was never stopped, on the same machine with the same number of threads.
    """
    request = TrainRequest.from_params(params)
    job = load_job(workspace, request, progress)
    source = source_of(job, request)
    expected = estimate(request, source.width, job.subject.info)
    progress.log(
        f"memory: at most {expected.bytes / 1e6:,.0f} MB beside the program, {expected.subject_bytes / 1e6:,.0f} MB of it the model's"
    )
    _check_names(workspace, job, source.part.site, request, run_dir.name)
    stream = Stream(source, batch=request.batch, buffer=request.buffer, block=request.block, seed=request.seed)
    saved = checkpoint.load(run_dir)
    curves = CurveWriter(run_dir, int(saved[1]["curves"]) if saved is not None else 0)
    # Sums are float64, which Apple's GPU lacks; there the model's passes are most of the time.
    device = "cpu" if job.subject.device.type == "mps" else job.subject.device
    trainer = Trainer(request, stream, curves, device)
    reads = {"slice": job.piece.id, "weights_hash": job.subject.info.weights_hash}
    if saved is not None:
        if saved[1].get("reads", reads) != reads:
            raise AtlasError("The text or the model has changed since this training was stopped: start a new one.")
        trainer.load(*saved)
        saved = None  # else what was read of it would be held to the end
        progress.log(f"going on after {trainer.seen:,} vectors")
    total = request.steps * request.batch
    keeper = _Keeper(run_dir, trainer, request.checkpoint_seconds, reads)

    def tick(done: int) -> None:
        keeper.tick()
        progress.update(done, total, "", "vectors")

    progress.stage("training")
    progress.update(trainer.seen, total, "filling the buffer with activations", "vectors")
    try:
        trainer.run(tick, lambda one: _recovered(one, job, progress, total))
    except Cancelled:
        if trainer.healthy:  # else the one before is the better one to go on from
            keeper.save()
        raise
    progress.stage("putting the dictionaries on the shelf")
    shelved = [one.save(workspace) for one in dictionaries(trainer, job, run_dir.name)]
    _publish(run_dir, request, job, trainer, shelved)
    checkpoint.remove(run_dir)
    progress.update(total, total, "", "vectors")


def source_of(job: Job, request: TrainRequest) -> Source:
    """Where the activations come from. Raises AtlasError for a layer or head that the model does not have."""
    return Source(job.subject, job.piece, job.train, part_of(job.subject, Site.parse(request.site), request.head))


def dictionaries(trainer: Trainer, job: Job, run: str) -> list[Dictionary]:
    """What is trained, as it is now."""
    request, card, source = trainer.request, job.subject.info, trainer.stream.source
    made: list[Dictionary] = []
    for member in trainer.members:
        learner, d = member.learner, source.width
        tied = request.kind == "tied"
        of_kind: dict[str, Any] = (
            {"alpha": member.alpha, "mse_reduction": request.mse_reduction, "alpha_sum": learner.alpha, "alpha_mean": learner.alpha / d}
            if tied
            else {"k": request.k, "k_aux": request.k_aux or max(1, d // 2), "aux_coefficient": request.aux_coefficient}
        )
        recipe = {
            "run": run,
            "kind": request.kind,
            **of_kind,
            "ratio": request.ratio,
            "centre": request.centre,
            "scale": trainer.how.scale,
            "bias_rate": trainer.bias_rate,
            "tokens": trainer.seen,
            "dead_tokens": request.patience,
            "screened": trainer.screen,
            **{name: getattr(request, name) for name in ("batch", "lr", "warmup", "decay", "seed", "buffer", "block", "revive")},
            "corpus": request.corpus.to_json(),
            "slice": job.piece.id,
            "model": {"dtype": job.subject.dtype_name, "device": str(job.subject.device)},
            "code": core.__version__,
        }
        info = BasisInfo(
            name=member.name,
            subject=card.slug,
            site=source.part.site,
            family="sae",
            rule="relu" if tied else "topk",
            d_in=d,
            units=len(member.last),
            weights_hash=card.weights_hash,
            head=request.head,
            k=None if tied else request.k,
            tied=tied,
            subtract_decoder_bias=not tied,
            prepare=trainer.how,
            recipe=recipe,
            created=time.time(),
        )
        made.append(Dictionary(info, {name: one.detach().clone() for name, one in learner.tensors().items()}))
    return made


class _Keeper:
    """Takes checkpoints at intervals, of states that are good."""

    def __init__(self, run_dir: Path, trainer: Trainer, seconds: float, reads: Mapping[str, str]) -> None:
        """reads: which text and which weights, without which a checkpoint is of no use."""
        self._run_dir, self._trainer, self._seconds, self._reads = run_dir, trainer, seconds, dict(reads)
        self._since = time.monotonic()

    def tick(self) -> None:
        if time.monotonic() - self._since >= self._seconds and self._trainer.healthy:
            self.save()

    def save(self) -> None:
        tensors, document = self._trainer.state()
        checkpoint.save(self._run_dir, tensors, {**document, "reads": self._reads})
        self._since = time.monotonic()


def _recovered(trainer: Trainer, job: Job, progress: Progress, total: int) -> list[float | str]:
    """Loss recovered over the first few held-out contexts, or why there is none. Raises Cancelled only.

    Whatever goes wrong is written into the curves and the log, and the training goes on: it may be hours of work, and it does not depend
    on what was looked at.
    """
    try:
        found = measure(
            job.subject,
            dictionaries(trainer, job, "under way"),
            job.piece,
            job.held_out[:LOOKED_AT],
            lambda _done, _of: progress.update(trainer.seen, total, "looking at the loss recovered", "vectors"),
        )
    except Cancelled:
        raise
    except Exception as error:  # noqa: BLE001 - it becomes the reason that the curves give
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
        progress.log(f"the loss recovered could not be looked at after {trainer.seen:,} vectors: {reason}")
        return [reason] * len(trainer.members)
    return [_number_or_why(one) for one in found]


def _number_or_why(metrics: Mapping[str, Any]) -> float | str:
    value = metrics["loss_recovered"]
    return metrics["undefined"]["loss_recovered"] if value is None else value


def _check_names(workspace: Workspace, job: Job, site: Site, request: TrainRequest, run: str) -> None:
    """A dictionary that another run made is not replaced. Raises AtlasError."""
    for name in request.names():
        check_free(workspace, job.subject.info.slug, site, name, lambda info: info.recipe.get("run") == run)


def _publish(run_dir: Path, request: TrainRequest, job: Job, trainer: Trainer, shelved: Sequence[Shelved]) -> None:
    results = [
        {"key": one.info.key, "units": one.info.units, "alpha": one.info.recipe.get("alpha"), "weights": one.hash} for one in shelved
    ]
    write_json(
        run_dir / "manifest.json",
        {
            "schema": SCHEMA,
            "kind": "sae",
            "run": run_dir.name,
            "state": "complete",
            "subject": job.subject.info.to_json(),
            "slice": job.piece.info,
            "request": json.loads(json.dumps(request.params())),
            "tokens_done": trainer.seen,
            "passes": trainer.stream.blocks * request.block / len(job.train),
            "dictionaries": results,
            "provenance": {**job.subject.provenance(), "threads": torch.get_num_threads(), "code": core.__version__},
        },
    )
