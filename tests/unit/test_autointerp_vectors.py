"""The published vectors that the tests of single modules do not hold: whole paths, and our choice where the released code errs.

V1 to V6, V14 to V19, V21 to V25 and V32 are in test_autointerp_scores.py, V9 to V12 in test_autointerp_expectation.py, V8 and V31 in
test_autointerp_prompts.py. The script behind V20 was not published with its numbers; a text of the same size stands in for it, whose
numbers come from the same code (test_autointerp_parity.py asks it about many more).
"""

import argparse
import asyncio
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from core.autointerp.calibration import Calibration, calibrate
from core.autointerp.chat_answer import Mistake, read_activations
from core.autointerp.completions import CompletionsSimulator
from core.autointerp.explanation import Explanation, Simulation, Text
from core.autointerp.prompts import format_records
from core.autointerp.scale import normalise
from core.autointerp.scoring import score
from core.commands.explaining import explanation_document
from core.commands.output import emit
from core.llm.answers import EchoAnswer
from core.llm.endpoint import Endpoint
from core.store.explanation_view import load_explanation
from core.units import UnitName
from core.workspace import Workspace
from tests.llm_endpoint import split_words
from tests.synthetic import write_synthetic_index
from tests.synthetic_explanations import Quality, write_synthetic_explanations

UNIT = UnitName.parse("planted/mlp.0/neurons/0")


def test_raw_activations_become_records_of_tenths() -> None:
    records = [(["a", " b"], normalise([1, 0], 1)), (["c"], normalise([0.5], 1))]
    assert format_records(records) == "\n<start>\na\t10\n b\t0\n<end>\n<start>\nc\t5\n<end>\n"  # V7


def test_an_echoed_prompt_gives_the_expectations_at_its_unknowns() -> None:
    shares = {" b": {"3": 0.3, "4": 0.1, "unknown": 0.6}, "a": {"0": 0.6, "10": 0.2, "unknown": 0.2}}

    def top_of(line: str) -> dict[str, float]:
        return {token: math.log(share) for token, share in shares[line].items()}

    simulation = simulate(("a", " b"), top_of)
    assert simulation.values == pytest.approx([2.5, 3.25], abs=1e-12)  # V13
    assert simulation.probabilities is not None
    assert simulation.probabilities[1, [3, 4]] == pytest.approx([0.75, 0.25])


def simulate(pieces: tuple[str, ...], top_of: Callable[[str], dict[str, float]]) -> Simulation:
    """The completions simulator over an endpoint that expects `top_of(piece)` where the text's activations stand."""

    class Echoing:
        endpoint = Endpoint("http://127.0.0.1:1/v1", "tiny")

        async def echo(self, prompt: str, logprobs: int = 20, *, since: int = 0) -> EchoAnswer:
            tokens = split_words(prompt)
            top: list[dict[str, float] | None] = [{token: -0.1} for token, _ in tokens]
            for at, (token, offset) in enumerate(tokens):
                if offset > since and token == "unknown":
                    line = prompt[prompt.rindex("\n", 0, offset) + 1 : offset - 1]
                    top[at] = top_of(line)
            return EchoAnswer([token for token, _ in tokens], [offset for _, offset in tokens], top)

    said = Explanation(UNIT, "anything", "by-hand", "test")
    return asyncio.run(CompletionsSimulator(Echoing()).simulate(said, Text((-1,) * len(pieces), pieces)))


TRUE = [[0, 0, 0, 4.5, 0, 0], [0, 0, 1, 0, 0, 0], [0, 3, 0, 0, 2, 0], [5, 0, 0, 4, 0, 0]]
SAID = [[0, 0, 8, 7, 0, 6], [0, 7, 2, 0, 4, 0], [10, 1, 0, 6, 9, 0], [4, 0, 1, 0, 0, 10]]
KNOWN_TRUE = [0, 0, 2.5, 0, 1, 0, -0.1, 0, 4, 0.2, 0, 0]
KNOWN_SAID = [0, 1, 8, 0, 3, 0, 0, 0, 9, 2, 2, 1]


@pytest.mark.parametrize(
    ("method", "rho", "r2", "explained"),
    [
        ("none", 0.09857885231989545, -5.368770764119602, -2.5641025641025643),
        ("linear", 0.09857885231989551, -0.3321393257956098, -0.8269587997142172),
        ("percentile", 0.0730831645295767, -0.3371428571428572, -0.7230769230769232),
    ],
)
def test_four_texts_of_six_tokens_from_simulation_to_score(method: Calibration, rho: float, r2: float, explained: float) -> None:
    """In place of V20."""
    map_ = calibrate(method, KNOWN_SAID, KNOWN_TRUE)
    found = score("top-and-random", [np.array(one, np.float64) for one in TRUE], [map_(one) for one in SAID])
    assert (found.rho, found.r2, found.explained) == pytest.approx((rho, r2, explained), abs=1e-12)
    assert (found.n_tokens, found.n_records) == (24, 4)


def test_the_last_token_of_a_written_simulation_counts() -> None:
    """V26: the released code reads 3, 10, 0 from its answer “a 3, b 10, c 5”; and where an answer cannot be read it takes zeros."""
    entries: list[dict[str, Any]] = [
        {"index": at, "token": token, "activation": value} for at, (token, value) in enumerate(zip("abc", (3, 10, 5), strict=True))
    ]
    assert read_activations(json.dumps({"activations": entries}), ["a", "b", "c"]) == [3, 10, 5]
    with pytest.raises(Mistake):
        read_activations("a\t3༗\nb\t10༗\nc\t5༗\n", ["a", "b", "c"])


def test_an_undefined_score_is_null_with_a_reason_in_json(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """V33, as far as our own output goes: their JSON has null there too."""
    write_synthetic_index(workspace, n_layers=2, width=8)
    (identity, *_) = write_synthetic_explanations(workspace, quality=Quality(flat=True))
    emit(argparse.Namespace(json=True), explanation_document(load_explanation(workspace, identity)), [])

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    document = json.loads(capsys.readouterr().out, parse_constant=refuse)
    own = document["score"]
    assert (own["rho"], own["low"], own["high"]) == (None, None, None)
    assert own["reason"] == "the simulated activations are constant on these records"
    assert own["coverage"] == 1
