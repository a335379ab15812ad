"""Repair of byte-level tokens that another program wrote as characters: `ĠcafÃ©` is ` café`.

Byte-level tokenizers (GPT-2, Llama 3, Qwen) write each of the 256 bytes as a character of its own, and some programs write tokens so, or
with a few of these characters replaced. A context is repaired as a whole, and only where all of it is such bytes and these are UTF-8; so
genuine text survives: `café` has the byte e9 alone, which is no UTF-8. Letters such as ą, č and ğ stand for control characters, which are
UTF-8 but hardly ever in text: unless something else shows that these are bytes, they are letters.
"""

import re
from collections.abc import Sequence

PARTIAL = "·"
"""Stands for the part of a character that a later token ends."""
_CONTROL = re.compile("[\u0100-\u0109\u010b-\u011f\u0121]")
"""What control characters but a line break are written as. The last is that of the byte 7f."""
_SURE = re.compile("[\u010a\u0120]")
"""A line break and a space, which are in nearly every text. A character of several bytes is as sure: then there are fewer than before."""
_REPLACED = " \n\t“”‘’—–"
"""Characters that programs put in the place of the bytes they stand for before they write tokens."""


def _table() -> dict[str, bytes]:
    """The byte of each character, by GPT-2's rule: printable ones of Latin-1 stand for themselves, others follow from U+0100 on."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in plain]
    found = {chr(byte): bytes([byte]) for byte in plain} | {chr(0x100 + at): bytes([byte]) for at, byte in enumerate(rest)}
    return found | {character: character.encode() for character in _REPLACED}


BYTES = _table()
"""Character -> the bytes it stands for."""


def repaired(tokens: Sequence[str]) -> list[bytes] | None:
    """The exact bytes of each token of one context; None when they are not bytes written as characters, and are to stay."""
    try:
        found = [b"".join(BYTES[character] for character in token) for token in tokens]
        text = b"".join(found).decode("utf8")
    except (KeyError, UnicodeDecodeError):
        return None
    written = "".join(tokens)
    genuine = _CONTROL.search(written) is not None and _SURE.search(written) is None and len(text) == len(written)
    return found if text != written and not genuine else None


def shown(pieces: Sequence[bytes]) -> list[str]:
    """Each token's text, where a character that several tokens share stands in the last of them and `·` in those before.

    pieces: bytes that are UTF-8 when joined, as `repaired` returns them.
    """
    found: list[str] = []
    waiting = b""
    for piece in pieces:
        waiting += piece
        end = _whole(waiting)
        text, waiting = waiting[:end].decode("utf8"), waiting[end:]
        found.append(text + PARTIAL if waiting else text)
    return found


def repair(tokens: Sequence[str]) -> list[str]:
    """The tokens of one context as text, repaired where they are bytes written as characters."""
    pieces = repaired(tokens)
    return list(tokens) if pieces is None else shown(pieces)


def _whole(content: bytes) -> int:
    """Where the last whole character ends, in bytes that are UTF-8 up to there."""
    for back in range(1, min(3, len(content)) + 1):
        lead = content[-back]
        if lead & 0xC0 != 0x80:  # the first byte of the last character
            size = 1 if lead < 0x80 else 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
            return len(content) if size <= back else len(content) - back
    return len(content)
