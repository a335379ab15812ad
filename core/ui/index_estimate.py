"""What an index will cost before it is started: tokens, units, disk and time. No torch, no Streamlit."""

from collections.abc import Sequence
from dataclasses import dataclass

from core.bases import shelf
from core.bases.curves import load_curves
from core.bases.info import BasisInfo
from core.index.request import DEFAULT_MODEL, MAX_CODES, IndexRequest
from core.runs.registry import Run
from core.subject.info import SubjectInfo
from core.units import NEURONS, Site, parse_sites
from core.workspace import Workspace

BYTES_PER_UNIT = 18_000
"""Parquet of one unit with everything in its sketch, measured on SmolLM2 with 64-token contexts."""
BYTES_PER_CODE = 13
"""Parquet of one activation of a sparse dictionary, as measured: 7 that stay, and 6 that go when they are gathered by unit."""
BYTES_PER_INPUT = 2
"""One number of a site's kept input."""
_MANY_LAYERS = 10_000
_EMBEDDED_SHAPE = {"layers": 30, "mlp": 1536, "resid": 576, "attn": 576}


@dataclass(frozen=True)
class Estimate:
    """What a request will cost. None where it cannot be told before the first part.

    disk: of all that is kept, at the moment when most is. codes: those of its features that are kept; None where nothing tells how many,
    and then they are not in `disk`.
    """

    tokens: int
    units: int | None
    disk: int | None
    seconds: float | None
    measured_on: str = ""
    codes: int | None = 0


@dataclass(frozen=True)
class Features:
    """The dictionaries that a request names: their units together, and how many of each site's are active on a token.

    active: of each sparse dictionary; None in it where that is not known. Of one that is not sparse no code is kept.
    """

    units: int
    active: tuple[float | None, ...] = ()

    def codes(self, tokens: int) -> int | None:
        """Codes that are kept of so many tokens; None where one of them is not known."""
        total = 0
        for each in self.active:
            if each is None:
                return None
            total += min(round(each * tokens), MAX_CODES)
        return total


def estimate(request: IndexRequest, info: SubjectInfo | None, runs: Sequence[Run], features: Features | None = None) -> Estimate:
    """What a request costs: disk by units, codes, inputs; time by the newest finished run of the same model and basis. Raises AtlasError.

    features: of the dictionaries, for a request that names one.
    """
    units = units_of(request.sites, info, request.model) if features is None else features.units
    tokens = request.corpus.contexts * request.corpus.length
    seconds, measured = None, ""
    for run in runs:
        speed = tokens_per_second(run)
        same = run.params.get("model") == request.model and run.params.get("basis", NEURONS) == request.basis
        if speed and same and run.params.get("dtype") == request.dtype:
            seconds, measured = tokens / speed, run.id
            break
    codes = 0 if features is None else features.codes(tokens)
    disk = None if units is None else units * BYTES_PER_UNIT + (codes or 0) * BYTES_PER_CODE
    shape = shape_of(info, request.model)
    if request.keep_inputs and disk is not None and shape is not None:
        disk += tokens * BYTES_PER_INPUT * sum(_input_width(shape, site) for site in parse_sites(request.sites, shape["layers"]))
    return Estimate(tokens, units, disk, seconds, measured, codes)


def units_of(sites: str, info: SubjectInfo | None, model: str) -> int | None:
    """How many units the sites have, or None when the model is not known here yet. Raises AtlasError for sites it has not."""
    shape = shape_of(info, model)
    return None if shape is None else sum(shape[site.kind] for site in parse_sites(sites, shape["layers"]))


def _input_width(shape: dict[str, int], site: Site) -> int:
    """Numbers that are kept of a token at a site. (The few models whose MLPs have no module of their own keep more.)"""
    return min(shape["mlp"], shape["resid"]) if site.kind == "mlp" else shape[site.kind]


def features_of(workspace: Workspace, request: IndexRequest, info: SubjectInfo | None) -> Features:
    """The dictionaries that a request names at its sites. Raises AtlasError for a site that has none."""
    subject = request.model if info is None else info.slug
    layers = _MANY_LAYERS if info is None else info.n_layers
    found = [shelf.find(workspace, subject, site, request.basis).info for site in parse_sites(request.sites, layers)]
    return Features(sum(one.units for one in found), tuple(_active(workspace, one) for one in found if one.sparse))


def _active(workspace: Workspace, info: BasisInfo) -> float | None:
    """Units active on a token: as measured, else the k, else at the end of the training; None where nothing tells."""
    measured = info.metrics.get("l0")
    if isinstance(measured, int | float):
        return float(measured)
    if info.k is not None:
        return float(info.k)
    run = info.recipe.get("run")
    if not isinstance(run, str) or not run.isprintable() or "/" in run:
        return None
    last = next((line for line in reversed(load_curves(workspace.runs / run)) if line.get("name") == info.name), {})
    found = last.get("l0")
    return float(found) if isinstance(found, int | float) else None


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
