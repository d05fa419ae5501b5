"""Which examples the training batch of a step holds, and its shape."""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from rtj.data import order
from rtj.data.images import UndecodableImage
from rtj.transfer.buckets import (
    detection_buckets,
    resized,
    train_window,
    window_batches,
)
from rtj.transfer.detection.objects import BoxSource
from rtj.transfer.examples import Size

# At most one batch of a window is of both orientations.
WINDOW = 32
# Many threads fill many small batches at once, of several windows.
_KEPT = 8


class StepBatch(NamedTuple):
    """The global batch of one step.

    Attributes:
        shape: (H, W) of its images.
        indices: int32 (B,), positions in the source.
        epochs: int (B,), the epoch of each.
    """

    shape: Size
    indices: np.ndarray
    epochs: np.ndarray


def batch_order(
    source: BoxSource, *, batch_size: int, seed: int, short_side: int, max_side: int
) -> Callable[[int], StepBatch]:
    """The batch of each step, a function of (seed, step) on any number of processes.

    The stream of `order.stream_indices` in windows of `WINDOW` batches, sorted by
    `buckets.train_window`: every position of it comes once, so every example once an
    epoch. A step costs the sizes of its window, which the source keeps.
    """
    buckets = detection_buckets(short_side, max_side)
    batches = window_batches(WINDOW, batch_size, len(source))
    length = batches * batch_size

    def size(index: int) -> Size:
        try:
            return resized(source.size(index), short_side, max_side)
        except UndecodableImage:
            # Another will take its place; let it shape no batch.
            return 1, 1

    @lru_cache(maxsize=_KEPT)
    def window(number: int) -> list[StepBatch]:
        start = number * length
        indices = order.stream_indices(seed, len(source), start, start + length)
        epochs = np.arange(start, start + length) // len(source)
        sizes = [size(index) for index in indices.tolist()]
        plan = train_window(sizes, buckets, batch_size, seed, number)
        return [StepBatch(shape, indices[k], epochs[k]) for shape, k in plan]

    return lambda step: window(step // batches)[step % batches]
