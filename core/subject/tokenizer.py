"""A subject's tokenizer as the corpus sees it."""

from collections.abc import Sequence

from core.subject.subject import Subject
from core.vocab import Vocab


class SubjectTokenizer:
    """Implements `core.corpus.slice.Tokenizer` for a loaded subject."""

    def __init__(self, subject: Subject, vocab: Vocab) -> None:
        self._subject, self._vocab = subject, vocab

    @property
    def bos_token_id(self) -> int | None:
        return self._subject.info.bos_token_id

    @property
    def adds_bos(self) -> bool:
        """Whether a text tokenized the makers' way begins with the BOS."""
        bos = self.bos_token_id
        return bos is not None and self._subject.tokenizer("a")["input_ids"][:1] == [bos]

    @property
    def tokenizer_hash(self) -> str:
        return self._subject.info.tokenizer_hash

    @property
    def context_limit(self) -> int:
        return self._subject.info.context_limit

    def encode(self, texts: list[str]) -> list[list[int]]:
        return self._subject.encode(texts)

    def decode(self, tokens: Sequence[int]) -> str:
        return self._vocab.decode(tokens)
