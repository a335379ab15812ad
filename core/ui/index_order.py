"""What a person asks for when starting an index: checked, turned into a run's parameters, and estimated. No torch, no Streamlit."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from core.corpus.spec import EMBEDDED, CorpusSpec
from core.errors import AtlasError
from core.runs.registry import Run
from core.subject.info import SubjectInfo
from core.units import parse_sites

DEFAULT_MODEL = "smollm2-135m-instruct"
DEFAULT_CONTEXTS = 4096
DTYPES = ("float32", "bfloat16")
BYTES_PER_UNIT = 18_000
"""Parquet of one unit with everything in its sketch, measured on SmolLM2 with 64-token contexts."""
MANY_LAYERS = 10_000
_EMBEDDED_SHAPE = {"layers": 30, "mlp": 1536, "resid": 576, "attn": 576}


@dataclass(frozen=True)
class IndexOrder:
    """Model, text and what to read. Empty strings mean “not given”. `bos` None does what the tokenizer does by itself."""

    model: str = DEFAULT_MODEL
    revision: str = ""
    source: str = EMBEDDED
    split: str = ""
    text_revision: str = ""
    text_field: str = ""
    contexts: int = DEFAULT_CONTEXTS
    length: int = 64
    stride: int | None = None
    bos: bool | None = None
    sites: str = "mlp.all"
    dtype: str = "float32"

    def checked(self, layers: int | None) -> "IndexOrder":
        """The same without stray spaces, if it can be asked for. layers: of the model, None when unknown. Raises AtlasError."""
        tidy = replace(self, **{name: value.strip() for name, value in vars(self).items() if isinstance(value, str)})
        if tidy.model == "default":
            tidy = replace(tidy, model=DEFAULT_MODEL)
        if not tidy.model or not tidy.model.isprintable() or len(tidy.model) > 1024:
            raise AtlasError("No model was named: choose one, or write a Hugging Face id such as EleutherAI/pythia-70m or a folder's path.")
        if not tidy.source:
            raise AtlasError("No text was named: choose the embedded text, or write a file's or folder's path or a dataset's name.")
        if tidy.dtype not in DTYPES:
            raise AtlasError(f"“{tidy.dtype[:40]}” is not a number format: choose {' or '.join(DTYPES)}.")
        parse_sites(tidy.sites, layers or MANY_LAYERS)
        for what, name in (("model", tidy.model), ("text", tidy.source)):
            if looks_like_path(name) and not Path(name).expanduser().exists():
                raise AtlasError(f"There is nothing at {name[:200]}: check the path of the {what}.")
        tidy.corpus()
        return tidy

    def corpus(self) -> CorpusSpec:
        """The text as the corpus reads it. Raises AtlasError for values that make no sense."""
        return CorpusSpec(
            source=self.source,
            contexts=self.contexts,
            length=self.length,
            stride=self.stride,
            bos=self.bos,
            split=self.split or "train",
            revision=self.text_revision or None,
            field=self.text_field or None,
        )

    def params(self) -> dict[str, Any]:
        """The parameters of the run. Equal requests give equal parameters, so that they are not done twice."""
        return {
            "model": self.model,
            "revision": self.revision or None,
            "corpus": self.corpus().to_json(),
            "sites": self.sites,
            "dtype": self.dtype,
        }


@dataclass(frozen=True)
class Estimate:
    """What a request will cost. None where it cannot be told before the first part."""

    tokens: int
    units: int | None
    disk: int | None
    seconds: float | None
    measured_on: str = ""


def looks_like_path(name: str) -> bool:
    """Whether a person means a place on this machine: hub ids and dataset names do not begin so."""
    return name.startswith(("/", "./", "../", "~", "\\"))


def units_of(sites: str, info: SubjectInfo | None, model: str) -> int | None:
    """How many units the sites have, or None when the model is not known here yet. Raises AtlasError for sites it has not."""
    if info is not None:
        shape: dict[str, int] = {"layers": info.n_layers, **info.widths}
    elif model == DEFAULT_MODEL:
        shape = _EMBEDDED_SHAPE
    else:
        return None
    return sum(shape[site.kind] for site in parse_sites(sites, shape["layers"]))


def estimate(request: IndexOrder, info: SubjectInfo | None, runs: Sequence[Run]) -> Estimate:
    """Cost of a request: the disk by units, the time by the newest finished run of the same model. Raises AtlasError."""
    units = units_of(request.sites, info, request.model)
    tokens = request.contexts * request.length
    seconds, measured = None, ""
    for run in runs:
        speed = tokens_per_second(run)
        if speed and run.params.get("model") == request.model and run.params.get("dtype") == request.dtype:
            seconds, measured = tokens / speed, run.id
            break
    return Estimate(tokens, units, None if units is None else units * BYTES_PER_UNIT, seconds, measured)


def tokens_per_second(run: Run) -> float | None:
    """The speed of a finished index run over its whole time, at its own context length; None when it says nothing."""
    if run.kind != "index" or run.state != "done" or not run.started or not run.finished or run.unit != "contexts" or run.attempt != 1:
        return None
    seconds = run.finished - run.started
    length = run.params.get("corpus", {}).get("length", 64) if isinstance(run.params.get("corpus"), dict) else 64
    return run.total * length / seconds if seconds > 1 and run.total else None
