"""The subjects that this process has loaded and keeps, so that the next question or run about one of them starts at once."""

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from core.errors import AtlasError
from core.subject.info import subject_info
from core.subject.load import load_subject
from core.subject.subject import Subject
from core.workspace import Workspace

MOST = 2
MOST_BYTES = 4 << 30
"""At most `MOST` subjects stay loaded; a second one only while all of them together fit."""

_kept: OrderedDict[tuple[Path, str, str], Subject] = OrderedDict()


def kept_subject(
    workspace: Workspace, slug: str, *, dtype: str = "float32", weights_hash: str | None = None, say: Callable[[str], None] | None = None
) -> Subject:
    """The subject `slug` of the workspace, loaded now or before. One thread at a time.

    weights_hash: what the numbers at hand were made with. Raises AtlasError when the subject is another model by now, or unknown.
    """
    key = (workspace.path, slug, dtype)
    if key in _kept:
        _kept.move_to_end(key)
    else:
        subject_info(workspace, slug)
        while len(_kept) >= MOST:
            _kept.popitem(last=False)
        if say is not None:
            say("loading the model")
        _kept[key] = load_subject(workspace, slug, dtype=dtype)
        while len(_kept) > 1 and sum(map(_size, _kept.values())) > MOST_BYTES:
            _kept.popitem(last=False)
    subject = _kept[key]
    if weights_hash is not None and weights_hash != subject.info.weights_hash:
        raise AtlasError(f"The model “{slug}” has other weights than these numbers were made with: index it again.")
    return subject


def _size(subject: Subject) -> int:
    """Bytes of the weights."""
    return sum(tensor.numel() * tensor.element_size() for tensor in subject.model.parameters())
