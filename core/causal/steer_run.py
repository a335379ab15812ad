"""The run that steers: two texts written side by side, each token on disk as it comes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import core
from core.bases.basis import Basis, basis_at
from core.causal.as_indexed import dtype_of, own_text
from core.causal.change import UnitChange
from core.causal.steer import Held, Sampling, Step, Written, write
from core.causal.steer_files import SCHEMA, Stream
from core.causal.steer_request import Driven, SteerRequest
from core.errors import AtlasError
from core.runs.progress import Progress
from core.store.catalog import IndexInfo
from core.store.steered import SIDES
from core.subject.loaded import kept_subject
from core.subject.subject import Subject
from core.units import Site
from core.workspace import Workspace


def run_steer(workspace: Workspace, run_dir: Path, params: dict[str, Any], progress: Progress) -> None:
    """Write, or go on after the last whole line of the stream. Raises AtlasError, and Cancelled; what was written stays."""
    request = SteerRequest.from_params(params)
    units = request.driven(workspace)
    index = units[0].index
    subject = kept_subject(
        workspace, request.subject, dtype=dtype_of(index), weights_hash=index.subject["weights_hash"], say=progress.stage
    )
    bases = _bases(workspace, subject, units)
    text, first = _begun(subject, request, index)
    stream = Stream(run_dir, _head(run_dir, subject, request, units, bases, text, first))
    progress.stage("writing")
    progress.update(len(stream.steps), request.tokens, "", "tokens")
    sampling = Sampling(request.temperature, request.top_p, request.seed)
    before = [_step(line) for line in stream.steps]
    for step in write(subject, text, first, _held(units, bases), request.mode, request.where, sampling, request.tokens, before):
        stream.add({side: _told(getattr(step, side)) for side in SIDES})
        progress.update(len(stream.steps), request.tokens, "", "tokens")
    stream.complete()


def _bases(workspace: Workspace, subject: Subject, units: Sequence[Driven]) -> dict[tuple[Site, str], Basis]:
    """Raises AtlasError for a dictionary that is not the one that was indexed, or that cannot be changed at its site."""
    found: dict[tuple[Site, str], Basis] = {}
    for unit in units:
        name = unit.name
        if unit.index.subject["weights_hash"] != subject.info.weights_hash:
            raise AtlasError(f"{name} was indexed with other weights of {name.subject} than the other units: index its site again.")
        key = (name.site, name.basis)
        if key not in found:
            told = str(unit.index.dictionary(name.site).get("weights_sha256", ""))
            found[key] = basis_at(workspace, subject, name.site, name.basis, told or None)
        UnitChange(found[key], torch.tensor([name.index]), "zero")  # refuses what cannot be changed, before anything is written
    return found


def _held(units: Sequence[Driven], bases: dict[tuple[Site, str], Basis]) -> list[Held]:
    made: list[Held] = []
    for key, basis in bases.items():
        group = [unit for unit in units if (unit.name.site, unit.name.basis) == key]
        made.append(Held(basis, torch.tensor([unit.name.index for unit in group]), torch.tensor([unit.amount for unit in group])))
    return made


def _begun(subject: Subject, request: SteerRequest, index: IndexInfo) -> tuple[tuple[int, ...], int]:
    """The text's tokens after the BOS of the index, if it has one, and where the text begins. Raises AtlasError: empty, or no room left."""
    tokens, first = own_text(subject, request.text, index)
    room = subject.info.context_limit - len(tokens)
    if request.tokens > room:
        limit = f"{subject.info.slug} reads at most {subject.info.context_limit:,} tokens"
        rest = f", or write at most {room:,} tokens" if room else ""
        raise AtlasError(f"{limit}, and the text has {len(tokens) - first:,}: shorten it{rest}.")
    return tokens, first


def _head(
    run_dir: Path,
    subject: Subject,
    request: SteerRequest,
    units: Sequence[Driven],
    bases: dict[tuple[Site, str], Basis],
    text: Sequence[int],
    first: int,
) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "kind": "steer",
        "run": run_dir.name,
        "request": request.to_params(),
        "subject": subject.info.to_json(),
        "units": [{**unit.said(), "dictionary": bases[unit.name.site, unit.name.basis].said()} for unit in units],
        "tokens": list(text),
        "first": first,
        "provenance": {**subject.provenance(), "code": core.__version__},
    }


def _told(one: Written | None) -> dict[str, Any] | None:
    return None if one is None else {"token": one.token, "log_p": one.log_p, "top": [list(entry) for entry in one.top]}


def _step(line: dict[str, Any]) -> Step:
    """What an earlier attempt wrote; its likeliest tokens are in the stream and not needed again."""
    written = [None if line[side] is None else Written(int(line[side]["token"]), float(line[side]["log_p"]), ()) for side in SIDES]
    return Step(*written)
