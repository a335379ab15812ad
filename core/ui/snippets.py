"""A unit's snippet with its peak token found in it, as a list shows it. No Streamlit."""

from core.ui.tokens import piece_text


def chip(label: str) -> str:
    """The peak token for a chip: without the space before it, everything else visible. label: as `Vocab.label` gives it."""
    return label[1:] if len(label) > 1 and label.startswith("␣") else label


def split_snippet(snippet: str, piece: str) -> tuple[str, str, str]:
    """Text before the peak, the peak, and text after it; line breaks become ↵. piece: the peak token's text by itself.

    Of several places the one nearest the middle is taken: the snippet is cut around the peak. When the token's bytes are part of a
    character the peak cannot be marked, and the middle part is empty.
    """
    at = _nearest(snippet, piece)
    if at is None:
        return one_line(snippet), "", ""
    return one_line(snippet[:at]), one_line(snippet[at : at + len(piece)]), one_line(snippet[at + len(piece) :])


def one_line(text: str) -> str:
    """Text for a line of a list: line breaks and tabs as ↵ and ⇥, nothing invisible or reordering left in it."""
    return piece_text(text.replace("\r\n", "↵").replace("\n", "↵").replace("\r", "↵").replace("\t", "⇥"))


def _nearest(snippet: str, piece: str) -> int | None:
    places: list[int] = []
    at = snippet.find(piece) if piece else -1
    while at >= 0:
        places.append(at)
        at = snippet.find(piece, at + 1)
    middle = (len(snippet) - len(piece)) / 2
    return min(places, key=lambda place: abs(place - middle), default=None)
