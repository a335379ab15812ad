"""What a run that changes units is about, in a line, and where its results are shown. No torch."""

from collections.abc import Mapping
from typing import Any, cast

PAGE = "ablate_steer"
_LONGEST = 40


def title(kind: str, params: Mapping[str, Any]) -> str:
    """Such as `Steer with mlp.5/neurons/1352 · smollm2-135m-instruct · I went to the`. Empty for another kind."""
    if kind == "ioi":
        chosen = [str(key) for key in cast(list[Any], params.get("decompositions") or [])]
        what = chosen[0] if len(chosen) == 1 else f"{len(chosen)} decompositions"
        pairs = params.get("pairs")
        told = (
            f"Patch {what}" if chosen else "Baseline of IOI sentences",
            str(params.get("model") or ""),
            f"{pairs} pairs" if pairs else "",
        )
        return " · ".join(part for part in told if part)
    if kind not in ("steer", "effect"):
        return ""
    units = [str(unit) for unit in cast(list[Any], params.get("units") or [])]
    many = units[0].partition("/")[2] if len(units) == 1 else f"{len(units)} units"
    text = " ".join(str(params.get("text") or "").split())
    parts = (f"{'Steer with' if kind == 'steer' else 'Ablate'} {many}", units[0].partition("/")[0] if units else "", _short(text))
    return " · ".join(part for part in parts if part)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST].rstrip()}…"


def results(kind: str, run: str, params: Mapping[str, Any]) -> tuple[str, dict[str, str]] | None:
    """The page that shows a run, and what it is asked for; None for another kind."""
    if kind == "ioi":
        return "ioi", {"run": run}
    if kind == "steer" or (kind == "effect" and params.get("text")):
        return PAGE, {"run": run}
    units = cast(list[Any], params.get("units") or [])
    return ("unit", {"unit": str(units[0]), "effect": run}) if kind == "effect" and units else None
