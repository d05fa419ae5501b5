"""Host batches: a source in, dicts of NumPy arrays out, with prefetching threads.

Grain threads decode chunks of a batch ahead of the consumer. What a batch holds is
a function of (seed, step) alone, never of the number of threads or processes.
"""

import functools
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType

import grain
import numpy as np

from rtj.data import crop, decode, hashing, order
from rtj.data.examples import Source
from rtj.errors import ConfigError, DataError

Batch = dict[str, np.ndarray]

# Grain spends about 0.1 ms of one core on every element it passes on. Whole batches
# as elements would hide that but wait for one thread to decode a whole batch.
_MAX_CHUNK = 32
_CROP_STREAM = 0xC401
_JOIN_SECONDS = 10.0


class BatchIterator(Iterator[Batch]):
    """Yields batches; closes itself at the end, on an error, and as a context.

    `close()` stops the threads and waits for the examples in flight. A failure in
    a thread is raised here as DataError.
    """

    def __init__(
        self,
        load: Callable[[int], Batch],
        num_chunks: int,
        chunks_per_batch: int,
        workers: int,
    ):
        self._threads: set[threading.Thread] = set()
        # The threads must not hold `self`, or a dropped iterator would never close.
        chunks = grain.MapDataset.range(num_chunks).map(
            functools.partial(_load_in_thread, load, self._threads)
        )
        # Two batches ahead: the one the consumer takes next, and one more.
        options = grain.ReadOptions(
            num_threads=workers,
            prefetch_buffer_size=max(2 * chunks_per_batch, 2 * workers),
        )
        self._chunks = iter(
            chunks.to_iter_dataset(options).batch(
                chunks_per_batch, drop_remainder=True, batch_fn=_concatenate
            )
        )
        self._closed = False

    def __iter__(self) -> "BatchIterator":
        return self

    def __next__(self) -> Batch:
        if self._closed:
            raise StopIteration
        try:
            return next(self._chunks)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stops prefetching and joins its threads. May be called again."""
        if self._closed:
            return
        self._closed = True
        self._chunks.close()
        # Grain's close() does not wait. A read that hangs must not hang us as well.
        deadline = time.monotonic() + _JOIN_SECONDS
        for thread in list(self._threads):
            thread.join(max(0.0, deadline - time.monotonic()))

    def __enter__(self) -> "BatchIterator":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            self.close()


def _load_in_thread(
    load: Callable[[int], Batch], threads: set[threading.Thread], chunk: int
) -> Batch:
    threads.add(threading.current_thread())
    return load(chunk)


def _concatenate(chunks: Sequence[Batch]) -> Batch:
    return {key: np.concatenate([chunk[key] for chunk in chunks]) for key in chunks[0]}


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


def _rows_per_process(batch_size: int, index: int, count: int) -> int:
    if count < 1 or not 0 <= index < count:
        raise ConfigError(
            f"process_index={index}: from 0 to process_count - 1 = {count - 1}"
        )
    if batch_size < 1 or batch_size % count:
        raise ConfigError(
            f"batch_size={batch_size}: a positive multiple of process_count={count}"
        )
    return batch_size // count


def _read(source: Source, index: int) -> tuple[bytes | np.ndarray, int, str]:
    """One example's image, label and id; every failure becomes a DataError."""
    try:
        example = source[index]
        image, label, name = example["image"], int(example["label"]), example["id"]
    except DataError:
        raise
    except Exception as error:
        raise DataError(
            f"{source.name}: example number {index} cannot be read: {error!r}"
        ) from error
    if not 0 <= label < source.num_classes:
        raise DataError(
            f"{source.name}: example {name} has label {label}; allowed are 0 to "
            f"{source.num_classes - 1}"
        )
    return image, label, name


def _check_not_empty(source: Source) -> None:
    if len(source) == 0:
        raise DataError(f"{source.name}: the data set is empty")


