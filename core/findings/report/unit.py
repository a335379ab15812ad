"""One unit in a report: sections of HTML, the important ones first, until the room for a unit is used up."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from core.findings.report.gathered import Gathered
from core.findings.report.histogram import histogram
from core.findings.report.text import escaped, fitting, number, record, table, token
from core.store.effects import EffectToken
from core.store.explanation_view import ExplanationView, ScoreView
from core.store.recipes import flatten
from core.store.units import UnitView

MOST_BYTES = 240_000
"""Of one unit, its share of the page's head not counted: a page of n units stays below n × 250 kB."""
_ROOM = {"explanations": 50_000, "findings": 30_000, "provenance": 30_000}
"""Bytes of these at most; records have what is left, at least a quarter of the whole."""
EXPLANATIONS = 8
TOKENS = 12
BANDS = (
    ("top", "Strongest", 14),
    ("bottom", "Most negative", 6),
    ("q3", "Between the 99th and the 99.9th percentile", 4),
    ("q2", "Between the 90th and the 99th percentile", 4),
    ("q1", "Between the median and the 90th percentile", 3),
    ("q0", "Below the median", 3),
    ("random", "By chance", 5),
)
_STATISTICS = ("max", "min", "mean", "variance", "kurtosis", "skewness")
_ROLES = {"simulated": "explanation", "lookup": "table of its tokens", "shuffled": "another unit's", "paraphrase": "said otherwise"}
_SAID = 1500


def read_over(view: UnitView) -> str:
    """The unit's whole name, and how much of what text its numbers are over."""
    origin = view.index.imported_from
    text = ", ".join(view.index.slice.get("sources", {})) or origin or str(view.index.slice["id"])
    tokens = f"{int(view.stats['tokens']):,} tokens of" if view.stats["tokens"] or not origin else "imported from"
    return f"{escaped(str(view.name))} · {tokens} {escaped(text[:200])}"


def unit_html(found: Gathered, anchor: str) -> str:
    """The article of one unit, at most MOST_BYTES of it."""
    view = found.view
    name = view.name
    head = [
        f'<article id="{anchor}"><h2>{escaped(f"{name.site} / {name.basis} / {name.index}")}</h2>',
        f'<p class="quiet">{read_over(view)}</p>',
        statistics(found),
        explanations(found),
        findings(found),
        '<div class="cols"><div>',
    ]
    side = ["</div><div>", histogram_section(view), top_tokens(view), effects(found), ablation(found), coactive(found)]
    tail = ["</div></div>", provenance(view.provenance), "</article>"]
    left = MOST_BYTES - _bytes([*head, *side, *tail])
    return "".join([*head, records(found, left), *side, *tail])


def statistics(found: Gathered) -> str:
    """The line of small numbers."""
    view = found.view
    tokens = view.stats["tokens"]
    told = [(name, number(view.stats[name])) for name in _STATISTICS]
    told += [
        ("density", f"{number(100 * view.density)} %"),
        ("non-zero", f"{number(100 * view.stats['nonzero'] / tokens if tokens else math.nan)} %"),
    ]
    if found.feature is not None:
        told += [(name, number(value)) for name in ("bias", "threshold") if (value := getattr(found.feature, name)) is not None]
    return f"<dl>{''.join(f'<div><dd>{value}</dd><dt>{name}</dt></div>' for name, value in told)}</dl>"


def explanations(found: Gathered, most: int = EXPLANATIONS) -> str:
    """The explanations, the best first, with their scores and controls."""
    if not found.explanations:
        return ""
    shown = fitting(map(_explanation, found.explanations[:most]), _ROOM["explanations"])
    more = f"<small> {len(shown)} of {len(found.explanations)}</small>" if len(shown) < len(found.explanations) else ""
    return f"<h3>Explanations{more}</h3>{''.join(shown)}"


def _explanation(one: ExplanationView) -> str:
    best = one.headline()
    by = " · ".join(filter(None, dict.fromkeys([one.author, one.explainer, one.setting, f"revision {one.step}" if one.step else ""])))
    lines = [f"<blockquote><p>{escaped(one.text[:_SAID])}</p>", f'<p class="quiet">{escaped(by[:300])}</p>']
    if best is not None:
        same = [score for score in one.scores if (score.score.kind, score.split) == (best.score.kind, best.split)]
        rows = [_score(score) for score in same]
        lines.append(table(("score", "ρ", "95 % interval", "records", "coverage", "simulator"), rows, (1, 2, 3, 4)))
        lines.append(f'<p class="quiet">over {escaped(best.score.kind)} records of the split {escaped(best.split)}</p>')
    return f"{''.join(lines)}</blockquote>"


def _score(one: ScoreView) -> list[str]:
    found = one.score
    role = _ROLES.get(one.role, one.role)
    rho = number(found.rho) if found.rho == found.rho else f'<span title="{escaped(found.reason[:300])}">undefined</span>'
    interval = f"{number(found.low)} to {number(found.high)}" if found.low == found.low else "–"
    return [
        escaped(role),
        rho,
        interval,
        f"{found.n_records:,}",
        f"{100 * found.coverage:.0f} %" if found.coverage == found.coverage else "–",
        escaped(f"{one.simulator} · {one.calibration}"),
    ]


