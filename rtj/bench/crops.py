"""The crops of a training run, for peers to cut as well."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rtj.bench.photos import HEIGHT, WIDTH
from rtj.data import crop, hashing, order
from rtj.data.pipeline import CROP_STREAM

SEED, SIZE, BATCH = 0, 224, 64
RULE = crop.Rule()


@dataclass(frozen=True)
class Work:
    """What every contestant is given: the same files and the same crops.

    Attributes:
        folder: of `photos.make_folder`.
        files: paths in the order of rtj's source.
        cores: threads or processes to use.
        seconds: to measure.
    """

    folder: Path
    files: tuple[str, ...]
    cores: int
    seconds: float

    def stream(self, length: int) -> tuple[np.ndarray, np.ndarray]:
        """The first `length` file numbers of a run and their boxes, int (n, 4) as
        left, top, right, bottom."""
        count = len(self.files)
        indices = order.stream_indices(SEED, count, 0, length)
        epochs = np.arange(length) // count
        keys = hashing.make_key(CROP_STREAM, SEED, epochs, indices)
        numbers = hashing.uniforms(keys, crop.NUMBERS_PER_BOX)
        boxes = [crop.random_box(WIDTH, HEIGHT, RULE, row.tolist()) for row in numbers]
        return indices, np.array(boxes, np.int32)

    def endless(self) -> Iterator[tuple[str, np.ndarray]]:
        """Files and boxes for ever; the crops repeat after 2 epochs."""
        indices, boxes = self.stream(2 * len(self.files))
        while True:
            for index, box in zip(indices, boxes, strict=True):
                yield self.files[index], box
