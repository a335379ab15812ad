"""The index run: load the subject, cut the text, read it once, publish, and add what the weights alone say."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import core
from core.bases.basis import Basis, basis_at
from core.corpus.build import build_slice
from core.corpus.slice import Slice
from core.errors import AtlasError
from core.index.bands import BANDS
from core.index.codes import codes_path, covered, remove_segments, write_codes
from core.index.effects import write_effects
from core.index.inputs import InputWriter
from core.index.parts import Part, Share, divide, find_parts, newest_parts, remove_other_parts, write_part
from core.index.reader import ShareReader, contexts_of, deriver, token_totals
from core.index.request import IndexRequest
from core.index.sketch import Sketch
from core.runs.progress import Progress
from core.subject.info import subject_folder
from core.subject.load import load_subject
from core.subject.subject import Subject
from core.subject.tokenizer import SubjectTokenizer
from core.units import Site, parse_sites
from core.vocab import Vocab
from core.workspace import FileNote, Workspace, is_intact, write_json

SCHEMA = 1
_POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Job:
    """Everything a worker needs to read its share."""

    workspace: Workspace
    run_dir: Path
    request: IndexRequest
    subject: Subject
    vocab: Vocab
    piece: Slice
    sites: dict[Site, Basis]

    @property
    def blocks(self) -> int:
        return -(-len(self.piece) // self.request.block)

    def inputs(self) -> InputWriter | None:
        """What keeps the inputs of the sites, for a run that was asked to. One that was complete has kept them, or they were deleted."""
        if not self.request.keep_inputs or _manifest(self.run_dir).get("state") == "complete":
            return None
        return InputWriter(self.run_dir, self.subject, self.sites, self.piece)

    def reader(self, inputs: InputWriter | None) -> ShareReader:
        if inputs is not None:
            inputs.open()
        return ShareReader(self.run_dir, self.subject, self.piece, self.vocab, self.request.basis, self.sites, self.request.block, inputs)


def prepare(workspace: Workspace, run_dir: Path, params: dict[str, Any], progress: Progress) -> Job:
    """Load the model and cut the text. Raises AtlasError for whatever is wrong with the parameters."""
    request = IndexRequest.from_params(params)
    progress.stage("loading the model")
    subject = load_subject(
        workspace, request.model, revision=request.revision, dtype=request.dtype, device=request.device, architecture=request.architecture
    )
    chosen = parse_sites(request.sites, subject.info.n_layers)
    sites = _bases(workspace, run_dir, subject, chosen, request.basis)
    vocab = Vocab.load(subject_folder(workspace, subject.info.slug) / "vocab.parquet")
    progress.stage("cutting the text")
    piece = build_slice(
        workspace,
        request.corpus,
        SubjectTokenizer(subject, vocab),
        lambda done, total, doing: progress.update(done, total, doing, "contexts"),
    )
    return Job(workspace, run_dir, request, subject, vocab, piece, sites)


def run_index(workspace: Workspace, run_dir: Path, params: dict[str, Any], progress: Progress) -> None:
    """Do an index run, or go on with one. Raises AtlasError, and Cancelled when somebody asked for it."""
    job = prepare(workspace, run_dir, params, progress)
    found = find_parts(run_dir, progress.log)
    _remove_damaged(run_dir, progress.log)
    shares = divide(job.blocks, job.request.workers)
    _forget_without_codes(job, found, shares, progress.log)
    inputs, kept = job.inputs(), _manifest(run_dir).get("inputs")
    if inputs is not None and not inputs.is_whole():
        _forget(run_dir, found, "the inputs that it kept are gone", progress.log)
    if inputs is not None:
        inputs.reserve()
    publisher = _Publisher(job, progress)
    begun = sum(part.next_block - shares[number].first for number, part in found.items() if number >= 0)
    progress.update(publisher.contexts(begun), len(job.piece))
    progress.stage("reading the text")
    for share in shares:
        part = found.get(share.number)
        at = part.next_block if part is not None else share.first
        progress.log(f"share {share.number}: blocks {share.first} to {share.end}, starting at {at}")
    if len(shares) == 1:
        part = job.reader(inputs).read(
            shares[0],
            found.get(0),
            job.request.publish_seconds,
            lambda at: progress.update(publisher.contexts(at), len(job.piece)),
            publisher.publish,
        )
    else:
        _read_in_processes(job, progress, publisher)
        part = publisher.merge(newest_parts(run_dir))
    progress.stage("working out the effects on the output")
    effects = write_effects(run_dir, job.subject, job.sites, lambda done, total: progress.update(done, total, "", "sites"))
    sparse = {site: basis.units for site, basis in job.sites.items() if basis.sparse}
    if sparse:
        progress.stage("gathering every activation")
    codes = write_codes(run_dir, sparse)
    if inputs is not None:
        progress.stage("noting the inputs that were kept")
        kept = inputs.notes()
    publisher.publish(part, effects, codes, kept)
    remove_segments(run_dir)
    remove_other_parts(run_dir, "", part.folder.name)
    progress.update(len(job.piece), len(job.piece))


class _Publisher:
    """Puts a manifest over what is on disk."""

    def __init__(self, job: Job, progress: Progress) -> None:
        self._job, self._progress = job, progress

    def contexts(self, blocks: int) -> int:
        return min(blocks * self._job.request.block, len(self._job.piece))

    def merge(self, parts: dict[int, Part]) -> Part:
        """Merge the newest parts of all shares into one."""
        job = self._job
        contexts, block = contexts_of(job.piece), job.request.block
        shares = divide(job.blocks, job.request.workers)
        covered = 0
        totals = np.zeros(job.vocab.size, np.int64)
        sketches: dict[Site, Sketch] = {}
        for number, part in sorted(parts.items()):
            covered += part.next_block - shares[number].first
            totals += token_totals(job.piece, job.vocab.size, shares[number].first * block, part.next_block * block)
            for site, sketch in part.load(job.sites, job.request.basis, contexts).items():
                if site in sketches:
                    sketches[site].merge(sketch)
                else:
                    sketches[site] = sketch
        return write_part(job.run_dir, f"all-{covered:08d}", -1, covered, sketches, deriver(job.piece, job.vocab, totals))

    def try_merged(self, parts: dict[int, Part]) -> bool:
        """Publish what several workers have so far; False when one of them replaced its part while it was being read."""
        try:
            part = self.merge(parts)
        except AtlasError:
            # A part's folder is there until its last file is removed: only that a newer one is there tells that it was replaced.
            newest = newest_parts(self._job.run_dir)
            if all(newest[number].folder == part.folder for number, part in parts.items() if number in newest):
                raise
            return False
        self.publish(part)
        remove_other_parts(self._job.run_dir, "all-", part.folder.name)
        return True

    def publish(
        self, part: Part, effects: dict[str, Any] | None = None, codes: dict[str, Any] | None = None, inputs: dict[str, Any] | None = None
    ) -> None:
        """Replace the manifest by one over `part`. With `effects` the run is complete."""
        contexts = self.contexts(part.next_block)
        job = self._job
        how = job.subject.provenance()
        write_json(
            job.run_dir / "manifest.json",
            {
                "schema": SCHEMA,
                "kind": "index",
                "run": job.run_dir.name,
                "state": "partial" if effects is None else "complete",
                "generation": int(_manifest(job.run_dir).get("generation", 0)) + 1,
                "contexts_done": contexts,
                "contexts_total": len(job.piece),
                "tokens_done": part.tokens,
                "subject": job.subject.info.to_json(),
                "slice": job.piece.info,
                "basis": job.request.basis,
                "units": {str(site): basis.units for site, basis in job.sites.items()},
                "dictionaries": {str(site): said for site, basis in job.sites.items() if (said := basis.said())},
                "sites": [str(site) for site in job.sites],
                "signed": part.signed,
                "bands": dict(BANDS),
                "files": part.files,
                "effects": effects or {},
                "codes": codes or {},
                "inputs": inputs or {},
                "provenance": {
                    **{name: how[name] for name in ("dtype", "device", "matmul", "versions")},
                    "block": job.request.block,
                    "sketch_schema": SCHEMA,
                    "code": core.__version__,
                },
            },
        )
        self._progress.log(f"published {contexts} of {len(job.piece)} contexts")


def _read_in_processes(job: Job, progress: Progress, publisher: _Publisher) -> None:
    """Read the shares in one process each; stop them all when the run is cancelled or one fails."""
    shares = divide(job.blocks, job.request.workers)
    command = [sys.executable, "-m", "core.index.shares", str(job.workspace.path), job.run_dir.name]
    root = Path(core.__file__).resolve().parent.parent
    with (job.run_dir / "log.txt").open("ab") as log:
        workers = [
            subprocess.Popen([*command, str(share.number), str(os.getpid())], cwd=root, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            for share in shares
        ]
        shown = 0
        failed: list[int] = []
        try:
            while any(worker.poll() is None for worker in workers) and not any(worker.poll() for worker in workers):
                parts = newest_parts(job.run_dir)
                done = sum(part.next_block - shares[number].first for number, part in parts.items())
                progress.update(publisher.contexts(done), len(job.piece))
                if len(parts) == len(shares) and done >= 2 * max(shown, 1) and publisher.try_merged(parts):
                    shown = done
                time.sleep(_POLL_SECONDS)
            # Asked before the others are stopped, which then end with a status too.
            failed = [share.number for share, worker in zip(shares, workers, strict=True) if worker.poll()]
        finally:
            for worker in workers:
                worker.terminate()
            for worker in workers:
                worker.wait()
    if failed:
        raise AtlasError(
            f"Worker {failed[0]} of this run stopped early; the end of log.txt says why. Resume goes on from the finished parts."
        )


def _bases(workspace: Workspace, run_dir: Path, subject: Subject, sites: Sequence[Site], name: str) -> dict[Site, Basis]:
    """How each site is read. What a run began with is what it goes on with: another dictionary of the same name is refused."""
    note = run_dir / "dictionaries.json"
    told: dict[str, str] = json.loads(note.read_text("utf8")) if note.exists() else {}
    bases = {site: basis_at(workspace, subject, site, name, told.get(str(site))) for site in sites}
    hashes = {str(site): basis.hash for site, basis in bases.items() if basis.hash}
    if hashes and not told:
        write_json(note, hashes)
    return bases


def _remove_damaged(run_dir: Path, log: Callable[[str], None]) -> None:
    """Remove the published files that are made at the end and are not what was written, so that they are made again."""
    manifest = _manifest(run_dir)
    for what in ("effects", "codes"):
        notes: dict[str, FileNote | None] = manifest.get(what) or {}
        for site, note in notes.items():
            path = run_dir / what / f"{Site.parse(site)}.parquet"  # not the note's own path, which may lead anywhere
            if note is not None and path.exists() and not is_intact(run_dir, {**note, "path": f"{what}/{path.name}"}):
                log(f"removed {what}/{path.name}, which is damaged")
                path.unlink()


def _forget_without_codes(job: Job, found: dict[int, Part], shares: Sequence[Share], log: Callable[[str], None]) -> None:
    """Have the shares read again whose codes are gone: segments go when a run is complete, and its codes file may be lost since."""
    dropped = {site for site, note in (_manifest(job.run_dir).get("codes") or {}).items() if note is None}
    wanted = [site for site, basis in job.sites.items() if basis.sparse and str(site) not in dropped]
    if all(codes_path(job.run_dir, site).exists() for site in wanted):
        return
    for share in shares:
        part = found.get(share.number)
        if part is not None and not covered(job.run_dir, share.number, share.first, part.next_block):
            _forget(job.run_dir, found, "its codes are gone", log, share.number)


def _forget(run_dir: Path, found: dict[int, Part], why: str, log: Callable[[str], None], share: int | None = None) -> None:
    """Have a share, or all of them, read again from the beginning. Older parts that a kill left beside the newest go as well."""
    for number in [number for number in found if share in (None, number)]:
        log(f"share {number} is read again: {why}")
        del found[number]
        remove_other_parts(run_dir, "all-" if number < 0 else f"{number}-", "")


def _manifest(run_dir: Path) -> dict[str, Any]:
    """What the run published last; nothing before the first time, or when the manifest is damaged."""
    try:
        found = json.loads((run_dir / "manifest.json").read_text("utf8"))
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
