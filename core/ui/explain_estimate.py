"""What a run of explaining will cost, told before the button: calls, tokens and price, and the time where an earlier run tells it."""

from collections.abc import Mapping, Sequence
from typing import Any

from core.autointerp.cost import cost
from core.autointerp.request import ExplainRequest, read_at_most
from core.autointerp.studies import STUDIES
from core.runs.registry import Run
from core.ui import words

_TOKENS, _KEPT_TOKENS = 200, 8_000
"""Tokens that are read again in the time of one explanation by the pattern explainer, about (docs/performance.md): with the model, and
from the inputs of the sites that an index kept."""


def expected(request: ExplainRequest, tokens: int, runs: Sequence[Run], kept: int = 0) -> str:
    """The estimate in words. tokens: of a record. runs: earlier ones, the newest first. kept: tokens of which the index kept its sites'
    inputs."""
    pieces = len(request.units) * len(request.settings)
    what = words.count(pieces, "explanation")
    if len(request.settings) > 1:
        what += f" ({words.count(len(request.units), 'unit')} in {len(request.settings)} ways)"
    told = seconds(request, runs, kept)
    time = (
        "the time is unknown: no earlier run like this one tells it"
        if told is None
        else f"about {words.duration(told[0])} at the speed of {told[1]}"
    )
    return f"{what}; {time}. {cost(request, tokens)}"


def seconds(request: ExplainRequest, runs: Sequence[Run], kept: int = 0) -> tuple[float, str] | None:
    """About how long the request takes and the earlier run that tells: the newest finished one by the same explainers and simulators.

    Of that one it is taken that its index had kept its inputs, too, or had not.
    """
    asked = [setting.to_json() for setting in request.settings]
    each = _KEPT_TOKENS if kept else _TOKENS
    wanted, work = _who(asked), _work(asked, len(request.units), each, kept)
    for run in runs:
        if run.kind != "explain" or run.state != "done" or run.attempt != 1 or not run.started or not run.finished or not run.total:
            continue
        settings = run.params.get("settings")
        took = run.finished - run.started
        if isinstance(settings, list) and settings and took > 1 and _who(settings) == wanted:
            return took * work / _work(settings, run.total // len(settings), each, kept), run.id
    return None


def _work(settings: Sequence[Mapping[str, Any]], units: int, each: int, kept: int) -> float:
    """What takes the time, in explanations: those asked for, and the second reading, for which a run over few units tells nothing else.

    each: tokens that are read in the time of one explanation.
    """
    explainers = [setting.get("explainer") or {} for setting in settings]
    tokens = read_at_most(((str(one.get("name", "pattern")), int(one.get("read", -1))) for one in explainers), units, kept)
    return max(1, units) * len(settings) + tokens / each


def _who(settings: Sequence[Mapping[str, Any]]) -> set[tuple[str, ...]]:
    """Who works in each setting, with which models: what the time depends on most."""
    return {(*(_named(setting.get(role) or {}) for role in ("explainer", "simulator")), str(setting.get("arm"))) for setting in settings}


def _named(choice: Mapping[str, Any]) -> str:
    endpoint = choice.get("endpoint") or {}
    return f"{choice.get('name', 'pattern')} {endpoint.get('base_url', '')} {endpoint.get('model', '')}"


def title(params: Mapping[str, Any]) -> str:
    """What a run of explaining is about: `Score by layer · pattern → pattern · 600 units`, or the one unit's name; of puzzles
    `Puzzles · chat by a-model`."""
    if "settings" not in params and isinstance(params.get("simulator"), dict):
        return f"Puzzles · {_way(params) if params.get('explainer') else _short(params['simulator'])}"
    settings = [setting for setting in params.get("settings") or [] if isinstance(setting, dict)]
    ways = list(dict.fromkeys(_way(setting) for setting in settings))
    how = ways[0] if len(ways) == 1 else f"{len(ways)} ways" if ways else ""
    how += f" · {len(settings)} settings" if len(ways) == 1 < len(settings) else ""
    units = params.get("units")
    many = "" if not isinstance(units, list) else _unit(units[0]) if len(units) == 1 else words.count(len(units), "unit")
    study = str(params.get("study") or "")
    return " · ".join(part for part in (STUDIES[study].title if study in STUDIES else study, how, many) if part)


def _unit(name: Any) -> str:
    """A unit's name without its model's, `mlp.5/neurons/1352`."""
    return str(name).partition("/")[2] or str(name)


def _way(setting: Mapping[str, Any]) -> str:
    explainer, simulator = setting.get("explainer") or {}, setting.get("simulator") or {}
    arm = f", {setting['arm']}" if setting.get("arm") else ""
    return f"{_short(explainer)}{arm} → {_short(simulator)}"


def _short(choice: Mapping[str, Any]) -> str:
    endpoint = choice.get("endpoint") or {}
    model = str(endpoint.get("model", ""))
    return f"{choice.get('name', 'pattern')}{f' by {model}' if model else ''}"
