"""Revising an explanation on further evidence: the four arms of Bills et al. 2023, “Revising explanations”.

baseline: the explanation as it is. re-explanation: the explainer reviews it with the records it was written from. revision: a model writes
sentences that would test it, the subject says how the unit really fires on them, and the explainer revises. revision with random: other
records on which the unit fires stand in for the sentences.
"""

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from core.autointerp.evidence import Evidence
from core.autointerp.explanation import Example, Explanation, Floats
from core.autointerp.further_prompts import FURTHER_VERSION, Expected, review_messages, testing_messages, testing_schema
from core.autointerp.llm_explainers import ask_phrase
from core.autointerp.patient import patiently
from core.autointerp.prompts import Shown, without_thoughts
from core.autointerp.request import Arm, Setting
from core.autointerp.scale import largest, normalise
from core.errors import AtlasError
from core.llm.answers import Chat
from core.llm.failures import LlmError

Record = tuple[Sequence[str], Floats]
"""The pieces of a text and the unit's true activations on them."""
Read = Callable[[list[str]], Awaitable[Sequence[Record]]]
"""The subject: how the unit really fires on each text."""
TESTS = 5
"""Sentences of each kind, positive and negative; twice as many random records."""
LONGEST_TEST = 400
"""Characters of a sentence; a longer one is no sentence."""
_TEST_TOKENS = 2000


@dataclass(frozen=True)
class NewEvidence:
    """A text that the first explanation was written without. expected: what a sentence was written for, “” for a random record."""

    expected: Expected
    pieces: tuple[str, ...]
    activations: Floats

    def to_json(self, top: float) -> dict[str, Any]:
        """With the activations as the explainer saw them."""
        return {"expected": self.expected, "pieces": list(self.pieces), "values": normalise(self.activations, top)}


@dataclass(frozen=True)
class Step:
    """An explanation on its way. shown: what it was revised on, beside the records; top: the activation that was shown as 10."""

    number: int
    text: str
    shown: tuple[NewEvidence, ...] = ()
    top: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return {"step": self.number, "top": self.top, "shown": [one.to_json(self.top) for one in self.shown]}


async def revise(evidence: Evidence, setting: Setting, first: Explanation, chat: Chat, read: Read, *, rounds: int = 1) -> list[Explanation]:
    """The explanations after the first under the setting's arm, each with its step in the recipe. No record that is held out is used.

    Raises LlmError for what concerns this unit only; AtlasError, `Final` and BudgetReached for what stops the run.
    """
    if setting.arm is None:
        return []
    shown = evidence.shown(setting.explainer)
    fresh: list[Example] = []
    if setting.arm == "revision with random":
        seen = {example.context for example in shown}
        try:
            others = evidence.shown(replace(setting.explainer, source="random", records=50))
        except AtlasError:
            others = []  # `revise_text` says what that means for this arm
        fresh = [example for example in others if example.context not in seen]
    records, random = ([(example.text.pieces, example.activations) for example in some] for some in (shown, fresh))
    steps = await revise_text(
        chat, setting.arm, first.text, records, read=read, random=random, rounds=rounds, temperature=setting.explainer.temperature
    )
    author = first.author if setting.explainer.endpoint is None else setting.explainer.endpoint.model
    recipe = {**first.recipe, "arm": setting.arm, "revision_prompt": FURTHER_VERSION}

    def contexts(step: Step) -> list[int]:
        """Of what this step was shown: the records, and those of the random ones that it got."""
        got = [example.context for example in fresh if any(one.activations is example.activations for one in step.shown)]
        return sorted({*(example.context for example in shown), *got})

    return [
        replace(first, text=step.text, author=author, pattern=None, recipe={**recipe, **step.to_json(), "contexts": contexts(step)})
        for step in steps[1:]
    ]


