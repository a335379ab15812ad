"""Views take turns. Python runs one script at a time: of twenty that begin together, all would end as late as the last."""

import threading
from collections.abc import Generator
from contextlib import contextmanager

PLACES = 2
"""One view computes while another waits for a disk."""
PATIENCE_SECONDS = 0.5
"""Longer nobody waits: a view before may itself wait for the model."""

_places = threading.BoundedSemaphore(PLACES)


@contextmanager
def turn() -> Generator[None]:
    """Wait for a place, about in the order of asking, and hold it while the context is open."""
    held = _places.acquire(timeout=PATIENCE_SECONDS)
    try:
        yield
    finally:
        if held:
            _places.release()
