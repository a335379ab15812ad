"""One unit under one setting: explain, simulate, score, and revise if that was asked for."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from core.autointerp import llm_explainers, revision
from core.autointerp.evidence import UNSEEING, Evidence, Library, NoRecord
from core.autointerp.explainers import explain, pattern_explanation
from core.autointerp.explanation import Explanation
from core.autointerp.files import Outcome, Scored, Simulated
from core.autointerp.judging import Control, judge
from core.autointerp.models import Models
from core.autointerp.request import ExplainRequest, Setting
from core.autointerp.simulators import simulator
from core.autointerp.splits import Split
from core.autointerp.true_activations import reader
from core.errors import AtlasError
from core.llm.budget import BudgetReached
from core.llm.failures import Final, LlmError
from core.store.explanation_view import load_explanation
from core.units import UnitName
from core.workspace import Workspace

_REMEMBERED = 1024


class Worker:
    """Works through units of one run. An explanation that a neighbour needs as its shuffled control is made once."""

    def __init__(self, workspace: Workspace, run: str, request: ExplainRequest, library: Library, models: Models) -> None:
        self._workspace, self._run, self._request, self._library, self._models = workspace, run, request, library, models
        self._made: OrderedDict[tuple[UnitName, int], asyncio.Task[Explanation]] = OrderedDict()
        self._next_of = _neighbours(request.units)

    async def work(self, unit: int, setting: int) -> list[Outcome]:
        """All explanations of a unit under a setting with their scores. A failure of this unit alone is an outcome with its reason.

        Raises AtlasError for what stops the run.
        """
        name, asked, begun = self._request.units[unit], self._request.settings[setting], time.perf_counter()
        identity = f"{self._run}.{unit}.{setting}"
        try:
            evidence = self._library.evidence(name, asked)
        except AtlasError as error:
            nothing = Explanation(name, "", asked.explainer.name, "")
            return [Outcome(f"{identity}.0", "", asked.label, 0, nothing, (), failed=str(error), created=time.time())]
        outcomes: list[Outcome] = []
        try:
            steps = [await self._explain(name, setting)]
            while len(outcomes) < len(steps):
                step = len(outcomes)
                explanation = steps[step]
                scores, simulations = await self._judge(evidence, asked, name, explanation, setting)
                outcomes.append(
                    Outcome(
                        f"{identity}.{step}", evidence.view.index.run, asked.label, step, explanation,
                        self._given_to(evidence, steps[: step + 1]), scores, simulations,
                        seconds=time.perf_counter() - begun, created=time.time(),
                    )
                )  # fmt: skip
                if step == 0:  # judged before it is revised, so that it is kept when revising fails
                    steps += await self._revise(evidence, asked, explanation)
        except (Final, BudgetReached):
            raise
        except (LlmError, NoRecord) as error:
            nothing = Explanation(evidence.view.name, "", asked.explainer.name, "")
            outcomes.append(
                Outcome(
                    f"{identity}.{len(outcomes)}", evidence.view.index.run, asked.label, len(outcomes), nothing, (),
                    failed=str(error), created=time.time(),
                )
            )  # fmt: skip
        return outcomes

    def close(self) -> None:
        """Stop what nobody waits for any more."""
        for task in self._made.values():
            task.cancel()

    async def _explain(self, unit: UnitName, setting: int) -> Explanation:
        """Made once, however many ask; a failure is everybody's."""
        key = (unit, setting)
        if key not in self._made:
            asked = self._request.settings[setting]
            evidence = self._library.evidence(unit, asked)
            self._made[key] = asyncio.create_task(explain(evidence, asked.explainer, self._models))
            while len(self._made) > _REMEMBERED and next(iter(self._made.values())).done():
                self._made.popitem(last=False)
        return await asyncio.shield(self._made[key])

    def _given_to(self, evidence: Evidence, steps: Sequence[Explanation]) -> Sequence[int]:
        """The contexts whose activations the last of the steps was made from: those it says; an earlier explanation's own; else of all
        known positions, a second reading's aside. Of a revision those of the explanation that it revises, too."""
        first, last = steps[0], steps[-1]
        if "given" in first.recipe:
            seen: Sequence[int] = load_explanation(self._workspace, first.recipe["given"]).train
        elif first.explainer in UNSEEING:
            seen = ()
        else:
            seen = first.recipe.get("contexts") or np.unique(evidence.labelled.contexts).tolist()
        return seen if len(steps) == 1 else sorted({*seen, *last.recipe.get("contexts", ())})

    async def _revise(self, evidence: Evidence, asked: Setting, first: Explanation) -> list[Explanation]:
        if asked.arm is None or asked.explainer.endpoint is None:
            return []
        read = reader(self._workspace, evidence.view.name, evidence.view.index.run)
        chat = self._models.chat(asked.explainer)
        return await revision.revise(evidence, asked, first, chat, read)

    async def _judge(
        self, evidence: Evidence, asked: Setting, unit: UnitName, explanation: Explanation, setting: int
    ) -> tuple[list[Scored], list[Simulated]]:
        controls = await self._controls(evidence, asked, unit, explanation, setting)
        splits: Sequence[Split] = (asked.split,) if asked.arm is None else ("validation", "test")
        scores: list[Scored] = []
        simulations: list[Simulated] = []
        for split in splits:
            answering = simulator(asked.simulator, self._models)
            more, simulated = await judge(evidence, explanation, asked, answering, split, controls, self._request.seed)
            scores, simulations = [*scores, *more], [*simulations, *simulated]
        return scores, simulations

    async def _controls(self, evidence: Evidence, asked: Setting, unit: UnitName, explanation: Explanation, setting: int) -> list[Control]:
        found: list[Control] = []
        if "shuffled" in asked.controls:
            found.append(await self._shuffled(unit, asked, setting))
        if "paraphrase" in asked.controls:
            endpoint = asked.paraphraser or asked.explainer.endpoint or asked.simulator.endpoint
            if endpoint is None:
                raise AtlasError("The paraphrase control needs a language model: name an endpoint and a model.")
            try:
                said = await llm_explainers.paraphrase(self._models.chat_at(endpoint), explanation.text)
                found.append(Control("paraphrase", replace(explanation, text=said, pattern=None, author=endpoint.model)))
            except Final:
                raise
            except LlmError as error:
                found.append(Control("paraphrase", None, str(error)))
        return found

    async def _shuffled(self, unit: UnitName, asked: Setting, setting: int) -> Control:
        """Another unit's words by the same explainer, if the run explains one of the same site; else by the pattern explainer."""
        neighbour = self._next_of.get(unit)
        try:
            if neighbour is not None and asked.explainer.name not in ("by-hand", "given"):
                return Control("shuffled", await self._explain(neighbour, setting))
            other = self._library.other(unit, asked, self._request.seed)
            return Control("shuffled", pattern_explanation(self._library.evidence(other, asked)))
        except (Final, BudgetReached):
            raise
        except AtlasError as error:
            return Control("shuffled", None, str(error))


def _neighbours(units: Sequence[UnitName]) -> dict[UnitName, UnitName]:
    """The next unit of the same site in the run, the first after the last; units alone at their site have none."""
    by_site: dict[tuple[str, str, str], list[UnitName]] = {}
    for unit in units:
        by_site.setdefault((unit.subject, str(unit.site), unit.basis), []).append(unit)
    found: dict[UnitName, UnitName] = {}
    for same in by_site.values():
        if len(same) > 1:
            found |= dict(zip(same, [*same[1:], same[0]], strict=True))
    return found
