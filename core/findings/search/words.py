"""The words of a text, the same for what is searched and for what is searched for.

A word is a run of letters, digits and the marks that belong to them, whatever the script, without regard to case (`str.casefold`) and to
how characters are composed (NFKC). Chinese, Japanese and Korean characters are words by themselves, because nothing between them tells
where a word ends. Everything else, the underscore too, only separates.
"""

import re
import unicodedata
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

LONGEST_WORD = 48
"""Characters of a word that count."""
MOST_WORDS = 32
"""Words of a question that count; further ones are left out."""
SHORTEST_BEGINNING = 2
"""A last word of fewer characters stands for itself only, not for words that begin with it."""

_EACH = "\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
"""Kana, Han, Hangul syllables."""


def _marks() -> str:
    """Characters that go on the letter before them, as ranges of a character class."""
    codes = (code for code in range(0x300, 0x10000) if unicodedata.category(chr(code)) in ("Mn", "Mc"))
    spans = ([code for _, code in run] for _, run in groupby(enumerate(codes), lambda each: each[1] - each[0]))
    return "".join(f"{chr(span[0])}-{chr(span[-1])}" for span in spans)


_MARKS = _marks()
_WORD = re.compile(f"[{_EACH}]|[^\\W_{_EACH}]+(?:[{_MARKS}]+[^\\W_{_EACH}]*)*")
_EACH_ONE = re.compile(f"[{_EACH}]")
_ASCII = re.compile("[a-z0-9]+")


@dataclass(frozen=True)
class Asked:
    """The words of a question, each once, in their order. beginning: the last one where it also stands for words that begin with it."""

    words: tuple[str, ...]
    beginning: str = ""

    @classmethod
    def read(cls, text: str) -> "Asked":
        """From what a person typed. A character after the last word, a space too, says that the word is finished."""
        found = list(dict.fromkeys(words_of(text)))[:MOST_WORDS]
        last = _last(text)
        unfinished = last in found and len(last) >= SHORTEST_BEGINNING and _EACH_ONE.fullmatch(last[-1]) is None
        return cls(tuple(found), last if unfinished else "")

    def fits(self, word: str) -> bool:
        """Whether a word of a text is one of those that were asked for."""
        return word in self.words or bool(self.beginning and word.startswith(self.beginning))


def words_of(text: str) -> list[str]:
    """The words of a text in their order."""
    if text.isascii():
        return [word[:LONGEST_WORD] for word in _ASCII.findall(text.lower())]
    return [_same(word) for word in _WORD.findall(text)]


def spans(text: str, asked: Asked) -> Iterator[tuple[int, int]]:
    """Where the words that were asked for stand in a text: first character, and the one after the last."""
    for match in _WORD.finditer(text):
        if asked.fits(_same(match[0])):
            yield match.span()


def marked(text: str, asked: Asked) -> list[tuple[str, bool]]:
    """A text in pieces, each with whether it is a word that was asked for."""
    pieces: list[tuple[str, bool]] = []
    done = 0
    for start, end in spans(text, asked):
        if start > done:
            pieces.append((text[done:start], False))
        pieces.append((text[start:end], True))
        done = end
    if done < len(text):
        pieces.append((text[done:], False))
    return pieces


def excerpt(text: str, asked: Asked, longest: int) -> str:
    """At most `longest` characters of a text, around the first word that was asked for, on one line."""
    flat = " ".join(text.split())
    if len(flat) <= longest:
        return flat
    first = next(spans(flat, asked), (0, 0))[0]
    start = 0 if first < longest * 2 // 3 else flat.rfind(" ", 0, first - longest // 3) + 1 or first - longest // 3
    end = start + longest
    return ("… " if start else "") + flat[start:end].rstrip() + (" …" if end < len(flat) else "")


def _same(word: str) -> str:
    return word.lower()[:LONGEST_WORD] if word.isascii() else unicodedata.normalize("NFKC", word).casefold()[:LONGEST_WORD]


def _last(text: str) -> str:
    """The word that a text ends with, empty when something else comes after it."""
    last = deque(_WORD.finditer(text), maxlen=1)
    return _same(last[0][0]) if last and last[0].end() == len(text) else ""
