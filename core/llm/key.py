"""The key of an endpoint: read from the environment, sent, and struck out of every text that leaves this package."""

import os
from urllib.parse import quote

from core.errors import AtlasError
from core.llm.endpoint import Endpoint

STRUCK = "[key]"
NO_KEY = "none"
"""What is sent when the variable is not set: local servers ask for no key, but the header may not be empty."""
_SHORTEST_IN_SENTENCES = 4
_SHORTEST_IN_ANSWERS = 16
"""A real key. A shorter one ("EMPTY", "token-abc") is also a word that a model may rightly write."""


class Key:
    """Holds the key so that nothing prints it by accident."""

    __slots__ = ("_value",)

    def __init__(self, value: str = "") -> None:
        self._value = value

    @classmethod
    def of(cls, endpoint: Endpoint) -> "Key":
        """The key that the environment holds for this endpoint. Raises AtlasError when it cannot be sent."""
        value = os.environ.get(endpoint.key_env, "").strip()
        if not value.isascii() or not value.isprintable():
            raise AtlasError(f"The key in the environment variable {endpoint.key_env} holds characters that cannot be sent: set it again.")
        if len(value) >= _SHORTEST_IN_ANSWERS and (value in endpoint.base_url or value in endpoint.model):
            raise AtlasError("The endpoint's address or model holds the key: take it out, since both are written to files.")
        return cls(value)

    def __bool__(self) -> bool:
        return bool(self._value)

    def __repr__(self) -> str:
        return "Key(set)" if self._value else "Key(not set)"

    def __reduce__(self) -> str:
        raise TypeError("a key is not stored")

    @property
    def to_send(self) -> str:
        """For the Authorization header, and for nothing else."""
        return self._value or NO_KEY

    def strike(self, sentence: str) -> str:
        """The sentence without the key, plain or percent-encoded."""
        return self._strike(sentence, _SHORTEST_IN_SENTENCES)

    def strike_answer(self, text: str) -> str:
        """An endpoint's answer without the key, should it send it back."""
        return self._strike(text, _SHORTEST_IN_ANSWERS)

    def _strike(self, text: str, shortest: int) -> str:
        if len(self._value) < shortest:
            return text
        return text.replace(self._value, STRUCK).replace(quote(self._value, safe=""), STRUCK)
