"""Documents, and how a text too long for one document is divided into several."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

DOCUMENT_CHARS = 1 << 18
"""A longer text becomes several documents (`name`, `name#2`, …), so that memory stays bounded and no text is one giant document."""

_BREAKS = (re.compile(r"\n[ \t]*\n\s*"), re.compile(r"\n"), re.compile(r"[.!?][\"'”’)]?\s+"), re.compile(r"\s+"))


@dataclass(frozen=True)
class Document:
    """A text with an id and the label of the source it came from."""

    id: str
    source: str
    text: str


def break_at(text: str, position: int, reach: int) -> int:
    """The best place to divide `text` in [position, position + reach): after a paragraph, else a line, a sentence, a word.

    Returns `position` itself when there is none of them, 0 for 0, and the text's length past its end.
    """
    if position <= 0 or position >= len(text):
        return max(0, min(position, len(text)))
    for pattern in _BREAKS:
        match = pattern.search(text, position, min(position + reach, len(text)))
        if match is not None:
            return match.end()
    return position


def divided(pieces: Iterator[str], name: str, source: str, limit: int = DOCUMENT_CHARS) -> Iterator[Document]:
    """Documents of about `limit` characters from a text that arrives in pieces; blank ones are left out.

    The parts are named `name`, `name#2`, `name#3`, … and joined they are the text (but for blank parts).
    """
    held: list[str] = []
    size = part = 0
    reach = limit // 4
    for piece in pieces:
        held.append(piece)
        size += len(piece)
        if size < limit + reach:
            continue
        text = "".join(held)
        start = 0
        while len(text) - start >= limit + reach:
            end = break_at(text, start + limit, reach)
            part += 1
            if (body := text[start:end]).strip():
                yield Document(name if part == 1 else f"{name}#{part}", source, body)
            start = end
        held = [text[start:]]
        size = len(held[0])
    if (rest := "".join(held)).strip():
        part += 1
        yield Document(name if part == 1 else f"{name}#{part}", source, rest)
