"""The parameters of an index run, as they stand in its params.json: what they are, and which values make sense. No torch."""

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from core.corpus.sources import check_source
from core.corpus.spec import EMBEDDED, CorpusSpec, check_whole
from core.errors import AtlasError, shown
from core.subject.architectures import named_architecture
from core.units import NEURONS, check_slug, parse_sites

DEFAULT_MODEL = "smollm2-135m-instruct"
DEFAULT_CONTEXTS = 4096
DTYPES = ("float32", "bfloat16")
MAX_WORKERS = 64
MAX_BLOCK = 4096
MAX_PUBLISH_SECONDS = 86_400.0
MAX_CODES = 200_000_000
"""A site's codes beyond this many are not kept: a dictionary this dense is not sparse."""
MAX_PAIRS = 8192
"""Co-activation is counted for dictionaries of at most this many units: the table of all pairs then has 256 MiB."""
_MANY_LAYERS = 10_000
_LONGEST = 1024
_DEVICE = re.compile(r"auto|(cpu|cuda|mps)(:\d{1,3})?")


@dataclass(frozen=True)
class IndexRequest:
    """What to index and how. Raises AtlasError for a value that makes no sense, whatever its type.

    model, revision, dtype, device, architecture: as `load_subject` takes them. corpus: the text. sites: a choice such as `mlp.all`.
    basis: how they are read as units, `neurons` or the name of a dictionary that each of the sites has.
    workers: processes that share the contexts. block: contexts in one forward pass; blocks are the same however the work is divided,
    so that the numbers are. publish_seconds: work between two publications, which are also the points to resume from. keep_inputs: whether
    the inputs of the sites are kept (`core.index.inputs`), so that explaining reads them and not the model again.
    """

    corpus: CorpusSpec = field(default_factory=lambda: CorpusSpec(EMBEDDED, DEFAULT_CONTEXTS))
    model: str = DEFAULT_MODEL
    revision: str | None = None
    sites: str = "mlp.all"
    dtype: str = "float32"
    device: str = "auto"
    architecture: str | None = None
    basis: str = NEURONS
    workers: int = 1
    block: int = 32
    publish_seconds: float = 30.0
    keep_inputs: bool = False

    def __post_init__(self) -> None:
        if not _is_text(self.model):
            raise AtlasError("No model was named: choose one, or write a Hugging Face id such as EleutherAI/pythia-70m or a folder's path.")
        if self.revision is not None and not _is_text(self.revision):
            raise AtlasError(f"“{shown(str(self.revision))}” is not a revision: write a branch, a tag or a commit.")
        if self.dtype not in DTYPES:
            raise AtlasError(f"“{shown(str(self.dtype))}” is not a number format: choose {' or '.join(DTYPES)}.")
        if not isinstance(self.sites, str):  # pyright: ignore[reportUnnecessaryIsInstance] - it may come from JSON
            raise AtlasError(f"“{shown(str(self.sites))}” is not a choice of sites: write mlp.all, resid.0-5 or mlp.3,attn.3.")
        parse_sites(self.sites, _MANY_LAYERS)
        if not isinstance(self.basis, str):  # pyright: ignore[reportUnnecessaryIsInstance] - it may come from JSON
            raise AtlasError(f"“{shown(str(self.basis))}” is not the name of a basis: write neurons or a dictionary's name.")
        check_slug(self.basis, "basis")
        if _DEVICE.fullmatch(str(self.device)) is None:
            raise AtlasError(f"“{shown(str(self.device))}” is not a device: choose auto, cpu, cuda, cuda:1 or mps.")
        if self.architecture is not None:
            named_architecture(str(self.architecture))
        check_whole("The number of workers", self.workers, 1, MAX_WORKERS)
        check_whole("The number of contexts in a forward pass", self.block, 1, MAX_BLOCK)
        if not isinstance(self.keep_inputs, bool):  # pyright: ignore[reportUnnecessaryIsInstance] - it may come from JSON
            raise AtlasError(f"“{shown(str(self.keep_inputs))}” does not say whether to keep the sites' inputs: write true or false.")
        if not _is_number(self.publish_seconds) or not 0 <= self.publish_seconds <= MAX_PUBLISH_SECONDS:
            raise AtlasError(
                f"The seconds between two publications must be a number from 0 to {MAX_PUBLISH_SECONDS:,.0f},"
                f" not {shown(str(self.publish_seconds))}."
            )

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> "IndexRequest":
        """Read a run's parameters, or what a person typed into a form or a command.

        Those left out, null, and optional ones that are empty take their defaults; spaces around text are dropped. Raises AtlasError naming
        what is wrong.
        """
        unknown = sorted(str(name) for name in params if name not in cls.__dataclass_fields__)
        if unknown:
            raise AtlasError(f"An index run has no parameter “{shown(unknown[0])}”: leave it out.")
        given = _tidy(params, ("revision", "architecture"))
        if "corpus" not in given:
            raise AtlasError("An index run needs a text: give its source, such as embedded or a folder's path.")
        corpus = given.pop("corpus")
        if isinstance(corpus, Mapping):
            corpus = _tidy(corpus, ("split", "revision", "field"))
            if corpus.get("source") == "":
                raise AtlasError("No text was named: choose the embedded text, or write a file's or folder's path or a dataset's name.")
        if given.get("model") == "default":
            given["model"] = DEFAULT_MODEL
        return cls(CorpusSpec.from_json(corpus), **given)

    def params(self) -> dict[str, Any]:
        """The parameters of the run. Equal requests give equal parameters, so that they are not done twice."""
        always = {"model": self.model, "revision": self.revision, "corpus": self.corpus.to_json(), "sites": self.sites, "dtype": self.dtype}
        how = {
            name: getattr(self, name) for name in ("device", "architecture", "basis", "workers", "block", "publish_seconds", "keep_inputs")
        }
        return always | {name: value for name, value in how.items() if value != type(self).__dataclass_fields__[name].default}

    def check_here(self, layers: int | None) -> None:
        """What can be said at once of a request made on this machine: paths with nothing to read, fields of text without any, layers.

        layers: of the model, None when it is not known. Raises AtlasError.
        """
        if layers is not None:
            parse_sites(self.sites, layers)
        if _looks_like_path(self.model) and not os.path.exists(os.path.expanduser(self.model)):
            raise AtlasError(f"There is nothing at {self.model[:200]}: check the path of the model.")
        folder = os.path.expanduser(self.model)
        if _looks_like_path(self.model) and os.path.isdir(folder) and not os.path.isfile(os.path.join(folder, "config.json")):
            raise AtlasError(f"The folder {self.model[:200]} holds no model: there is no config.json in it.")
        check_source(self.corpus)


def _tidy(given: Mapping[str, Any], optional: tuple[str, ...]) -> dict[str, Any]:
    """Without what is null, without spaces around text, and without those of the `optional` ones that are empty."""
    values = {name: value.strip() if isinstance(value, str) else value for name, value in given.items() if value is not None}
    return {name: value for name, value in values.items() if value != "" or name not in optional}


def _is_text(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _LONGEST and value.isprintable() and not value.isspace()


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _looks_like_path(name: str) -> bool:
    """Whether a person means a place on this machine: hub ids do not begin so."""
    return name.startswith(("/", "./", "../", "~", "\\"))
