"""Random inputs give the released code's numbers, to 1e-9: PyPI neuron-explainer runs in its own Python and is asked line by line.

NEURON_EXPLAINER_PYTHON names that Python; CONTRIBUTING.md says how to make it. Where we differ on purpose, the difference is held here
too: the table in docs/methods.md must not claim what is not so.
"""

import asyncio
import json
import math
import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.autointerp.calibration import CALIBRATIONS, Calibration, calibrate
from core.autointerp.chat_answer import read_activations
from core.autointerp.completions import CompletionsSimulator
from core.autointerp.expectation import expected
from core.autointerp.explanation import Explanation, Simulation, Text
from core.autointerp.prompts import UNKNOWN, explainer_messages, format_records, simulation_prefix, simulation_target
from core.autointerp.scale import largest, nonzero_share, normalise
from core.autointerp.scoring import is_constant, score
from core.autointerp.splits import split_records
from core.llm.answers import EchoAnswer
from core.llm.endpoint import Endpoint
from core.store.units import Record
from core.units import UnitName

PYTHON = os.environ.get("NEURON_EXPLAINER_PYTHON", "")
SIDE = Path(__file__).resolve().parents[1] / "neuron_explainer_side.py"
pytestmark = pytest.mark.skipif(
    not PYTHON, reason="NEURON_EXPLAINER_PYTHON names no Python that has neuron-explainer (CONTRIBUTING.md says how to make one)"
)
SAID = Explanation(UnitName.parse("planted/mlp.0/neurons/0"), "words for tools", "by-hand", "test")
Floats = list[float]


class Raised(Exception):
    """What their code raised."""


class Theirs:
    """The other Python. `ask` returns what it answers, and raises Raised with the name of what was raised there."""

    def __init__(self) -> None:
        # -I: neither this folder nor PYTHON… variables reach it.
        self.process = subprocess.Popen([PYTHON, "-I", str(SIDE)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)

    def ask(self, name: str, **what: Any) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"ask": name, **what}) + "\n")
        line = self.process.stdout.readline()
        assert line, f"the other Python ended with {self.process.wait(10)}: its standard error says why"
        answer = json.loads(line)
        if "raised" in answer:
            raise Raised(answer["raised"])
        return answer["answer"]


@pytest.fixture(scope="module")
def theirs() -> Iterator[Theirs]:
    other = Theirs()
    assert other.ask("hello") == "0.0.1"
    yield other
    assert other.process.stdin is not None
    other.process.stdin.close()
    assert other.process.wait(20) == 0


def close(ours: Any, others: Any) -> bool:
    return ours == pytest.approx(others, rel=1e-9, abs=1e-9, nan_ok=True)


def as_records(activations: Sequence[Sequence[float]], pieces: Sequence[Sequence[str]] | None = None) -> list[dict[str, Any]]:
    names = pieces or [["x"] * len(values) for values in activations]
    return [{"tokens": list(tokens), "activations": list(values)} for tokens, values in zip(names, activations, strict=True)]


plain = st.floats(-1e6, 1e6)
nonempty = st.lists(st.lists(plain, min_size=1, max_size=12), min_size=1, max_size=5)
words = st.from_regex(r" ?[a-zé0-9.,!]{1,6}", fullmatch=True)
shown = st.lists(st.lists(st.tuples(words, st.floats(-2, 12)), min_size=1, max_size=10), min_size=1, max_size=4)


@settings(deadline=None)
@given(st.lists(st.floats(), max_size=20), st.floats(allow_nan=False, allow_infinity=False))
def test_normalisation_agrees_exactly(theirs: Theirs, activations: Floats, top: float) -> None:
    infinite = top > 0 and any(math.isinf(10 * value / top) and value > 0 for value in activations)
    if infinite:
        with pytest.raises(Raised, match="OverflowError"):
            theirs.ask("normalise", activations=activations, top=top)
        with pytest.raises(OverflowError):
            normalise(activations, top)
    else:
        assert normalise(activations, top) == theirs.ask("normalise", activations=activations, top=top)


@settings(deadline=None)
@given(nonempty)
def test_the_maximum_and_the_nonzero_share_agree_exactly(theirs: Theirs, activations: list[Floats]) -> None:
    top = largest(activations)
    assert top == theirs.ask("largest", records=as_records(activations))
    for scale in (top, 3.0):
        ours = nonzero_share([normalise(values, scale) for values in activations])
        assert ours == theirs.ask("nonzero_share", records=as_records(activations), top=scale)


