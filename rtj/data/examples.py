"""What a data source is."""

from typing import Protocol, TypedDict, runtime_checkable

import numpy as np


class Example(TypedDict):
    """One example. `image`: encoded bytes, or a uint8 (H, W, 1|3) array, RGB."""

    image: bytes | np.ndarray
    label: int
    id: str


@runtime_checkable
class Source(Protocol):
    """Random access to examples, safe from several threads at once.

    `name` says in messages and logs what this is; labels are 0 to num_classes - 1.
    """

    name: str
    num_classes: int

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Example: ...


@runtime_checkable
class Listed(Protocol):
    """A source that knows labels and ids without reading images."""

    def label_and_id(self, index: int) -> tuple[int, str]: ...
