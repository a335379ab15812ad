"""What a language model answers, and the two ways of asking that endpoints, models loaded here and tests share."""

from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Usage:
    """Tokens of one call. estimated: the endpoint did not count them, so this program guessed."""

    tokens_in: int
    tokens_out: int
    estimated: bool = False


@dataclass(frozen=True)
class TokenLogprobs:
    """One token of an answer with its natural log probability, and the likeliest alternatives (itself usually among them)."""

    token: str
    logprob: float
    top: dict[str, float]


@dataclass(frozen=True)
class ChatAnswer:
    """One answer. tokens: None when log probabilities were not asked for or are not given. finish: why it ended, such as `stop` or
    `length`. dropped: the parameters that the model rejects, and that were left out therefore."""

    text: str
    tokens: list[TokenLogprobs] | None
    finish: str
    usage: Usage
    cached: bool
    dropped: tuple[str, ...] = ()


@dataclass(frozen=True)
class EchoAnswer:
    """A prompt as the model read it; the three lists have one entry a token.

    tokens: their texts. offsets: where each begins, in characters of the prompt (for a prompt of ids, of the joined tokens); a special
    token that is not in the prompt begins where the next one does. top: natural log probabilities of the likeliest tokens at that
    place, given what stands before it; None where the endpoint gives none, as on the first token, and before `since`.
    """

    tokens: list[str]
    offsets: list[int]
    top: list[dict[str, float] | None]
    usage: Usage | None = None
    cached: bool = False


class Chat(Protocol):
    """Answers messages. A failure that concerns this call only is an LlmError; `Final` and BudgetReached stop the run."""

    async def chat(
        self,
        messages: list[dict[str, Any]],
        *,
        max_tokens: int,
        temperature: float = 0.0,
        top_logprobs: int | None = None,
        schema: dict[str, Any] | None = None,
        n_sample: int = 0,
    ) -> ChatAnswer:
        """messages: role and content each. schema: a JSON schema for the answer. n_sample: tells samples of the same request apart."""
        ...


class Echo(Protocol):
    """Gives the log probabilities of a prompt's own tokens. Raises NoEcho when it cannot."""

    async def echo(self, prompt: str | list[int], logprobs: int = 20) -> EchoAnswer:
        """The prompt as text, or as ids of the model's own tokens. logprobs: alternatives at each place."""
        ...
