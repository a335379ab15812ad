"""A run of explanations made of what others said of units: their words, their scores by their names, their simulations."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from core.findings.bundle.reduced import SELF, Reduced, places
from core.findings.exchange.foreign import Said, Simulated, Unit
from core.units import UnitName

ELSEWHERE = "scored elsewhere"
"""The simulator of scores that were not made here."""
NOBODY = "author not said"
_SPLIT = "validation"
"""Theirs are of the split by that name, in the released code; the file does not say."""


def explanations(units: Mapping[UnitName, Unit], index: str, word: str, title: str) -> Reduced | None:
    """The run, None when nothing was said. index: the run that the units' records are in."""
    said: list[dict[str, Any]] = []
    scores: list[dict[str, Any]] = []
    simulations: list[dict[str, Any]] = []
    most = 0
    for at, (name, unit) in enumerate((name, unit) for name, unit in units.items() if unit.said):
        most = max(most, len(unit.said))
        for number, one in enumerate(unit.said):
            identity = f"{SELF}.{at}.{number}.0"
            said.append(_explanation(one, identity, name, index, title))
            if one.scored:
                scores.append(_score(one, identity))
            simulations += [_simulation(each, identity) for each in one.simulations]
    if not said:
        return None
    work = [f"{at}.{number}" for at, number in sorted({(int(a), int(b)) for a, b in (one["explanation"].split(".")[1:3] for one in said)})]
    manifest: dict[str, Any] = {
        "schema": 1,
        "kind": "explain",
        "state": "complete",
        "generation": 1,
        "settings": [{"label": f"imported from {title}"}] * most,
        "spend": None,
        "provenance": {"imported": {"from": title}, "scores": "as they stand in the file, none was made here"},
        "work_done": len(work),
        "work_total": len(work),
        "units": len({one["unit"] for one in said}),
        "index": [index],
        "study": "",
        "part": {"work": work, "indexes": [index]},
    }
    rows = {"explanations": said, "scores": scores, "simulations": simulations}
    tables = {
        place: pa.Table.from_pylist(rows[place.keys[1]], schema=place.form.schema(list(place.form.columns)))
        for place in places("explain", manifest)
    }
    return Reduced("explain", f"explain-{word}", manifest, tables)


def _explanation(one: Said, identity: str, name: UnitName, index: str, title: str) -> dict[str, Any]:
    return {
        "explanation": identity,
        "unit": str(name),
        "index": index,
        "setting": f"imported from {title}",
        "step": 0,
        "explainer": one.kind or one.author or NOBODY,
        "author": one.author or NOBODY,
        "text": one.text,
        "pattern": "",
        "recipe": json.dumps({"imported from": title, **one.facts}, ensure_ascii=False),
        "train": [],
        "failed": "" if one.text.strip() else "it has no words in the file",
        "seconds": 0.0,
        "created": 0.0,
    }


def _score(one: Said, identity: str) -> dict[str, Any]:
    kept = [each for each in one.simulations if not np.isnan(each.values).any()]
    return {
        "explanation": identity,
        "role": "simulated",
        "kind": _kind(one.simulations),
        "split": _SPLIT,
        "simulator": ELSEWHERE,
        "calibration": "none",
        "rho": one.rho,
        "low": math.nan,
        "high": math.nan,
        "r2": one.r2,
        "explained": one.explained,
        "record_rho": math.nan,
        "n_tokens": sum(len(each.values) for each in kept),
        "n_records": len(kept),
        "coverage": math.nan,
        "reason": "" if math.isfinite(one.rho) else "the file has no score",
        "contexts": [each.rank for each in one.simulations],
        "said": "",
        "said_of": "",
        "recipe": json.dumps({"score": "as it stands in the file"}),
    }


def _kind(simulations: Sequence[Simulated]) -> str:
    origins = {one.origin for one in simulations}
    return "top-only" if origins == {"top"} else "random-only" if origins == {"random"} else "top-and-random"


def _simulation(one: Simulated, identity: str) -> dict[str, Any]:
    return {
        "explanation": identity,
        "role": "simulated",
        "split": _SPLIT,
        "origin": one.origin,
        "context": one.rank,
        "activations": one.activations,
        "simulated": one.values,
        "probabilities": None if one.probabilities is None else one.probabilities.reshape(-1),
        "scale": one.scale,
        "failed": "the file has no values for it" if np.isnan(one.values).any() else "",
    }
