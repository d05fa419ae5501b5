"""What sources of images with masks and of images with boxes have in common."""

import io
import logging
import threading
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar

from rtj.data.image_limits import open_pillow, open_without_waiting, read_image_file
from rtj.data.images import UndecodableImage, undecodable
from rtj.errors import DataError, nearest_first

_log = logging.getLogger(__name__)
_NAMED = 10

Size = tuple[int, int]
ExampleT_co = TypeVar("ExampleT_co", covariant=True)


class SizedSource(Protocol[ExampleT_co]):
    """Random access to examples and to the sizes of their images.

    Safe from several threads at once. `name` says in messages and logs what this is.
    An example that cannot be used raises UndecodableImage from `source[i]`, and from
    `size(i)` where the image's header is what is wrong; the caller counts these
    (`rtj.data.bad_images`) and goes on. Any other DataError is the data set's.
    """

    name: str
    num_classes: int
    class_names: tuple[str, ...]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> ExampleT_co: ...

    def size(self, index: int, /) -> Size:
        """(height, width) of the image in pixels, EXIF orientation ignored."""
        ...


class UnusableExample(UndecodableImage):
    """One example's image, mask or annotation is missing or makes no sense."""


def unusable(example_id: str, fault: str) -> UnusableExample:
    """The error for an example with `fault`."""
    return UnusableExample(f"example {example_id}: {fault}")


def open_file(path: Path, example_id: str, what: str) -> BinaryIO:
    """A file opened to be read: the example's image, mask ... as `what` says.

    Raises UnusableExample if there is none, DataError if the disk does not give it.
    """
    with _one_error(path, example_id, what):
        return open(path, "rb", opener=open_without_waiting)


def read_file(path: Path, example_id: str, what: str) -> bytes:
    """The bytes of a file; errors as of `open_file`."""
    with _one_error(path, example_id, what):
        return read_image_file(path)


@contextmanager
def _one_error(path: Path, example_id: str, what: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise unusable(example_id, f"its {what} is missing: {path}") from None
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror}; restore it, or remove it and "
            "start again"
        ) from error


def image_size(data: bytes, example_id: str) -> Size:
    """(height, width) from an encoded image's header; its pixels are not decoded."""
    return _header_size(io.BytesIO(data), example_id)


def file_size(path: Path, example_id: str) -> Size:
    """`image_size` of a file, of which little more than the header is read.

    Errors are those of `read_file` and of `image_size`.
    """
    with open_file(path, example_id, "image") as file:
        return _header_size(file, example_id)


def _header_size(file: BinaryIO, example_id: str) -> Size:
    try:
        with open_pillow(file) as image:
            return image.height, image.width
    except Exception as error:
        raise undecodable(example_id, error) from error


class Sizes:
    """Sizes of `count` images, each measured once, in 8 bytes."""

    def __init__(self, count: int) -> None:
        self._packed = array("q", bytes(8 * count))

    def get(self, index: int, measure: Callable[[], Size]) -> Size:
        """The size of image 0 <= index < count, from `measure` the first time."""
        packed = self._packed[index]
        if not packed:
            height, width = measure()
            # One item is written at once, so no thread sees half of it.
            packed = self._packed[index] = height << 32 | width
        return packed >> 32, packed & 0xFFFFFFFF


class Noted:
    """Counts faults that cost no example, such as boxes left out; shared by threads.

    A fault is counted once, however often it is met. The first ten are named in the
    log, then the count is given at 100, 1,000 and so on.

    Args:
        name: of the source.
        what: was done, such as 'boxes left out'.
    """

    def __init__(self, name: str, what: str) -> None:
        self._name, self._what = name, what
        self._lock = threading.Lock()
        self._seen: set[tuple[str, int]] = set()

    def __len__(self) -> int:
        return len(self._seen)

    def add(self, example_id: str, number: int, fault: str) -> None:
        """Counts the fault of part `number` of an example."""
        with self._lock:
            if (example_id, number) in self._seen:
                return
            self._seen.add((example_id, number))
            count = len(self._seen)
        if count <= _NAMED:
            last = "; more are only counted" if count == _NAMED else ""
            _log.warning(
                "%s: %s: %d, example %s: %s%s",
                *(self._name, self._what, count, example_id, fault, last),
            )
        elif str(count).strip("0") == "1":
            _log.warning("%s: %s: %d by now", self._name, self._what, count)


def unknown_name(name: str, names: tuple[str, ...]) -> DataError:
    """The error for a data set's name that is none of `names`."""
    allowed = ", ".join(nearest_first(name, names))
    return DataError(f"data set {name!r}: allowed, nearest first: {allowed}")
