"""Passes side by side: one model over several blocks of text at a time, each in a thread of its own.

Threads that share a pass wait for each other after every step of it, and for whatever is not divided. On two cores a pass of SmolLM2
takes a tenth more time so, and in bfloat16, whose steps are short, a fourth more, than two passes that share nothing but the weights.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from types import TracebackType

import torch

from core.subject.subject import Subject
from core.units import Site

MOST = 8
"""Each pass keeps its own activations in memory: with more cores, several share a pass again."""


class Lanes:
    """A subject and its twins, one for each pass at a time. A context manager; between two contexts torch has its threads back."""

    def __init__(self, subject: Subject) -> None:
        self._threads = torch.get_num_threads()
        self._each = -(-self._threads // MOST)
        count = self._threads // self._each if subject.device.type == "cpu" else 1
        self.subjects = (subject, *(subject.twin() for _ in range(count - 1)))
        self._pool: ThreadPoolExecutor | None = None
        self._warm = False

    def __len__(self) -> int:
        return len(self.subjects)

    def __enter__(self) -> "Lanes":
        if len(self) > 1:
            self._pool = ThreadPoolExecutor(len(self), initializer=torch.set_num_threads, initargs=(self._each,))
            if not self._warm:
                # One after the other: libraries set much up at a model's first pass, and need not expect several at that moment.
                try:
                    for subject in self.subjects:
                        self._pool.submit(_first_pass, subject).result()
                except BaseException:
                    self.__exit__(None, None, None)
                    raise
                self._warm = True
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
            torch.set_num_threads(self._threads)  # the number is partly one for the whole process

    def run(self, tasks: Sequence[Callable[[Subject], None]]) -> None:
        """Do the tasks, at most one a lane, and wait for all. Raises the first failure in their order."""
        if len(tasks) > len(self):
            raise ValueError(f"{len(tasks)} tasks for {len(self)} lanes")
        if self._pool is None:
            for task in tasks:
                task(self.subjects[0])
            return
        futures = [self._pool.submit(task, subject) for task, subject in zip(tasks, self.subjects, strict=False)]
        wait(futures)
        for future in futures:
            future.result()


def _first_pass(subject: Subject) -> None:
    subject.read(torch.zeros(2, 8, dtype=torch.long), {Site("resid", subject.info.n_layers - 1): lambda _: None})
