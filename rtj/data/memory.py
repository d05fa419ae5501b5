"""Sources that live in memory: given arrays, and synthetic images."""

from collections.abc import Sequence

import numpy as np

from rtj.data import hashing
from rtj.data.examples import Example
from rtj.errors import DataError


class ArraySource:
    """Images in memory: uint8 (N, H, W, 1|3), or N such arrays or encoded files."""

    def __init__(
        self,
        images: Sequence[np.ndarray | bytes] | np.ndarray,
        labels: Sequence[int] | np.ndarray,
        num_classes: int,
        ids: Sequence[str] | None = None,
        name: str = "arrays",
    ):
        if len(images) != len(labels) or (ids is not None and len(ids) != len(images)):
            raise DataError(
                f"{name}: {len(images)} images, {len(labels)} labels and "
                f"{'no' if ids is None else len(ids)} ids; the numbers must be equal"
            )
        self.name = name
        self.num_classes = num_classes
        self._images = images
        self._labels = [int(label) for label in labels]
        self._ids = ids

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int, /) -> Example:
        name = str(index) if self._ids is None else self._ids[index]
        return {"image": self._images[index], "label": self._labels[index], "id": name}


_NOISE = 8


class SyntheticSource:
    """Coloured noise, a function of the index; for tests, smoke runs and benches.

    The label of example i is i mod num_classes and can be read off the image: its
    mean colour is one of k^3 evenly spaced ones, k = ceil(num_classes^(1/3)), and
    the noise is at most 8 of 255 (k = 10 at 1,000 classes: 25 apart). See
    `synthetic_label`.
    """

    def __init__(
        self, length: int, num_classes: int, image_size: int, *, offset: int = 0
    ):
        if length < 0 or not 1 <= num_classes <= 1000 or image_size < 1:
            raise DataError(
                f"synthetic data: length={length} (0 or more), num_classes="
                f"{num_classes} (1 to 1000), image_size={image_size} (1 or more)"
            )
        self.name = "synthetic"
        self.num_classes = num_classes
        self._length = length
        self._offset = offset
        self._size = image_size
        pixels = 3 * image_size**2
        noise = hashing.uniforms(hashing.make_key(0x5E7), pixels).reshape(-1, 3)
        self._noise = np.round((2 * noise - 1) * _NOISE).astype(np.int16)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int, /) -> Example:
        number = self._offset + index
        label = number % self.num_classes
        colour = np.asarray(_colour(label, self.num_classes), np.int16)
        image = np.roll(self._noise, number * 7, axis=0) + colour
        image = np.clip(image, 0, 255).astype(np.uint8)
        return {
            "image": image.reshape(self._size, self._size, 3),
            "label": label,
            "id": f"synthetic:{number}",
        }


def _levels(num_classes: int) -> int:
    """Smallest k with k^3 >= num_classes."""
    return next(k for k in range(1, 11) if k**3 >= num_classes)


def _colour(label: int, num_classes: int) -> tuple[int, int, int]:
    """RGB of a class: its digits in base k, spread over [0, 255]."""
    k = _levels(num_classes)
    red, green, blue = (
        label // k**place % k * 255 // max(k - 1, 1) for place in range(3)
    )
    return red, green, blue


def synthetic_label(image: np.ndarray, num_classes: int) -> int:
    """The label of a `SyntheticSource` image: the class of the nearest colour."""
    mean = image.reshape(-1, 3).mean(axis=0)
    colours = np.asarray([_colour(c, num_classes) for c in range(num_classes)])
    return int(np.argmin(np.abs(colours - mean).sum(axis=1)))
