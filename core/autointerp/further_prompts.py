"""What models are asked beyond explaining and simulating, word for word: to restate an explanation, to test it, and to revise it."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any, Literal

from core.autointerp.prompts import LEAD, Message, Shown, format_records, one_line

Expected = Literal["positive", "negative", ""]
"""Whether the neuron should fire on a sentence if its explanation is right; “” for a text that nobody wrote as a test."""

_NEURON = "Inside a language model are neurons; each responds to something in a text."
_PARAPHRASE = (
    f"{_NEURON} You are given a description of what one neuron responds to. Say the same in other words: one short phrase, as general and"
    " as narrow as it was, in plain English. Keep words in quotes as they are, as the neuron responds to just these. Write nothing else."
)
_TESTS = (
    f"{_NEURON} You are given what somebody believes that one neuron responds to. The belief may be too broad, too narrow, or wrong. Write"
    " short sentences that would find this out. Positive sentences hold what the belief names, each in another way and in another context:"
    " with other words before and after it, in other kinds of text. Negative sentences come close, but do not hold what the belief names:"
    " if the neuron fires on them, the belief is too narrow. Answer with one JSON object with the keys"
    ' "positive" and "negative", each a list of sentences, and nothing else.'
)
_REVIEW = (
    f"{_NEURON}"
    " You are given texts, with how strongly one neuron fires on each token from 0 to 10, and an explanation that was written"
    " from the first of them. Review the explanation: does it name what all tokens with high activations share, and does it"
    " leave out what has 0? Pay attention to the words before a token. Then write the explanation anew, better or, if it is"
    " right, unchanged: one short phrase that names what the neuron responds to. Do not list examples of tokens and do not"
    " describe single texts. Write only the phrase."
)
_HEADINGS: dict[str, str] = {
    "positive": "Sentences written to fit the explanation, with the true activations",
    "negative": "Sentences written to come close without fitting it, with the true activations",
    "": "Other texts, with the true activations",
}


def paraphrase_messages(explanation: str) -> list[Message]:
    """The chat that asks for the same explanation in other words."""
    return [
        {"role": "system", "content": _PARAPHRASE},
        {"role": "user", "content": f"Description: {LEAD} {one_line(explanation)}"},
    ]


def testing_messages(explanation: str, count: int) -> list[Message]:
    """The chat that asks for `count` positive and `count` negative sentences as JSON, {"positive": [...], "negative": [...]}."""
    return [
        {"role": "system", "content": _TESTS},
        {
            "role": "user",
            "content": f"The belief: {LEAD} {one_line(explanation)}\nWrite {count} positive and {count} negative sentences.",
        },
    ]


def testing_schema() -> dict[str, Any]:
    """The JSON schema of that answer."""
    sentences = {"type": "array", "items": {"type": "string"}}
    return {
        "type": "object",
        "properties": {"positive": sentences, "negative": sentences},
        "required": ["positive", "negative"],
        "additionalProperties": False,
    }


def review_messages(explanation: str, records: Sequence[Shown], new: Sequence[tuple[Expected, Shown]] = ()) -> list[Message]:
    """The chat that asks for a better explanation. new: evidence that the first explanation was written without."""
    parts = [f"Texts that the explanation was written from:{format_records(records)}"]
    for expected, heading in _HEADINGS.items():
        shown = [record for kind, record in new if kind == expected]
        if shown:
            parts.append(f"{heading}:{format_records(shown)}")
    parts.append(f"Explanation: {LEAD} {one_line(explanation)}\n\nReviewed explanation: {LEAD}")
    return [{"role": "system", "content": _REVIEW}, {"role": "user", "content": "\n".join(parts)}]


def _version() -> str:
    """A hash over all that these functions write around what they are given."""
    record = (["a", "b"], [0, 1])
    everything: list[Any] = [
        paraphrase_messages("a"),
        testing_messages("a", 1),
        testing_schema(),
        review_messages("a", [record], [("positive", record), ("negative", record), ("", record)]),
    ]
    return hashlib.sha256(json.dumps(everything).encode()).hexdigest()[:12]


FURTHER_VERSION = _version()
"""Changes whenever a word of these prompts does; part of the recipe of what was made with them."""
