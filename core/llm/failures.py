"""How asking a language model fails: a failure as a value, while there is hope, and the sentences people read."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from core.errors import AtlasError
from core.llm.endpoint import Endpoint
from core.llm.key import Key
from core.llm.retry import retry_after

Kind = Literal["auth", "missing", "refused", "busy", "timeout", "broken", "empty"]
"""auth: the key or the account; missing: the address or the model; refused: this request; busy, timeout: later perhaps; broken: what
came back cannot be read; empty: there was no answer in it."""


class LlmError(AtlasError):
    """One call has failed for good. Its sentence is the reason of a failed record."""

    def __init__(self, kind: Kind, sentence: str) -> None:
        super().__init__(sentence)
        self.kind: Kind = kind


class Final(LlmError):
    """No further call can succeed either: the run stops."""


class NoEcho(Final):
    """The endpoint does not return the log probabilities of the prompt's own tokens."""

    def __init__(self, sentence: str) -> None:
        super().__init__("missing", sentence)


@dataclass(frozen=True)
class Failure:
    """What went wrong with one attempt.

    text: the sentence. final: stops the run. retry: another attempt may succeed; wait: seconds the endpoint asked for. billed: the
    endpoint may have charged for it. status: HTTP's, 0 without an answer. param, code, said: the endpoint's own words about a 4xx.
    no_echo: it shows that the endpoint does not echo prompts.
    """

    kind: Kind
    text: str
    final: bool = False
    retry: bool = False
    wait: float | None = None
    billed: bool = False
    status: int = 0
    param: str = ""
    code: str = ""
    said: str = ""
    no_echo: bool = False

    def error(self) -> LlmError:
        """As an exception."""
        if self.no_echo and self.final:
            return NoEcho(self.text)
        return Final(self.kind, self.text) if self.final else LlmError(self.kind, self.text)


def from_status(endpoint: Endpoint, route: str, status: int, headers: Mapping[str, str], body: str, key: Key, now: float) -> Failure:
    """The failure that an HTTP answer other than 2xx stands for. now: seconds since 1970, for a Retry-After that is a date."""
    # Struck out before it is shortened, or half a key could stay; and after, in case JSON had escaped it.
    param, code, said = (key.strike(text) for text in _words(key.strike(body)))
    place = f"{endpoint.base_url} (HTTP {status}{f': {said}' if said else ''})"
    quota = code == "insufficient_quota"
    if status == 402 or quota:
        return Failure("auth", f"The account's credit is used up, says {place}: add credit and resume.", final=True, status=status)
    if status in (401, 403):
        what = "refuses the key in" if key else "wants a key, and none is in"
        return Failure(
            "auth",
            f"The endpoint {what} the environment variable {endpoint.key_env}, says {place}: set it and start again.",
            final=True,
            status=status,
        )
    if status == 404:
        text = (
            f"No model {endpoint.model} or no {route} at {place}: "
            "choose a model from its list, and check the address, which usually ends in /v1."
        )
        return Failure("missing", text, final=True, status=status)
    if 300 <= status < 400:
        where = _clip(key.strike(headers.get("location", "")))
        text = f"{place} points to another address{f', {where}' if where else ''}: give that address if you trust it."
        return Failure("missing", text, final=True, status=status)
    if status in (408, 409, 425, 429) or status >= 500:
        kind: Kind = "timeout" if status in (408, 504) else "busy" if status in (409, 425, 429, 503, 529) else "broken"
        words = {"timeout": "gave up waiting", "busy": "is busy", "broken": "failed"}[kind]
        wait = retry_after(headers, now)
        return Failure(kind, f"The endpoint {words}, says {place}.", retry=True, wait=wait, status=status, said=said)
    text = f"The endpoint refused the request, says {place}."
    return Failure("refused", text, status=status, param=param, code=code, said=said)


def _words(body: str) -> tuple[str, str, str]:
    """(parameter, code, message) of an error's body, in any of the shapes that servers use."""
    try:
        value: Any = json.loads(body)
    except ValueError:
        text = body.strip()
        return "", "", "" if text.startswith("<") else _clip(text)
    error: Any = value.get("error", value) if isinstance(value, dict) else value
    if not isinstance(error, dict):
        return "", "", _clip(error if isinstance(error, str) else json.dumps(error))
    message = error.get("message") or error.get("detail") or error.get("error") or ""
    said = message if isinstance(message, str) else json.dumps(message)
    return str(error.get("param") or ""), str(error.get("code") or ""), _clip(said)


def _clip(text: str, most: int = 300) -> str:
    """One printable line."""
    line = "".join(c if c.isprintable() else " " for c in " ".join(text.split()))
    return line if len(line) <= most else f"{line[:most]}…"
