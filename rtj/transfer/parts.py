"""Parts of sources and sources end to end, which know their images' sizes."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Generic, TypeVar

from rtj.data.subset import part_indices
from rtj.errors import DataError
from rtj.transfer.examples import Size, SizedSource

ExampleT = TypeVar("ExampleT")


class Part(Generic[ExampleT]):
    """`SPLIT[a:b]` of a source: see `rtj.data.subset`, whose order it takes.

    Args:
        bounds: as of `rtj.data.subset.Subset`, with the same errors.
    """

    def __init__(self, source: SizedSource[ExampleT], bounds: tuple[str, str]) -> None:
        self.name = source.name
        self.num_classes = source.num_classes
        self.class_names = source.class_names
        self._source = source
        self._indices = part_indices(len(source), bounds, source.name)

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int, /) -> ExampleT:
        return self._source[int(self._indices[index])]

    def size(self, index: int, /) -> Size:
        """(height, width) of an image."""
        return self._source.size(int(self._indices[index]))


class Joined(Generic[ExampleT]):
    """Sources of the same classes, one after the other.

    Raises:
        DataError: their classes differ.
    """

    def __init__(self, sources: Sequence[SizedSource[ExampleT]], name: str) -> None:
        self.name = name
        self.class_names = sources[0].class_names
        self.num_classes = sources[0].num_classes
        for source in sources:
            if source.class_names != self.class_names:
                raise DataError(
                    f"{name}: {source.name} has the classes {source.class_names}, "
                    f"{sources[0].name} has {self.class_names}; allowed: the same"
                )
        self._sources = sources
        self._ends = list(accumulate(len(source) for source in sources))

    def __len__(self) -> int:
        return self._ends[-1]

    def _find(self, index: int) -> tuple[SizedSource[ExampleT], int]:
        index = range(len(self))[index]
        which = bisect_right(self._ends, index)
        source = self._sources[which]
        return source, index - self._ends[which] + len(source)

    def __getitem__(self, index: int, /) -> ExampleT:
        source, inner = self._find(index)
        return source[inner]

    def size(self, index: int, /) -> Size:
        """(height, width) of an image."""
        source, inner = self._find(index)
        return source.size(inner)
