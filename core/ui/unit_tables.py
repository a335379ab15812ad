"""The small tables beside a unit's records: top tokens, effect on the output, similar units, statistics; each with its CSV."""

import math
import re

from core.store.units import TokenEffect, UnitView
from core.ui import nav
from core.ui.bars import Line, Table
from core.ui.charts import Bars
from core.ui.tokens import digits, piece_text

SHOWN = 10
_BYTES = re.compile(r"(⟨[0-9a-f]{2}(?: [0-9a-f]{2})*⟩)")
_VISIBLE = str.maketrans({" ": "␣", "\n": "↵", "\t": "⇥", "\r": "␍", "\u00a0": "⍽"})

EFFECT_HELP = (
    "What one unit of activation adds to the logit of output token v by the direct path, from the weights alone: (γ ⊙ W_U[v]) · w, "
    "with w the unit's write direction (a feature's is its row of the decoder, which at mlp and attn sites goes through the block's output "
    "matrix), γ the final norm's gain and W_U the unembedding. The norm's division by the size of the residual stream is left out, so "
    "values compare tokens for one unit, not units with each other."
)
SIMILAR_HELP = "The units whose write directions have the largest cosine with this one's: w·v / (‖w‖ ‖v‖)."
TOP_TOKENS_HELP = (
    "Mean activation on each token: exact on the unit's 256 strongest positions, estimated on its others from positions drawn uniformly. "
    "“3 of 8”: the token stands 8 times in the text, 3 of them among the 256 strongest."
)
_NO_TOKEN = "On no token that stands in the text three times or more is the unit active."
HISTOGRAM_HELP = (
    "All tokens of the text. Bars have different widths, so their height is tokens per 1 of activation, on a log scale. "
    "Density: the share of tokens whose |activation| is above 5 % of the unit's largest. Exact zeros are counted apart."
)


def top_token_table(view: UnitView) -> Table:
    """Tokens by the mean activation on them; those on which the unit is never active are left out."""
    tokens = [token for token in view.top_tokens if token.mean != 0][:SHOWN]
    largest = max((abs(token.mean) for token in tokens), default=0.0)
    lines = [
        Line(
            name=token_name(token.text),
            value=number(token.mean, largest),
            share=_share(token.mean, largest),
            hue="p" if token.mean >= 0 else "n",
            count=f"{token.count:,} of {token.total:,}",
            hover=f"token {token.token} · mean {token.mean:.4g} · {token.count:,} of its {token.total:,} positions are among the strongest",
        )
        for token in tokens
    ]
    csv = [
        ("token", "text", "mean activation", "among the strongest", "in text"),
        *((t.token, t.text, t.mean, t.count, t.total) for t in view.top_tokens),
    ]
    return Table(
        title="Top tokens",
        note="mean activation · known of all",
        help=TOP_TOKENS_HELP,
        columns=[lines] if lines else [],
        empty="" if lines else _NO_TOKEN if view.top_tokens else not_counted(view),
        csv=csv,
        file=file_name(view, "top-tokens"),
    )


def effect_table(view: UnitView) -> Table:
    """The output tokens that the unit's write direction raises and lowers most."""
    effects = view.effects
    if effects is None:
        return Table("Direct effect on the output", help=EFFECT_HELP, note="from the weights", empty=_later(view))
    raised, lowered = effects.raised[:SHOWN], effects.lowered[:SHOWN]
    largest = max((abs(effect.logit) for effect in [*raised, *lowered]), default=0.0)
    csv = [("token", "text", "logit"), *((each.token, each.text, each.logit) for each in [*effects.raised, *effects.lowered])]
    return Table(
        title="Direct effect on the output",
        note="logit per unit of activation",
        help=EFFECT_HELP,
        columns=[[_effect(each, largest) for each in raised], [_effect(each, largest) for each in lowered]],
        csv=csv,
        file=file_name(view, "direct-effect"),
    )


def similar_table(view: UnitView) -> Table:
    """Units that write in nearly the same direction, as links."""
    title, note = "Similar write directions", "cosine"
    if view.effects is None:
        return Table(title, note=note, help=SIMILAR_HELP, empty=_later(view))
    lines = [
        Line(
            name=f"{each.name.site} / {each.name.index}",
            value=signed(f"{each.cosine:.3f}"),
            share=min(1.0, abs(each.cosine)),
            hue="m",
            unit=str(each.name),
            address=nav.unit_address(each.name),
            compare=nav.compare_address(view.name, each.name),
        )
        for each in view.effects.similar[:SHOWN]
    ]
    csv = [("unit", "cosine"), *((str(each.name), each.cosine) for each in view.effects.similar)]
    return Table(
        title, note=note, help=SIMILAR_HELP, columns=[lines] if lines else [], empty="" if lines else "There is no other unit.", csv=csv,
        file=file_name(view, "similar"),
    )  # fmt: skip


