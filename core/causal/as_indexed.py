"""Reading a text as a unit's index read its own: in the same numbers, after the same BOS, if any."""

from core.causal.effect_request import MOST_TOKENS
from core.errors import AtlasError
from core.store.catalog import IndexInfo
from core.subject.subject import Subject


def dtype_of(index: IndexInfo | None) -> str:
    """The number format that the index's activations were found with; float32 without an index, or where none was noted."""
    if index is None:
        return "float32"
    return str(index.provenance.get("dtype") or (index.provenance.get("subject") or {}).get("dtype") or "float32")


def bos_of(subject: Subject, index: IndexInfo | None) -> int | None:
    """The token that the index puts before each context, if it does."""
    return subject.info.bos_token_id if index is not None and index.slice["bos"] else None


def own_text(subject: Subject, text: str, index: IndexInfo | None) -> tuple[tuple[int, ...], int]:
    """A person's own text: its tokens after the BOS of the index, and where the text begins. Raises AtlasError: empty, or too long."""
    bos = bos_of(subject, index)
    before = () if bos is None else (bos,)
    tokens = subject.encode([text])[0]
    if not tokens:
        raise AtlasError("The text is empty: write or paste a few words.")
    limit = min(MOST_TOKENS, subject.info.context_limit - len(before))
    if len(tokens) > limit:
        raise AtlasError(f"The text has {len(tokens):,} tokens and at most {limit:,} can be read at once: shorten it.")
    return (*before, *tokens), len(before)
