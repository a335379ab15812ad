"""The run that explains: every unit under every setting, many at once, published part by part, resumed from the finished parts."""

import asyncio
import json
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import core
from core.autointerp.evidence import Library
from core.autointerp.explanation import Explanation
from core.autointerp.files import Outcome, find_parts, write_outcomes
from core.autointerp.models import Models
from core.autointerp.reading import read_again
from core.autointerp.request import MOST_BYTES, ExplainRequest, tokens_to_read
from core.autointerp.unit_work import Worker
from core.errors import AtlasError
from core.llm.budget import BudgetReached, Spend
from core.runs.progress import Progress
from core.store.catalog import load_index
from core.store.explanation_view import load_explanation
from core.units import UnitName
from core.workspace import Workspace, write_json

SCHEMA = 1
SPEND = "spend.json"
"""What was spent up to now, beside the manifest."""
AT_ONCE, AT_ONCE_HERE = 64, 4
"""Units at work at a time: over HTTP, where the endpoint's own limit bounds the calls; and without, where nothing is gained by many at
once, and progress is told (and a cancel heard) only between steps of work."""
GRACE_SECONDS = 15.0
"""A run that stops waits so long for the calls in flight: their answers are paid for."""
SPEND_SECONDS = 0.5
PUBLISH_SECONDS = 5.0
PART = 256
"""Explanations in a part at most."""


@dataclass(frozen=True)
class Piece:
    """One piece of work: a unit under a setting."""

    unit: int
    setting: int

    @property
    def name(self) -> str:
        return f"{self.unit}.{self.setting}"


def run_explain(workspace: Workspace, run_dir: Path, params: dict[str, Any], progress: Progress) -> None:
    """Do a run of explaining, or go on with one. Raises AtlasError, and Cancelled when somebody asked for it; finished work is kept."""
    asyncio.run(_Run(workspace, run_dir, ExplainRequest.from_params(params), progress).work())


