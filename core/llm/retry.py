"""When to ask again after a failure that may pass."""

import email.utils
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Retry:
    """How long to hope.

    attempts: at most so many for one request; answers that named a time to come back do not count. paid_attempts: at most so many that
    may each have been charged for. seconds: no attempt starts later than this after the first one. first, longest: the wait doubles
    from the one to the other, each time a random 50 to 100 % of it.
    in_a_row: after so many requests that failed in a passing way, with no success between them, the run stops.
    """

    attempts: int = 8
    paid_attempts: int = 3
    seconds: float = 300.0
    first: float = 0.5
    longest: float = 30.0
    in_a_row: int = 32

    def delay(self, attempt: int) -> float:
        """Seconds to wait after attempt number `attempt`, from 0."""
        return min(self.longest, self.first * 2.0 ** min(attempt, 40)) * random.uniform(0.5, 1.0)

    def least(self, told: int) -> float:
        """The shortest wait after an answer that named a time, in seconds: a tenth of `first`, growing to it. "0" may be said for ever."""
        return self.first * min(1.0, 0.1 * 2.0 ** min(told, 40))


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds from `now` that Retry-After asks for (RFC 9110, 10.2.3: seconds or a date), or retry-after-ms; None when it says nothing.

    `headers` has names in lower case or ignores case.
    """
    for name, scale in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) * scale
        except ValueError:
            continue
        if math.isfinite(seconds):
            return max(0.0, seconds)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(headers.get("retry-after", "")).timestamp() - now)
    except (ValueError, OverflowError):
        return None
