"""The table of what every two compared units have in common: directions, tokens, strongest positions, activity. Inert HTML."""

import html
import math

import streamlit as st

from core.store.compare.compared import Compared, Pair
from core.store.compare.likeness import Overlap
from core.store.compare.together import Together
from core.ui import study_table
from core.ui.compare_data import CompareData
from core.ui.unit_tables import signed, significant, token_name

HEADS = (
    ("pair", ""),
    ("cosine", "w·v / (‖w‖ ‖v‖) of what the two write to the residual stream, from the index's list of similar directions or the shelf."),
    ("strongest in common", "Token positions that are among the strongest of both in the whole text, and how many chance would give."),
    (
        "active together",
        "The Jaccard index: tokens on which both are active as a share of those on which either is. A feature is active where it is not "
        "zero, a neuron above 5 % of its largest activation, as its density counts.",
    ),
    ("correlation", "Pearson's r of the two activations over the same tokens."),
    ("over", "What the two numbers before were computed over."),
)
STYLE = """<style>
.nt.nc-pairs td {white-space: normal; vertical-align: baseline} .nt.nc-pairs td:last-child, .nt.nc-pairs th:last-child {text-align: left}
.nc-tokens {display: flex; flex-wrap: wrap; gap: .3rem .45rem; align-items: baseline; font-size: .88rem; margin: 0}
.nc-tokens .na-chip {unicode-bidi: isolate}
</style>"""


def pairs(data: CompareData) -> None:
    """The table, and the tokens that two lists share."""
    st.html(study_table.STYLE + STYLE)
    st.html(table_html(data.compared))
    st.html(tokens_html(data.compared))


def table_html(compared: Compared) -> str:
    """A line for each pair, or two where activity is known over two choices of tokens."""
    top = "".join(f'<th title="{html.escape(tip, quote=True)}">{name}</th>' if tip else f"<th>{name}</th>" for name, tip in HEADS)
    body = "".join(_lines(pair) for pair in compared.pairs)
    return f'<div class="nt nc-pairs"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def tokens_html(compared: Compared) -> str:
    """The tokens that two both fire on most, and those that both raise most; a sentence where there are none, or lists do not compare."""
    found = "".join(_tokens(pair, what, one) for pair in compared.pairs for what, one in _overlaps(pair))
    apart = [pair.called for pair in compared.pairs if pair.top is None]
    said = [f"The models of {', '.join(apart)} have different tokens, whose lists do not compare."] if apart else []
    said += [] if found or len(apart) == len(compared.pairs) else ["No token is on the lists of two of them."]
    return found + "".join(f'<p class="na-muted na-small">{one}</p>' for one in said)


def _overlaps(pair: Pair) -> list[tuple[str, Overlap]]:
    found = (("top tokens of both", pair.top), ("raised by both", pair.raised))
    return [(what, one) for what, one in found if one is not None and one.tokens]


def _lines(pair: Pair) -> str:
    found = pair.together or (None,)
    cosine, strong = pair.cosine, pair.strongest
    known = math.isfinite(cosine.value)
    shown = signed(f"{cosine.value:.3f}") if known else f'<span title="{html.escape(cosine.reason, quote=True)}">not known</span>'
    common = "–" if strong is None else f"{strong.both:,} <span>of {min(strong.counts):,}; by chance {significant(strong.chance)}</span>"
    lines: list[str] = []
    for place, one in enumerate(found):
        first = f"<td>{pair.called}</td><td>{shown}</td><td>{common}</td>" if not place else "<td></td><td></td><td></td>"
        lines.append(f"<tr>{first}{_activity(one)}</tr>")
    return "".join(lines)


def _activity(one: Together | None) -> str:
    if one is None:
        return "<td>–</td><td>–</td><td>they were read over different texts</td>"
    counts = f"{one.both:,} of {one.active[0]:,} and {one.active[1]:,} tokens"
    jaccard = f"{significant(one.jaccard)} <span>{counts}</span>" if math.isfinite(one.jaccard) else "–"
    correlation = signed(f"{one.correlation:.3f}") if math.isfinite(one.correlation) else "–"
    return f"<td>{jaccard}</td><td>{correlation}</td><td>{html.escape(one.told)}</td>"


def _tokens(pair: Pair, what: str, overlap: Overlap) -> str:
    chips = "".join(f'<span class="na-chip">{html.escape(token_name(text))}</span>' for _, text in overlap.tokens)
    few = min(overlap.counts)
    return f'<p class="nc-tokens"><span class="na-muted">{pair.called}, {what}: {len(overlap.tokens)} of {few}</span>{chips}</p>'
