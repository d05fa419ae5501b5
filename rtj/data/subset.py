"""A part of a split, `SPLIT[a:b]` with integers or per cent, as TFDS writes it.

A part is not a stretch of the files' sorted order: that is the order of the classes,
so `train[:90%]` and `train[90%:]` would have no class in common. The split is first
put into one fixed random order, a function of its length alone; parts are stretches
of that, and parts that do not overlap share no example. (TFDS shuffles when it
prepares a data set, to the same end.)
"""

import re

import numpy as np

from rtj.data import hashing
from rtj.data.examples import Example, Source
from rtj.errors import DataError

_BOUND = r"(-?(?:\d{1,2}|100)%|-?\d+)?"
_PART = re.compile(rf"([^\[\]+]+)(?:\[{_BOUND}:{_BOUND}\])?")
_ORDER_STREAM = 0x5B5E


def parse_split(text: str, name: str) -> tuple[str, tuple[str, str] | None]:
    """`train[:10%]` to `("train", ("", "10%"))`, `train` to `("train", None)`."""
    match = _PART.fullmatch(text)
    if not match:
        raise DataError(
            f"{name}: split {text!r} is not allowed; allowed are a name and a part of "
            "one, such as train, train[:10%] and train[100:-100], with 0% to 100%"
        )
    bounds = (match[2] or "", match[3] or "")
    return match[1].strip(), bounds if "[" in text else None


class Subset:
    """The examples [start, stop) of a source's fixed random order, in its own order.

    Args:
        bounds: each an integer, negative from the end, or a whole number of per cent,
            rounded to the nearest example; empty for the source's own ends.

    Raises:
        DataError: the part is empty or goes beyond the source.
    """

    def __init__(self, source: Source, bounds: tuple[str, str]):
        self.name = source.name
        self.num_classes = source.num_classes
        if hasattr(source, "class_names"):
            self.class_names = source.class_names
        self._source = source
        self._indices = part_indices(len(source), bounds, source.name)

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int, /) -> Example:
        return self._source[int(self._indices[index])]


def part_indices(count: int, bounds: tuple[str, str], name: str) -> np.ndarray:
    """Which of `count` examples a part holds, sorted, int32; errors as of `Subset`."""
    start = _position(bounds[0] or "0", count)
    stop = _position(bounds[1] or str(count), count)
    if not 0 <= start < stop <= count:
        raise DataError(
            f"{name}: the part [{bounds[0]}:{bounds[1]}] of {count} examples is "
            f"[{start}:{stop}]; allowed: 0 <= start < end <= {count}"
        )
    order = np.argsort(hashing.make_key(_ORDER_STREAM, np.arange(count)))
    return np.sort(order[start:stop]).astype(np.int32)


def _position(bound: str, count: int) -> int:
    percent = bound.endswith("%")
    whole, value = 100 if percent else count, int(bound.removesuffix("%"))
    value += whole if bound.startswith("-") else 0
    return round(value * count / 100) if percent else value