def findings(found: Gathered) -> str:
    """What people wrote."""
    if not found.findings:
        return ""
    lines: list[str] = []
    for entry in found.findings:
        for one in entry.alternatives:
            by = f'<p class="quiet">{escaped(entry.kind)} by {escaped(one.by)}</p>'
            said = f"{one.text} of 5" if entry.kind == "rating" else one.text[:4000]
            lines.append(f'<blockquote><p class="words">{escaped(said)}</p>{by}</blockquote>')
    shown = fitting(lines, _ROOM["findings"])
    more = f"<small> {len(shown)} of {len(lines)}</small>" if len(shown) < len(lines) else ""
    return f"<h3>What people wrote{more}</h3>{''.join(shown)}"


def records(found: Gathered, room: int, bands: Sequence[tuple[str, str, int]] = BANDS) -> str:
    """The records of some bands (name, title, how many at most), as many as have room in so many bytes."""
    view = found.view
    limit = max(map(abs, view.limits)) if view.stats["tokens"] or view.index.imported_from else 0.0
    lines = [f"<h3>Records <small>marked by their share of {number(limit)}, logarithmic; hover a token for its activation</small></h3>"]
    left_out = 0
    used = _bytes(lines) + 200
    for band, title, most in bands:
        records = view.bands.get(band, [])[:most]
        rows: list[str] = []
        for one in records:
            row = record(one, found.vocab, limit)
            if used + len(row.encode()) > room:
                left_out += 1
                continue
            used += len(row.encode())
            rows.append(row)
        if rows:
            head = f"<h4>{title} <small>{len(rows)}</small></h4>"
            used += len(head.encode())
            lines += [head, *rows]
    if left_out:
        lines.append(f'<p class="quiet">{left_out} more records had no room here.</p>')
    return "".join(lines)


def histogram_section(view: UnitView) -> str:
    """The histogram under its heading; empty for a unit without activations."""
    drawn = histogram(view)
    return f"<h3>Activations <small>tokens per 1 of activation, logarithmic</small></h3>{drawn}" if drawn else ""


def top_tokens(view: UnitView) -> str:
    """The tokens on which it is most active."""
    tokens = view.top_tokens[:TOKENS]
    if not tokens:
        return ""
    rows = [[token(one.text), number(one.mean), f"{one.count:,} of {one.total:,}"] for one in tokens]
    return f"<h3>Top tokens</h3>{table(('token', 'mean activation', 'strong of all'), rows, (1, 2))}"


def effects(found: Gathered) -> str:
    """What follows from the weights: tokens raised and lowered, and who writes alike."""
    known = found.view.effects
    if known is None:
        return ""
    parts = ["<h3>What it writes <small>logits per 1 of activation, from the weights</small></h3>"]
    for kind, title, listed in (("up", "raises", known.raised), ("down", "lowers", known.lowered)):
        rows = [[token(one.text), number(one.logit)] for one in listed[:TOKENS]]
        parts.append(f'<div class="{kind}">{table((title, "logit"), rows, (1,))}</div>')
    if known.similar:
        near = ", ".join(f"{escaped(f'{one.name.site}/{one.name.index}')} {number(one.cosine)}" for one in known.similar[:8])
        parts.append(f'<p class="quiet">writes in a similar direction (cosine): {near}</p>')
    return "".join(parts)


def ablation(found: Gathered) -> str:
    """What ablating it did."""
    run = found.effect
    if run is None:
        return ""
    told = f"rule {run.rule}, {run.positions:,} positions, {run.firing:,} of them firing"
    numbers = [("KL where it fires", run.kl_firing), ("change of the loss there", run.loss_change_firing), ("KL over all", run.kl)]
    parts = [
        f"<h3>Ablated <small>{escaped(told)}</small></h3>",
        f"<dl>{''.join(f'<div><dd>{number(value)}</dd><dt>{name}, nats</dt></div>' for name, value in numbers)}</dl>",
    ]
    for kind, title, listed in (("down", "becomes less likely", run.lowered), ("up", "becomes likelier", run.raised)):
        rows = [[_effect_token(one, found), number(one.change), number(one.direct)] for one in listed[:TOKENS]]
        if rows:
            parts.append(f'<div class="{kind}">{table((title, "change of log p", "direct"), rows, (1, 2))}</div>')
    if run.undefined:
        parts.append(f'<p class="quiet">{escaped(run.undefined[:300])}</p>')
    return "".join(parts)


def _effect_token(one: EffectToken, found: Gathered) -> str:
    return token(found.vocab.pieces([one.token])[0] if one.token < found.vocab.size else f"⟨token {one.token}⟩")


def coactive(found: Gathered) -> str:
    """The features that are active on the same tokens."""
    if found.feature is None or not found.feature.coactive:
        return ""
    rows = [
        [escaped(f"{one.name.site}/{one.name.index}"), number(one.jaccard), f"{one.count:,}"] for one in found.feature.coactive[:TOKENS]
    ]
    return f"<h3>Active together</h3>{table(('feature', 'Jaccard', 'tokens with both'), rows, (1, 2))}"


def provenance(recipe: Mapping[str, Any], title: str = "Provenance: where these numbers come from") -> str:
    """A recipe, to be opened."""
    lines = (f"<dt>{escaped(name[:200])}</dt><dd>{escaped(value[:1000])}</dd>" for name, value in flatten(recipe))
    shown = "".join(fitting(lines, _ROOM["provenance"]))
    return f'<details><summary>{escaped(title)}</summary><dl class="facts">{shown}</dl></details>'


def _bytes(parts: list[str]) -> int:
    return sum(len(part.encode()) for part in parts)