class _Run:
    def __init__(self, workspace: Workspace, run_dir: Path, request: ExplainRequest, progress: Progress) -> None:
        self._workspace, self._run_dir, self._request, self._progress = workspace, run_dir, request, progress
        self._library = Library(workspace, len(request.units))
        self._entries = find_parts(run_dir)
        self._before = _spent_before(run_dir)
        self._finished = {name for entry in self._entries for name in entry["work"]}
        self._models = Models(workspace, request.budget, lambda identity: _given(workspace, identity), self._before)
        self._worker = Worker(workspace, run_dir.name, request, self._library, self._models)
        self._indexes: dict[str, None] = dict.fromkeys(name for entry in self._entries for name in entry.get("indexes", ()))
        self._total = len(request.units) * len(request.settings)
        self._spend_noted = self._before.to_json()
        self._written = self._noted = time.monotonic()

    async def work(self) -> None:
        self._publish("partial")
        self._read_again()
        self._progress.stage("explaining")
        self._report()
        waiting = self._waiting()
        tasks: dict[asyncio.Task[list[Outcome]], Piece] = {}
        done: OrderedDict[str, list[Outcome]] = OrderedDict()
        at_once = AT_ONCE if any(setting.asks_over_http for setting in self._request.settings) else AT_ONCE_HERE
        try:
            while True:
                while len(tasks) < at_once and (piece := next(waiting, None)) is not None:
                    tasks[asyncio.create_task(self._worker.work(piece.unit, piece.setting))] = piece
                if not tasks:
                    break
                await asyncio.wait(tasks, timeout=0.5, return_when=asyncio.FIRST_COMPLETED)
                self._collect(tasks, done)
                if time.monotonic() - self._written >= PUBLISH_SECONDS or sum(map(len, done.values())) >= PART:
                    self._keep(done)
                self._report(len(done))
        except Exception as stop:
            await self._models.calm(GRACE_SECONDS)
            with suppress(Exception):  # one reason is told; the others stop for the same one, or because no call can be made any more
                self._collect(tasks, done)
            self._keep(done)
            self._note_spend()
            if isinstance(stop, BudgetReached):
                raise AtlasError(f"{stop} {len(self._finished):,} of {self._total:,} explanations are finished.") from None
            raise
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._worker.close()
            await self._models.close()
        self._keep(done)
        self._publish("complete")
        self._report()

    @staticmethod
    def _collect(tasks: dict[asyncio.Task[list[Outcome]], Piece], done: OrderedDict[str, list[Outcome]]) -> None:
        """Take what has ended. Everything that succeeded is kept before the first failure is raised."""
        failed: BaseException | None = None
        for task in [task for task in tasks if task.done()]:
            piece = tasks.pop(task)
            error = task.exception()
            if error is None:
                done[piece.name] = task.result()
            failed = failed or error
        if failed is not None:
            raise failed

    def _read_again(self) -> None:
        """Read some of the text again for all units that the pattern explainer is asked about, index by index.

        Where an index kept its inputs, for the lookup control of other explainers, too: every sentence is held against the same table.
        """
        wanted: dict[str, tuple[set[UnitName], int, int]] = {}
        for setting in self._request.settings:
            fits = setting.explainer.name == "pattern"
            if not (fits or "lookup" in setting.controls) or len(self._finished) == self._total:
                continue
            for unit in self._request.units:
                try:
                    name, index = self._library.locate(unit, setting)
                except AtlasError:
                    continue  # said when its turn comes
                tokens = self._library.reads(setting, index)
                if tokens and (fits or index.tokens_kept):
                    units, most, with_model = wanted.setdefault(index.run, (set(), 0, 0))
                    units.add(name)
                    alone = tokens_to_read(setting.explainer.read, len(self._request.units)) if fits else 0
                    wanted[index.run] = (units, max(most, tokens), max(with_model, alone))
        for run, (units, tokens, with_model) in wanted.items():
            self._progress.stage("reading some text again for these units")
            index = load_index(self._workspace, run)
            try:
                reading = read_again(
                    self._workspace, index, units, tokens, lambda done, total: self._progress.update(done, total, "", "contexts"),
                    MOST_BYTES // len(wanted), with_model,
                )  # fmt: skip
            except AtlasError as error:
                if any(setting.explainer.read > 0 for setting in self._request.settings):
                    raise
                # Nobody asked for it: what the index keeps will do, and the recipe says that nothing was read again.
                self._progress.log(f"the text could not be read again: {error}")
                continue
            if index.manifest.get("inputs") and not reading.recipe["from_inputs"]:
                self._progress.log(f"the inputs that {run} kept are damaged or gone: its text was read with the model")
            self._library.add(run, reading)

    def _waiting(self) -> Iterator[Piece]:
        pieces = (Piece(unit, setting) for unit in range(len(self._request.units)) for setting in range(len(self._request.settings)))
        return (piece for piece in pieces if piece.name not in self._finished)

    def _report(self, more: int = 0) -> None:
        spend = self._models.spend()
        said = f"{spend['calls']:,} calls, {spend['tokens_in'] + spend['tokens_out']:,} tokens" if spend["calls"] else ""
        if time.monotonic() - self._noted >= SPEND_SECONDS:
            self._note_spend()
        self._progress.update(len(self._finished) + more, self._total, said, "explanations")

    def _note_spend(self) -> None:
        """Write down what was spent, oftener than parts are: the cap of a run that is killed and resumed counts what was paid before."""
        self._noted = time.monotonic()
        spend = self._models.spend()
        if spend != self._spend_noted:
            self._spend_noted = spend
            write_json(self._run_dir / SPEND, spend)

    def _keep(self, done: OrderedDict[str, list[Outcome]]) -> None:
        """Write what is done as one part and publish it."""
        self._written = time.monotonic()
        if not done:
            return
        outcomes = [outcome for found in done.values() for outcome in found]
        number = 1 + max((int(entry["number"]) for entry in self._entries), default=-1)
        self._indexes |= dict.fromkeys(outcome.index for outcome in outcomes if outcome.index)
        self._entries.append(write_outcomes(self._run_dir, number, outcomes, list(done)))
        self._finished |= set(done)
        done.clear()
        self._publish("partial")

    def _publish(self, state: str) -> None:
        write_json(
            self._run_dir / "manifest.json",
            {
                "schema": SCHEMA,
                "kind": "explain",
                "run": self._run_dir.name,
                "state": state,
                "generation": _generation(self._run_dir) + 1,
                "work_done": len(self._finished),
                "work_total": self._total,
                "study": self._request.study,
                "settings": [setting.to_json() for setting in self._request.settings],
                "units": len(self._request.units),
                "index": list(self._indexes),
                "parts": self._entries,
                "spend": self._models.spend(),
                "provenance": {"code": core.__version__, "seed": self._request.seed},
            },
        )


def _given(workspace: Workspace, identity: str) -> Explanation:
    """An explanation that an earlier run made. Raises AtlasError."""
    view = load_explanation(workspace, identity)
    return Explanation(view.unit, view.text, view.explainer, view.author, view.pattern, view.recipe)


def _document(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf8"))
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _generation(run_dir: Path) -> int:
    return int(_document(run_dir / "manifest.json").get("generation", 0))


def _spent_before(run_dir: Path) -> Spend:
    """What earlier attempts at the run have spent; the budget goes on from there."""
    spend = _document(run_dir / SPEND) or _document(run_dir / "manifest.json").get("spend")
    return Spend.from_json(spend) if isinstance(spend, dict) else Spend()
