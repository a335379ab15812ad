"""What ablating a unit did, as rows of the token view, small tables and CSV. No Streamlit."""

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from core.store.effects import EffectRun, EffectToken, EffectView
from core.store.units import UnitView
from core.ui import theme, words
from core.ui.bars import Line, Table
from core.ui.spreadsheet import inert
from core.ui.tokens import Band, Heading, Row, pack
from core.ui.unit_tables import signed, token_name
from core.vocab import Vocab

SHOWN = 10
NEXT_SHOWN = 6
FIRST = 5
_LIKELY = 4
"""The likeliest tokens looked at on each side for the most affected next tokens."""
TOKENS_HELP = (
    "Mean over positions where the unit fires of log q(v) − log p(v), p the next token's distribution as it is, q with the unit ablated: "
    "what is lowered is what the unit speaks for. Direct: the part of it that what the unit writes does by itself, past all later layers, "
    "through the final norm and the unembedding."
)
NEXT_HELP = (
    "The positions at which ablating the unit moves most probability: the token read, the next token that gains or loses most, and its "
    "probability without and with the ablation."
)


@dataclass(frozen=True)
class Moved:
    """A position and the next token whose probability changed most there. text: the place of its record; before, after: probabilities."""

    text: int
    position: int
    token: int
    next: int
    before: float
    after: float


def name_of(token: int, vocab: Vocab) -> str:
    """A token for a list."""
    return token_name(vocab.pieces([token])[0])


def pack_rows(view: EffectView, unit: UnitView, vocab: Vocab) -> bytes:
    """The records that were read: amber where the unit fires, underlined by what ablating it does to each token."""
    effects = view.of_token()
    rows: list[Row] = []
    for place, text in enumerate(view.run.manifest["texts"]):
        at = view.rows_of(place)
        activations = view.activations[at, 0]
        peak = int(np.argmax(activations))
        where = f"{text['document']} · context {text['context']:,}" if text["context"] is not None else str(text["source"])
        cells = (text["context"] or 0, str(text["document"]))
        rows.append(Row(view.token[at], activations, peak, float(activations[peak]), where, cells, effect=effects[at]))
    note = f"{len(rows)} strongest · underlined by the change of the token's own log-probability"
    return pack(
        [Band("Records", note, rows, first=FIRST)],
        vocab,
        key=f"{view.run.run}:{view.run.written}",
        low=unit.limits[0],
        high=unit.limits[1],
        heading=Heading("Token by token", csv=("context", "document"), file=f"{_file(view.run)}-records.csv"),
    )


def token_table(run: EffectRun, vocab: Vocab) -> Table:
    """The tokens that are lowered and raised most, with the direct effect beside."""
    listed = [run.lowered[:SHOWN], run.raised[:SHOWN]]
    largest = max((abs(one.change) for side in listed for one in side), default=0.0)
    colours = theme.palette()
    columns = [
        [_line(one, largest, colour, vocab) for one in side] for side, colour in zip(listed, (colours.lowered, colours.raised), strict=True)
    ]
    header = ("token", "text", "mean change", "direct", "mean probability", "mean probability ablated")
    both = [*run.lowered, *run.raised]
    return Table(
        title="Next tokens where it fires",
        note="lowered and raised by ablating · direct beside",
        help=TOKENS_HELP,
        columns=[column for column in columns if column],
        empty=run.undefined,
        csv=[header, *((one.token, name_of(one.token, vocab), one.change, one.direct, one.before, one.after) for one in both)],
        file=f"{_file(run)}-tokens.csv",
    )


def _line(one: EffectToken, largest: float, colour: str, vocab: Vocab) -> Line:
    return Line(
        name=name_of(one.token, vocab),
        value=signed(f"{one.change:+.3f}"),
        share=min(1.0, abs(one.change) / largest) if largest else 0.0,
        hue="m",
        count=signed(f"{one.direct:+.3f}"),
        hover=f"token {one.token} · total {one.change:+.4g} · direct {one.direct:+.4g} · probability {one.before:.3g} → {one.after:.3g}",
        colour=colour,
    )


