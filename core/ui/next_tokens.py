"""The likeliest next tokens at one place, as bars, with the probability on the other side beside each."""

from collections.abc import Sequence
from typing import Literal

from core.store.steered import Chance
from core.ui import theme, words
from core.ui.bars import Line, Table, bar_tables, pack_tables
from core.vocab import Vocab

Side = Literal["original", "steered"]


def next_tokens(chances: Sequence[Chance], vocab: Vocab, *, side: Side, names: tuple[str, str], note: str, key: str) -> None:
    """One table. chances: of this side's likeliest tokens. names: what the two sides are called, the original first."""
    mine = side == "steered"
    colour = theme.series()[int(mine)]
    lines = [_line(chance, vocab, side, names, colour) for chance in chances]
    rows = [["token", "text", f"probability, {names[0]}", f"probability, {names[1]}"]]
    table = Table(
        title=f"Next token, {names[int(mine)]}",
        note=note,
        columns=[lines],
        empty="" if lines else "Nothing was written here.",
        csv=[*rows, *([chance.token, vocab.label(chance.token), chance.original, chance.steered] for chance in chances)],
        file=f"next-tokens-{names[int(mine)]}.csv",
    )
    bar_tables(pack_tables([table]), key=key)


def _line(chance: Chance, vocab: Vocab, side: Side, names: tuple[str, str], colour: str) -> Line:
    here, there = (chance.original, chance.steered) if side == "original" else (chance.steered, chance.original)
    other = names[0] if side == "steered" else names[1]
    return Line(
        name=vocab.label(chance.token),
        value=words.share(here),
        share=here or 0.0,
        hue="m",
        count="" if there is None else f"{other} {words.share(there)}",
        hover=f"token {chance.token}" if there is None else f"token {chance.token} · {words.share(here)}, {other} {words.share(there)}",
        colour=colour,
    )
