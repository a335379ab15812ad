"""A subject's vocabulary: the exact bytes of every token, and how tokens are shown to people.

Saved once, when a subject is registered, as `subjects/<slug>/vocab.parquet`, so that pages can show text without the
tokenizer (and without torch).
"""

import codecs
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from core.errors import AtlasError, explain_os_error
from core.workspace import write_atomic

_BYTES = "neuron-atlas-bytes"
_VISIBLE = {" ": "␣", "\n": "↵", "\t": "⇥", "\r": "␍"}
_NOT_TEXT = re.compile("([\udc80-\udcff]+)")
_SCHEMA = pa.schema([("token", pa.int32()), ("bytes", pa.binary()), ("special", pa.bool_())])


def _show_bytes(error: UnicodeError) -> tuple[str, int]:
    """Error handler of the codec: bytes that are not text appear as `⟨e2 80⟩`, never as U+FFFD."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return f"⟨{error.object[error.start : error.end].hex(' ')}⟩", error.end


codecs.register_error(_BYTES, _show_bytes)


class Vocab:
    """The tokens of one subject, numbered from 0. A number that the tokenizer does not use stands for no bytes."""

    def __init__(self, pieces: Sequence[bytes], special: Sequence[bool]) -> None:
        """pieces: the bytes of each token. special: whether it is a control token such as `<|endoftext|>`."""
        if len(pieces) != len(special):
            raise ValueError("one flag a token is needed")
        self._bytes = list(pieces)
        self._special = list(special)

    @classmethod
    def load(cls, path: Path) -> "Vocab":
        """Read vocab.parquet. Raises AtlasError if it is missing or damaged."""
        mend = f"delete the folder {path.parent} and load the model again."
        try:
            table = pq.read_table(path, schema=_SCHEMA)
            tokens, pieces, special = (table.column(name).to_pylist() for name in _SCHEMA.names)
        except FileNotFoundError:
            raise AtlasError(f"The vocabulary {path} is missing: {mend}") from None
        except (OSError, pa.ArrowException):
            raise AtlasError(f"The vocabulary {path} is damaged: {mend}") from None
        if tokens != list(range(len(tokens))) or None in pieces or None in special:
            raise AtlasError(f"The vocabulary {path} is damaged: {mend}")
        return cls(pieces, special)

    def save(self, path: Path) -> None:
        """Write vocab.parquet under a temporary name, then rename. Raises AtlasError when the disk refuses."""
        table = pa.table([list(range(self.size)), self._bytes, self._special], schema=_SCHEMA)
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd")
        try:
            write_atomic(path, sink.getvalue().to_pybytes())
        except OSError as error:
            raise explain_os_error(error, f"saving the vocabulary {path}") from None

    @property
    def size(self) -> int:
        """How many tokens the subject knows: the tokenizer's, or the model's when that has more."""
        return len(self._bytes)

    def bytes_of(self, token: int) -> bytes:
        """The exact bytes that a token stands for: its text in UTF-8 for a special one. Raises AtlasError out of range."""
        if not 0 <= token < len(self._bytes):
            raise AtlasError(f"{token} is not a token: the vocabulary has tokens 0 to {self.size - 1}.")
        return self._bytes[token]

    def is_special(self, token: int) -> bool:
        """Whether the token is a control token rather than text. Raises AtlasError out of range."""
        self.bytes_of(token)
        return self._special[token]

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of a run of tokens.

        A character that the run's first or last token cuts in two is dropped there; other bytes that are not UTF-8 are
        shown as `⟨e2 80⟩`.
        """
        joined = b"".join(map(self.bytes_of, tokens))
        start = 0
        while start < min(3, len(joined)) and joined[start] & 0xC0 == 0x80:  # the tail of a character begun before
            start += 1
        return codecs.utf_8_decode(joined[start:], _BYTES, False)[0]  # not final: an unfinished character is left out

    def pieces(self, tokens: Sequence[int]) -> list[str]:
        """What each token shows by itself, in order. Bytes that are not text on their own appear as `⟨e2 80⟩`."""
        return [self.bytes_of(token).decode("utf8", _BYTES) or f"⟨token {token}⟩" for token in tokens]

    def label(self, token: int) -> str:
        """A token for a list, with everything visible: `␣the`, `↵`, `⇥`, `⟨U+200B⟩`, `◌́`, `⟨e2 80⟩`."""
        raw = self.bytes_of(token)
        if not raw:
            return self.pieces([token])[0]
        parts = _NOT_TEXT.split(raw.decode("utf8", "surrogateescape"))  # a byte that is not text: one of U+DC80 to U+DCFF
        for place, part in enumerate(parts):
            broken = place % 2 == 1
            parts[place] = f"⟨{part.encode('utf8', 'surrogateescape').hex(' ')}⟩" if broken else "".join(map(visible, part))
        shown = "".join(parts)
        return f"◌{shown}" if unicodedata.combining(shown[0]) else shown


def visible(character: str) -> str:
    if character in _VISIBLE:
        return _VISIBLE[character]
    return character if character.isprintable() else f"⟨U+{ord(character):04X}⟩"
