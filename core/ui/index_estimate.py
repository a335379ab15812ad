"""What an index will cost before it is started: tokens, units, disk and time. No torch, no Streamlit."""

from collections.abc import Sequence
from dataclasses import dataclass

from core.index.request import DEFAULT_MODEL, IndexRequest
from core.runs.registry import Run
from core.subject.info import SubjectInfo
from core.units import parse_sites

BYTES_PER_UNIT = 18_000
"""Parquet of one unit with everything in its sketch, measured on SmolLM2 with 64-token contexts."""
_EMBEDDED_SHAPE = {"layers": 30, "mlp": 1536, "resid": 576, "attn": 576}


@dataclass(frozen=True)
class Estimate:
    """What a request will cost. None where it cannot be told before the first part."""

    tokens: int
    units: int | None
    disk: int | None
    seconds: float | None
    measured_on: str = ""


def estimate(request: IndexRequest, info: SubjectInfo | None, runs: Sequence[Run]) -> Estimate:
    """Cost of a request: the disk by units, the time by the newest finished run of the same model. Raises AtlasError."""
    units = units_of(request.sites, info, request.model)
    tokens = request.corpus.contexts * request.corpus.length
    seconds, measured = None, ""
    for run in runs:
        speed = tokens_per_second(run)
        if speed and run.params.get("model") == request.model and run.params.get("dtype") == request.dtype:
            seconds, measured = tokens / speed, run.id
            break
    return Estimate(tokens, units, None if units is None else units * BYTES_PER_UNIT, seconds, measured)


def units_of(sites: str, info: SubjectInfo | None, model: str) -> int | None:
    """How many units the sites have, or None when the model is not known here yet. Raises AtlasError for sites it has not."""
    if info is not None:
        shape: dict[str, int] = {"layers": info.n_layers, **info.widths}
    elif model == DEFAULT_MODEL:
        shape = _EMBEDDED_SHAPE
    else:
        return None
    return sum(shape[site.kind] for site in parse_sites(sites, shape["layers"]))


def tokens_per_second(run: Run) -> float | None:
    """The speed of a finished index run over its whole time, at its own context length; None when it says nothing."""
    if run.kind != "index" or run.state != "done" or not run.started or not run.finished or run.unit != "contexts" or run.attempt != 1:
        return None
    seconds = run.finished - run.started
    length = run.params.get("corpus", {}).get("length", 64) if isinstance(run.params.get("corpus"), dict) else 64
    return run.total * length / seconds if seconds > 1 and run.total else None
