"""An explanation as a row: its sentence, who wrote it, its score with the interval, and the controls. Inert HTML; no Streamlit."""

import html
import math
from collections.abc import Mapping
from typing import Any

from core.autointerp.comparison import figure
from core.autointerp.study_tables import evident, number
from core.ui.starred import plain, starred

LOW, HIGH = -0.2, 1.0
"""What the strip of a score spans; scores below are drawn at its end."""
STYLE = """<style>
[class*="st-key-nx-row-"] {flex-wrap: nowrap; gap: .6rem; border-bottom: 1px solid var(--na-hairline); padding-bottom: .45rem}
[class*="st-key-nx-row-"] > [data-testid="stElementContainer"]:first-child {flex: 1 1 0; min-width: 0}
[class*="st-key-nx-row-"] > [data-testid="stElementContainer"]:last-child {flex: none}
[class*="st-key-nx-row-"] button, .st-key-explain-again button {min-height: 0; padding: .22rem .6rem; font-size: .84rem}
.st-key-explanation-opened {border-left: 3px solid color-mix(in srgb, var(--na-simulated) 40%, transparent); padding-left: .85rem}
.nx {border-left: 3px solid var(--na-hairline); padding: .1rem 0 .15rem .85rem; margin: 0}
.nx.best {border-left-color: var(--na-accent)}
.nx p {margin: 0; line-height: 1.45; overflow-wrap: anywhere}
.nx .said, .st-key-explanation-opened .na-lead {font-size: 1rem; unicode-bidi: isolate}
.nx .said.failed {color: var(--na-muted)}
.nx .facts {display: flex; flex-wrap: wrap; gap: .1rem .85rem; align-items: center; color: var(--na-muted); font-size: .82rem;
  font-variant-numeric: tabular-nums; margin-top: .1rem}
.nx .facts b {color: var(--na-text); font-weight: 650; font-size: .9rem}
.nx .none {color: var(--na-text); border: 1px solid var(--na-muted); border-radius: 4px; padding: 0 .4rem; font-size: .78rem}
.nx [data-tip] {position: relative; cursor: help; outline: none}
.nx [data-tip]:focus-visible {outline: 2px solid var(--na-accent); outline-offset: 2px; border-radius: 3px}
.nx [data-tip]:hover::after, .nx [data-tip]:focus::after {content: attr(data-tip); position: absolute; left: 0; top: calc(100% + 4px);
  z-index: 20; width: max-content; max-width: min(22rem, 70vw); padding: .4rem .6rem; border: 1px solid var(--na-hairline);
  border-radius: 6px; background: var(--na-surface); color: var(--na-text); font-size: .8rem; font-weight: 400; line-height: 1.45;
  box-shadow: 0 2px 10px rgb(0 0 0 / .14); white-space: normal}
.nx .strip {position: relative; display: inline-block; width: 8.2rem; height: .95rem; flex: none}
.nx .strip i {position: absolute; display: block; font-style: normal}
.nx .strip .track {left: 0; right: 0; top: .4rem; height: .16rem; background: var(--na-hairline); border-radius: 2px}
.nx .strip .zero {top: .28rem; width: 1px; height: .4rem; background: var(--na-muted)}
.nx .strip .span {top: .3rem; height: .36rem; border-radius: 2px; background: color-mix(in srgb, var(--na-simulated) 45%, transparent)}
.nx .strip .rho {top: .12rem; width: 3px; margin-left: -1px; height: .72rem; background: var(--na-simulated); border-radius: 1px}
.nx .strip .lookup {top: .27rem; width: .32rem; height: .32rem; margin-left: -.2rem; border: 1.5px solid var(--na-muted);
  background: var(--na-background); transform: rotate(45deg)}
@media (max-width: 800px) {
  .st-key-explanation-body > [data-testid="stLayoutWrapper"] > [data-testid="stHorizontalBlock"],
  .st-key-explanation-body > [data-testid="stHorizontalBlock"] {flex-direction: column}
  .st-key-explanation-body [data-testid="stColumn"] {width: 100% !important; min-width: 100% !important; flex: 1 1 100% !important}
}
.nx .strip .shuffled {top: .2rem; width: 2px; margin-left: -1px; height: .56rem; background: var(--na-text)}
</style>"""

ROLE_TIPS = {
    "lookup": "The same records scored by a plain table: each token's mean activation elsewhere. An explanation that stays below it says "
    "less than a list of tokens.",
    "shuffled": "The same simulator given the explanation of another unit. What it still scores owes nothing to these words.",
    "paraphrase": "The explanation restated by another model and scored again. If the score collapses, explainer and simulator shared a "
    "code, not a meaning.",
}
_RHO_TIP = (
    "ρ: the correlation of simulated with true activations over all tokens of the records together (1 is perfect, 0 is nothing). In "
    "brackets its 95 % interval, from drawing whole records again."
)
_NO_EVIDENCE_TIP = (
    "The score's interval overlaps that of the shuffled control: it is no evidence that these words say anything about this unit."
)
_COVERAGE_TIP = (
    "Coverage: the share of records for which the simulator gave a usable answer. The others are left out, never counted as zeros."
)
KIND_TIPS = {
    "top-and-random": "Half of the records are the unit's strongest, half were drawn at random.",
    "random-only": "Records drawn at random: how well the words predict the unit on ordinary text.",
    "top-only": "The unit's strongest records only: how well the words tell strong tokens from weak ones there.",
}
SPLIT_TIPS = {
    "test": "Records that neither explaining nor any choice has touched.",
    "validation": "Records held out from explaining; choices between explanations may have been made on them.",
    "calibration": "Records on which the calibration was learned.",
}