def statistics_table(view: UnitView) -> Table:
    """What the line under the heading has no room for."""
    scale = max(map(abs, view.limits))
    names = {"p50": "median", "p90": "90 %", "p99": "99 %", "p999": "99.9 %"}
    facts = [(names[key], number(value, scale)) for key, value in view.quantiles.items()]
    deviation = math.sqrt(view.stats["variance"]) if view.stats["variance"] >= 0 else math.nan
    tokens, nonzero = (f"{int(view.stats[name]):,}" if view.stats["tokens"] else "–" for name in ("tokens", "nonzero"))
    facts += [("std deviation", number(deviation, scale)), ("tokens", tokens), ("non-zero", nonzero)]
    csv = [("statistic", "value"), *view.stats.items(), ("density", view.density), *view.quantiles.items()]
    return Table(
        title="Statistics",
        note="quantiles over all tokens",
        help="Quantiles are read from the histogram: the error is at most one bin, an eighth of an octave. The rest is exact.",
        facts=facts,
        csv=csv,
        file=file_name(view, "statistics"),
    )


def histogram_table(view: UnitView, drawn: Bars) -> Table:
    """The heading of the histogram, with its bins as CSV."""
    parts = [f"density {percent(view.density)}"]
    if drawn.zeros:
        parts.append(f"exactly zero {percent(drawn.zeros / max(1, drawn.total))}")
    bins = zip(view.histogram.lows.tolist(), view.histogram.highs.tolist(), view.histogram.counts.tolist(), strict=True)
    return Table(
        title="Activations",
        note=" · ".join(parts),
        help=HISTOGRAM_HELP,
        empty="" if drawn.counts.size else "Exactly zero on every token." if drawn.zeros else not_counted(view),
        csv=[("from", "to", "tokens"), *bins],
        file=file_name(view, "histogram"),
    )


def token_name(text: str) -> str:
    """A token for a list: leading spaces, tabs and line breaks are visible."""
    parts = _BYTES.split(piece_text(text))
    return "".join(part if place % 2 else part.translate(_VISIBLE) for place, part in enumerate(parts))


def number(value: float | None, scale: float) -> str:
    """A number with about four significant digits at the size of `scale`; “–” where it is undefined."""
    return "–" if value is None or not math.isfinite(value) else signed(f"{value:,.{digits(scale)}f}")


def signed(written: str) -> str:
    """A written number with a true minus sign, and none before a zero."""
    return written.lstrip("-") if not written.strip("-0.") else written.replace("-", "−")


def significant(value: float | None) -> str:
    """Three significant digits without an exponent where it can be avoided; “–” where it is undefined."""
    if value is None or not math.isfinite(value):
        return "–"
    if value != 0 and not 1e-4 <= abs(value) < 1e6:
        return signed(f"{value:.2e}")
    places = 0 if value == 0 else max(0, 2 - math.floor(math.log10(abs(value))))
    return signed(f"{value:,.{places}f}")


def percent(share: float | None) -> str:
    """A share in percent with about three significant digits; “–” where it is undefined."""
    if share is None or not math.isfinite(share):
        return "–"
    value = 100 * share
    return f"{value:.3g} %" if value == 0 or value >= 0.001 else "< 0.001 %"


def _effect(effect: TokenEffect, largest: float) -> Line:
    return Line(
        name=token_name(effect.text),
        value=number(effect.logit, max(largest, 0.1)),
        share=_share(effect.logit, largest),
        hue="p" if effect.logit >= 0 else "n",
        hover=f"token {effect.token} · {effect.logit:+.4g} logit per unit of activation",
    )


def _share(value: float, largest: float) -> float:
    return min(1.0, abs(value) / largest) if largest > 0 and math.isfinite(value) else 0.0


def not_counted(view: UnitView) -> str:
    """Why there is no number of tokens."""
    return "The files that it was imported from do not say." if view.index.imported_from else "No token was counted yet."


def _later(view: UnitView) -> str:
    if view.index.imported_from:
        return not_counted(view)
    if view.name.site.kind != "mlp" and view.index.complete:
        return "This run has none for this site."
    return "Made from the weights at the end of the run." if not view.index.complete else "This run has none."


def file_name(view: UnitView, what: str) -> str:
    """The name of a saved table."""
    return f"{view.name.site}-{view.name.basis}-{view.name.index}-{what}.csv"
