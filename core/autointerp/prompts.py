"""What explainers and simulators are asked, word for word: the layout of Bills et al. 2023 in this project's own wording.

A record is written as `<start>`, one line `token⇥value` for each token, `<end>`. Unlike their code, which writes tokens raw, tokens are
escaped here so that no token can break a line or end a record. Everything is a pure function of its arguments.
"""

import hashlib
import json
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from core.autointerp.fewshot import (
    EXAMPLES,
    PROMOTED_ANSWER,
    PROMOTED_TOKENS,
    SEEN_ANSWER,
    SEEN_TOKENS,
    SUPPRESSED_TOKENS,
    ExampleNeuron,
    ExampleRecord,
    example_neurons,
)
from core.autointerp.scale import REPEAT_BELOW, TOP, nonzero_share

_THOUGHTS = re.compile(r"<think>.*?(</think>|$)", re.DOTALL)
Message = dict[str, Any]
"""`role` (system, user or assistant) and `content`."""
Shown = tuple[Sequence[str], Sequence[int]]
"""A record as an explainer sees it: tokens, and activations 0 to 10."""

START, END, UNKNOWN = "<start>", "<end>", "unknown"
LEAD = "this neuron fires on"
"""The words that an explanation completes."""

_EXPLAINER = (
    "Inside a language model are neurons; each responds to something in a text. From parts of texts in which one neuron responds, say in"
    " one short phrase what it responds to. Do not list examples of tokens and do not describe single texts: name what they share. Each"
    " line holds a token, a tab, and how strongly the neuron fires on it, from 0 to 10. A high number means that it fires strongly."
)
_SIMULATOR = (
    "Inside a language model are neurons; each responds to something in a text. Read what a neuron responds to, and predict how strongly"
    f' it fires on each token of a text. Each line holds a token, a tab, and the activation, a whole number from 0 to {TOP}; "{UNKNOWN}"'
    " stands for an activation that is not known. On most tokens the activation is 0."
)
_CHAT_SIMULATOR = (
    "Inside a language model are neurons; each responds to something in a text. You are told what one neuron responds to and given the"
    " tokens of a text as JSON, each with its index. Predict how strongly the neuron fires on each token, as it stands in its text: a whole"
    f" number from 0 (not at all) to {TOP} (as strongly as it ever does). On most tokens it is 0. Answer with one JSON object with the key"
    ' "activations": a list with one entry for every token, in order, each with its index, its token exactly as given, and its activation.'
    " Write nothing else."
)
_TOKEN_LIST = (
    "Inside a language model are neurons; each responds to certain tokens. You are given the tokens on which one neuron fires most"
    " strongly. Say in one short phrase what they have in common. Do not list the tokens."
)
_LOGIT_EFFECT = (
    "Inside a language model are neurons; when one fires, it makes some next tokens likelier and others less likely. You are given the"
    " tokens that one neuron promotes most and those that it suppresses most. Say in one short phrase what the neuron makes the model"
    " write. Do not list the tokens."
)
_CHAT_TOKENS = 18
"""Tokens of an example in the structured chat; there the text of a whole record would take many times as many."""


@dataclass(frozen=True)
class Segment:
    """A stretch of a prompt. marker: the number of the token whose activation this stretch holds the place of, else None."""

    text: str
    marker: int | None = None


def escape_token(piece: str) -> str:
    r"""A token on a line of its own: JSON's escapes for backslash and control characters, `\<` where it spells a record's bounds."""
    escaped = "".join(map(_escaped, piece))
    return escaped.replace(START, "\\" + START).replace(END, "\\" + END)


def one_line(text: str) -> str:
    """A sentence as a prompt quotes it: single spaces, no line breaks, and nothing that looks like a record's bounds."""
    return escape_token(" ".join(text.split()))


def format_records(records: Sequence[Shown], revealed: Sequence[int | None] | None = None, *, nonzero_only: bool = False) -> str:
    r"""The records as text: `\n<start>\ntoken⇥value\n…<end>\n`, the next record's `<start>` right after `<end>`.

    revealed: for each record the first token whose value is shown; those before it, or all when None, read “unknown”. nonzero_only: leaves
    out the tokens whose activation is 0. Raises ValueError when a record's lengths differ.
    """
    starts: Sequence[int | None] = [0] * len(records) if revealed is None else revealed
    blocks = [_block(pieces, values, start, nonzero_only) for (pieces, values), start in zip(records, starts, strict=True)]
    return "\n" + "".join(blocks)


