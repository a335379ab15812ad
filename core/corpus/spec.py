"""What text to read and how to cut it: the description that a run stores and a slice is made from."""

from dataclasses import asdict, dataclass, fields
from typing import Any

from core.errors import AtlasError

EMBEDDED = "embedded"
HUB_PREFIX = "hub:"
MAX_LENGTH = 4096
MAX_CONTEXTS = 10_000_000


@dataclass(frozen=True)
class CorpusSpec:
    """One choice of text. Raises AtlasError when a value makes no sense.

    source: `embedded`, a path to a file or folder, `hub:NAME`, or the name of a dataset (`NAME` or `NAME:CONFIG`).
    contexts: how many contexts are wanted; a source with less text gives fewer.
    length: tokens in a context, counting a prepended BOS.
    stride: tokens from the start of one context to the start of the next; None puts them side by side.
    bos: prepend the BOS token; None does what the tokenizer does by itself.
    split, revision: of a dataset. field: the column or key that holds the text; None is `text`.
    seed: another seed takes another sample of the embedded text. Files and datasets are read in their own order.
    """

    source: str
    contexts: int
    length: int = 64
    stride: int | None = None
    bos: bool | None = None
    split: str = "train"
    revision: str | None = None
    field: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("source", "split"):
            _check_text(name, getattr(self, name))
        for name in ("revision", "field"):
            if getattr(self, name) is not None:
                _check_text(name, getattr(self, name))
        check_whole("The number of contexts", self.contexts, 1, MAX_CONTEXTS)
        check_whole("The context length", self.length, 2, MAX_LENGTH)
        if self.stride is not None:
            check_whole("The stride", self.stride, 1, self.length, "the context length")
        check_whole("The seed", self.seed, 0, 2**63 - 1)
        if self.bos is not None and not isinstance(self.bos, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise AtlasError("The choice of BOS must be true, false or left out.")

    @property
    def is_embedded(self) -> bool:
        return self.source == EMBEDDED

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: object) -> "CorpusSpec":
        """Read what `to_json` wrote. Raises AtlasError naming an unknown or missing entry."""
        if not isinstance(value, dict):
            raise AtlasError("The description of the text is damaged: it must be a table of names and values.")
        known = {field.name for field in fields(cls)}
        unknown = sorted(str(name) for name in value if name not in known)
        if unknown:
            raise AtlasError(
                f"The description of the text has an entry “{unknown[0][:60]}” that is not known: use {', '.join(sorted(known))}."
            )
        missing = [name for name in ("source", "contexts") if name not in value]
        if missing:
            raise AtlasError(f"The description of the text has no “{missing[0]}”: add it.")
        return cls(**value)


def _check_text(name: str, value: object) -> None:
    """A name or path that a person gave: not empty, not absurd, printable. The type is checked because it may come from JSON."""
    if not isinstance(value, str) or not value.strip():
        raise AtlasError(f"The text's {name} is empty: give one.")
    if len(value) > 4096 or not value.isprintable():
        raise AtlasError(f"The text's {name} is too long or has unprintable characters in it: give another.")


def check_whole(what: str, value: object, low: int, high: int, high_name: str | None = None) -> None:
    """Raises AtlasError unless `value` is a whole number in that range. The type is checked because it may come from JSON."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        shown = f"{high:,}" if high_name is None else f"{high} ({high_name})"
        raise AtlasError(f"{what} must be a whole number from {low} to {shown}, not {str(value)[:40]}.")
