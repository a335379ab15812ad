"""An explanation whose words stand between *stars*, as the pattern explainer writes them: as HTML or plain text. No Streamlit."""

import html
import re

from core.autointerp.notation import DASH, END, NUMBER, WORDS, slashed, unescaped

_STARRED = re.compile(rf"\\.|\*(?!\s)({WORDS})(?<!\s)\*( {NUMBER}(?:{DASH}\d{{1,2}})?{END})?")
"""As a sentence is read (`core/autointerp/sentence.py`), less what stands between stars with spaces, such as a product."""
_UNBROKEN = re.compile(rf"{NUMBER}{DASH}\d{{1,2}}")
_LIKE_OURS = re.compile(r"[\W_]*[/,;.:–-][\W_]*")
"""Words of nothing but signs, some of which the sentence itself is parted by."""
HOW_TO_READ = (
    "Words are in the order of their activations; after them stands how strong these are, in tenths of the highest and from the unit's "
    "usual level: 8–3 is 8 for the first word, 3 for the last; after “below usual” how far below. “…” goes on with a word; ↵, ⇥ and ␣ are "
    "a line's end, a tab and a space."
)


def starred_pieces(text: str) -> list[tuple[str, bool]]:
    """A sentence in pieces, each with whether it stood between *stars*, as the pattern explainer marks its words; there without escapes.

    The slashes between the words that share a number get room around them, so that long rows of words are legible and can be broken.
    """
    found: list[tuple[str, bool]] = []
    end = 0
    for match in _STARRED.finditer(text):
        if match[1] is None:
            continue
        found.append((text[end : match.start()], False))
        for place, word in enumerate(slashed(match[1]) if match[2] else [match[1]]):
            found += [(" / ", False)] * (place > 0) + [(unescaped(word), True)]
        found.append((match[2] or "", False))
        end = match.end()
    return [(piece, bold) for piece, bold in [*found, (text[end:], False)] if piece]


def has_numbers(text: str) -> bool:
    """Whether a sentence says activations in the notation that `HOW_TO_READ` explains."""
    return any(match[2] for match in _STARRED.finditer(text))


def starred(text: str) -> str:
    """The sentence as inert HTML, with what stands between *stars* in bold."""
    return "".join(
        f"<b>{html.escape(piece)}</b>" if bold else _UNBROKEN.sub(_whole, html.escape(piece)) for piece, bold in starred_pieces(text)
    )


def unstarred(text: str) -> str:
    """The sentence as plain text without stars and escapes. Words that would look like separators are quoted."""
    return "".join(f"“{piece}”" if bold and _LIKE_OURS.fullmatch(piece) else piece for piece, bold in starred_pieces(text))


def _whole(numbers: re.Match[str]) -> str:
    return f'<span style="white-space:nowrap">{numbers[0]}</span>'


def plain(text: str, limit: int = 80) -> str:
    """The sentence without stars on one line, cut at `limit` characters."""
    line = " ".join(unstarred(text).split())
    return line if len(line) <= limit else f"{line[: limit - 1].rstrip()}…"
