"""A prompt's ids put together stretch by stretch, so that every position is known by construction and none is searched for. No torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from core.autointerp.prompts import Segment

_REMEMBERED = 50_000


@dataclass(frozen=True)
class PieceIds:
    """ids: a prompt. before: for each marker the position in `ids` whose next token is the marker's activation."""

    ids: tuple[int, ...]
    before: tuple[int, ...]


class PieceTokenizer:
    """A Hugging Face tokenizer for stretches in the middle of a text: no special tokens, and no space put before a stretch.

    Control tokens spelled out in a text (`<|endoftext|>`) are read as the characters they are unless asked for.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._ids = lru_cache(_REMEMBERED)(self._encode)

    def ids(self, text: str, after: str = "\n", *, control: bool = False) -> tuple[int, ...]:
        """The ids of `text` as it stands behind the character `after`. control: read control tokens spelled out in it as such.

        SentencePiece tokenizers begin every text with a space, so the ids are those of `after + text` without those of `after`. Where the
        two grow together (GPT-2's line breaks) the stretch is read by itself.
        """
        return self._ids(text, after, control)

    def join(self, segments: Sequence[Segment], after: str = "") -> PieceIds:
        """The ids of segments one by one. `after`: what stands before the first, "" for nothing."""
        ids: list[int] = []
        before: list[int] = []
        for segment in segments:
            if segment.marker is not None:
                before.append(len(ids) - 1)
            ids += self._ids(segment.text, after, False)
            # Behind a tab stands a value; whatever else comes before is taken for a line's end, so that few pairs have to be remembered.
            after = "\t" if segment.text.endswith("\t") else "\n"
        return PieceIds(tuple(ids), tuple(before))

    def word(self, token: int) -> str:
        """What the tokenizer calls a token."""
        return str(self._tokenizer.convert_ids_to_tokens(token))

    def is_unknown(self, token: int) -> bool:
        """Whether the token stands for anything that the tokenizer has no token for."""
        return token == self._tokenizer.unk_token_id

    def _encode(self, text: str, after: str, control: bool) -> tuple[int, ...]:
        if not text:
            return ()
        whole, head = self._plain(after + text, control), self._plain(after, control)
        return whole[len(head) :] if whole[: len(head)] == head else self._plain(text, control)

    def _plain(self, text: str, control: bool) -> tuple[int, ...]:
        found = self._tokenizer(text, add_special_tokens=False, split_special_tokens=not control, verbose=False)
        return tuple(int(token) for token in found["input_ids"])
