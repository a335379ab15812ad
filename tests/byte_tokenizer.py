"""A real byte-level tokenizer, one token a byte, in the shape that the corpus asks for."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from tokenizers import Tokenizer, decoders, models, pre_tokenizers

BOS = 256


def _byte_level() -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({character: index for index, character in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<s>"])
    return tokenizer


@dataclass
class ByteTokenizer:
    """`calls` counts the batches that were encoded. Its length limit and BOS can be chosen."""

    bos_token_id: int | None = BOS
    adds_bos: bool = False
    context_limit: int = 128
    calls: int = 0
    inner: Tokenizer = field(default_factory=_byte_level)

    @property
    def tokenizer_hash(self) -> str:
        return hashlib.sha256(self.inner.to_str().encode()).hexdigest()

    def encode(self, texts: list[str]) -> list[list[int]]:
        self.calls += 1
        return [encoding.ids for encoding in self.inner.encode_batch(texts, add_special_tokens=False)]

    def decode(self, tokens: Sequence[int]) -> str:
        return self.inner.decode(list(tokens))
