"""What making a dictionary will cost, told before the button: units, tokens, memory, and the time where an earlier run tells it.

No Streamlit. Time is estimated from floating-point operations: those of the model up to the site, and those of the training steps, at the
rate at which an earlier run of the same model did its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from core.bases.fit_request import FitRequest
from core.bases.train_request import TrainRequest, estimate
from core.errors import AtlasError
from core.runs.registry import Run
from core.ui import words
from core.ui.index_estimate import tokens_per_second
from core.units import Site, parse_sites

Shape = Mapping[str, int]
"""`layers`, and the widths of `mlp`, `resid` and `attn`."""
_UNKNOWN_TIME = "the time is unknown: no earlier run of this model tells its speed"


@dataclass(frozen=True)
class Speed:
    """Floating-point operations a second that an earlier run did, loading and all, and which run that was."""

    flops: float
    run: str


def train_expected(request: TrainRequest, shape: Shape | None, runs: Sequence[Run]) -> str:
    """The estimate of a training run in words. shape: None for a model that is not known here yet. Raises AtlasError."""
    many = words.count(len(request.names()), "dictionary", "dictionaries")
    text = f"{words.count(request.steps * request.batch, 'activation vector')} in {words.count(request.steps, 'step')}"
    if shape is None or request.head is not None:
        what = "the model's configuration has been read" if shape is None else "the model says how wide a head is"
        return f"{many}; {text}; units, memory and time are known once {what}."
    d = shape[Site.parse(request.site).kind]
    needs = estimate(request, d)
    units = f"{many} of {words.count(request.units(d), 'unit')} over {d:,} numbers"
    memory = f"at most {words.size(needs.bytes)} of memory beside the model and the program"
    return f"{units}; {text}; {memory}; {_time(train_flops(request, shape), speed(request, shape, runs))}."


def fit_expected(request: FitRequest, shape: Shape | None, runs: Sequence[Run]) -> str:
    """The estimate of a run that fits baselines in words. Raises AtlasError for sites that the model does not have."""
    if shape is None:
        return f"At most {words.count(request.tokens, 'token')} of text; the rest is known once the model's configuration has been read."
    sites = parse_sites(request.sites, shape["layers"])
    units = sum(2 * shape[site.kind] for site in sites) * len(request.families)
    many = words.count(len(sites) * len(request.families), "dictionary", "dictionaries")
    flops = request.tokens * forward_flops(shape, sites[-1].layer)
    reading = _time(flops, speed(request, shape, runs))
    fitting = "; ICA then takes its own time, minutes for a wide site" if "ica" in request.families else ""
    return f"{many} of {words.count(units, 'unit')} in all; reading at most {words.count(request.tokens, 'token')}: {reading}{fitting}."


def converted(request: TrainRequest, shape: Shape | None) -> str:
    """The alphas in the other convention, in words; empty where there are none or the site's width is not known."""
    if request.kind != "tied":
        return ""
    if shape is None or request.head is not None:
        return "An α beside the sum of the squared errors is the same as that α divided by the width of the site beside their mean."
    d = shape[Site.parse(request.site).kind]
    other, where = (request.alphas_beside_sum(d), "sum") if request.mse_reduction == "mean" else ([a / d for a in request.alphas], "mean")
    paper = ", as in the paper's code" if where == "mean" else ", as in the paper's equation"
    alphas = ", ".join(f"{alpha:.4g}" for alpha in other)
    return f"In the other convention, beside the {where} of the squared errors{paper}: α {alphas} (d = {d:,})."


def speed(request: TrainRequest | FitRequest, shape: Shape, runs: Sequence[Run]) -> Speed | None:
    """How fast an earlier run of the same model, numbers and device was: a training run, of the same kind if there is one, else an index.

    runs: the newest first.
    """
    told: list[tuple[int, Speed]] = []
    for run in runs:
        if run.params.get("model") != request.model or run.params.get("dtype", "float32") != request.dtype:
            continue
        if run.params.get("device", "auto") != request.device:
            continue
        flops = _index_flops(run, shape) if run.kind == "index" else _train_flops(run, shape)
        if flops is not None:
            same = isinstance(request, TrainRequest) and run.params.get("kind") == request.kind
            apart = run.kind == "index" if isinstance(request, TrainRequest) else run.kind != "index"
            told.append((0 if same else 2 if apart else 1, Speed(flops, run.id)))
    return min(told, key=lambda one: one[0], default=(0, None))[1]


def train_flops(request: TrainRequest, shape: Shape) -> float:
    """Of the whole training: reading, and the steps."""
    site = Site.parse(request.site)
    needs = estimate(request, shape[site.kind])
    return needs.forward_flops * forward_flops(shape, site.layer) + needs.step_flops


def forward_flops(shape: Shape, layer: int) -> float:
    """Of one token up to a layer: two for each weight of the blocks. Only ratios of it are used, so a gated MLP is taken for granted."""
    d = shape["resid"]
    return (layer + 1) * 2.0 * (4 * d * shape["attn"] + 3 * d * shape["mlp"])


def _time(flops: float, at: Speed | None) -> str:
    return _UNKNOWN_TIME if at is None else f"about {words.duration(flops / at.flops)} at the speed of {at.run}"


def _train_flops(run: Run, shape: Shape) -> float | None:
    """The rate of a finished training run; None when it says nothing."""
    if run.kind != "sae" or run.state != "done" or run.attempt != 1 or not run.started or not run.finished:
        return None
    took = run.finished - run.started
    try:
        request = TrainRequest.from_params(run.params)
        return None if took <= 1 or request.head is not None else train_flops(request, shape) / took
    except (AtlasError, KeyError):
        return None  # made by another version, for a model of another shape


def _index_flops(run: Run, shape: Shape) -> float | None:
    tokens = tokens_per_second(run)
    try:
        sites = parse_sites(str(run.params.get("sites")), shape["layers"])
    except AtlasError:
        return None
    return None if tokens is None else tokens * forward_flops(shape, sites[-1].layer)
