"""The command `puzzles`: a simulator, or an explainer too, is checked on planted neurons whose true explanation is known."""

import argparse
from pathlib import Path

from core.autointerp.cost import check_budget, over_budget, puzzle_cost
from core.autointerp.puzzle_request import EXPLAINER, PuzzleRequest
from core.autointerp.puzzles import load_puzzles
from core.autointerp.request import ExplainerChoice, SimulatorChoice
from core.commands.explaining import budget_of, endpoint_of
from core.commands.follow import as_document, follow
from core.commands.output import emit, note, number, printable, table
from core.errors import AtlasError
from core.runs import lanes
from core.runs.registry import Registry
from core.store.puzzle_results import PuzzleResults, load_puzzle_results
from core.workspace import Workspace


def check(arguments: argparse.Namespace, workspace: Workspace) -> int:
    """Check, and print a verdict for each puzzle. Status 1 when one is not passed."""
    asked = endpoint_of(arguments, "simulator") if arguments.simulator in ("local", "completions", "chat") else None
    explainer = ExplainerChoice(EXPLAINER, endpoint_of(arguments, "explainer"), temperature=arguments.temperature)
    request = PuzzleRequest(
        SimulatorChoice(arguments.simulator, asked, logprobs=arguments.logprobs).checked(),
        explainer.checked() if arguments.with_explainer else None,
        tuple(puzzle.to_json() for puzzle in load_puzzles(Path(arguments.file))) if arguments.file else (),
        budget_of(arguments),
    ).checked()
    expected = puzzle_cost(request, request.puzzles())
    check_budget(request.budget, expected)
    if expected.asked.calls or expected.loaded:
        note(f"before it starts: {expected}")
    if short := over_budget(request.budget, expected):
        note(short)
    run = Registry(workspace).submit("puzzles", request.to_params(), lane="interactive")
    lanes.ensure_workers(workspace)
    if arguments.detach:
        emit(arguments, as_document(run), [f"{run.id} is {run.state}: `python -m core runs` shows how it goes"])
        return 0
    done = follow(workspace, run.id)
    found = load_puzzle_results(workspace, done.id)
    if found is None:
        raise AtlasError(f"{done.id} left no results: start the check again.")
    verdicts = [
        {
            "puzzle": line.puzzle, "passed": line.passed, "margin": line.margin, "reason": line.reason,
            "true": None if line.true is None else line.true.rho, "false": [one.rho for one in line.false],
            "given": None if line.given is None else {"text": line.given.text, "rho": line.given.rho},
        }
        for line in found.lines
    ]  # fmt: skip
    emit(arguments, {**as_document(done), "passed": found.passed, "spend": found.spend, "results": verdicts}, _lines(found))
    return 0 if found.passed == found.total else 1


def _lines(found: PuzzleResults) -> list[str]:
    rows = [["PUZZLE", "PASSED", "TRUE", "BEST FALSE", "EXPLAINER'S", "REASON"]]
    for line in found.lines:
        false = max((one.rho for one in line.false if one.rho == one.rho), default=None)
        true, given = (None if one is None else one.rho for one in (line.true, line.given))
        rows.append(
            [
                printable(line.puzzle),
                "yes" if line.passed else "no",
                *(number(value, 2) for value in (true, false)),
                number(given, 2) if line.given is not None else "",
                printable(line.reason),
            ]
        )
    return [*table(rows, (2, 3, 4)), f"{found.passed:,} of {found.total:,} puzzles passed"]