def train_batches(
    source: Source,
    *,
    batch_size: int,
    image_size: int,
    seed: int,
    start_step: int,
    stop_step: int,
    crop_area: tuple[float, float],
    crop_ratio: tuple[float, float],
    workers: int = 0,
    process_index: int = 0,
    process_count: int = 1,
) -> BatchIterator:
    """This process's rows of the global batches of steps [start_step, stop_step).

    The order is that of `order.example_ids`; the crop of an example is a function
    of (seed, epoch, index). Starting at any step costs the same.

    Args:
      batch_size: of the global batch; process h gets rows [h * b, (h + 1) * b) with
        b = batch_size // process_count.
      image_size: S, pixels.
      crop_area, crop_ratio: see `crop.random_box`.
      workers: decoding threads; 0 means one for each core this process may use.

    Yields:
      {'image': uint8 (b, S, S, 3) RGB, 'label': int32 (b,), 'index': int32 (b,)},
      index being the position in `source`.

    Raises:
      ConfigError here for a bad argument; DataError from `next` for an example that
      cannot be read or decoded.
    """
    rows = _rows_per_process(batch_size, process_index, process_count)
    crop_area = crop.check_range("crop_area", crop_area, 0.0, 1.0)
    crop_ratio = crop.check_range("crop_ratio", crop_ratio, 0.0, float("inf"))
    if not 0 <= start_step <= stop_step:
        raise ConfigError(
            f"start_step={start_step}, stop_step={stop_step}: 0 <= start <= stop"
        )
    _check_not_empty(source)
    chunk = chunk_size(rows)
    per_batch = rows // chunk

    def load(k: int) -> Batch:
        step, part = divmod(start_step * per_batch + k, per_batch)
        start = step * batch_size + process_index * rows + part * chunk
        indices = order.stream_indices(seed, len(source), start, start + chunk)
        epochs = np.arange(start, start + chunk) // len(source)
        keys = hashing.make_key(_CROP_STREAM, seed, epochs, indices)
        numbers = hashing.uniforms(keys, crop.NUMBERS_PER_BOX).tolist()
        images = np.empty((chunk, image_size, image_size, 3), np.uint8)
        labels = np.empty(chunk, np.int32)
        for row, index in enumerate(indices.tolist()):
            data, labels[row], name = _read(source, index)
            images[row] = decode.train_image(
                data, name, image_size, crop_area, crop_ratio, numbers[row]
            )
        return {"image": images, "label": labels, "index": indices}

    steps = stop_step - start_step
    return BatchIterator(load, steps * per_batch, per_batch, choose_workers(workers))


def eval_batches(
    source: Source,
    *,
    batch_size: int,
    image_size: int,
    eval_resize: int,
    workers: int = 0,
    process_index: int = 0,
    process_count: int = 1,
) -> BatchIterator:
    """This process's rows of ceil(N / batch_size) global batches: every example
    once, in order, centre crop, padded at the end.

    Args:
      batch_size: of the global batch, split as in `train_batches`.
      image_size: S, pixels.
      eval_resize: length of the shorter side before the centre crop, >= S.
      workers: decoding threads; 0 means one for each core this process may use.

    Yields:
      {'image': uint8 (b, S, S, 3) RGB, 'label': int32 (b,), 'index': int32 (b,),
      'mask': bool (b,)}. Padding has mask False, index -1, label 0, a black image.

    Raises:
      ConfigError here for a bad argument; DataError from `next` for an example that
      cannot be read or decoded.
    """
    rows = _rows_per_process(batch_size, process_index, process_count)
    if eval_resize < image_size:
        raise ConfigError(
            f"eval_resize={eval_resize}: at least image_size={image_size}"
        )
    _check_not_empty(source)
    chunk = chunk_size(rows)
    per_batch = rows // chunk

    def load(k: int) -> Batch:
        step, part = divmod(k, per_batch)
        start = step * batch_size + process_index * rows + part * chunk
        indices = np.arange(start, start + chunk, dtype=np.int32)
        mask = indices < len(source)
        images = np.zeros((chunk, image_size, image_size, 3), np.uint8)
        labels = np.zeros(chunk, np.int32)
        for row, index in enumerate(indices[mask].tolist()):
            data, labels[row], name = _read(source, index)
            images[row] = decode.eval_image(data, name, image_size, eval_resize)
        indices[~mask] = -1
        return {"image": images, "label": labels, "index": indices, "mask": mask}

    steps = -(-len(source) // batch_size)
    return BatchIterator(load, steps * per_batch, per_batch, choose_workers(workers))
