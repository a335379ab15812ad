"""A small made-up vocabulary and corpus that reads like sentences: what the synthetic index runs over."""

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BOS = 0
HOSTILE = [
    b"<script>alert(1)</script>",
    b"</script>",
    b"\"'&<>",
    b"\n\n",
    "\u202e".encode(),
    "\u200d".encode(),
    b"$x^2$",
    b"**b**",
    b"50%_\\",
    b"'; DROP TABLE units; --",
    b"\x00",
]
"""Tokens that break careless HTML, Markdown, SQL or text handling. They are the vocabulary's last tokens."""

_SUBJECTS: list[str] = [
    *("river", "garden", "doctor", "teacher", "engine", "letter", "window"),
    *("market", "captain", "forest", "mountain", "child", "painter", "winter", "bridge"),
]
_OBJECTS: list[str] = [
    *("bread", "music", "history", "water", "paper", "silver", "questions"),
    *("stories", "numbers", "light", "tickets", "maps", "coffee", "gold", "medicine"),
]
_VERBS: list[str] = [
    "carries",
    "found",
    "painted",
    "remembers",
    "sold",
    "wrote",
    "follows",
    "opened",
    "counted",
    "needs",
    "measured",
    "forgot",
]
_ADJECTIVES: list[str] = ["old", "quiet", "red", "narrow", "bright", "heavy", "famous", "empty", "careful", "northern"]
_PLACES: list[str] = ["Paris", "London", "Tokyo", "Cairo", "Lima", "Oslo"]
_SMALL = ["the", "a", "of", "in", "to", "and", "was", "for", "with", "on", "that", "by", "from", "near"]
_DIGITS = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]
_CODE = ["def", " return", " if", "(", ")", ":", " =", " x", " print", "[", "]"]
_CJK = ["東", "京", "の", "川", "は", "長", "い", "。"]
_EMOJI = [(b"\xf0\x9f\x8c", b"\x8a"), (b"\xf0\x9f\x98", b"\x80")]
_PIECES = [" un", "believ", "able", " neuro", "n", "s", "ing", "ed"]


@dataclass(frozen=True)
class Vocabulary:
    """`tokens[i]` is what token i stands for; `special` are ids that stand for no text."""

    tokens: list[bytes]
    special: frozenset[int]

    def id(self, token: str | bytes) -> int:
        return self.tokens.index(token if isinstance(token, bytes) else token.encode())

    def text(self, ids: npt.ArrayLike) -> str:
        pieces = (b"" if int(i) in self.special else self.tokens[int(i)] for i in np.asarray(ids))
        return b"".join(pieces).decode("utf8", "replace")


def vocabulary(hostile: bool) -> Vocabulary:
    """About 130 tokens: words with a leading space, capitals, punctuation, a newline, CJK, emoji split in two, hostile ones on request."""
    words = [f" {w}" for w in [*_SMALL, *_SUBJECTS, *_OBJECTS, *_VERBS, *_ADJECTIVES, *_PLACES]]
    starts = ["The", "A", "In", "She", "He", "They", "It", "But"]
    texts = [*words, *starts, *_DIGITS, ".", ",", "?", "!", "\n", "\t", " ", *_CODE, *_CJK, *_PIECES]
    tokens = [b"<|endoftext|>", *dict.fromkeys(t.encode() for t in texts)]
    tokens += [half for pair in _EMOJI for half in pair]
    return Vocabulary(tokens + (HOSTILE if hostile else []), frozenset([BOS]))


@dataclass(frozen=True)
class Text:
    """`contexts[r]` are the token ids of rank r, shape (at most length,), BOS included; parallel lists say where each comes from."""

    contexts: list[npt.NDArray[np.int32]]
    document: list[int]
    start: list[int]
    documents: list[tuple[str, str]]
    bos: bool

    def key(self, rank: int) -> int:
        return int.from_bytes(hashlib.blake2b(self.contexts[rank].tobytes(), digest_size=8).digest(), "little")


def text(vocab: Vocabulary, contexts: int, length: int, seed: int, hostile: bool, bos: bool = True) -> Text:
    """Exactly `contexts` contexts of documents that give one to three each; the last context of a document is often short."""
    rng = np.random.default_rng([seed, 1])
    rows: list[npt.NDArray[np.int32]] = []
    document: list[int] = []
    start: list[int] = []
    documents: list[tuple[str, str]] = []
    room = length - bos
    while len(rows) < contexts:
        source = ("stories", "travel", "code")[int(rng.choice(3, p=[0.5, 0.35, 0.15]))]
        ids: list[int] = []
        wanted = int(rng.integers(max(2, room // 2), 3 * room))
        while len(ids) < wanted:
            ids += [vocab.id(t) for t in _sentence(rng, source)]
            if hostile and rng.random() < 0.4:
                ids.append(vocab.id(HOSTILE[int(rng.integers(len(HOSTILE)))]))
        ids = ids[:wanted]
        for at in range(0, wanted, room):
            if len(rows) == contexts:
                break
            rows.append(np.array(([BOS] if bos else []) + ids[at : at + room], dtype=np.int32))
            document.append(len(documents))
            start.append(at)
        documents.append((f"{source}/{len(documents):04d}", source))
    return Text(rows, document, start, documents, bos)


def _sentence(rng: np.random.Generator, source: str) -> list[str | bytes]:
    def pick(words: list[str]) -> str:
        return " " + words[int(rng.integers(len(words)))]

    if source == "code":
        return ["def", pick(_SUBJECTS), "(", " x", ")", ":", "\n", "\t", " return", " x", " =", *rng.choice(_DIGITS, 2).tolist(), "\n"]
    if source == "travel" and rng.random() < 0.2:
        return [*_CJK, *_EMOJI[0]]
    if source == "travel":
        return ["In", pick(_PLACES), ",", " the", pick(_ADJECTIVES), pick(_SUBJECTS), pick(_VERBS), pick(_OBJECTS), "."]
    opening = ["The", "A", "But"][int(rng.integers(3))]
    ending: list[str | bytes] = ["!", *_EMOJI[1]] if rng.random() < 0.1 else ["."]
    middle = [" un", "believ", "able"] if rng.random() < 0.15 else [pick(_ADJECTIVES)]
    tail = ["\n"] if rng.random() < 0.3 else []
    place = [" near", pick(_PLACES)] if rng.random() < 0.4 else []
    return [opening, *middle, pick(_SUBJECTS), pick(_VERBS), " the", pick(_OBJECTS), *place, *ending, *tail]
