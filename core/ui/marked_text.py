"""A text whose tokens can be picked: those that were changed are on grey, and an effect is a signed underline. Drawn in the browser."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from core.ui.component import component, nothing
from core.ui.tokens import piece_text
from core.vocab import Vocab


@dataclass(frozen=True)
class Marks:
    """changed: places that are marked. effects: a signed number for each token, underlined against `largest`; None for none, NaN: unknown.

    hovers: what the pointer shows of each token.
    """

    changed: Collection[int] = ()
    effects: Sequence[float] | None = None
    largest: float = 0.0
    hovers: Sequence[str] = ()


def marked_text(
    before: Sequence[int], tokens: Sequence[int], vocab: Vocab, marks: Marks, *, picked: int | None, label: str, key: str
) -> int | None:
    """Show `before` as plain text and `tokens` to pick from; return the place of the token just picked. label: what the text is called."""
    body = {
        "before": "".join(_shown(piece) for piece in vocab.pieces(before)),
        "pieces": [_shown(piece) for piece in vocab.pieces(tokens)],
        "names": [vocab.label(token) for token in tokens],
        "changed": sorted(marks.changed),
        "effects": [_share(value, marks.largest) for value in marks.effects] if marks.effects is not None else [],
        "hovers": list(marks.hovers),
        "picked": -1 if picked is None else picked,
        "label": label,
    }
    result = component("marked_text", '<div class="mt"><span class="before"></span><span class="tokens"></span></div>')(
        key=key, data=body, on_token_change=nothing
    )
    return None if result.token is None else int(result.token)


def _shown(piece: str) -> str:
    return piece_text(piece.replace("\r", "␍").replace("\t", "⇥").replace("\n", "↵\n"))


def _share(value: float, largest: float) -> float:
    """In [-1, 1]; 0 where it is not known."""
    return round(float(np.clip(value / largest, -1, 1)), 4) if largest > 0 and np.isfinite(value) else 0.0