def entry_html(row: Mapping[str, Any], *, best: bool = False) -> str:
    """A row of `explanation_queries.of_unit` as HTML. Everything in it is inert, whatever the words are."""
    failed = str(row["failed"])
    words = html.escape(f"Not explained: {failed}") if failed else starred(str(row["text"]))
    step = int(row["step"])
    by = " → ".join(part for part in (str(row["author"]), _text(row, "simulator")) if part)
    facts = [f"<span>{html.escape(by)}</span>"]
    if row["explainer"] not in (row["author"], "by-hand"):
        facts[0] = f"<span>{html.escape(str(row['explainer']))} by {html.escape(by)}</span>"
    if step:
        facts.append(f"<span>revision {step}</span>")
    if str(row["setting"]):
        facts.append(f"<span>{html.escape(str(row['setting']))}</span>")
    if not failed:
        facts += score_facts(row)
    kind = "said failed" if failed else "said"
    return f'<div class="nx{" best" if best else ""}"><p class="{kind}">{words}</p><div class="facts">{"".join(facts)}</div></div>'


def score_facts(row: Mapping[str, Any]) -> list[str]:
    """The score, what it is over, its controls and their mark, as spans."""
    if not _text(row, "kind"):
        return ["<span>not scored</span>"]
    rho = number(row["rho"])
    facts: list[str] = []
    if math.isfinite(rho):
        facts.append(_tipped(f"<b>ρ {figure(rho)}</b> {interval(row['low'], row['high'])}", _RHO_TIP))
        facts.append(strip(row))
    else:
        facts.append(_tipped(f"<b>undefined</b>: {html.escape(_text(row, 'reason') or 'no number')}", _RHO_TIP))
    if evident(row) is False:
        facts.append(f'<span class="none" tabindex="0" data-tip="{html.escape(_NO_EVIDENCE_TIP, quote=True)}">no evidence</span>')
    for role in ("lookup", "shuffled", "paraphrase"):
        if bool(row[f"has_{role}"]):
            facts.append(_control(row, role))
        elif role == "shuffled":
            facts.append("<span>shuffled control not made</span>")
    records, coverage = int(number(row["n_records"])), number(row["coverage"])
    asked = round(records / coverage) if coverage > 0 else records
    covered = f"{records} records" if coverage == 1 or math.isnan(coverage) else f"{records} of {asked} records ({coverage:.0%} coverage)"
    facts.append(_tipped(f"{covered} · {int(number(row['n_tokens'])):,} tokens", _COVERAGE_TIP))
    kind, split = _text(row, "kind"), _text(row, "split")
    facts.append(
        _tipped(f"{html.escape(kind)}, {html.escape(split)} split", f"{KIND_TIPS.get(kind, '')} {SPLIT_TIPS.get(split, '')}".strip())
    )
    if _text(row, "calibration") not in ("", "none"):
        facts.append(f"<span>{html.escape(_text(row, 'calibration'))} calibration</span>")
    return facts


def strip(row: Mapping[str, Any]) -> str:
    """The score as a mark on a line from −0.2 to 1, its interval as a bar, the controls as smaller marks."""
    rho, low, high = (number(row[name]) for name in ("rho", "low", "high"))
    marks = [f'<i class="track"></i><i class="zero" style="left:{_place(0):.1f}%"></i>']
    if math.isfinite(low) and math.isfinite(high):
        marks.append(f'<i class="span" style="left:{_place(low):.1f}%;width:{max(0.8, _place(high) - _place(low)):.1f}%"></i>')
    for role in ("lookup", "shuffled"):
        value = number(row[f"{role}_rho"]) if bool(row[f"has_{role}"]) else math.nan
        if math.isfinite(value):
            marks.append(f'<i class="{role}" style="left:{_place(value):.1f}%"></i>')
    marks.append(f'<i class="rho" style="left:{_place(rho):.1f}%"></i>')
    said = html.escape(f"score {figure(rho)} on a line from {figure(LOW)} to 1; bar: interval, diamond: lookup, dark mark: shuffled")
    return f'<span class="strip" role="img" aria-label="{said}" title="{said}">{"".join(marks)}</span>'


def interval(low: Any, high: Any) -> str:
    """`[0.61, 0.84]`, or words where there is none."""
    a, b = number(low), number(high)
    return f"[{figure(a)}, {figure(b)}]" if math.isfinite(a) and math.isfinite(b) else "no interval"


def _control(row: Mapping[str, Any], role: str) -> str:
    rho = number(row[f"{role}_rho"])
    said = _text(row, f"{role}_said")
    tip = ROLE_TIPS[role]
    if said:
        of = _text(row, f"{role}_said_of")
        tip += f" Here: “{plain(said, 160)}”{f' (of {of})' if of and role == 'shuffled' else ''}."
    if math.isfinite(rho):
        return _tipped(f"{role} {figure(rho)} {interval(row[f'{role}_low'], row[f'{role}_high'])}", tip)
    return _tipped(f"{role} undefined", f"{tip} Undefined: {_text(row, f'{role}_reason') or 'no number'}.")


def _tipped(content: str, tip: str) -> str:
    return f'<span tabindex="0" data-tip="{html.escape(tip, quote=True)}">{content}</span>'


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row[name]
    return "" if value is None or value != value or str(value) == "<NA>" else str(value)


def _place(value: float) -> float:
    """Where a score stands on the strip, in percent."""
    return 100 * (min(max(value, LOW), HIGH) - LOW) / (HIGH - LOW)
