"""The run that checks a simulator, and an explainer if one is named, on puzzles: one after another, each answer published as it comes."""

import asyncio
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import core
from core.autointerp.explanation import Explanation, Simulation, Simulator, Text
from core.autointerp.judging import simulate_one
from core.autointerp.llm_explainers import explain_from_records
from core.autointerp.models import Models
from core.autointerp.prompts import Shown
from core.autointerp.puzzle_request import PuzzleRequest
from core.autointerp.puzzles import Puzzle, PuzzleResult, Verdict, check, check_explainer
from core.autointerp.simulators import simulator
from core.errors import AtlasError
from core.llm.budget import BudgetReached, Spend
from core.llm.failures import Final, LlmError
from core.runs.progress import Progress
from core.workspace import Workspace, write_json

SCHEMA = 1
GRACE_SECONDS = 15.0
"""A run that stops waits so long for the calls in flight: their answers are paid for."""


def run_puzzles(workspace: Workspace, run_dir: Path, params: dict[str, Any], progress: Progress) -> None:
    """Do a run of puzzles, or go on with one. Raises AtlasError, and Cancelled when somebody asked for it; finished puzzles are kept."""
    asyncio.run(_work(workspace, run_dir, PuzzleRequest.from_params(params), progress))


async def _work(workspace: Workspace, run_dir: Path, request: PuzzleRequest, progress: Progress) -> None:
    puzzles = request.puzzles()
    results, spent = _before(run_dir)
    models = Models(workspace, request.budget, spent=spent)
    try:
        answering = _Forgiving(simulator(request.simulator, models))
        progress.stage("checking puzzles")
        for puzzle in puzzles:
            if puzzle.name not in results:
                results[puzzle.name] = await _one(request, models, answering, puzzle)
            _publish(run_dir, request, puzzles, results, models)
            progress.update(len(results), len(puzzles), "", "puzzles")
    except Exception as stop:
        # What the calls in flight cost is spent, and their answers are kept for when the run goes on.
        await models.calm(GRACE_SECONDS)
        _publish(run_dir, request, puzzles, results, models)
        if isinstance(stop, BudgetReached):
            raise AtlasError(f"{stop} {len(results):,} of {len(puzzles):,} puzzles are finished.") from None
        raise
    finally:
        await models.close()


async def _one(request: PuzzleRequest, models: Models, answering: Simulator, puzzle: Puzzle) -> dict[str, Any]:
    explainer = request.explainer
    if explainer is None:
        return _document(await check(answering, puzzle))

    async def solve(records: Sequence[Shown]) -> str:
        return await explain_from_records(models.chat(explainer), records, explainer.temperature)

    try:
        return _document(await check_explainer(solve, answering, puzzle))
    except Final:
        raise
    except LlmError as error:
        return {"puzzle": puzzle.name, "passed": False, "margin": None, "reason": str(error), "true": None, "false": [], "given": None}


@dataclass
class _Forgiving:
    """A simulator whose failure on one text is that text's; what concerns every text stops the run."""

    asked: Simulator

    def __post_init__(self) -> None:
        self.name, self.recipe = self.asked.name, self.asked.recipe

    async def simulate(self, explanation: Explanation, text: Text) -> Simulation:
        return await simulate_one(self.asked, explanation, text)


def _document(result: PuzzleResult) -> dict[str, Any]:
    return {
        "puzzle": result.puzzle,
        "passed": result.passed,
        "margin": _finite(result.margin),
        "reason": result.reason,
        "true": _verdict(result.true),
        "false": [_verdict(one) for one in result.false],
        "given": None if result.given is None else _verdict(result.given),
    }


def _verdict(verdict: Verdict) -> dict[str, Any]:
    score = verdict.score
    numbers = {name: _finite(getattr(score, name)) for name in ("rho", "low", "high", "coverage")}
    return {"text": verdict.text, **numbers, "reason": score.reason}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _publish(
    run_dir: Path, request: PuzzleRequest, puzzles: Sequence[Puzzle], results: Mapping[str, dict[str, Any]], models: Models
) -> None:
    complete = len(results) == len(puzzles)
    write_json(
        run_dir / "manifest.json",
        {
            "schema": SCHEMA,
            "kind": "puzzles",
            "run": run_dir.name,
            "state": "complete" if complete else "partial",
            "simulator": request.simulator.to_json(),
            "explainer": None if request.explainer is None else request.explainer.to_json(),
            "puzzles": len(puzzles),
            "results": [results[puzzle.name] for puzzle in puzzles if puzzle.name in results],
            "spend": models.spend(),
            "provenance": {"code": core.__version__},
        },
    )


def _before(run_dir: Path) -> tuple[dict[str, dict[str, Any]], Spend]:
    """The results of earlier attempts, by puzzle, and what they cost: the budget goes on from there."""
    try:
        document = json.loads((run_dir / "manifest.json").read_text("utf8"))
        results = {str(one["puzzle"]): one for one in cast(list[dict[str, Any]], document["results"])}
        return results, Spend.from_json(document.get("spend") or {})
    except FileNotFoundError:
        return {}, Spend()
    except (ValueError, KeyError, TypeError):
        raise AtlasError(f"The results of {run_dir.name} are damaged: start the check again.") from None
