"""Encoded images with objects as annotated, and the source made of them."""

from typing import NamedTuple, Protocol

from rtj.transfer.detection.objects import BoxExample, Faults, Object, make_example
from rtj.transfer.examples import Size, Sizes, image_size


class Annotated(NamedTuple):
    """One example as it is stored.

    Attributes:
        image: encoded.
        objects: as annotated.
        size: (height, width) as annotated, None if it is not.
        id: names the example.
    """

    image: bytes
    objects: list[Object]
    size: Size | None
    id: str


class Store(Protocol):
    """Random access to what is stored, safe from several threads at once."""

    def __len__(self) -> int: ...

    def read(self, index: int, /) -> Annotated: ...

    def size(self, index: int, /) -> Size:
        """(height, width) of the image."""
        ...


class AnnotatedSource:
    """A `BoxSource`: checks and mends objects; images stay encoded.

    Attributes:
        faults: what has been mended so far.
    """

    def __init__(self, store: Store, class_names: tuple[str, ...], name: str) -> None:
        self.name = name
        self.class_names = class_names
        self.num_classes = len(class_names)
        self.faults = Faults(name)
        self._store = store
        self._sizes = Sizes(len(store))

    def __len__(self) -> int:
        return len(self._store)

    def __getitem__(self, index: int, /) -> BoxExample:
        index = range(len(self))[index]
        image, objects, stated, example_id = self._store.read(index)
        size = self._sizes.get(index, lambda: image_size(image, example_id))
        if stated is not None and stated != size:
            fault = (
                f"{stated[1]} x {stated[0]}, but the image is {size[1]} x {size[0]} and"
                " its objects are taken to be in that"
            )
            self.faults.sizes.add(example_id, 0, fault)
        return make_example(
            image, size, objects, self.class_names, example_id, self.faults
        )

    def size(self, index: int, /) -> Size:
        """(height, width) of an image."""
        index = range(len(self))[index]
        return self._sizes.get(index, lambda: self._store.size(index))
