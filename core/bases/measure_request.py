"""The parameters of a run that measures dictionaries on held-out text. No torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self, cast

from core.bases.info import BasisInfo
from core.bases.job_request import JobRequest
from core.corpus.sources import local_path
from core.corpus.spec import EMBEDDED, MAX_CONTEXTS, CorpusSpec, check_whole
from core.errors import AtlasError, shown
from core.units import Site, check_slug

HELD_OUT_CORPUS: Mapping[str, Any] = {"source": EMBEDDED, "contexts": 16_384}
"""The text for dictionaries that do not say what they were trained on."""


@dataclass(frozen=True)
class MeasureRequest(JobRequest):
    """dictionaries: keys subject/site/name, all of one subject, which is the model unless another name of it is given.

    contexts: of the held-out part of the text, at most. output_contexts: of those, how many are read by the whole model with the site
    replaced; 0 for none.
    """

    WHAT: ClassVar[str] = "A run that measures dictionaries"
    LISTS: ClassVar[tuple[str, ...]] = ("dictionaries",)

    dictionaries: tuple[str, ...] = ()
    contexts: int = 2048
    output_contexts: int = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.dictionaries, tuple) or not self.dictionaries:  # pyright: ignore[reportUnnecessaryIsInstance] - from JSON
            raise AtlasError("No dictionary was named: write one as subject/site/name.")
        subjects = {split_key(key)[0] for key in self.dictionaries}
        if len(subjects) > 1:
            raise AtlasError(f"Dictionaries of {' and '.join(sorted(subjects))} cannot be measured in one run: start one for each model.")
        check_whole("The number of held-out contexts", self.contexts, 1, MAX_CONTEXTS)
        check_whole("The number of contexts read by the whole model", self.output_contexts, 0, MAX_CONTEXTS)

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Self:
        keys = params.get("dictionaries")
        if params.get("model") is None and isinstance(keys, list | tuple) and keys:
            params = {**params, "model": split_key(keys[0])[0]}
        return super().from_params(params)

    @property
    def subject(self) -> str:
        return split_key(self.dictionaries[0])[0]


def text_for(info: BasisInfo) -> dict[str, Any]:
    """The text that a dictionary is measured on unless another is asked for: that of its training, of which a part was held out.

    An export that was brought in names a file without its folder, which says nothing here.
    """
    corpus = info.recipe.get("corpus")
    if not isinstance(corpus, Mapping):
        return dict(HELD_OUT_CORPUS)
    made_from = dict(cast(Mapping[str, Any], corpus))
    elsewhere = "brought" in info.recipe and local_path(CorpusSpec.from_json(made_from)) is not None
    return dict(HELD_OUT_CORPUS) if elsewhere else made_from


def split_key(key: object) -> tuple[str, Site, str]:
    """Subject, site and name of `subject/site/name`. Raises AtlasError."""
    parts = str(key).split("/")
    if len(parts) != 3:
        raise AtlasError(f"“{shown(str(key))}” is not a dictionary's address: write subject/site/name.")
    return check_slug(parts[0], "subject"), Site.parse(parts[1]), check_slug(parts[2], "basis")
