"""What asking may cost, and what it has cost. Used from one event loop."""

import asyncio
import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from core.errors import AtlasError


class BudgetReached(AtlasError):
    """The next call would pass the cap. What is finished stays, and the run can be resumed with a higher one."""


@dataclass(frozen=True)
class Spend:
    """A sum over calls.

    calls: requests that were answered, or broke off so late that they may be charged. cached: answers that were had for nothing.
    tokens_in, tokens_out: as the endpoint counted them. money: of the calls whose endpoint has prices. unmetered: the calls among
    `calls` whose tokens are this program's estimate, because the endpoint did not say.
    """

    calls: int = 0
    cached: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    money: float = 0.0
    unmetered: int = 0

    @property
    def tokens(self) -> int:
        return self.tokens_in + self.tokens_out

    def __add__(self, other: "Spend") -> "Spend":
        return Spend(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(Spend)))

    def __sub__(self, other: "Spend") -> "Spend":
        return Spend(*(getattr(self, field.name) - getattr(other, field.name) for field in fields(Spend)))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Spend":
        """Reads what `to_json` wrote."""
        return cls(**{field.name: value[field.name] for field in fields(cls) if field.name in value})


class Budget:
    """Caps on calls, tokens (in and out together) and money, each optional. One budget may serve several clients.

    Before a call its likely cost is reserved, after it the true cost is settled. A call that would pass a cap waits while others are in
    flight, since they may cost less than reserved; when even the settled sum leaves no room, BudgetReached is raised. So a cap is
    passed at most by what the calls in flight cost beyond their estimates. spent: what a resumed run has cost before.
    """

    def __init__(
        self, calls: int | None = None, tokens: int | None = None, money: float | None = None, *, spent: Spend | None = None
    ) -> None:
        for cap in (calls, tokens, money):
            if cap is not None and (not math.isfinite(cap) or cap < 0):
                raise AtlasError("A budget must be a number of 0 or more.")
        self.calls, self.tokens, self.money = calls, tokens, money
        self._spent = spent or Spend()
        self._reserved = Spend()
        self._settled = asyncio.Event()
        self._stopped = False

    @property
    def in_flight(self) -> int:
        """Calls that have been reserved for and are not settled yet."""
        return self._reserved.calls

    def stop(self) -> None:
        """Let no further call begin: whoever asks gets BudgetReached. Calls in flight go on, and their answers are worth waiting for."""
        self._stopped = True
        self._settled.set()

    @property
    def spent(self) -> Spend:
        """What has been settled so far."""
        return self._spent

    async def reserve(self, planned: Spend) -> Spend:
        """Wait for room and take it. Returns what to hand to `settle`, which must follow whatever happens. Raises BudgetReached."""
        while True:
            if self._stopped:
                raise BudgetReached("The run is being stopped: no further call is made.")
            reached = self._over(self._spent + planned)
            if reached:
                raise BudgetReached(reached)
            if not self._over(self._spent + self._reserved + planned):
                self._reserved += planned
                return planned
            await self._settled.wait()

    def settle(self, reserved: Spend, actual: Spend) -> None:
        """Replace a reservation by what the call has cost; `Spend()` when it was not made."""
        self._reserved -= reserved
        self._spent += actual
        self._settled.set()
        self._settled = asyncio.Event()

    def note_cached(self) -> None:
        """Count an answer that was had for nothing."""
        self._spent += Spend(cached=1)

    def _over(self, total: Spend) -> str:
        """The sentence about the first cap that `total` passes, or ""."""
        end = "Raise it and resume: what is finished is kept, and answers that were paid for are not asked for again."
        if self.calls is not None and total.calls > self.calls:
            return f"The budget of {self.calls:,} calls is reached: {self._spent.calls:,} were made. {end}"
        if self.tokens is not None and total.tokens > self.tokens:
            return f"The budget of {self.tokens:,} tokens is reached: {self._spent.tokens:,} were used and the next call needs more. {end}"
        # Sums of prices carry rounding errors far below this.
        if self.money is not None and total.money > self.money + 1e-9:
            return f"The budget of {self.money:g} is reached: {self._spent.money:.4g} was spent and the next call would pass it. {end}"
        return ""
