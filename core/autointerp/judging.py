"""Judging an explanation: simulate it on records it was not made from, score that, and put the controls beside the score."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from core.autointerp.calibration import Map, calibrate
from core.autointerp.chat_simulator import ChatSimulator, how_graded
from core.autointerp.evidence import Evidence
from core.autointerp.explainers import lookup_table
from core.autointerp.explanation import Example, Explanation, Simulation, Simulator, Text
from core.autointerp.files import Role, Scored, Simulated
from core.autointerp.request import Setting
from core.autointerp.scoring import Floats, score
from core.autointerp.simulators import simulate_lookup
from core.autointerp.splits import Split, of_kind
from core.llm.failures import Final, LlmError


@dataclass(frozen=True)
class Control:
    """Other words to simulate in the explanation's place, and of which unit they are. failed: why they could not be had."""

    role: Role
    explanation: Explanation | None
    failed: str = ""


async def judge(
    evidence: Evidence,
    explanation: Explanation,
    setting: Setting,
    simulator: Simulator,
    split: Split,
    controls: Sequence[Control],
    seed: int,
) -> tuple[list[Scored], list[Simulated]]:
    """All scores of one explanation on one split, and the simulations behind the first. Raises AtlasError for what stops the run."""
    examples = evidence.scored_on(split)
    said = [Control("simulated", explanation), *controls]
    answers = await asyncio.gather(*(_simulate(control, setting, simulator, evidence, examples) for control in said))
    scores: list[Scored] = []
    for control, (simulations, adjust, recipe) in zip(said, answers, strict=True):
        scores += _scores(control, setting, simulator.name, split, examples, simulations, adjust, recipe, seed)
    if "lookup" in setting.controls:
        table = lookup_table(evidence)
        looked_up = [simulate_lookup(table, example.text) for example in examples]
        plain = replace(setting, simulator=replace(setting.simulator, calibration="none"))
        scores += _scores(Control("lookup", None), plain, "lookup", split, examples, looked_up, calibrate("none", [], []), {}, seed)
    own = answers[0][0]
    simulated = [Simulated("simulated", split, example, simulation) for example, simulation in zip(examples, own, strict=True)]
    return scores, simulated


async def _simulate(
    control: Control, setting: Setting, simulator: Simulator, evidence: Evidence, examples: Sequence[Example]
) -> tuple[list[Simulation], Map | None, dict[str, Any]]:
    """The words on the split's records, and the map that the calibration records teach; None when they teach nothing."""
    method = setting.simulator.method
    plain = calibrate("none", [], [])
    if control.explanation is None:
        return [Simulation.failure(example.text, control.failed) for example in examples], plain, {}
    simulations = await _all(simulator, control.explanation, examples)
    if method == "none":
        return simulations, plain, dict(simulator.recipe)
    known = evidence.scored_on("calibration")
    taught = [
        (simulation.values, example.activations)
        for simulation, example in zip(await _all(simulator, control.explanation, known), known, strict=True)
        if not simulation.failed
    ]
    if not taught:
        return simulations, None, dict(simulator.recipe)
    map_ = calibrate(method, np.concatenate([values for values, _ in taught]), np.concatenate([true for _, true in taught]))
    return simulations, map_, dict(simulator.recipe)


async def _all(simulator: Simulator, explanation: Explanation, examples: Sequence[Example]) -> list[Simulation]:
    return list(await asyncio.gather(*(simulate_one(simulator, explanation, example.text) for example in examples)))


async def simulate_one(simulator: Simulator, explanation: Explanation, text: Text) -> Simulation:
    """One text. A failure that is the text's own is its simulation; what concerns every text stops the run: raises `Final`."""
    try:
        return await simulator.simulate(explanation, text)
    except Final:
        raise
    except LlmError as error:
        return Simulation.failure(text, str(error))


def _scores(
    control: Control, setting: Setting, simulator: str, split: Split, examples: Sequence[Example], simulations: Sequence[Simulation],
    adjust: Map | None, recipe: dict[str, Any], seed: int,
) -> list[Scored]:  # fmt: skip
    found: list[Scored] = []
    by_context = {example.context: simulation for example, simulation in zip(examples, simulations, strict=True)}
    for kind in setting.kinds:
        chosen = of_kind(examples, kind)
        true: list[Floats] = [example.activations for example in chosen]
        values = [by_context[example.context].values for example in chosen]
        expected = [np.full(len(part), np.nan) if adjust is None else adjust(part) for part in values]
        judged = score(kind, true, expected, seed)
        failures = sorted({by_context[example.context].failed for example in chosen} - {""})
        if adjust is None:
            judged = replace(judged, reason="no calibration record could be simulated")
        elif judged.n_records == 0 and failures:
            judged = replace(judged, reason=f"no record could be simulated: {failures[0]}")
        chat = simulator == ChatSimulator.name and control.explanation is not None
        graded = how_graded([by_context[example.context] for example in chosen]) if chat else {}
        words = control.explanation
        other = control.role != "simulated" and words is not None
        found.append(
            Scored(
                control.role, split, simulator, setting.simulator.method if control.role != "lookup" else "none", judged,
                [example.context for example in chosen],
                words.text if other and words is not None else "", str(words.unit) if other and words is not None else "",
                recipe | graded | ({"failures": failures} if failures else {}),
            )
        )  # fmt: skip
    return found