def explainer_messages(records: Sequence[Shown], *, repeat: bool = True, examples: int = EXAMPLES) -> list[Message]:
    """The chat that asks for an explanation from token–activation pairs. Its answer completes `LEAD`.

    repeat: show the non-zero activations a second time when they are fewer than 20 % (`REPEAT_BELOW`). examples: how many of the example
    neurons to show.
    """
    messages = [_message("system", _EXPLAINER)]
    neurons = example_neurons()[:examples]
    for number, neuron in enumerate(neurons, 1):
        shown = [(record.pieces, record.values) for record in neuron.records]
        messages += [_message("user", _activations(number, shown, repeat)), _message("assistant", f"{neuron.explanation}.")]
    return [*messages, _message("user", _activations(len(neurons) + 1, records, repeat))]


def token_list_messages(pieces: Sequence[str]) -> list[Message]:
    """The chat that asks for an explanation from the tokens with the highest mean activation, strongest first."""
    return [
        _message("system", _TOKEN_LIST),
        _message("user", f"Tokens: {_quoted(SEEN_TOKENS)}\n\nIn short, {LEAD}"),
        _message("assistant", f"{SEEN_ANSWER}."),
        _message("user", f"Tokens: {_quoted(pieces)}\n\nIn short, {LEAD}"),
    ]


def logit_effect_messages(promoted: Sequence[str], suppressed: Sequence[str]) -> list[Message]:
    """The chat that asks for an explanation from the tokens whose logits a unit raises and lowers most, strongest first."""

    def asked(up: Sequence[str], down: Sequence[str]) -> str:
        return f"Promoted: {_quoted(up)}\nSuppressed: {_quoted(down)}\n\nIn short, this neuron promotes"

    return [
        _message("system", _LOGIT_EFFECT),
        _message("user", asked(PROMOTED_TOKENS, SUPPRESSED_TOKENS)),
        _message("assistant", f"{PROMOTED_ANSWER}."),
        _message("user", asked(promoted, suppressed)),
    ]


def parse_explanation(text: str) -> str:
    """The phrase in a model's answer: its first line, without thoughts, a repeated lead-in, quotes and the final period. May be empty."""
    text = without_thoughts(text).replace("*", "")
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    # “Here is the explanation:” is no explanation while something follows it.
    line = next((line for place, line in enumerate(lines) if place == len(lines) - 1 or not line.endswith(":")), "")
    line = re.sub(r"^(in short,? |explanation( of neuron \d+)?( behavior)?: *)", "", line, flags=re.IGNORECASE)
    line = re.sub(rf"^(({LEAD}|this neuron promotes)[:,]? *)", "", _unquoted(line), flags=re.IGNORECASE)
    return _unquoted(_unquoted(line).removesuffix("."))


def without_thoughts(text: str, *, keep_places: bool = False) -> str:
    """An answer without what a model thought before it, finished or not. keep_places: with as many spaces instead."""
    return _THOUGHTS.sub(lambda match: " " * len(match[0]) if keep_places else "", text)


def prefix_segments(examples: int = EXAMPLES) -> list[Segment]:
    """The beginning of every all-at-once prompt, for a simulator that puts its ids together piece by piece."""
    segments = [Segment(f"{_SIMULATOR}\n\n")]
    for number, neuron in enumerate(example_neurons()[:examples], 1):
        segments.append(Segment(_simulated_head(number, neuron.explanation)))
        for record in neuron.records:
            segments += _lines(record.pieces, [UNKNOWN if at < record.revealed else str(value) for at, value in enumerate(record.values)])
        segments.append(Segment("\n"))
    return segments


def simulation_prefix(examples: int = EXAMPLES) -> str:
    """The same as text: what is asked, and the example neurons, each beginning with “unknown” and later showing numbers.

    That they switch keeps a model's mind on numbers wherever a line says “unknown” (Bills et al. 2023, “Simulating”).
    """
    return "".join(segment.text for segment in prefix_segments(examples))


def simulation_target(explanation: str, pieces: Sequence[str], examples: int = EXAMPLES) -> list[Segment]:
    """What follows the prefix: the explanation as the first segment, then the text with every activation “unknown”, each a marker.

    A tab is a segment of its own right before each marker. The activations are read off as what the model expects in the markers' places.
    """
    return [Segment(_simulated_head(examples + 1, explanation)), *_lines(pieces, None)]


def marker_offsets(segments: Sequence[Segment], start: int = 0) -> list[int]:
    """Where each marker begins, in characters, when the segments' text follows `start` characters."""
    offsets: list[int] = []
    for segment in segments:
        if segment.marker is not None:
            offsets.append(start)
        start += len(segment.text)
    return offsets


