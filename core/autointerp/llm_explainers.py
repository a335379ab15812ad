"""Explanations written by a language model, from what a unit fires on, from its strongest tokens, or from what it makes likelier."""

import re
from collections.abc import Sequence

from core.autointerp.further_prompts import paraphrase_messages
from core.autointerp.patient import patiently
from core.autointerp.prompts import Message, Shown, explainer_messages, logit_effect_messages, parse_explanation, token_list_messages
from core.errors import shown
from core.llm.answers import Chat
from core.llm.failures import LlmError

LONGEST = 300
"""Characters of an explanation; what is longer is cut between words."""
ANSWER_TOKENS = 200
"""Room for the phrase, and for a word before it."""
_REFUSAL = re.compile(
    r"(i['’]?m|i am) (sorry|unable|not able|afraid)\b|sorry, (but )?i\b"
    r"|i (can ?not|can['’]t|won['’]t|will not|must) (help|assist|provide|do|comply|explain|answer|continue|fulfil|decline|refuse)"
    r"|as an ai\b",
    re.IGNORECASE,
)


async def explain_from_records(client: Chat, records: Sequence[Shown], temperature: float = 1.0, *, n_sample: int = 0) -> str:
    """What the unit responds to, from records with activations 0 to 10 (Bills et al. 2023, “Explaining”). Raises LlmError.

    n_sample: tells apart several explanations from the same records.
    """
    return await ask_phrase(client, explainer_messages(records), temperature, n_sample=n_sample)


async def explain_from_tokens(client: Chat, tokens: Sequence[str], temperature: float = 1.0) -> str:
    """What the tokens on which the unit fires most, strongest first, have in common. Raises LlmError."""
    return await ask_phrase(client, token_list_messages(tokens), temperature)


async def explain_from_logits(client: Chat, raised: Sequence[str], lowered: Sequence[str], temperature: float = 1.0) -> str:
    """What the unit makes the model write, from the tokens whose logits it raises and lowers most. Raises LlmError."""
    return await ask_phrase(client, logit_effect_messages(raised, lowered), temperature)


async def paraphrase(client: Chat, text: str) -> str:
    """The explanation in other words: a control that a private code between explainer and simulator does not survive. Raises LlmError."""
    return await ask_phrase(client, paraphrase_messages(text), 0.0)


async def ask_phrase(client: Chat, messages: list[Message], temperature: float, *, n_sample: int = 0) -> str:
    """One phrase from a model. Raises LlmError: of the kind `refused` when it declines, `empty` when nothing is left of its answer."""
    answer = await patiently(client).chat(messages, max_tokens=ANSWER_TOKENS, temperature=temperature, n_sample=n_sample)
    return clean_explanation(answer.text)


def clean_explanation(text: str) -> str:
    """The phrase in an answer on one line, without lead-in, quotes and final period, at most `LONGEST` characters. Raises LlmError."""
    phrase = parse_explanation(text)
    if not phrase:
        raise LlmError("empty", "There is no explanation in the model's answer.")
    if _REFUSAL.match(phrase):
        raise LlmError("refused", f"The model declined to explain: “{shown(phrase)}”.")
    if len(phrase) <= LONGEST:
        return phrase
    return f"{phrase[: LONGEST - 1].rsplit(' ', 1)[0].rstrip(' ,;:')}…"
