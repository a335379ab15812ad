"""An endpoint: where a language model answers, and what it costs. It names the variable that holds the key, never the key."""

import math
import re
from dataclasses import asdict, dataclass, fields
from typing import Any
from urllib.parse import urlsplit

from core.errors import AtlasError, shown

IN_PROCESS = "in-process"
"""The address of a Hugging Face model that is loaded here instead of asked over HTTP."""
MAX_CONCURRENCY = 256
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]{0,63}")


@dataclass(frozen=True)
class Endpoint:
    """One model at one address.

    base_url: an http or https address that speaks the OpenAI API, usually ending in /v1, or `in-process`. model: its name there; for
    `in-process` a model's id, path or slug. key_env: the environment variable with the key. concurrency: calls in flight. timeout:
    seconds for one whole answer. price_in, price_out: money for a million tokens, both or neither; the currency is the reader's.
    Raises AtlasError for what cannot be meant.
    """

    base_url: str
    model: str
    key_env: str = "OPENAI_API_KEY"
    concurrency: int = 8
    timeout: float = 60.0
    price_in: float | None = None
    price_out: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "base_url", self.base_url.strip().rstrip("/"))
        object.__setattr__(self, "model", self.model.strip())
        if self.base_url != IN_PROCESS:
            _check_address(self.base_url)
        if not self.model or len(self.model) > 500 or not self.model.isprintable():
            raise AtlasError("Name a model: choose one from the endpoint's list or type its name.")
        # Not quoted in the sentence: it may be a key that was pasted into the wrong field.
        if not _VARIABLE.fullmatch(self.key_env):
            raise AtlasError(
                "The key's field takes the name of an environment variable in capitals, such as OPENAI_API_KEY, not the key itself."
            )
        if not 1 <= self.concurrency <= MAX_CONCURRENCY:
            raise AtlasError(f"Calls in flight must be between 1 and {MAX_CONCURRENCY}, not {self.concurrency}.")
        if not (math.isfinite(self.timeout) and self.timeout > 0):
            raise AtlasError(f"The time limit must be a number of seconds above 0, not {self.timeout}.")
        prices = [price for price in (self.price_in, self.price_out) if price is not None]
        if len(prices) == 1:
            raise AtlasError("Give both prices, for a million tokens read and for a million tokens written, or neither.")
        if any(not math.isfinite(price) or price < 0 for price in prices):
            raise AtlasError("A price must be a number of 0 or more, for a million tokens.")

    @property
    def in_process(self) -> bool:
        """Whether the model is loaded here instead of asked over HTTP."""
        return self.base_url == IN_PROCESS

    def cost(self, tokens_in: int, tokens_out: int) -> float | None:
        """The price of so many tokens read and written, or None without prices."""
        if self.price_in is None or self.price_out is None:
            return None
        return (tokens_in * self.price_in + tokens_out * self.price_out) / 1e6

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads. It holds no key."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Any) -> "Endpoint":
        """Read what `to_json` wrote, or the same typed by hand. Raises AtlasError."""
        if not isinstance(value, dict):
            raise AtlasError('An endpoint is an object with "base_url" and "model".')
        known = {field.name: field.type for field in fields(cls)}
        given: dict[str, Any] = {str(name): entry for name, entry in value.items()}
        unknown = sorted(set(given) - set(known))
        if unknown:
            raise AtlasError(f"An endpoint has no field {shown(unknown[0])}: it has {', '.join(known)}.")
        for name in ("base_url", "model"):
            if not given.get(name):
                raise AtlasError(f"The endpoint lacks {name}: give base_url and model.")
        return cls(**{name: _checked(name, entry) for name, entry in given.items()})


def _checked(name: str, entry: Any) -> Any:
    if name in ("base_url", "model", "key_env"):
        good = isinstance(entry, str)
    elif name == "concurrency":
        good = isinstance(entry, int) and not isinstance(entry, bool)
    else:
        good = (isinstance(entry, int | float) and not isinstance(entry, bool)) or (entry is None and name != "timeout")
    if not good:
        # The value is not quoted for the same reason as above.
        raise AtlasError(f"The endpoint's {name} is of the wrong kind: {_KINDS.get(name, 'give a number')}.")
    return entry


_KINDS = {"base_url": "give an address", "model": "give a name", "key_env": "give a variable's name", "concurrency": "give a whole number"}


def _check_address(address: str) -> None:
    """Refuse what is no plain http address. Whatever could hold a secret is not quoted."""
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port
    except ValueError:
        parts, host = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not host or not address.isprintable() or " " in address:
        raise AtlasError(f"The endpoint's address must start with http:// or https:// and name a host, or be {IN_PROCESS}.")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise AtlasError("The endpoint's address may hold no password, ? or #: put the key into an environment variable and name that.")
