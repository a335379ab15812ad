"""The explainers by name: each turns a unit's evidence into an explanation."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from core.autointerp import llm_explainers
from core.autointerp.evidence import Evidence, NoRecord
from core.autointerp.explanation import Explanation
from core.autointerp.fit import fit, fit_lookup
from core.autointerp.models import Models
from core.autointerp.pattern import Pattern
from core.autointerp.prompts import PROMPT_VERSION
from core.autointerp.request import ExplainerChoice
from core.autointerp.scale import largest, normalise
from core.autointerp.wording import put_into_words
from core.errors import AtlasError

Explain = Callable[[Evidence, ExplainerChoice, Models], Awaitable[Explanation]]
TOKENS_SHOWN = 50
"""Tokens that the token-list explainer sees (Bills et al. 2023 show half of the hundred strongest)."""


async def explain(evidence: Evidence, choice: ExplainerChoice, models: Models) -> Explanation:
    """Explain one unit. Raises AtlasError for what stops the run and `LlmError` for what concerns this unit only."""
    return await EXPLAINERS[choice.name](evidence, choice, models)


async def _pattern(evidence: Evidence, choice: ExplainerChoice, _: Models) -> Explanation:
    return pattern_explanation(evidence)


def pattern_explanation(evidence: Evidence) -> Explanation:
    """Tokens and left contexts with their mean activation, and the sentence that says the most of it."""
    labelled = evidence.labelled
    pattern = fit(labelled, evidence.counts, evidence.vocab)
    strong = np.unique(labelled.contexts[labelled.strong])
    text = put_into_words(pattern, evidence.counts, strong, evidence.vocab)
    recipe: dict[str, Any] = {
        "positions": len(labelled), "read_again": labelled.reading is not None, "rules": len(pattern.rules), "lasts": pattern.lasts,
    }  # fmt: skip
    if labelled.reading is not None:
        recipe["reading"] = dict(labelled.reading.recipe)
    return Explanation(evidence.view.name, text, "pattern", "pattern", pattern, recipe)


def lookup_table(evidence: Evidence) -> Pattern:
    """The token lookup table (the baseline of Bills et al. 2023) of the same evidence: each token's mean activation."""
    return fit_lookup(evidence.labelled, evidence.counts)


async def _token_activation(evidence: Evidence, choice: ExplainerChoice, models: Models) -> Explanation:
    shown = evidence.shown(choice)
    activations = [example.activations for example in shown]
    top = largest(activations) if choice.normalise == "shown" else max(0.0, float(evidence.view.stats["max"]))
    records = [(example.text.pieces, normalise(example.activations, top)) for example in shown]
    text = await llm_explainers.explain_from_records(models.chat(choice), records, choice.temperature)
    return _written(evidence, choice, models, text, {"top": top, "contexts": [example.context for example in shown]})


async def _token_list(evidence: Evidence, choice: ExplainerChoice, models: Models) -> Explanation:
    table = lookup_table(evidence)
    ranked = sorted(((value, ids[0]) for ids, value in table.rules.items() if len(ids) == 1), reverse=True)[: 2 * TOKENS_SHOWN : 2]
    if not ranked:
        raise NoRecord(f"{evidence.view.name} has no token to explain it from: index more text.")
    tokens = evidence.vocab.pieces([token for _, token in ranked])
    text = await llm_explainers.explain_from_tokens(models.chat(choice), tokens, choice.temperature)
    return _written(evidence, choice, models, text, {"tokens": len(tokens), "read_again": evidence.labelled.reading is not None})


async def _logit_effect(evidence: Evidence, choice: ExplainerChoice, models: Models) -> Explanation:
    effects = evidence.view.effects
    if effects is None:
        raise NoRecord(f"{evidence.view.name} has no effects on the output yet: wait until its index is complete.")
    raised, lowered = ([effect.text for effect in side] for side in (effects.raised, effects.lowered))
    text = await llm_explainers.explain_from_logits(models.chat(choice), raised, lowered, choice.temperature)
    return _written(evidence, choice, models, text, {})


async def _by_hand(evidence: Evidence, choice: ExplainerChoice, _: Models) -> Explanation:
    return Explanation(evidence.view.name, " ".join(choice.text.split()), "by-hand", "by hand")


async def _given(evidence: Evidence, choice: ExplainerChoice, models: Models) -> Explanation:
    given = models.given(choice.given)
    if given.unit != evidence.view.name:
        raise AtlasError(f"The explanation {choice.given} is of {given.unit}, not of {evidence.view.name}.")
    return replace(given, recipe=given.recipe | {"given": choice.given})


def _written(evidence: Evidence, choice: ExplainerChoice, models: Models, text: str, more: dict[str, Any]) -> Explanation:
    author = choice.endpoint.model if choice.endpoint is not None else choice.name
    # The one parameter of a phrase's request that a model may do without: what it was asked for is in the choice, this is what it was.
    dropped = {"dropped": ["temperature"]} if "temperature" in models.chat(choice).dropped else {}
    recipe = {"prompt": PROMPT_VERSION, "choice": choice.to_json(), **more, **dropped}
    return Explanation(evidence.view.name, text, choice.name, author, recipe=recipe)


EXPLAINERS: Mapping[str, Explain] = {
    "pattern": _pattern,
    "token-activation": _token_activation,
    "token-list": _token_list,
    "logit-effect": _logit_effect,
    "by-hand": _by_hand,
    "given": _given,
}
