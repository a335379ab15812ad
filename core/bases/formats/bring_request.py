"""The parameters of a run that brings in a published dictionary. No torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from core.bases.job_request import JobRequest, is_text
from core.corpus.spec import EMBEDDED, CorpusSpec
from core.errors import AtlasError, shown
from core.units import Site, check_slug

CONTEXTS = 256


@dataclass(frozen=True)
class BringRequest(JobRequest):
    """What to bring, and a little text to measure it on. Raises AtlasError for a value that makes no sense, whatever its type.

    model, revision, dtype, device, architecture: the subject, as `load_subject` takes it. source: a folder, a file or a hub id. file: which
    dictionary there, where there are several. source_revision: of the hub's repository. name: what to call it, None to make one up. site:
    for files that do not say. any_model: also when the file names another model, or none.
    """

    WHAT: ClassVar[str] = "A run that brings in a dictionary"

    corpus: CorpusSpec = field(default_factory=lambda: CorpusSpec(EMBEDDED, CONTEXTS))
    source: str = ""
    file: str | None = None
    source_revision: str | None = None
    name: str | None = None
    site: str | None = None
    any_model: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not is_text(self.source):
            raise AtlasError("No dictionary was named: give a folder, a file, or a hub id such as owner/name.")
        for what, value in (("file", self.file), ("revision", self.source_revision)):
            if value is not None and not is_text(value):
                raise AtlasError(f"“{shown(str(value))}” is not a {what} of a dictionary's source: leave it out, or give its name.")
        if self.name is not None:
            check_slug(str(self.name), "basis")
        if self.site is not None:
            Site.parse(str(self.site))
        if not isinstance(self.any_model, bool):  # pyright: ignore[reportUnnecessaryIsInstance] - it may come from JSON
            raise AtlasError("Whether any model will do must be true or false.")

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Self:
        optional = ("file", "source_revision", "name", "site", "revision", "architecture")
        return super().from_params({name: None if name in optional and value == "" else value for name, value in params.items()})
