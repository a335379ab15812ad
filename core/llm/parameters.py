"""Parameters that a model rejects: which ones an answer with HTTP 400 is about, and how a request looks without them.

Models that think first reject temperature and log probabilities; some servers know no JSON schema; newer ones want the length's limit
under another name. Each is tried once, then left out of every request, and every answer says so.
"""

import re
from typing import Any

from core.llm.failures import Failure

_TOGETHER: dict[str, tuple[str, ...]] = {
    "temperature": ("temperature",),
    "logprobs": ("logprobs", "top_logprobs"),
    "top_logprobs": ("logprobs", "top_logprobs"),
    "response_format": ("response_format",),
    "max_tokens": ("max_tokens",),
}
_ELSE_CALLED = "max_completion_tokens"
_REJECTS = re.compile(
    r"support|unrecognized|unknown|unexpected|not permitted|not allowed|not available|not accept|not enabled|extra inputs|incompatible"
)


class Rejected:
    """What a model was found to reject on one route, with the endpoint's words about it. needed: what no request makes sense without."""

    def __init__(self, needed: tuple[str, ...] = ()) -> None:
        self.words: dict[str, str] = {}
        self._needed = needed

    def apply(self, body: dict[str, Any]) -> dict[str, Any]:
        """The request without what is rejected."""
        sent = {name: value for name, value in body.items() if name not in self.words}
        if "max_tokens" in self.words and "max_tokens" in body:
            sent[_ELSE_CALLED] = body["max_tokens"]
        return sent

    def dropped_from(self, body: dict[str, Any]) -> list[str]:
        """The names of what `apply` leaves out of this request; a limit that is only called otherwise is not left out."""
        return [name for name in body if name in self.words and name != "max_tokens"]

    def learn(self, failure: Failure, sent: dict[str, Any]) -> bool:
        """Whether the failure is about parameters of `sent` that can be left out: then asking again makes sense."""
        if failure.status not in (400, 422):
            return False
        said, code = failure.said.lower(), failure.code.lower()
        if "max_tokens" in sent and _ELSE_CALLED in said:
            self.words.setdefault("max_tokens", failure.said)
            return True
        if not (_REJECTS.search(said) or _REJECTS.search(code)):
            return False
        for name, together in _TOGETHER.items():
            named = failure.param.split(".")[0] == name or re.search(rf"\b{name}\b", said)
            if name in sent and named and name not in ("max_tokens", *self._needed):
                for one in together:
                    self.words.setdefault(one, failure.said)
                return True
        return False