@settings(deadline=None)
@given(shown, st.data())
def test_records_are_laid_out_the_same(theirs: Theirs, texts: list[list[tuple[str, float]]], data: st.DataObject) -> None:
    pieces = [[piece for piece, _ in text] for text in texts]
    activations = [[value for _, value in text] for text in texts]
    records, top = as_records(activations, pieces), max(0.1, largest(activations))
    ours = [(tokens, normalise(values, top)) for tokens, values in zip(pieces, activations, strict=True)]
    revealed = [data.draw(st.integers(0, len(text))) for text in texts]

    def others(revealed: list[int] | None = None, *, hidden: bool = False, nonzero_only: bool = False) -> str:
        return theirs.ask("layout", records=records, top=top, revealed=revealed, hidden=hidden, nonzero_only=nonzero_only)

    assert format_records(ours) == others()
    assert format_records(ours, revealed) == others(revealed)
    assert format_records(ours, [None] * len(ours)) == others(hidden=True)
    # Of a record without activity they write an empty line.
    assert format_records(ours, nonzero_only=True) == others(nonzero_only=True).replace("<start>\n\n<end>", "<start>\n<end>")


@settings(deadline=None)
@given(
    st.dictionaries(
        st.one_of(st.sampled_from([*map(str, range(13)), " 7", "00", "unknown", "\t"]), st.text(max_size=3)),
        st.one_of(st.floats(-60, 0), st.just(-math.inf)),
        max_size=20,
    )
)
def test_expectations_over_log_probabilities_agree(theirs: Theirs, logprobs: dict[str, float]) -> None:
    shares, value = expected(logprobs)
    others = theirs.ask("expected", logprobs=logprobs)
    assert close(value, others["value"])
    assert close(shares, dict(others["shares"]))


@pytest.mark.parametrize("seed", range(20))
def test_a_whole_echoed_prompt_is_read_the_same(theirs: Theirs, seed: int) -> None:
    """One answer of an endpoint, read by both: found places, distributions and expectations."""
    rng = np.random.default_rng(seed)
    pieces = tuple(str(rng.choice([" the", "cat", " 10", " unknowing", "7", " a.b", "é", " startend"])) for _ in range(rng.integers(1, 40)))
    answer, prompt = echo(pieces, rng)
    simulation = simulate(answer, pieces)
    others = theirs.ask("read_echo", text=prompt, tokens=pieces, texts=answer.tokens, offsets=answer.offsets, top=answer.top)
    assert others["tokens"] == list(pieces)
    assert simulation.failed == ""
    assert close(simulation.values.tolist(), others["expected"])
    assert simulation.probabilities is not None
    for row, values, probabilities in zip(simulation.probabilities, others["values"], others["probabilities"], strict=True):
        assert close(row[np.array(values, int)].tolist(), probabilities)
        assert row.sum() == pytest.approx(1)


def echo(pieces: Sequence[str], rng: np.random.Generator, *, silent: bool = False) -> tuple[EchoAnswer, str]:
    """Our prompt about a text as an endpoint would echo it, with random alternatives at the last text's “unknown”s."""
    prompt = simulation_prefix() + "".join(segment.text for segment in simulation_target(SAID.text, pieces))
    matches = list(re.finditer(r"\t|\n|<|>|\d+| ?[^\s<>\d]+| ", prompt))
    texts, offsets = [match[0] for match in matches], [match.start() for match in matches]
    assert "".join(texts) == prompt
    top: list[dict[str, float] | None] = []
    last = prompt.rindex("<start>")
    for at, offset in enumerate(offsets):
        marked = offset > last and texts[at] == UNKNOWN and texts[at - 1] == "\t"
        top.append(alternatives(rng, silent) if marked else {texts[at]: -0.1})
    return EchoAnswer(texts, offsets, top), prompt


def alternatives(rng: np.random.Generator, silent: bool) -> dict[str, float]:
    tokens = [UNKNOWN, "11", "00", "x", *([] if silent else map(str, rng.permutation(11)[: rng.integers(1, 12)]))]
    return {token: float(value) for token, value in zip(tokens, rng.uniform(-25, -0.1, len(tokens)), strict=True)}


def simulate(answer: EchoAnswer, pieces: Sequence[str]) -> Simulation:
    class Echoing:
        endpoint = Endpoint("http://127.0.0.1:1/v1", "tiny")

        async def echo(self, prompt: str, logprobs: int = 20, *, since: int = 0) -> EchoAnswer:
            assert prompt == "".join(answer.tokens)
            return answer

    return asyncio.run(CompletionsSimulator(Echoing()).simulate(SAID, Text((-1,) * len(pieces), tuple(pieces))))


