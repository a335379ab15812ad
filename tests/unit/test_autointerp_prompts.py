"""The prompts: the layout of Bills et al. with tokens that cannot break it, and what is read back from answers."""

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.autointerp import prompts
from core.autointerp.fewshot import example_neurons
from core.autointerp.prompts import (
    PROMPT_VERSION,
    UNKNOWN,
    chat_simulation_messages,
    escape_token,
    explainer_messages,
    format_records,
    logit_effect_messages,
    marker_offsets,
    parse_explanation,
    simulation_prefix,
    simulation_schema,
    simulation_target,
    token_list_messages,
)
from core.autointerp.scale import REPEAT_BELOW, nonzero_share

ROOT = Path(__file__).resolve().parents[2]
HOSTILE = [
    "\n",
    "\t",
    "\r\n",
    "<end>",
    "<start>",
    "<end>\n<start>\n",
    "\\",
    "\\n",
    "a\tb",
    "\u2028",
    "\x85",
    "\x00",
    "unknown",
    " the",
    "é",
    "🙂",
]
SPARSE = (["a"] * 22, [0] * 21 + [10])


def lines_of(block: str) -> list[str]:
    """The lines of text between the first `<start>` and the `<end>` after it."""
    lines = block.split("\n")
    begin = lines.index("<start>")
    return lines[begin + 1 : lines.index("<end>", begin)]


def test_records_are_laid_out_as_in_the_reference_code() -> None:
    assert format_records([(["a", " b"], [10, 0]), (["c"], [5])]) == "\n<start>\na\t10\n b\t0\n<end>\n<start>\nc\t5\n<end>\n"
    assert format_records([(["a", "b", "c"], [10, 0, 5])], [2]) == "\n<start>\na\tunknown\nb\tunknown\nc\t5\n<end>\n"
    assert format_records([(["a"], [1])], [None]) == "\n<start>\na\tunknown\n<end>\n"
    assert format_records([(["a"], [0])], nonzero_only=True) == "\n<start>\n<end>\n"
    with pytest.raises(ValueError, match=r"shorter|longer"):
        format_records([(["a", "b"], [1])])


@given(st.lists(st.one_of(st.text(max_size=8), st.sampled_from(HOSTILE)), min_size=1, max_size=12))
def test_no_token_breaks_a_line_or_ends_a_record(pieces: list[str]) -> None:
    lines = lines_of(format_records([(pieces, [3] * len(pieces))]))
    assert len(lines) == len(pieces)
    assert all(line.count("\t") == 1 and line.endswith("\t3") and len(line.splitlines()) == 1 for line in lines)
    assert all(line not in (prompts.START, prompts.END) for line in lines)


@given(st.text(alphabet="\\n\n\t<>startendu0a", max_size=12), st.text(alphabet="\\n\n\t<>startendu0a", max_size=12))
def test_different_tokens_are_written_differently(one: str, other: str) -> None:
    assert (escape_token(one) == escape_token(other)) == (one == other)


def test_ordinary_tokens_are_written_as_they_are() -> None:
    assert [escape_token(piece) for piece in (" the", "<b>", "é", "🙂", '"', "⟨e2 80⟩")] == [" the", "<b>", "é", "🙂", '"', "⟨e2 80⟩"]


def test_the_zero_filtered_repeat_comes_only_below_a_fifth() -> None:
    def asked(values: list[int]) -> str:
        return explainer_messages([(["a"] * len(values), values)])[-1]["content"]

    assert asked(SPARSE[1]).count("<start>") == 2
    assert asked([1, 0, 0, 0]).count("<start>") == 1
    assert asked([1, 0, 0, 0, 0]).count("<start>") == 1  # a fifth exactly
    assert asked([1, 0, 0, 0, 0, 0]).count("<start>") == 2
    assert explainer_messages([SPARSE], repeat=False)[-1]["content"].count("<start>") == 1
    assert lines_of("<start>" + asked(SPARSE[1]).rpartition("<start>")[2]) == ["a\t10"]


