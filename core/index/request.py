"""The parameters of an index run, as they stand in its params.json."""

from dataclasses import dataclass
from typing import Any

from core.corpus.spec import CorpusSpec
from core.errors import AtlasError

MAX_WORKERS = 64


@dataclass(frozen=True)
class IndexRequest:
    """What to index and how.

    model, revision, dtype, device, architecture: as `load_subject` takes them. corpus: the text. sites: a choice such as `mlp.all`.
    workers: processes that share the contexts. block: contexts in one forward pass; blocks are the same however the work is divided,
    so that the numbers are. publish_seconds: work between two publications, which are also the points to resume from.
    """

    corpus: CorpusSpec
    model: str = "default"
    revision: str | None = None
    sites: str = "mlp.all"
    dtype: str = "float32"
    device: str = "auto"
    architecture: str | None = None
    workers: int = 1
    block: int = 32
    publish_seconds: float = 30.0

    @classmethod
    def from_params(cls, params: dict[str, Any]) -> "IndexRequest":
        """Read a run's parameters; those left out take their defaults. Raises AtlasError naming what is wrong."""
        given = {name: value for name, value in params.items() if value is not None}
        unknown = sorted(set(params) - set(cls.__dataclass_fields__))
        if unknown:
            raise AtlasError(f"An index run has no parameter “{unknown[0][:60]}”: leave it out.")
        if "corpus" not in given:
            raise AtlasError("An index run needs a text: give its source, such as embedded or a folder's path.")
        request = cls(CorpusSpec.from_json(given.pop("corpus")), **given)
        if not 1 <= request.workers <= MAX_WORKERS:
            raise AtlasError(f"{request.workers} workers are not possible: choose 1 to {MAX_WORKERS}.")
        if not 1 <= request.block <= 4096:
            raise AtlasError(f"{request.block} contexts in a forward pass are not possible: choose 1 to 4096.")
        return request
