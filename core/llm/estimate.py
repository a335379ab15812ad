"""What a run will cost, told before it starts: counts of prompts and characters in; calls, tokens and price out."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from core.errors import AtlasError

CHARS_PER_TOKEN = 2.5
"""Between prose and prompts of single tokens. Measured with SmolLM2's tokenizer: prose 3.8, lines of a token, a tab and `unknown` 3.1,
JSON with one object a token 2.1, lines of a token, a tab and a number 1.6. A load that knows its kind says so."""


@dataclass(frozen=True)
class Load:
    """Calls of one kind: how many, the characters of one prompt (a mean is enough), and the tokens of one answer."""

    calls: int
    chars_in: float
    tokens_out: float
    chars_per_token: float = CHARS_PER_TOKEN


@dataclass(frozen=True)
class Estimate:
    """The cost of some calls. money is None when any of them has no price."""

    calls: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    money: float | None = 0.0

    def __add__(self, other: "Estimate") -> "Estimate":
        money = None if self.money is None or other.money is None else self.money + other.money
        return Estimate(self.calls + other.calls, self.tokens_in + other.tokens_in, self.tokens_out + other.tokens_out, money)

    def __str__(self) -> str:
        """One line, as pages and commands show it before a run."""
        calls = "1 call" if self.calls == 1 else f"{self.calls:,} calls"
        words = f"{calls}, about {_round(self.tokens_in)} tokens read and {_round(self.tokens_out)} written"
        return words if self.money is None else f"{words}, price about {self.money:,.2f}"


def tokens_of(chars: float, chars_per_token: float = CHARS_PER_TOKEN) -> int:
    """Tokens in so many characters, rounded up. Raises AtlasError for a ratio that is not positive."""
    if not (math.isfinite(chars_per_token) and chars_per_token > 0):
        raise AtlasError("Characters per token must be a number above 0.")
    return math.ceil(max(0.0, chars) / chars_per_token)


def estimate(loads: Iterable[Load], price_in: float | None = None, price_out: float | None = None) -> Estimate:
    """The cost of these calls at one endpoint's prices for a million tokens. Estimates of several endpoints add up."""
    total = Estimate(money=None if price_in is None or price_out is None else 0.0)
    for load in loads:
        read = tokens_of(load.calls * load.chars_in, load.chars_per_token)
        written = math.ceil(load.calls * load.tokens_out)
        money = None if price_in is None or price_out is None else (read * price_in + written * price_out) / 1e6
        total += Estimate(load.calls, read, written, money)
    return total


def _round(tokens: int) -> str:
    """Two significant digits: an estimate should not look exact."""
    if tokens < 100:
        return f"{tokens}"
    step = 10 ** (len(str(tokens)) - 2)
    return f"{round(tokens / step) * step:,}"
