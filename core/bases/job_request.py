"""What runs over dictionaries have in common: which model, and which text. No torch."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Self

from core.corpus.sources import check_source
from core.corpus.spec import EMBEDDED, CorpusSpec
from core.errors import AtlasError, shown
from core.subject.architectures import named_architecture

DEFAULT_MODEL = "smollm2-135m-instruct"
DTYPES = ("float32", "bfloat16")
MAX_HEAD = 10_000
"""Heads are counted up to here before the model is known."""
_LONGEST = 1024
_DEVICE = re.compile(r"auto|(cpu|cuda|mps)(:\d{1,3})?")


@dataclass(frozen=True)
class JobRequest:
    """Model and text. Raises AtlasError for a value that makes no sense, whatever its type.

    model, revision, dtype, device, architecture: as `load_subject` takes them. corpus: the text, of which `held_out.split` keeps a part
    for measuring.
    """

    WHAT: ClassVar[str] = "A run"
    LISTS: ClassVar[tuple[str, ...]] = ()
    """Parameters that are tuples here and lists in JSON."""

    corpus: CorpusSpec = field(default_factory=lambda: CorpusSpec(EMBEDDED, 4096))
    model: str = DEFAULT_MODEL
    revision: str | None = None
    dtype: str = "float32"
    device: str = "auto"
    architecture: str | None = None

    def __post_init__(self) -> None:
        if not is_text(self.model):
            raise AtlasError("No model was named: choose one, or write a Hugging Face id such as EleutherAI/pythia-70m or a folder's path.")
        if self.revision is not None and not is_text(self.revision):
            raise AtlasError(f"“{shown(str(self.revision))}” is not a revision: write a branch, a tag or a commit.")
        if self.dtype not in DTYPES:
            raise AtlasError(f"“{shown(str(self.dtype))}” is not a number format: choose {' or '.join(DTYPES)}.")
        if _DEVICE.fullmatch(str(self.device)) is None:
            raise AtlasError(f"“{shown(str(self.device))}” is not a device: choose auto, cpu, cuda, cuda:1 or mps.")
        if self.architecture is not None:
            named_architecture(str(self.architecture))

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Self:
        """Read a run's parameters, or what a person typed. Those left out or null take their defaults. Raises AtlasError."""
        names = {one.name for one in fields(cls)}
        unknown = sorted(str(name) for name in params if name not in names)
        if unknown:
            raise AtlasError(f"{cls.WHAT} has no parameter “{shown(unknown[0])}”: leave it out.")
        given = _tidy(params)
        if "corpus" in given:
            corpus = given["corpus"]
            given["corpus"] = CorpusSpec.from_json(_tidy(corpus) if isinstance(corpus, Mapping) else corpus)
        if given.get("model") == "default":
            given["model"] = DEFAULT_MODEL
        for name in cls.LISTS:
            if isinstance(given.get(name), list):
                given[name] = tuple(given[name])
        return cls(**given)

    def params(self) -> dict[str, Any]:
        """The parameters of the run. Equal requests give equal parameters, so that they are not done twice."""
        values = {name: getattr(self, name) for name in (one.name for one in fields(self))}
        values["corpus"] = self.corpus.to_json()
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    def check_here(self) -> None:
        """What can be said at once of a request made on this machine: paths that are not there. Raises AtlasError."""
        if self.model.startswith(("/", "./", "../", "~", "\\")) and not os.path.exists(os.path.expanduser(self.model)):
            raise AtlasError(f"There is nothing at {self.model[:200]}: check the path of the model.")
        check_source(self.corpus)


def is_text(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _LONGEST and value.isprintable() and not value.isspace()


def _tidy(given: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is null, and without spaces around text."""
    return {name: value.strip() if isinstance(value, str) else value for name, value in given.items() if value is not None}
