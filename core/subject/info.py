"""What is known about a subject without loading it: `subjects/<slug>/subject.json`. No torch."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from core.errors import AtlasError
from core.units import SITE_KINDS, SiteKind, check_slug
from core.workspace import Workspace

IMPORTED_SOURCE = "imported"
"""The source of a model that only another program's files speak of: it cannot be loaded, and of its size only what they say is known."""
_NUMBERS = ("n_layers", "d_model", "vocab_size", "context_limit")
_TEXTS = ("slug", "source", "architecture", "tokenizer_hash", "weights_hash", "name_or_path")


@dataclass(frozen=True)
class SubjectInfo:
    """The card of one registered subject. Its fields are those of subject.json."""

    slug: str
    source: str
    """Where the weights come from: `embedded`, `folder` or `hub`; `imported` where only another program's files speak of the model."""
    revision: str | None
    """The hub's commit, or the embedded package's version; None for a folder."""
    architecture: str
    """A name in the table of architectures, or the module paths given by hand (`blocks=...,mlp=...,attn=...`)."""
    n_layers: int
    d_model: int
    widths: dict[SiteKind, int]
    """How many units each kind of site has: the same in every layer."""
    vocab_size: int
    """How many output tokens the model has logits for."""
    context_limit: int
    """The longest context in tokens."""
    bos_token_id: int | None
    tokenizer_hash: str
    """Hash of what the tokenizer does: every token's bytes, and the ids of a fixed probe text."""
    weights_hash: str
    """SHA-256 over the contents of the safetensors files, in the order of their names."""
    name_or_path: str
    """What the model is loaded from: a hub id, a folder, or the embedded package."""

    def to_json(self) -> dict[str, Any]:
        """The object that stands in subject.json, manifests and provenance."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Any) -> "SubjectInfo":
        """The inverse of `to_json`. Raises AtlasError for a missing, unknown or mistyped field."""
        try:
            found = {field.name: value[field.name] for field in fields(cls)}
            numbers = [found[name] for name in _NUMBERS] + [found["widths"][kind] for kind in SITE_KINDS]
            least = 0 if found["source"] == IMPORTED_SOURCE else 1
            sound = len(found) == len(value) and all(type(number) is int and number >= least for number in numbers)
            sound = sound and all(type(found[name]) is str for name in _TEXTS)
        except (TypeError, KeyError):
            sound = False
        if not sound:
            raise AtlasError("The description of a model (subject.json) is damaged: load the model again by its path or name.")
        return cls(**value)


def subject_info(workspace: Workspace, slug: str) -> SubjectInfo:
    """The card of a registered subject. Raises AtlasError for an unknown slug or a damaged file."""
    path = subject_folder(workspace, slug) / "subject.json"
    try:
        return SubjectInfo.from_json(json.loads(path.read_text("utf8")))
    except FileNotFoundError:
        raise AtlasError(f"This workspace has no model called “{slug}”: index one first, or choose one of {_known(workspace)}.") from None
    except (OSError, ValueError):
        raise AtlasError(f"{path} is damaged: load the model again by its path or name.") from None


def subject_folder(workspace: Workspace, slug: str) -> Path:
    """Where a subject's files lie. Raises AtlasError when `slug` cannot be a folder's name."""
    return workspace.subjects / check_slug(slug, "subject")


def registered(workspace: Workspace) -> list[str]:
    """The slugs of all registered subjects that could be loaded, sorted: without those that came with another program's files."""
    return sorted(path.parent.name for path in workspace.subjects.glob("*/subject.json") if not is_imported(path))


def is_imported(path: Path) -> bool:
    """Whether a subject.json is of a model that only another program's files speak of. One that is damaged is not."""
    try:
        return json.loads(path.read_text("utf8"))["source"] == IMPORTED_SOURCE
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _known(workspace: Workspace) -> str:
    return ", ".join(registered(workspace)) or "(none yet)"