def texts_of(rng: np.random.Generator, count: int) -> list[dict[str, Floats]]:
    """Texts as units give them: many zeros or none, negative values, ties, any scale, now and then a silent or a level one."""
    made: list[dict[str, Floats]] = []
    scale = 10.0 ** rng.integers(-6, 6)
    for _ in range(count):
        length = int(rng.integers(2, 30))
        true = scale * rng.normal(0, 1, length) * (rng.random(length) < rng.choice([0.1, 0.5, 1.0]))
        kinds = [rng.integers(0, 11, length).astype(float), rng.gamma(0.3, 4.0, length), true / scale + rng.normal(0, 0.3, length)]
        said = kinds[rng.integers(3)]
        made.append({"true": np.full(length, 2.0 * (rng.random() < 0.5)).tolist() if rng.random() < 0.1 else true.tolist()})
        made[-1]["simulated"] = np.zeros(length).tolist() if rng.random() < 0.1 else said.tolist()
    return made


@pytest.mark.parametrize("calibration", CALIBRATIONS)
@pytest.mark.parametrize("block", range(5))
def test_scores_calibrated_or_not_agree_one_by_one_and_together(theirs: Theirs, calibration: Calibration, block: int) -> None:
    for seed in range(20 * block, 20 * (block + 1)):
        compare_scores(theirs, calibration, np.random.default_rng(seed))


def compare_scores(theirs: Theirs, calibration: Calibration, rng: np.random.Generator) -> None:
    texts, known = texts_of(rng, int(rng.integers(1, 11))), texts_of(rng, int(rng.integers(1, 11)))
    others = theirs.ask("score", texts=texts, known=known, calibration=calibration)

    def joined(name: str) -> np.ndarray[Any, Any]:
        return np.concatenate([np.array(one[name]) for one in known])

    map_ = calibrate(calibration, joined("simulated"), joined("true"))
    true, said = [np.array(one["true"]) for one in texts], [map_(one["simulated"]) for one in texts]
    size = max(1.0, *(abs(value) for part in others["simulated"] for value in part))
    assert all(np.allclose(a / size, np.array(b) / size, rtol=1e-9, atol=1e-12) for a, b in zip(said, others["simulated"], strict=True))
    ours = score("top-and-random", true, said)
    assert agree(ours.rho, others["rho"], np.concatenate(true), np.concatenate(said))
    assert close(ours.r2, others["r2"])
    assert close(ours.explained, others["explained"])
    alone = [score("top-and-random", [a], [b]).rho for a, b in zip(true, said, strict=True)]
    assert all(agree(*pair) for pair in zip(alone, others["each"], true, said, strict=True))
    defined = [other for rho, other in zip(alone, others["each"], strict=True) if math.isfinite(rho)]
    assert close(ours.record_rho, float(np.mean(defined)) if defined else math.nan)


def agree(ours: float, other: float, true: Any, said: Any) -> bool:
    """A side that is constant but for rounding has no correlation here, and there any number: see the last test."""
    return (is_constant(true) or is_constant(said)) if math.isnan(ours) else close(ours, other)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 5), st.integers(0, 12), st.integers(0, 12))
def test_records_are_dealt_out_the_same(theirs: Theirs, each: int, more_top: int, more_random: int) -> None:
    top, random = 4 * each + more_top, 3 * each + more_random
    found = split_records([named("t", at) for at in range(top)], [named("r", at) for at in range(random)], each)
    dealt = {name: [record.document for record in getattr(found, name)] for name in ("train", "calibration", "validation", "test")}
    assert dealt == theirs.ask("splits", top=top, random=random, each=each)


def named(band: str, at: int) -> Record:
    nothing = np.zeros(1)
    return Record(band, at, at, f"{band}{at}", "", 0, nothing.astype(np.int32), nothing.astype(np.float32), 0.0, 0, None, 0, "")


@settings(deadline=None, max_examples=40)
@given(shown)
def test_the_explainers_prompt_has_the_same_structure(theirs: Theirs, texts: list[list[tuple[str, float]]]) -> None:
    """The same messages in the same roles; ours differ in their wording and their examples."""
    pieces = [[piece for piece, _ in text] for text in texts]
    activations = [[value for _, value in text] for text in texts]
    others = theirs.ask("explainer_prompt", records=as_records(activations, pieces), top=1.0, several=None)
    top = largest(activations)
    ours = explainer_messages([(tokens, normalise(values, top)) for tokens, values in zip(pieces, activations, strict=True)])
    assert [message["role"] for message in ours] == [message["role"] for message in others]
    assert blocks_of(ours[-1]["content"]) == blocks_of(others[-1]["content"])
    assert [len(blocks_of(message["content"])) for message in ours[1:-1:2]] == [4, 4, 2]
    assert [len(blocks_of(message["content"])) for message in others[1:-1:2]] == [4, 4, 2]


