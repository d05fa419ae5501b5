"""Batches made ahead by threads.

Threads, not processes: decoding and resizing, nine tenths of the work, run outside
Python's lock, nothing has to be copied between processes or cleaned up after a kill,
and no fork can happen after JAX has started its own threads. Measured on two cores:
two threads make 1.72 times the images of one. The last tenth, about 0.08 ms an image
in Python's lock, bounds one process at some 12,000 images/s whatever its cores (by
arithmetic, not measured); a machine that needs more runs a process for each
accelerator. `python -m rtj.bench input` prints where the time goes.
"""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Executor
from typing import Any

import grain
import numpy as np

from rtj.errors import ConfigError

Batch = dict[str, np.ndarray]
# (number of the batch).
Allocate = Callable[[int], Batch]
# (number of the batch, number of the first row, views of rows to write).
Fill = Callable[[int, int, Batch], None]

# Grain spends about 0.1 ms of one core on every element it passes on. Whole batches
# as elements would hide that but wait for one thread to decode a whole batch.
_MAX_CHUNK = 32
_JOIN_SECONDS = 10.0


class _Assembly:
    """Batches that several threads are filling, each a run of rows of them.

    Filled in place rather than put together at the end: to copy a batch into memory
    that the kernel has yet to provide costs as much as resizing its images.
    """

    def __init__(self, allocate: Allocate, fill: Fill, rows: int, chunk: int) -> None:
        self._allocate, self._fill = allocate, fill
        self._chunk, self._per_batch = chunk, rows // chunk
        # Reentrant: a garbage collection may close the iterator in any of its threads.
        self._lock = threading.RLock()
        self._ended = threading.Condition(self._lock)
        self._open: dict[int, Batch] = {}
        self._loading: set[int] = set()
        self._stopped = False

    def load(self, k: int) -> tuple[int, Batch]:
        """Fills chunk `k` of the stream; the number of its batch, and the batch."""
        with self._lock:
            if self._stopped:
                raise CancelledError
            self._loading.add(threading.get_ident())
        try:
            return self._load(k)
        finally:
            with self._lock:
                self._loading.discard(threading.get_ident())
                self._ended.notify_all()

    def stop(self, timeout: float) -> bool:
        """Lets no further chunk begin; whether those begun ended in `timeout` s."""
        with self._lock:
            self._stopped = True
            if threading.get_ident() in self._loading:
                return False
            return self._ended.wait_for(lambda: not self._loading, timeout)

    def _load(self, k: int) -> tuple[int, Batch]:
        number, part = divmod(k, self._per_batch)
        with self._lock:
            if number not in self._open:
                self._open[number] = self._allocate(number)
            batch = self._open[number]
        first = part * self._chunk
        self._fill(
            number,
            first,
            {key: rows[first : first + self._chunk] for key, rows in batch.items()},
        )
        return number, batch

    def finish(self, chunks: Sequence[tuple[int, Batch]]) -> Batch:
        """The batch of these chunks, all of whose rows are there now."""
        number, batch = chunks[0]
        with self._lock:
            del self._open[number]
        return batch


class BatchIterator(Iterator[Batch]):
    """Yields batches; closes itself at the end, on an error, and as a context.

    `close()` stops the threads and waits for the examples in flight. A failure in
    a thread is raised here as DataError.

    Args:
        allocate: makes the arrays of batch `number`, counted from 0; their shapes
            may differ from batch to batch, their number of rows may not.
        fill: writes rows of batch `number`, counted from 0, given as views; `first`
            is the number of the first of these rows.
        num_batches: to yield.
        rows: of a batch.
        workers: threads.
    """

    def __init__(
        self,
        allocate: Allocate,
        fill: Fill,
        num_batches: int,
        rows: int,
        workers: int,
    ):
        chunk = chunk_size(rows)
        per_batch = rows // chunk
        # The threads must not hold `self`, or a dropped iterator would never close.
        assembly = _Assembly(allocate, fill, rows, chunk)
        self._assembly = assembly
        chunks = grain.MapDataset.range(num_batches * per_batch).map(assembly.load)
        # Two batches ahead: the one the consumer takes next, and one more.
        options = grain.ReadOptions(
            num_threads=workers,
            prefetch_buffer_size=max(2 * per_batch, 2 * workers),
        )
        self._per_batch = per_batch
        self._chunks: Any = iter(chunks.to_iter_dataset(options))
        self._pool: Executor = self._chunks._executor
        self._closed = False

    def __iter__(self) -> "BatchIterator":
        return self

    def __next__(self) -> Batch:
        if self._closed:
            raise StopIteration
        try:
            chunks = [next(self._chunks) for _ in range(self._per_batch)]
            return self._assembly.finish(chunks)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stops prefetching and joins its threads. May be called again."""
        if self._closed:
            return
        self._closed = True
        self._chunks.close()
        # Grain's close() does not wait. A thread may have started and got no chunk, so
        # its pool is what knows them all; once no chunk is being loaded and none can
        # begin, it ends at once. A read that hangs must not hang us as well.
        if self._assembly.stop(_JOIN_SECONDS):
            self._pool.shutdown(wait=True)

    def __enter__(self) -> "BatchIterator":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            self.close()


def choose_workers(workers: int) -> int:
    """The number of decoding threads: `workers`, or for 0 one a usable core."""
    if workers < 0:
        raise ConfigError(f"workers={workers}: 0 (choose) or more")
    if workers:
        return workers
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return max(1, os.cpu_count() or 1)


def chunk_size(rows: int) -> int:
    """The largest divisor of `rows` that is at most 32."""
    return max(d for d in range(1, min(rows, _MAX_CHUNK) + 1) if rows % d == 0)