async def revise_text(
    chat: Chat,
    arm: Arm | None,
    explanation: str,
    records: Sequence[Record],
    *,
    read: Read | None = None,
    random: Sequence[Record] = (),
    rounds: int = 1,
    temperature: float = 1.0,
    tests: int = TESTS,
) -> list[Step]:
    """The steps of one arm, the explanation as it came first; None is the baseline, which has no other.

    records: what the explanation was written from. read: needed by “revision”. random: further records for “revision with random”; those on
    which the unit is silent are passed over. rounds: how often to revise; each round tests the explanation of the one before, and shows
    what earlier ones showed too. Raises LlmError.
    """
    steps = [Step(0, explanation)]
    shown: list[NewEvidence] = []
    for number in range(1, rounds + 1 if arm is not None else 1):
        if arm == "revision":
            if read is None:
                raise ValueError("the subject is needed to test an explanation")
            shown += await _tested(chat, steps[-1].text, read, tests, temperature)
        elif arm == "revision with random":
            shown += _active(random, records)[2 * tests * (number - 1) : 2 * tests * number]
        # One scale for all that is shown together, as `scale.largest` has it for the records of an explanation.
        everything = [activations for _, activations in records] + [one.activations for one in shown]
        top = largest(everything)
        known = [(pieces, normalise(activations, top)) for pieces, activations in records]
        new: list[tuple[Expected, Shown]] = [(one.expected, (one.pieces, normalise(one.activations, top))) for one in shown]
        text = await ask_phrase(chat, review_messages(steps[-1].text, known, new), temperature, n_sample=number - 1)
        steps.append(Step(number, text, tuple(shown), top))
    return steps


async def _tested(chat: Chat, explanation: str, read: Read, count: int, temperature: float) -> list[NewEvidence]:
    """Sentences that test the explanation, with the true activations."""
    sentences = await write_tests(chat, explanation, count, temperature)
    found = await read([sentence for _, sentence in sentences])
    if len(found) != len(sentences):
        raise ValueError("the subject has to answer for every sentence")
    kept = [
        NewEvidence(expected, tuple(pieces), np.asarray(activations, np.float64))
        for (expected, _), (pieces, activations) in zip(sentences, found, strict=True)
        if len(pieces)
    ]
    if not kept:
        raise LlmError("empty", "No sentence that the model wrote has a token to read an activation on.")
    return kept


async def write_tests(chat: Chat, explanation: str, count: int = TESTS, temperature: float = 1.0) -> list[tuple[Expected, str]]:
    """At most `count` positive and `count` negative sentences, all different. Asks again after an answer without any. Raises LlmError."""
    messages, patient = testing_messages(explanation, count), patiently(chat)
    for attempt in range(2):
        answer = await patient.chat(messages, max_tokens=_TEST_TOKENS, temperature=temperature, schema=testing_schema(), n_sample=attempt)
        found = read_tests(answer.text, count)
        if found:
            return found
    raise LlmError("broken", "The model wrote no sentences that could test the explanation, asked twice.")


def read_tests(text: str, count: int) -> list[tuple[Expected, str]]:
    """The sentences in an answer; none when it is not the JSON that was asked for, whatever stands around that."""
    text = without_thoughts(text)
    try:
        value, _ = json.JSONDecoder().raw_decode(text, max(0, text.find("{")))
    except (ValueError, RecursionError):
        return []
    found: dict[str, Expected] = {}
    for expected in ("positive", "negative"):
        listed = value.get(expected) if isinstance(value, dict) else None
        sentences = [" ".join(one.split()) for one in listed if isinstance(one, str)] if isinstance(listed, list) else []
        fresh = [one for one in dict.fromkeys(sentences) if 0 < len(one) <= LONGEST_TEST and one not in found]
        found |= dict.fromkeys(fresh[:count], expected)
    return [(expected, sentence) for sentence, expected in found.items()]


def _active(random: Sequence[Record], records: Sequence[Record]) -> list[NewEvidence]:
    """The random records on which an activation is not 0 on the scale of the records. Raises LlmError when there is none."""
    top = largest([activations for _, activations in records])
    active = [NewEvidence("", tuple(pieces), activations) for pieces, activations in random if any(normalise(activations, top))]
    if not active:
        raise LlmError("empty", "The unit fires on none of the random records: there is nothing to revise its explanation with.")
    return active
