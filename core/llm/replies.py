"""From an endpoint's JSON to the part of it that is kept, and from that to an answer.

What is kept (in the cache too) is all that an answer is made of, so a cached answer equals the first one to the last digit.
"""

from typing import Any, cast

from core.llm.answers import ChatAnswer, EchoAnswer, TokenLogprobs, Usage
from core.llm.failures import Failure, LlmError

_DIGITS = 6
"""Decimals of a log probability that are kept: an error of one millionth of the probability, for half the disk space."""
_WINDOW = 8
"""Characters within which the text is found again after a token that holds part of a character."""

Kept = dict[str, Any]


def read_usage(value: Any) -> tuple[int, int] | None:
    """(tokens read, tokens written) as the endpoint counts them, or None when it does not say."""
    usage = value.get("usage") if isinstance(value, dict) else None
    if not isinstance(usage, dict):
        return None
    counts = usage.get("prompt_tokens"), usage.get("completion_tokens") or 0
    return cast(tuple[int, int], counts) if all(isinstance(count, int) and count >= 0 for count in counts) else None


def read_chat(value: Any) -> Kept | Failure:
    """What is kept of a chat completion."""
    choice = _choice(value)
    if isinstance(choice, Failure):
        return choice
    message = choice.get("message")
    if not isinstance(message, dict):
        return _unreadable("it holds no message")
    refusal = message.get("refusal")
    logprobs = choice.get("logprobs")
    try:
        tokens = _written(logprobs.get("content") if isinstance(logprobs, dict) else None)
    except (KeyError, TypeError, ValueError):
        return _unreadable("its log probabilities are malformed")
    return {
        "text": _text(message.get("content")),
        "refusal": refusal if isinstance(refusal, str) else "",
        "finish": str(choice.get("finish_reason") or ""),
        "tokens": tokens,
    }


def chat_answer(kept: Kept, usage: Usage, cached: bool) -> ChatAnswer:
    """The answer, or LlmError when the model refused or wrote nothing."""
    text, finish = str(kept["text"]), str(kept["finish"])
    if not text.strip():
        if kept["refusal"]:
            raise LlmError("refused", f"The model refused: {' '.join(str(kept['refusal']).split())[:200]}")
        if finish == "content_filter":
            raise LlmError("refused", "The endpoint's content filter held the answer back.")
        if finish == "length":
            raise LlmError("empty", "The answer was cut off before its first word: allow more tokens; models that think first need many.")
        raise LlmError("empty", "The model answered with nothing.")
    tokens = None if kept["tokens"] is None else [TokenLogprobs(token, logprob, top) for token, logprob, top in kept["tokens"]]
    return ChatAnswer(text, tokens, finish, usage, cached, tuple(kept.get("dropped", ())))


def read_echo(value: Any, prompt: str | list[int], since: int) -> Kept | Failure:
    """What is kept of a completion with echo. A failure with `no_echo` when the prompt's tokens are not all there.

    since: alternatives are kept from this character (for ids: this token) of the prompt on.
    """
    choice = _choice(value)
    if isinstance(choice, Failure):
        return choice
    logprobs = choice.get("logprobs")
    tokens: Any = logprobs.get("tokens") if isinstance(logprobs, dict) else None
    if not isinstance(logprobs, dict) or not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        return _no_echo("it returns no log probabilities")
    offsets = _prompt_offsets(prompt, cast(list[str], tokens), read_usage(value), logprobs.get("text_offset"))
    if offsets is None:
        return _no_echo(f"of a prompt it returns {len(tokens):,} tokens that are not the prompt's")
    count = len(offsets)
    top: Any = logprobs.get("top_logprobs")
    if not isinstance(top, list) or len(top) < count or (count > 1 and not any(top[1:count])):
        return _no_echo("it returns no alternatives to the prompt's tokens")
    try:
        rounded = [_rounded(entry) for entry in top[:count]]
    except (AttributeError, TypeError, ValueError):
        return _unreadable("its log probabilities are malformed")
    places = offsets if isinstance(prompt, str) else range(count)
    kept = [entry if at >= since else None for at, entry in zip(places, rounded, strict=True)]
    return {"tokens": tokens[:count], "offsets": offsets, "top": kept}


