"""The exact bytes of every token, worked out from a tokenizer, and a hash of what a tokenizer does."""

import hashlib
import json
import re
from typing import Any

from core.vocab import Vocab

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_PROBE = (
    "The year 1984, 3.14159 and 2²⁰:\n\n1. one\n  2 two\n\tdef f(x): return x**2  # don't\r\n"
    "naïve café, ﬁne, Ⅷ, 漢字 かな 한국어, العربية, שלום, e\u0301, 🙂👩‍👩‍👧, \u200b\u00a0<|endoftext|> <s> it's WE'LL 100000"
)
"""Text on which tokenizers that share a vocabulary but split differently give different ids."""


def byte_table() -> dict[str, int]:
    """GPT-2's printable stand-in for each byte (openai/gpt-2, encoder.py, bytes_to_unicode), as character → byte."""
    kept = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    table = {chr(byte): byte for byte in kept}
    moved = (byte for byte in range(256) if byte not in set(kept))
    table.update({chr(256 + n): byte for n, byte in enumerate(moved)})
    return table


def make_vocab(tokenizer: Any, vocab_size: int) -> Vocab:
    """The vocabulary of a Hugging Face tokenizer, for a model with `vocab_size` output tokens.

    Byte-level tokenizers (GPT-2 and its descendants) spell bytes with stand-in characters; SentencePiece ones write a
    space as `▁` and lone bytes as `<0x0A>`. Added tokens stand for their text as it is written.
    """
    words: dict[str, int] = tokenizer.get_vocab()
    added: dict[int, Any] = tokenizer.added_tokens_decoder
    special = set(tokenizer.all_special_ids) | {index for index, token in added.items() if token.special}
    size = max(vocab_size, 1 + max(words.values(), default=-1), 1 + max(added, default=-1))
    spell = _byte_level if _is_byte_level(tokenizer, words) else _sentencepiece
    table = byte_table()
    pieces = [b""] * size
    for word, index in words.items():
        pieces[index] = spell(word, table)
    for index, token in added.items():
        literal = index in special or spell is _byte_level
        pieces[index] = str(token.content).encode() if literal else spell(str(token.content), table)
    return Vocab(pieces, [index in special for index in range(size)])


def hash_tokenizer(tokenizer: Any, vocab: Vocab) -> str:
    """Hash of what the tokenizer does, whatever file format it came in: every token's bytes and a probe text's ids."""
    digest = hashlib.sha256()
    for token in range(vocab.size):
        piece = vocab.bytes_of(token)
        digest.update(len(piece).to_bytes(4, "little") + bytes([vocab.is_special(token)]) + piece)
    ids = tokenizer(_PROBE, add_special_tokens=False, verbose=False)["input_ids"]
    digest.update(json.dumps([int(token) for token in ids]).encode())
    return digest.hexdigest()


def _is_byte_level(tokenizer: Any, words: dict[str, int]) -> bool:
    """Whether the decoder turns stand-in characters to bytes; without one to look at, whether the words look like it."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    decoder = json.loads(backend.to_str()).get("decoder") if backend is not None else None
    if decoder is None:
        return "Ġ" in words and "▁" not in words
    return any(part.get("type") == "ByteLevel" for part in (decoder, *decoder.get("decoders", ())))


def _byte_level(word: str, table: dict[str, int]) -> bytes:
    try:
        return bytes(table[character] for character in word)
    except KeyError:  # a word that was not spelt in stand-ins
        return word.encode()


def _sentencepiece(word: str, _: dict[str, int]) -> bytes:
    match = _BYTE_TOKEN.fullmatch(word)
    return bytes([int(match[1], 16)]) if match else word.replace("▁", " ").encode()
