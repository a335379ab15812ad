"""The other side of test_autointerp_parity.py: answers questions with PyPI neuron-explainer, in a Python that has it and nothing of ours.

A question is a line of JSON, {"ask": name, ...}, and so is its answer: {"answer": ...}, or {"raised": the exception's name}. NaN and
infinities are written as Python's json writes them, floats exactly. Asks no language model and opens no connection.
"""

# pyright: reportMissingImports=false, reportUntypedBaseClass=false
import asyncio
import contextlib
import json
import os
import sys
from importlib.metadata import version
from typing import Any

os.environ["OPENAI_API_KEY"] = "unused"  # importing their client asserts that there is one

import httpx
import numpy as np
from neuron_explainer import api_client
from neuron_explainer.activations import activation_records as records_module
from neuron_explainer.activations.activations import ActivationRecord, ActivationRecordSliceParams, NeuronId, NeuronRecord
from neuron_explainer.explanations import calibrated_simulator, explainer, prompt_builder, scoring, simulator
from neuron_explainer.explanations.explanations import ActivationScale, SequenceSimulation
from neuron_explainer.fast_dataclasses import dumps

CALIBRATED = {
    "none": calibrated_simulator.UncalibratedNeuronSimulator,
    "linear": calibrated_simulator.LinearCalibratedNeuronSimulator,
    "percentile": calibrated_simulator.PercentileMatchingCalibratedNeuronSimulator,
}


def _records(given: list[dict[str, Any]]) -> list[Any]:
    return [ActivationRecord(tokens=one["tokens"], activations=one["activations"]) for one in given]


def hello() -> str:
    return version("neuron-explainer")


def normalise(activations: list[float], top: float) -> list[int]:
    return records_module.normalize_activations(activations, top)


def largest(records: list[Any]) -> float:
    return records_module.calculate_max_activation(_records(records))


def nonzero_share(records: list[Any], top: float) -> float:
    return records_module.non_zero_activation_proportion(_records(records), top)


def layout(records: list[Any], top: float, revealed: list[int] | None, hidden: bool, nonzero_only: bool) -> str:
    return records_module.format_activation_records(
        _records(records), top, omit_zeros=nonzero_only, start_indices=revealed, hide_activations=hidden
    )


def expected(logprobs: dict[str, float]) -> dict[str, Any]:
    shares, value = simulator.compute_predicted_activation_stats_for_token(logprobs)
    return {"shares": [[int(number), float(share)] for number, share in shares.items()], "value": float(value)}


def read_echo(text: str, tokens: list[str], texts: list[str], offsets: list[int], top: list[Any]) -> dict[str, Any]:
    """Their reading of an echoed prompt: the simulation of the last text in it."""
    logprobs = {"tokens": texts, "token_logprobs": [None] * len(texts), "top_logprobs": top, "text_offset": offsets}
    response = {"choices": [{"text": text, "logprobs": logprobs}]}
    found = simulator.parse_simulation_response(response, prompt_builder.PromptFormat.NONE, tokens)
    return {
        "tokens": found.tokens,
        "expected": [float(value) for value in found.expected_activations],
        "values": found.distribution_values,
        "probabilities": [[float(share) for share in shares] for shares in found.distribution_probabilities],
    }


class _Scripted(simulator.NeuronSimulator):
    """Knows a text by its only token's name, and answers what was given for it."""

    def __init__(self, answers: dict[str, list[float]]) -> None:
        self.answers = answers

    async def simulate(self, tokens: list[str]) -> Any:
        scale = ActivationScale.SIMULATED_NORMALIZED_ACTIVATIONS
        return SequenceSimulation(list(tokens), self.answers[tokens[0]], scale, distribution_values=[], distribution_probabilities=[])


