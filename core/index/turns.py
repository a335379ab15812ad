"""Who may add to a site's sketch: passes that run side by side take turns, so that a run's tables do not depend on which is ahead."""

from collections.abc import Generator
from contextlib import contextmanager
from threading import Condition

from core.units import Site


class OtherFailed(Exception):
    """A pass whose turn was before this one's has failed."""


class Turns:
    """The turns of some passes at every site: place 0 first, then 1, and so on."""

    def __init__(self) -> None:
        self._taken: dict[Site, int] = {}
        self._changed = Condition()
        self._failed = False

    @contextmanager
    def take(self, site: Site, place: int) -> Generator[None]:
        """Wait until all places before `place` have had their turn at the site; the turn ends with the context. Raises OtherFailed."""
        with self._changed:
            self._changed.wait_for(lambda: self._failed or self._taken.get(site, 0) == place)
            if self._failed:
                raise OtherFailed
        yield
        with self._changed:
            self._taken[site] = place + 1
            self._changed.notify_all()

    @contextmanager
    def stopped_by_failure(self) -> Generator[None]:
        """Nobody waits any longer for a pass that failed in this context."""
        try:
            yield
        except BaseException:
            with self._changed:
                self._failed = True
                self._changed.notify_all()
            raise