def chat_simulation_messages(explanation: str, pieces: Sequence[str]) -> list[Message]:
    """The chat that asks for all activations as JSON: `{"activations": [{"index", "token", "activation"}, …]}`."""
    messages = [_message("system", _CHAT_SIMULATOR)]
    for neuron in (example_neurons()[0], example_neurons()[2]):
        shown = _excerpt(neuron)
        entries = [
            {"index": at, "token": piece, "activation": value}
            for at, (piece, value) in enumerate(zip(shown.pieces, shown.values, strict=True))
        ]
        messages += [
            _message("user", _chat_question(neuron.explanation, shown.pieces)),
            _message("assistant", json.dumps({"activations": entries}, ensure_ascii=False)),
        ]
    return [*messages, _message("user", _chat_question(explanation, pieces))]


def simulation_schema(n: int) -> dict[str, Any]:
    """The JSON schema of that answer for `n` tokens, as strict structured outputs want it. Raises ValueError for no token."""
    if n < 1:
        raise ValueError("a text has at least one token")
    entry = {
        "type": "object",
        "properties": {
            "index": {"type": "integer", "minimum": 0, "maximum": n - 1},
            "token": {"type": "string"},
            "activation": {"type": "integer", "minimum": 0, "maximum": TOP},
        },
        "required": ["index", "token", "activation"],
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {"activations": {"type": "array", "items": entry, "minItems": n, "maxItems": n}},
        "required": ["activations"],
        "additionalProperties": False,
    }


def _unquoted(line: str) -> str:
    quotes = {'"': '"', "“": "”", "'": "'", "‘": "’"}
    around = len(line) > 1 and quotes.get(line[0]) == line[-1] and not {line[0], line[-1]} & set(line[1:-1])
    return line[1:-1].strip() if around else line


def _escaped(character: str) -> str:
    # Control characters, lone surrogates, and the two separators that str.splitlines takes for line ends.
    if character == "\\" or unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp"):
        return json.dumps(character)[1:-1]
    return character


def _block(pieces: Sequence[str], values: Sequence[int], revealed: int | None, nonzero_only: bool) -> str:
    shown = [
        (piece, UNKNOWN if revealed is None or at < revealed else str(value))
        for at, (piece, value) in enumerate(zip(pieces, values, strict=True))
        if value or not nonzero_only
    ]
    return "".join(segment.text for segment in _lines([piece for piece, _ in shown], [value for _, value in shown]))


def _lines(pieces: Sequence[str], values: Sequence[str] | None) -> list[Segment]:
    """One record. values: what stands behind each tab; None for a marker on every line."""
    segments = [Segment(f"{START}\n")]
    for at, piece in enumerate(pieces):
        value = Segment(UNKNOWN, at) if values is None else Segment(values[at])
        segments += [Segment(escape_token(piece)), Segment("\t"), value, Segment("\n")]
    return [*segments, Segment(f"{END}\n")]


def _message(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def _activations(number: int, records: Sequence[Shown], repeat: bool) -> str:
    text = f"Neuron {number}\nActivations:{format_records(records)}"
    if repeat and nonzero_share([values for _, values in records]) < REPEAT_BELOW:
        text += f"\nOnce more, without the zeros:{format_records(records, nonzero_only=True)}"
    return f"{text}\nExplanation of neuron {number}: {LEAD}"


def _simulated_head(number: int, explanation: str) -> str:
    return f"Neuron {number}\nExplanation of neuron {number}: {LEAD} {one_line(explanation)}\nActivations:\n"


def _quoted(pieces: Sequence[str]) -> str:
    return ", ".join(json.dumps(piece, ensure_ascii=False) for piece in pieces)


def _chat_question(explanation: str, pieces: Sequence[str]) -> str:
    tokens = [{"index": at, "token": piece} for at, piece in enumerate(pieces)]
    return f"Explanation: {LEAD} {one_line(explanation)}\nTokens: {json.dumps(tokens, ensure_ascii=False)}"


def _excerpt(neuron: ExampleNeuron) -> ExampleRecord:
    record = neuron.records[0]
    return ExampleRecord(record.pieces[:_CHAT_TOKENS], record.values[:_CHAT_TOKENS], 0)


def _version() -> str:
    """A hash over everything that these functions write around what they are given."""
    record = (["a", "b"], [0, 1])
    wording: list[Any] = [
        explainer_messages([record]),
        explainer_messages([record, record, record, (["c"] * 9, [0] * 9)]),
        token_list_messages(["a"]),
        logit_effect_messages(["a"], ["b"]),
        [segment.text for segment in [*prefix_segments(), *simulation_target("a", ["a", "\n", END])]],
        chat_simulation_messages("a", ["a"]),
        simulation_schema(1),
    ]
    return hashlib.sha256(json.dumps(wording).encode()).hexdigest()[:12]


PROMPT_VERSION = _version()
"""Changes whenever a word of any prompt does; part of the recipe of what was made with them."""
