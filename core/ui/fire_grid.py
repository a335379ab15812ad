"""Where units fire strongly on a text: the tokens to pick from, and a picture of tokens × sites. Drawn in the browser."""

from collections.abc import Sequence

from core.ui.component import component, nothing
from core.ui.tokens import piece_text
from core.vocab import Vocab


def fire_grid(
    tokens: Sequence[int],
    vocab: Vocab,
    *,
    sites: Sequence[str],
    fires: Sequence[Sequence[int]],
    widths: Sequence[int],
    strength: Sequence[float],
    picked: int | None,
    key: str,
) -> int | None:
    """Show the picture; return the position of the token just picked.

    fires: shape (sites, tokens), how many of the site's units exceed their own 99.9th percentile. widths: units a site has.
    strength: shape (tokens,), in [0, 1], the background of each token. picked: the position marked now.
    """
    data = {
        "pieces": [piece_text(piece.replace("\n", "↵").replace("\r", "␍").replace("\t", "⇥")) for piece in vocab.pieces(tokens)],
        "labels": [vocab.label(token) for token in tokens],
        "sites": list(sites),
        "fires": [list(row) for row in fires],
        "widths": list(widths),
        "strength": [round(min(1.0, max(0.0, value)), 4) for value in strength],
        "picked": -1 if picked is None else picked,
        "alt": f"{len(tokens)} tokens by {len(sites)} sites: how many units fire above their own 99.9th percentile",
    }
    result = component("fire_grid", '<div class="fg">\n</div>')(key=key, data=data, on_token_change=nothing)
    return None if result.token is None else int(result.token)
