"""Examples that cannot be decoded: named, counted, and no more than a few.

ImageNet has none that Pillow cannot read, a copy of it or another data set may. In
training another example, drawn by (seed, epoch, index), takes the place of a bad one;
in evaluation a bad one is left out of the sums, and the counts say so.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from rtj.data.examples import Source
from rtj.data.images import UndecodableImage
from rtj.errors import DataError

_log = logging.getLogger(__name__)


class BadImages:
    """The bad examples of one source, shared by all threads that read it.

    Args:
        name: of the source, for messages.
        length: examples in the source.
        limit: largest allowed fraction of them, in [0, 1].
    """

    def __init__(self, name: str, length: int, limit: float) -> None:
        self._name, self._length, self._limit = name, length, limit
        self._lock = threading.Lock()
        self._ids: set[str] = set()

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, example_id: str, error: UndecodableImage) -> None:
        """Counts and logs an example once; DataError when they are too many."""
        with self._lock:
            if example_id in self._ids:
                return
            self._ids.add(example_id)
            count = len(self._ids)
        if count > self._limit * self._length:
            raise DataError(
                f"{self._name}: {error}. That makes {count} of {self._length} images; "
                f"allowed: data.max_bad_images={self._limit:g} of them"
            ) from error
        _log.warning("%s: skipped: %s", self._name, error)


@contextmanager
def as_data_error(name: str, index: int) -> Iterator[None]:
    """Turns every failure to read example `index` of source `name` into a DataError."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        raise DataError(
            f"{name}: example number {index} cannot be read: {error!r}"
        ) from error


def read(source: Source, index: int) -> tuple[bytes | np.ndarray, int, str]:
    """One example's image, label and id; every failure becomes a DataError."""
    with as_data_error(source.name, index):
        example = source[index]
        image, label, name = example["image"], int(example["label"]), example["id"]
    if not 0 <= label < source.num_classes:
        raise DataError(
            f"{source.name}: example {name} has label {label}; allowed are 0 to "
            f"{source.num_classes - 1}"
        )
    return image, label, name
