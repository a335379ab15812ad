"""What an index will cost before it is started: tokens, units, disk and time. No torch, no Streamlit."""

from collections.abc import Sequence
from dataclasses import dataclass

from core.bases import shelf
from core.index.request import DEFAULT_MODEL, IndexRequest
from core.runs.registry import Run
from core.subject.info import SubjectInfo
from core.units import NEURONS, parse_sites
from core.workspace import Workspace

BYTES_PER_UNIT = 18_000
"""Parquet of one unit with everything in its sketch, measured on SmolLM2 with 64-token contexts."""
_MANY_LAYERS = 10_000
_EMBEDDED_SHAPE = {"layers": 30, "mlp": 1536, "resid": 576, "attn": 576}


@dataclass(frozen=True)
class Estimate:
    """What a request will cost. None where it cannot be told before the first part."""

    tokens: int
    units: int | None
    disk: int | None
    seconds: float | None
    measured_on: str = ""


def estimate(request: IndexRequest, info: SubjectInfo | None, runs: Sequence[Run], units: int | None = None) -> Estimate:
    """Cost of a request: the disk by units, the time by the newest finished run of the same model and basis. Raises AtlasError.

    units: of the dictionaries, for a request that names one.
    """
    units = units_of(request.sites, info, request.model) if units is None else units
    tokens = request.corpus.contexts * request.corpus.length
    seconds, measured = None, ""
    for run in runs:
        speed = tokens_per_second(run)
        same = run.params.get("model") == request.model and run.params.get("basis", NEURONS) == request.basis
        if speed and same and run.params.get("dtype") == request.dtype:
            seconds, measured = tokens / speed, run.id
            break
    return Estimate(tokens, units, None if units is None else units * BYTES_PER_UNIT, seconds, measured)


def units_of(sites: str, info: SubjectInfo | None, model: str) -> int | None:
    """How many units the sites have, or None when the model is not known here yet. Raises AtlasError for sites it has not."""
    shape = shape_of(info, model)
    return None if shape is None else sum(shape[site.kind] for site in parse_sites(sites, shape["layers"]))


def dictionary_units(workspace: Workspace, request: IndexRequest, info: SubjectInfo | None) -> int:
    """How many units the dictionary that a request names has at its sites. Raises AtlasError for a site that has none."""
    subject = request.model if info is None else info.slug
    layers = _MANY_LAYERS if info is None else info.n_layers
    return sum(shelf.find(workspace, subject, site, request.basis).info.units for site in parse_sites(request.sites, layers))


def shape_of(info: SubjectInfo | None, model: str) -> dict[str, int] | None:
    """A model's number of `layers` and the widths of its sites by kind; None when it is not known here yet."""
    if info is not None:
        return {"layers": info.n_layers, **info.widths}
    return _EMBEDDED_SHAPE if model == DEFAULT_MODEL else None


def tokens_per_second(run: Run) -> float | None:
    """The speed of a finished index run over its whole time, at its own context length; None when it says nothing."""
    if run.kind != "index" or run.state != "done" or not run.started or not run.finished or run.unit != "contexts" or run.attempt != 1:
        return None
    seconds = run.finished - run.started
    length = run.params.get("corpus", {}).get("length", 64) if isinstance(run.params.get("corpus"), dict) else 64
    return run.total * length / seconds if seconds > 1 and run.total else None
