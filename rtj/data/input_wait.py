"""How long the training loop stands still because the next batch is not there."""

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

Batch = TypeVar("Batch")


class InputWait:
    """Adds up the time spent in `next` of an iterator of host batches.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seconds = 0.0
        self._batches = 0

    def over(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The same batches."""
        while True:
            begin = self._clock()
            try:
                batch = next(batches)
            except StopIteration:
                return
            self._seconds += self._clock() - begin
            self._batches += 1
            yield batch

    def take(self) -> float:
        """Mean seconds a batch since the last call; 0 if there was none."""
        mean = self._seconds / self._batches if self._batches else 0.0
        self._seconds, self._batches = 0.0, 0
        return mean
