"""Images with masks, still encoded, and the source made of them."""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from rtj.data.images import UndecodableImage
from rtj.errors import DataError
from rtj.transfer.examples import Size, Sizes
from rtj.transfer.segmentation.masks import (
    IGNORED,
    MaskExample,
    decode_mask,
    label_table,
    make_example,
)

_log = logging.getLogger(__name__)


class Pairs(Protocol):
    """Random access to encoded images and masks, safe from several threads at once."""

    def __len__(self) -> int: ...

    def read(self, index: int, /) -> tuple[bytes, bytes, str]:
        """The image, the mask and the id."""
        ...

    def mask(self, index: int, /) -> tuple[bytes, str]:
        """The mask and the id."""
        ...

    def size(self, index: int, /) -> Size:
        """(height, width) of the image."""
        ...


@dataclass(frozen=True)
class Classes:
    """Names of the classes, and what the numbers in masks stand for (`label_table`)."""

    names: tuple[str, ...]
    table: np.ndarray


def plain_classes(names: Sequence[str]) -> Classes:
    """Classes that masks number from 0 on."""
    return Classes(tuple(names), label_table(len(names)))


def count_classes(pairs: Pairs, name: str) -> int:
    """One more than the largest number, 255 aside, in any mask; all are decoded.

    Masks that cannot be decoded are passed over. Raises DataError if no mask has a
    number.
    """

    def largest(index: int) -> int:
        try:
            numbers = decode_mask(*pairs.mask(index))
        except UndecodableImage:
            return -1
        counted = numbers[numbers != IGNORED]
        return int(counted.max()) if counted.size else -1

    with ThreadPoolExecutor() as pool:
        count = 1 + max(pool.map(largest, range(len(pairs))), default=-1)
    if not count:
        raise DataError(f"{name}: no mask has a number other than {IGNORED}")
    _log.info("%s: %d classes, by the numbers in %d masks", name, count, len(pairs))
    return count


class PairSource:
    """A `MaskSource`: decodes and checks masks; images stay encoded."""

    def __init__(self, pairs: Pairs, classes: Classes, name: str) -> None:
        self.name = name
        self.class_names = classes.names
        self.num_classes = len(classes.names)
        self._pairs, self._table = pairs, classes.table
        self._sizes = Sizes(len(pairs))

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int, /) -> MaskExample:
        index = range(len(self))[index]
        return make_example(*self._pairs.read(index), self._table)

    def size(self, index: int, /) -> Size:
        """(height, width) of an image."""
        index = range(len(self))[index]
        return self._sizes.get(index, lambda: self._pairs.size(index))