def score(texts: list[Any], known: list[Any], calibration: str) -> dict[str, Any]:
    """Texts {true, simulated} scored together and one by one; `known` ones of the same form teach the calibration."""
    named = {f"text {at}": one for at, one in enumerate([*texts, *known])}
    true = [ActivationRecord(tokens=[name] * len(one["true"]), activations=one["true"]) for name, one in named.items()]

    async def work() -> Any:
        scripted = _Scripted({name: one["simulated"] for name, one in named.items()})
        calibrated = await CALIBRATED[calibration].create(scripted, true[len(texts) :])
        return await scoring.simulate_and_score(calibrated, true[: len(texts)])

    found = asyncio.run(work())
    parts = found.scored_sequence_simulations
    return {
        "rho": float(found.ev_correlation_score),
        "r2": found.rsquared_score,
        "explained": found.absolute_dev_explained_score,
        "each": [float(one.ev_correlation_score) for one in parts],
        "simulated": [list(one.simulation.expected_activations) for one in parts],
        "json": dumps(found).decode(),
    }


def splits(top: int, random: int, each: int) -> dict[str, Any]:
    """The names of the records in each split, of a neuron whose records are called t0, t1, … and r0, r1, …"""
    neuron = NeuronRecord(
        neuron_id=NeuronId(0, 0),
        most_positive_activation_records=[ActivationRecord([f"t{at}"], [1.0]) for at in range(top)],
        random_sample=[ActivationRecord([f"r{at}"], [0.0]) for at in range(random)],
    )
    how = ActivationRecordSliceParams(n_examples_per_split=each)
    dealt = {
        "train": neuron.train_activation_records(how),
        "calibration": neuron.calibration_activation_records(how),
        "validation": neuron.valid_activation_records(how),
        "test": neuron.test_activation_records(how),
    }
    return {name: [record.tokens[0] for record in found] for name, found in dealt.items()}


class _Unmeasured(explainer.TokenActivationPairExplainer):
    """Counting a prompt's tokens would fetch a tokenizer."""

    def _prompt_is_too_long(self, *_: Any) -> bool:
        return False


def explainer_prompt(records: list[Any], top: float, several: int | None) -> list[Any]:
    asked = _Unmeasured("gpt-4", prompt_builder.PromptFormat.HARMONY_V4)
    messages = asked.make_explanation_prompt(
        all_activation_records=_records(records), max_activation=top, max_tokens_for_completion=60, numbered_list_of_n_explanations=several
    )
    return [{"role": str(message["role"].value), "content": message["content"]} for message in messages]


def simulator_prompt(explanation: str, tokens: list[str]) -> str:
    asked = simulator.ExplanationNeuronSimulator("some-model", explanation, prompt_format=prompt_builder.PromptFormat.NONE)
    return asked.make_simulation_prompt(tokens)


def read_lines(completion: str, tokens: list[str]) -> list[int]:
    """Their reading of a chat's answer that repeats the tokens with activations."""
    return list(simulator._parse_no_logprobs_completion(completion, tokens))


def logprob_free_prompt(tokens: list[str]) -> Any:
    return simulator.LogprobFreeExplanationTokenSimulator("gpt-4", "something")._make_simulation_prompt(tokens, "something")


def retries(status: int) -> bool:
    """Whether their client asks again after an HTTP status."""
    request = httpx.Request("POST", "http://127.0.0.1/v1/completions")
    response = httpx.Response(status, request=request, json={"error": {"message": "no"}})
    return bool(api_client.is_api_error(httpx.HTTPStatusError("no", request=request, response=response)))


ASKED = {
    function.__name__: function
    for function in (
        hello, normalise, largest, nonzero_share, layout, expected, read_echo, score, splits, explainer_prompt, simulator_prompt,
        read_lines, logprob_free_prompt, retries,
    )
}  # fmt: skip


def main() -> None:
    answers = sys.stdout
    np.seterr(all="ignore")
    # Whatever they print must not get between the answers.
    with contextlib.redirect_stdout(sys.stderr):
        for line in sys.stdin:
            question = json.loads(line)
            try:
                answer = {"answer": ASKED[question.pop("ask")](**question)}
            except Exception as error:  # noqa: BLE001 - which exception it is, is the answer
                answer = {"raised": type(error).__name__, "text": str(error)}
            answers.write(json.dumps(answer) + "\n")
            answers.flush()


if __name__ == "__main__":
    main()
