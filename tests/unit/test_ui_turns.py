"""Views take turns: few at a time, nobody waits long, and a place is given back whatever happens."""

import threading
import time

import pytest

from core.ui import turns
from core.ui.turns import PLACES, turn


def test_no_more_views_run_at_a_time_than_there_are_places_and_all_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "PATIENCE_SECONDS", 60.0)
    lock = threading.Lock()
    running, most, done = 0, 0, 0

    def view() -> None:
        nonlocal running, most, done
        with turn():
            with lock:
                running += 1
                most = max(most, running)
            time.sleep(0.005)
            with lock:
                running -= 1
                done += 1

    threads = [threading.Thread(target=view) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (most, done) == (PLACES, 12)


def test_a_view_that_waits_for_something_else_does_not_keep_the_others_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "PATIENCE_SECONDS", 0.01)
    held, let_go = threading.Barrier(PLACES + 1), threading.Event()

    def slow() -> None:
        with turn():
            held.wait(60)
            let_go.wait(60)

    threads = [threading.Thread(target=slow) for _ in range(PLACES)]
    for thread in threads:
        thread.start()
    held.wait(60)
    with turn():  # all places are held: this one goes in without
        pass
    assert not turns._places.acquire(blocking=False)  # and gives back none
    let_go.set()
    for thread in threads:
        thread.join(60)


def test_a_view_that_breaks_off_gives_its_place_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "PATIENCE_SECONDS", 0.01)
    for _ in range(PLACES + 1):
        with pytest.raises(RuntimeError, match="stopped"), turn():
            raise RuntimeError("stopped")
    free = [turns._places.acquire(blocking=False) for _ in range(PLACES + 1)]
    for _ in range(sum(free)):
        turns._places.release()
    assert free == [True] * PLACES + [False]
