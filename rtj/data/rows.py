"""Which rows of which steps a host pipeline makes, and what takes a bad one's place."""

import itertools
from collections.abc import Iterator
from typing import Protocol

import numpy as np

from rtj.data import hashing
from rtj.errors import ConfigError, DataError

_SUBSTITUTE_STREAM = 0x5B57


class Named(Protocol):
    """Any source, as far as its length goes."""

    name: str

    def __len__(self) -> int: ...


def rows_per_process(batch_size: int, index: int, count: int) -> int:
    """Rows of a global batch that process `index` of `count` makes; ConfigError."""
    if count < 1 or not 0 <= index < count:
        raise ConfigError(
            f"process_index={index}: from 0 to process_count - 1 = {count - 1}"
        )
    if batch_size < 1 or batch_size % count:
        raise ConfigError(
            f"batch_size={batch_size}: a positive multiple of process_count={count}"
        )
    return batch_size // count


def check_steps(start_step: int, stop_step: int) -> None:
    """Raises ConfigError unless the range of steps is one."""
    if not 0 <= start_step <= stop_step:
        raise ConfigError(
            f"start_step={start_step}, stop_step={stop_step}: 0 <= start <= stop"
        )


def check_not_empty(source: Named) -> None:
    """Raises DataError if there is nothing to read."""
    if len(source) == 0:
        raise DataError(f"{source.name}: the data set is empty")


def with_substitutes(seed: int, epoch: int, index: int, length: int) -> Iterator[int]:
    """`index`, then what takes its place: drawn from the whole data set, so that the
    neighbours of bad images, often of their class, are not seen more often."""
    yield index
    for attempt in itertools.count():
        key = hashing.make_key(_SUBSTITUTE_STREAM, seed, epoch, index, attempt)
        yield int(key[0] % np.uint64(length))