def echo_answer(kept: Kept, usage: Usage, cached: bool) -> EchoAnswer:
    """The answer."""
    return EchoAnswer(kept["tokens"], kept["offsets"], kept["top"], usage, cached)


def _choice(value: Any) -> dict[str, Any] | Failure:
    choices = value.get("choices") if isinstance(value, dict) else None
    if not isinstance(choices, list):
        return _unreadable("it holds no choices")
    if not choices or not isinstance(choices[0], dict):
        return Failure("empty", "The endpoint answered without a choice.", retry=True, billed=True)
    return choices[0]


def _unreadable(why: str) -> Failure:
    return Failure("broken", f"The endpoint's answer cannot be read: {why}.", retry=True, billed=True)


def _no_echo(why: str) -> Failure:
    text = f"The endpoint does not give the log probabilities of prompts ({why}): choose another simulator, or an endpoint that does."
    return Failure("missing", text, final=True, billed=True, no_echo=True)


def _text(content: Any) -> str:
    """The text of a message: a string, or a list of parts of which some are texts."""
    if isinstance(content, list):
        return "".join(_text(part.get("text")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _written(content: Any) -> list[tuple[str, float, dict[str, float]]] | None:
    if not isinstance(content, list):
        return None
    found: list[tuple[str, float, dict[str, float]]] = []
    for entry in content:
        top: dict[str, float] = {}
        for other in entry.get("top_logprobs") or []:
            token, logprob = str(other["token"]), round(float(other["logprob"]), _DIGITS)
            # Different bytes may print as the same text; the likelier one speaks for it.
            top[token] = max(logprob, top.get(token, logprob))
        found.append((str(entry["token"]), round(float(entry["logprob"]), _DIGITS), top))
    return found


def _rounded(entry: Any) -> dict[str, float] | None:
    return None if entry is None else {str(token): round(float(logprob), _DIGITS) for token, logprob in entry.items()}


def _prompt_offsets(prompt: str | list[int], tokens: list[str], usage: tuple[int, int] | None, given: Any) -> list[int] | None:
    """Where each of the prompt's tokens begins; the list is as long as the prompt has tokens. None when `tokens` does not cover it.

    One generated token may follow: the least that every server accepts.
    """
    if isinstance(prompt, list):
        return _cumulative(tokens[: len(prompt)]) if len(tokens) - len(prompt) in (0, 1) else None
    found = _align(prompt, tokens)
    if found is None and usage is not None and usage[0] > 1 and len(tokens) in (usage[0], usage[0] + usage[1]):
        # Tokens in a spelling of their own, as many as the prompt has: the server's own offsets are the best there is.
        count = usage[0]
        fits = isinstance(given, list) and len(given) >= count and all(isinstance(at, int) for at in given)
        return cast(list[int], given[:count]) if fits else _cumulative(tokens[:count])
    return found


def _cumulative(tokens: list[str]) -> list[int]:
    offsets, at = list[int](), 0
    for token in tokens:
        offsets.append(at)
        at += len(token)
    return offsets


def _align(prompt: str, tokens: list[str]) -> list[int] | None:
    """Walk the tokens along the prompt. Passed over: special tokens at its start, and tokens that are part of a character."""
    offsets, at, partial = list[int](), 0, 0
    for token in tokens:
        if at == len(prompt):
            break
        if token and prompt.startswith(token, at):
            offsets.append(at)
            at, partial = at + len(token), 0
        elif at == 0 or not token or "�" in token or token.startswith("bytes:"):
            offsets.append(at)
            partial += 1
        else:
            again = prompt.find(token, at, at + _WINDOW * partial + len(token))
            if again < 0 or not partial:
                return None
            offsets.append(again)
            at, partial = again + len(token), 0
    left = len(prompt) - at
    return offsets if left == 0 or 0 < left <= _WINDOW * partial < len(prompt) else None