@settings(deadline=None, max_examples=20)
@given(st.lists(words, min_size=1, max_size=12))
def test_the_simulators_prompt_has_the_same_structure(theirs: Theirs, pieces: list[str]) -> None:
    """Three examples, each from “unknown” to numbers once, then the text with nothing but “unknown”."""
    ours = simulation_prefix() + "".join(segment.text for segment in simulation_target(SAID.text, pieces))
    others = theirs.ask("simulator_prompt", explanation=SAID.text, tokens=pieces)
    assert blocks_of(ours)[-1] == blocks_of(others)[-1] == [f"{piece}\t{UNKNOWN}" for piece in pieces]
    assert ours.endswith(others[others.rindex("<start>") :])
    for prompt in (ours, others):
        assert re.findall(r"^Neuron (\d)", prompt, re.MULTILINE) == ["1", "2", "3", "4"]
        for block in blocks_of(prompt)[:-1]:
            hidden = [line.endswith(f"\t{UNKNOWN}") for line in block]
            assert hidden == sorted(hidden, reverse=True)


def blocks_of(prompt: str) -> list[list[str]]:
    """The lines of each record in a prompt."""
    return [
        block.removesuffix("\n").split("\n") if block.strip("\n") else [] for block in re.findall(r"<start>\n(.*?)<end>", prompt, re.DOTALL)
    ]


def test_what_their_prompts_get_wrong_ours_do_not(theirs: Theirs) -> None:
    records, shown_records = as_records([[0.0, 1.0]], [["\n", "\t"]]), [(["\n", "\t"], [0, 10])]
    one, other = (theirs.ask("explainer_prompt", records=records, top=top, several=None) for top in (3.0, 999.0))
    assert one == other, "their max_activation is overwritten"
    assert blocks_of(one[-1]["content"])[0] != ["\\n\t0", "\\t\t10"]
    assert blocks_of(explainer_messages(shown_records)[-1]["content"])[0] == ["\\n\t0", "\\t\t10"]
    several = theirs.ask("explainer_prompt", records=as_records([[1.0]], [["zebra"]]), top=1.0, several=3)
    assert not any("zebra" in message["content"] for message in several), "their numbered list holds no data"


def test_what_their_simulators_get_wrong_ours_do_not(theirs: Theirs) -> None:
    pieces = ["a", "b", "c"]
    assert theirs.ask("read_lines", completion="a\t3༗\nb\t10༗\nc\t5༗\n", tokens=pieces) == [3, 10, 0]  # V26: the last one is lost
    entries = [{"index": at, "token": pieces[at], "activation": value} for at, value in enumerate((3, 10, 5))]
    assert read_activations(json.dumps({"activations": entries}), pieces) == [3, 10, 5]
    assert theirs.ask("read_lines", completion="a\t3༗\nb\t10༗\n", tokens=pieces) == [0, 0, 0]
    with pytest.raises(Raised, match="TypeError"):
        theirs.ask("logprob_free_prompt", tokens=pieces)
    answer, prompt = echo(pieces, np.random.default_rng(0), silent=True)
    found = theirs.ask("read_echo", text=prompt, tokens=pieces, texts=answer.tokens, offsets=answer.offsets, top=answer.top)
    assert found["expected"] == [0, 0, 0]
    assert "is a number from 0 to 10" in simulate(answer, pieces).failed


def test_what_they_leave_undefined_or_refuse_has_a_reason_here(theirs: Theirs) -> None:
    level = [{"true": [0.1] * 3, "simulated": [1.0, 2.0, 3.5]}]
    assert math.isfinite(theirs.ask("score", texts=level, known=[], calibration="none")["rho"]), "a constant, but for rounding"
    ours = score("top-only", [np.full(3, 0.1)], [np.array([1.0, 2.0, 3.5])])
    assert math.isnan(ours.rho)
    assert "constant" in ours.reason
    silent = theirs.ask("score", texts=[{"true": [0.0] * 3, "simulated": [0.0] * 3}], known=[], calibration="none")
    assert json.loads(silent["json"])["ev_correlation_score"] is None  # V33: NaN becomes null in their JSON too
    with pytest.raises(Raised, match="AssertionError"):
        theirs.ask("splits", top=20, random=10, each=5)
    assert [theirs.ask("retries", status=status) for status in (400, 404, 401, 403, 422)] == [False, False, True, True, True]