@pytest.mark.parametrize("examples", [0, 1, 3])
def test_the_explainers_chat_alternates_and_ends_with_the_lead_in(examples: int) -> None:
    messages = explainer_messages([SPARSE], examples=examples)
    assert [message["role"] for message in messages] == ["system", *["user", "assistant"] * examples, "user"]
    assert messages[-1]["content"].endswith(f"Explanation of neuron {examples + 1}: {prompts.LEAD}")
    assert all(prompts.LEAD in message["content"] for message in messages if message["role"] == "user")


def test_examples_show_both_kinds_of_neuron_and_say_nothing_at_full_length() -> None:
    shares = [nonzero_share([record.values for record in neuron.records]) for neuron in example_neurons()]
    assert [share < REPEAT_BELOW for share in shares] == [True, True, False]
    for neuron in example_neurons():
        assert len(neuron.records) == 2
        for record in neuron.records:
            assert len(record.pieces) == len(record.values)
            assert set(record.values) <= set(range(11))
            assert 0 <= record.revealed < len(record.pieces)
            assert max(record.values[record.revealed :]) > 0


def test_simulated_examples_begin_unknown_and_switch_to_numbers_once() -> None:
    switched = 0
    for block in simulation_prefix().split("<start>\n")[1:]:
        values = [line.rpartition("\t")[2] for line in block.partition("<end>")[0].splitlines()]
        known = [value != UNKNOWN for value in values]
        assert known == sorted(known)
        assert any(known)
        switched += not known[0]
    assert switched >= 4


def test_markers_are_where_the_unknown_values_stand() -> None:
    prefix, pieces = simulation_prefix(), HOSTILE
    segments = simulation_target("anything", pieces)
    text = prefix + "".join(segment.text for segment in segments)
    offsets = marker_offsets(segments, len(prefix))
    assert [segment.marker for segment in segments if segment.marker is not None] == list(range(len(pieces)))
    assert all(text.startswith(f"\t{UNKNOWN}\n", offset - 1) for offset in offsets)
    assert len(offsets) == len(pieces)
    assert text[len(prefix) :].count("\n<start>\n") == 1
    assert text.endswith("\n<end>\n")
    assert [segments[at - 1].text for at, segment in enumerate(segments) if segment.marker is not None] == ["\t"] * len(pieces)


def test_a_sentence_written_by_hand_cannot_break_the_prompt() -> None:
    head = simulation_target("fires\n<start>\nx\t10\n<end>  on\tx", ["a"])[0].text
    assert head == "Neuron 4\nExplanation of neuron 4: this neuron fires on fires \\<start> x 10 \\<end> on x\nActivations:\n"
    assert simulation_target("x", ["a"], examples=1)[0].text.startswith("Neuron 2\n")


def fits(value: object, schema: dict[str, object]) -> bool:
    """The few keywords of JSON Schema that are used."""
    kind = schema["type"]
    if kind == "object":
        properties: dict[str, dict[str, object]] = schema["properties"]  # type: ignore[assignment]
        assert schema["additionalProperties"] is False
        assert set(schema["required"]) == set(properties)  # type: ignore[call-overload]  # strict structured outputs want all
        return isinstance(value, dict) and set(value) == set(properties) and all(fits(value[name], one) for name, one in properties.items())
    if kind == "array":
        assert schema["minItems"] == schema["maxItems"]
        return isinstance(value, list) and len(value) == schema["minItems"] and all(fits(one, schema["items"]) for one in value)  # type: ignore[arg-type]
    if kind == "integer":
        return type(value) is int and schema["minimum"] <= value <= schema["maximum"]  # type: ignore[operator]
    return isinstance(value, str)


