"""What a model expects of a number from 0 to 10, read from the log probabilities of the tokens that may stand in its place."""

import math
import re
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from core.autointerp.explanation import DIGITS
from core.autointerp.scale import TOP

Floats = npt.NDArray[np.float64]
NUMBERS = {str(value): value for value in range(DIGITS)}
_JSON_NUMBER = re.compile(r"([0-9]+)(?:\s*[,}\]].*)?", re.DOTALL)


def expected(logprobs: Mapping[str, float]) -> tuple[dict[int, float], float]:
    """The distribution over the integers 0 to 10, and its mean: Σ v · p, with p renormalised over the number tokens present.

    Bills et al. 2023, “Simulating”, to the letter of their code: tokens are exactly “0” to “10”, without spaces; ({}, 0.0) where there is
    none, and NaN where all are impossible. A simulation uses `distribution`, in which these two are no answer.
    """
    masses = {NUMBERS[token]: math.exp(logprob) for token, logprob in logprobs.items() if token in NUMBERS}
    total = sum(masses.values())
    if not masses:
        return {}, 0.0
    shares = {value: mass / total if total else math.nan for value, mass in sorted(masses.items())}
    return shares, sum(value * share for value, share in shares.items())


def numbers_in(logprobs: Mapping[str, float], head: str = "", *, json: bool = False) -> dict[str, float]:
    """The log probability of each number, “0” to “10”, among tokens that write it with spaces around it; equal numbers are added.

    head: what a token holds before the number, when the tokenizer does not part them; others are left out. json: a number may be followed
    by what can follow it in JSON.
    """
    masses: dict[str, float] = {}
    for token, logprob in logprobs.items():
        if not token.startswith(head):
            continue
        number = token[len(head) :].strip()
        if json and (found := _JSON_NUMBER.fullmatch(number)):
            number = found[1]
        if number in NUMBERS:
            masses[number] = masses.get(number, 0.0) + math.exp(logprob)
    return {number: math.log(mass) if mass > 0 else -math.inf for number, mass in masses.items()}


def distribution(numbers: Mapping[str, float], zero_after_one: float = 0.0) -> Floats | None:
    """Probabilities [11] over the integers 0 to 10 from `numbers_in`, or None where there is no number or none is possible.

    zero_after_one: q, the probability of 0 right after 1, where 10 may be written as 1 and 0: P(10) gains P(1) · q, and P(1) loses it.
    """
    shares, mean = expected(numbers)
    if not shares or not math.isfinite(mean):
        return None
    found = np.zeros(DIGITS)
    found[list(shares)] = list(shares.values())
    ten = found[1] * zero_after_one
    found[TOP] += ten
    found[1] -= ten
    return found