def most_moved(view: EffectView, count: int = NEXT_SHOWN) -> list[Moved]:
    """The positions whose next token's distribution moves most, each with the token that moves most among the likeliest of both sides."""
    before, after = view.lists["before"], view.lists["after"]
    tokens = np.concatenate([one.tokens[:, :_LIKELY] for one in (before, after)], axis=1)
    p = np.exp(np.concatenate([one.original[:, :_LIKELY] for one in (before, after)], axis=1))
    q = np.exp(np.concatenate([one.ablated[:, :_LIKELY] for one in (before, after)], axis=1))
    best = np.abs(q - p).argmax(axis=1)
    rows = np.arange(len(best))
    order = np.argsort(-np.abs(q - p)[rows, best], kind="stable")[:count].tolist()
    return [
        Moved(
            int(view.text[row]), int(view.position[row]), int(view.token[row]), int(tokens[row, best[row]]),
            float(p[row, best[row]]), float(q[row, best[row]]),
        )
        for row in order
    ]  # fmt: skip


def next_table(view: EffectView, vocab: Vocab) -> Table:
    """The most affected next tokens, one a position."""
    found = most_moved(view)
    colours = theme.palette()
    largest = max((abs(one.after - one.before) for one in found), default=0.0)
    lines = [
        Line(
            name=f"{name_of(one.token, vocab)} → {name_of(one.next, vocab)}",
            value=f"{words.share(one.before)} → {words.share(one.after)}",
            share=abs(one.after - one.before) / largest if largest else 0.0,
            hue="m",
            hover=f"record {one.text + 1}, position {one.position} · token {one.next} · {one.before:.4g} → {one.after:.4g}",
            colour=colours.lowered if one.after < one.before else colours.raised,
        )
        for one in found
    ]
    header = ("record", "position", "token", "text", "next token", "next text", "probability", "probability ablated")
    csv_rows = [
        (one.text + 1, one.position, one.token, name_of(one.token, vocab), one.next, name_of(one.next, vocab), one.before, one.after)
        for one in found
    ]
    return Table(
        title="Most affected next tokens",
        note="probability, as it is → ablated",
        help=NEXT_HELP,
        columns=[lines] if lines else [],
        empty="" if lines else "Nothing was read.",
        csv=[header, *csv_rows],
        file=f"{_file(view.run)}-next-tokens.csv",
    )


def listed_tokens(view: EffectView, vocab: Vocab) -> list[tuple[int, str]]:
    """The tokens with the largest effects, total or direct, each once."""
    found: dict[int, None] = {}
    for name in ("change", "direct"):
        order = np.argsort(view.vocabulary[name], kind="stable")
        found |= dict.fromkeys([*order[:SHOWN].tolist(), *order[::-1][:SHOWN].tolist()])
    return [(token, name_of(token, vocab)) for token in found]


def named(tokens: Sequence[EffectToken], vocab: Vocab) -> list[tuple[int, str]]:
    return [(one.token, name_of(one.token, vocab)) for one in tokens]


def vocabulary_csv(view: EffectView, vocab: Vocab) -> bytes:
    """Every token of the vocabulary with its mean change, total and direct, the most lowered first."""
    header = ("token", "text", "mean_change", "direct", "mean_probability", "mean_probability_ablated")
    order = np.argsort(view.vocabulary["change"], kind="stable").tolist()
    columns = [view.vocabulary[name].tolist() for name in ("change", "direct", "before", "after")]
    return _csv(header, ((token, inert(name_of(token, vocab)), *(column[token] for column in columns)) for token in order))


def positions_csv(view: EffectView, vocab: Vocab) -> bytes:
    """Every position: activations, KL, and what happens to the token that follows."""
    header = (
        *("record", "position", "token", "text", "next_token", "next_text", *(f"activation of {unit}" for unit in view.run.units)),
        *("fires", "kl", "log_probability", "log_probability_change", "loss_change"),
    )
    rows = (
        (
            int(view.text[row]) + 1, int(view.position[row]), token, inert(name_of(token, vocab)), following if following >= 0 else "",
            inert(name_of(following, vocab)) if following >= 0 else "", *view.activations[row].tolist(), int(view.fires[row]),
            float(view.kl[row]), _known(view.log_p[row]), _known(view.change[row]), _known(view.loss_change[row]),
        )
        for row, (token, following) in enumerate(zip(view.token.tolist(), view.following.tolist(), strict=True))
    )  # fmt: skip
    return _csv(header, rows)


def _csv(header: Sequence[str], rows: Iterable[Sequence[str | int | float]]) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_NONNUMERIC)
    writer.writerow(header)
    writer.writerows(rows)
    return out.getvalue().encode("utf8", "backslashreplace")


def _known(value: float) -> float | str:
    return "" if math.isnan(value) else float(value)


def _file(run: EffectRun) -> str:
    unit = run.units[0]
    return f"{unit.site}-{unit.basis}-{unit.index}-effect"