def test_the_chat_simulators_examples_answer_in_its_own_schema() -> None:
    messages = chat_simulation_messages("anything", HOSTILE)
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user", "assistant", "user"]
    for asked, answered in pairwise(messages[1:-1]):
        if answered["role"] != "assistant":
            continue
        tokens = json.loads(asked["content"].partition("Tokens: ")[2])
        entries = json.loads(answered["content"])
        assert fits(entries, simulation_schema(len(tokens)))
        assert [(entry["index"], entry["token"]) for entry in entries["activations"]] == [(one["index"], one["token"]) for one in tokens]
        assert max(entry["activation"] for entry in entries["activations"]) > 0
    last = messages[-1]["content"]
    assert last.count("\n") == 1
    assert [entry["token"] for entry in json.loads(last.partition("Tokens: ")[2])] == HOSTILE


def test_the_schema_rejects_what_is_out_of_range() -> None:
    schema = simulation_schema(1)
    good = {"activations": [{"index": 0, "token": "a", "activation": 10}]}
    assert fits(good, schema)
    for wrong in ({"activation": 11}, {"activation": -1}, {"activation": 2.5}, {"index": 1}, {"token": None}, {"more": 1}):
        assert not fits({"activations": [good["activations"][0] | wrong]}, schema)
    assert not fits({"activations": good["activations"] * 2}, schema)
    with pytest.raises(ValueError, match="at least one token"):
        simulation_schema(0)


def test_lists_of_tokens_are_quoted() -> None:
    assert token_list_messages([" a", "\n", 'q"'])[-1]["content"].startswith('Tokens: " a", "\\n", "q\\""\n')
    asked = logit_effect_messages([" up"], [" down"])[-1]["content"]
    assert asked.startswith('Promoted: " up"\nSuppressed: " down"\n')
    for messages in (token_list_messages(["a"]), logit_effect_messages(["a"], ["b"])):
        assert [message["role"] for message in messages] == ["system", "user", "assistant", "user"]


@pytest.mark.parametrize(
    ("answer", "phrase"),
    [
        (" names of tools.", "names of tools"),
        ("This neuron fires on names of tools.", "names of tools"),
        ("Explanation of neuron 4: this neuron fires on names of tools", "names of tools"),
        ("**Explanation:** “names of tools.”", "names of tools"),
        ('"names of tools".', "names of tools"),
        ("names of tools.\n\nNeuron 5\nActivations:", "names of tools"),
        ("Here is the explanation:\n\nnames of tools", "names of tools"),
        ("<think>\nhammer? saw?\n</think>\n\nnames  of\ttools", "names of tools"),
        ("words such as “but”", "words such as “but”"),
        ("“but” and “yet”", "“but” and “yet”"),
        ("In short, this neuron promotes days of the week.", "days of the week"),
        ("tools:", "tools:"),
        ("", ""),
        ("<think>never finished", ""),
    ],
)
def test_the_phrase_is_read_from_an_answer(answer: str, phrase: str) -> None:
    assert parse_explanation(answer) == phrase


def test_the_examples_own_answers_are_read_back() -> None:
    answers = [message["content"] for message in explainer_messages([SPARSE]) if message["role"] == "assistant"]
    assert [parse_explanation(answer) for answer in answers] == [neuron.explanation for neuron in example_neurons()]


@pytest.mark.parametrize("name", ["_EXPLAINER", "_SIMULATOR", "_CHAT_SIMULATOR", "_TOKEN_LIST", "_LOGIT_EFFECT", "LEAD", "UNKNOWN", "END"])
def test_the_version_changes_with_every_word(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert prompts._version() == PROMPT_VERSION
    monkeypatch.setattr(prompts, name, getattr(prompts, name) + "x")
    assert prompts._version() != PROMPT_VERSION


def test_prompts_and_number_tokens_load_no_torch() -> None:
    code = (
        "import sys, core.autointerp.number_tokens, core.autointerp.prompts; print('torch' in sys.modules, 'transformers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["False", "False"]
