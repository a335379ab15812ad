"""What is known of a dictionary: its conventions, how it was made, on what it was measured. Names and values to show. No Streamlit."""

from collections.abc import Mapping, Sequence
from typing import Any

from core.bases.info import BasisInfo
from core.bases.metric_names import BY_NAME
from core.ui import words
from core.ui.dictionary_table import Entry, kind_of, place_of

_BESIDE = ("α beside the sum", "α beside the mean")
CONVENTIONS = ("site", "kind", "units", "d", "squared error", *_BESIDE, "k", "centred", "scale", "decoder", "trained on", "seed")
"""What is compared side by side."""
_REDUCTIONS = {"sum": "sum over d", "mean": "mean over d"}
_CENTRES = {"none": "no", "per_token": "per token"}
_HOW = ("ratio", "batch", "lr", "warmup", "decay", "revive", "dead_tokens", "aux_coefficient", "iterations", "converged", "explained")


def conventions(info: BasisInfo) -> dict[str, str]:
    """The convention fields by the names of `CONVENTIONS`; those that mean nothing for this dictionary are left out."""
    recipe, prepare = info.recipe, info.prepare
    found = {
        "site": place_of(info),
        "kind": kind_of(info),
        "units": f"{info.units:,}",
        "d": f"{info.d_in:,}",
        "k": "" if info.k is None else str(info.k),
        "centred": _CENTRES[prepare.centre] + ("" if prepare.normalise == "none" else f", {prepare.normalise.replace('_', ' ')}"),
        "scale": words.number(prepare.scale),
        "decoder": "tied" if info.tied else "its own",
    }
    if (reduction := str(recipe.get("mse_reduction", ""))) in _REDUCTIONS:
        found["squared error"] = _REDUCTIONS[reduction]
        found |= {name: _short(recipe.get(key)) for name, key in zip(_BESIDE, ("alpha_sum", "alpha_mean"), strict=True)}
    tokens, seed = recipe.get("tokens"), recipe.get("seed")
    if isinstance(tokens, int):
        found["trained on"] = words.count(tokens, "token")
    if isinstance(seed, int):
        found["seed"] = str(seed)
    return {name: found[name] for name in CONVENTIONS if found.get(name)}


def about(entry: Entry) -> dict[str, str]:
    """Everything that is known of one dictionary but its metrics."""
    info, recipe = entry.info, entry.info.recipe
    found = {"address": info.key, **conventions(info)}
    if info.writes_to:
        found["writes to"] = info.writes_to
    how = [f"{name.replace('_', ' ')} {_text(recipe[name])}" for name in _HOW if recipe.get(name) not in (None, False)]
    if how:
        found["made with"] = " · ".join(how)
    if text := _corpus(recipe.get("corpus")):
        found["text"] = text
    if entry.run:
        found["run"] = entry.run
    for name, value in info.source.items():
        if isinstance(value, str | int | float) and str(value):
            found[f"source: {name}"] = str(value)
    found |= _said(entry)
    found["weights"] = f"{words.size(entry.one.note['bytes'])} · sha256 {entry.one.hash[:12]}"
    found["measured on"] = measured_on(entry)
    return found


def measured_on(entry: Entry) -> str:
    """`12,004 held-out tokens of embedded; the model's output over 3,001 predictions`."""
    metrics = entry.info.metrics
    if not entry.current:
        return "not measured yet"
    text = metrics.get("text")
    text = text if isinstance(text, Mapping) else {}
    part = "held-out tokens" if text.get("part") == "held out" else "tokens"
    where = _corpus(text.get("corpus"))
    predictions = int(metrics.get("output_tokens") or 0)
    output = f"the model's output over {words.count(predictions, 'prediction')}" if predictions else "without the model's output"
    return f"{int(metrics.get('tokens') or 0):,} {part}{f' of {where}' if where else ''}; {output}"


def text_of(entry: Entry) -> str:
    """What tells two texts of measurements apart; empty when nothing was measured."""
    text = entry.info.metrics.get("text")
    if not entry.current or not isinstance(text, Mapping):
        return ""
    return f"{text.get('slice')} {text.get('part')} {entry.info.metrics.get('contexts')}"


def undefined(entry: Entry) -> list[str]:
    """A sentence for each metric that was looked at and has no value."""
    reasons = entry.info.metrics.get("undefined") if entry.current else None
    found: Mapping[str, Any] = reasons if isinstance(reasons, Mapping) else {}
    by_reason: dict[str, list[str]] = {}
    for name, reason in found.items():
        if name in BY_NAME:
            by_reason.setdefault(str(reason), []).append(BY_NAME[name].label)
    return [f"{', '.join(names)}: {reason}" for reason, names in by_reason.items()]


def notes(entry: Entry) -> list[str]:
    """What its reader had to say of a dictionary that was loaded."""
    found = entry.info.source.get("notes")
    return [str(one) for one in found] if isinstance(found, Sequence) and not isinstance(found, str) else []


def _said(entry: Entry) -> dict[str, str]:
    """Numbers that a loaded file gives of itself, beside what was found here."""
    said = entry.info.source.get("said")
    found: dict[str, str] = {}
    for name, value in said.items() if isinstance(said, Mapping) else ():
        label = BY_NAME[name].label if name in BY_NAME else str(name)
        here = entry.metric(str(name))
        found[f"{label}, its file"] = f"{value} (here {'not measured' if here is None else words.number(here)})"
    return found


def _corpus(value: object) -> str:
    if not isinstance(value, Mapping):
        return ""
    source = value.get("source")
    text = "embedded text" if source == "embedded" else str(source or "")
    return f"{text}, at most {int(value['contexts']):,} contexts of {value.get('length', 64)}" if "contexts" in value else text


def _text(value: object) -> str:
    return "yes" if value is True else f"{value:g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else "?"
