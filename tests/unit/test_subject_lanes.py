"""Passes side by side: twins read what the subject reads and share its weights, and torch has its threads back afterwards."""

import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from core.index.turns import OtherFailed, Turns
from core.subject.edits import Edit
from core.subject.lanes import Lanes
from core.subject.subject import Subject
from core.units import Site
from tests.models import load_tiny_model, random_tokens, tiny_variants

SITES = (Site("mlp", 0), Site("attn", 1), Site("resid", 1))


@pytest.fixture
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("variant", tiny_variants())
@pytest.mark.usefixtures("three_threads")
def test_passes_side_by_side_read_what_one_after_the_other_reads(variant: str, tmp_path: Path) -> None:
    subject = load_tiny_model(tmp_path, variant, 3)
    texts = [random_tokens(2 + number % 3, 9 + number, number) for number in range(6)]
    found: dict[int, dict[Site, torch.Tensor]] = {}
    lanes = Lanes(subject)
    assert len(lanes) == 3
    with lanes:
        for first in range(0, 6, 3):
            lanes.run([lambda lane, at=at: found.__setitem__(at, lane.capture(texts[at], SITES)) for at in range(first, first + 3)])
    assert torch.get_num_threads() == 3
    for number, text in enumerate(texts):
        for site, activations in subject.capture(text, SITES).items():
            torch.testing.assert_close(found[number][site], activations, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("threads", "lanes"), [(1, 1), (2, 2), (8, 8), (9, 4), (12, 6), (16, 8), (20, 6)])
def test_more_threads_than_lanes_are_shared_out(threads: int, lanes: int, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with Lanes(load_tiny_model(tmp_path, "llama", 2)) as made:
            told: list[int] = []
            made.run([lambda _: told.append(torch.get_num_threads())] * len(made))
        assert len(made) == lanes
        assert set(told) == {-(-threads // 8)}
    finally:
        torch.set_num_threads(before)


def test_memory_that_a_pass_frees_is_kept_where_the_c_library_can() -> None:
    code = "from core.subject.heap import keep_freed_memory; print(keep_freed_memory())"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert said == ("True" if platform.libc_ver()[0] == "glibc" else "False")


def test_a_twin_has_the_weights_but_no_hook_of_its_own_reaches_the_subject(tmp_path: Path) -> None:
    subject = load_tiny_model(tmp_path, "llama", 3)
    twin = subject.twin()
    assert {id(weight) for weight in twin.model.parameters()} == {id(weight) for weight in subject.model.parameters()}
    tokens = random_tokens(2, 7, 0)
    before = subject.logits(tokens)
    with twin.edit([Edit(Site("mlp", 0), "zero")]):
        assert not torch.equal(twin.logits(tokens), before)
        torch.testing.assert_close(subject.logits(tokens), before, atol=0, rtol=0)


@pytest.mark.usefixtures("three_threads")
def test_the_first_failure_is_raised_after_all_have_ended(tmp_path: Path) -> None:
    ended: list[int] = []

    def task(number: int) -> None:
        ended.append(number)
        if number:
            raise RuntimeError(f"task {number}")

    with Lanes(load_tiny_model(tmp_path, "llama", 2)) as lanes:
        with pytest.raises(RuntimeError, match="task 1"):
            lanes.run([lambda _, number=number: task(number) for number in range(3)])
        assert sorted(ended) == [0, 1, 2]
        with pytest.raises(ValueError, match="4 tasks for 3 lanes"):
            lanes.run([lambda _: None] * 4)


@pytest.mark.usefixtures("three_threads")
def test_turns_come_in_order_whoever_is_ahead_and_nobody_waits_for_a_pass_that_failed(tmp_path: Path) -> None:
    site, order = Site("mlp", 0), list[int]()
    with Lanes(load_tiny_model(tmp_path, "llama", 2)) as lanes:
        for _ in range(20):
            turns = Turns()

            def add(place: int, turns: Turns = turns) -> None:
                with turns.take(site, place):
                    order.append(place)

            lanes.run([lambda _, place=place: add(place) for place in (2, 1, 0)])
        assert order == [0, 1, 2] * 20
        turns = Turns()

        def fail(_: Subject) -> None:
            with turns.stopped_by_failure():
                raise RuntimeError("the pass broke")

        def wait(_: Subject) -> None:
            with turns.take(site, 1):
                raise AssertionError("it was not its turn")

        with pytest.raises(OtherFailed):
            lanes.run([wait, fail])
