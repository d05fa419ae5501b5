"""Crop boxes: the paper's random area/aspect rectangle and the centre crop.

Boxes are (left, top, right, bottom) in source pixels.
"""

import math
from collections.abc import Sequence

from rtj.errors import ConfigError

TRIES = 10
# Area, ratio, swap, left, top.
NUMBERS_PER_TRY = 5
NUMBERS_PER_BOX = TRIES * NUMBERS_PER_TRY

Box = tuple[float, float, float, float]


def check_range(
    name: str, value: Sequence[float], low: float, high: float
) -> tuple[float, float]:
    """Returns the (min, max) pair, or raises ConfigError naming the field."""
    pair = tuple(float(v) for v in value)
    if len(pair) != 2 or not low < pair[0] <= pair[1] <= high:
        raise ConfigError(
            f"{name}={tuple(value)}: two numbers, min <= max, in ({low:g}, {high:g}]"
        )
    return pair[0], pair[1]


def largest_centred_box(
    width: int, height: int, crop_ratio: tuple[float, float]
) -> Box:
    """The largest centred box whose width/height lies in `crop_ratio`."""
    ratio = min(max(width / height, crop_ratio[0]), crop_ratio[1])
    box_width = max(1, min(width, round(height * ratio)))
    box_height = max(1, min(height, round(width / ratio)))
    left = (width - box_width) // 2
    top = (height - box_height) // 2
    return left, top, left + box_width, top + box_height


def random_box(
    width: int,
    height: int,
    crop_area: tuple[float, float],
    crop_ratio: tuple[float, float],
    numbers: Sequence[float],
) -> Box:
    """The paper's random crop (section 2.1, step 2), one rectangle.

    Area fraction and aspect ratio (width/height) are drawn together, both uniform;
    a rectangle that does not fit is drawn again, up to 10 times, then the largest
    centred box is taken. The paper does not say how the ratio is distributed; as in
    MXNet's RecordIter it is uniform (not log-uniform), and width and height change
    places with probability 1/2, here only if the swapped ratio lies in `crop_ratio`
    too (for the paper's [3/4, 4/3] it always does). MXNet's fallback is a crop of
    the target size, which is tiny in a large image; ours is torchvision's.

    Args:
      width, height: size of the image, pixels.
      crop_area: (min, max) fraction of the image's area, in (0, 1].
      crop_ratio: (min, max) of width/height.
      numbers: NUMBERS_PER_BOX uniform numbers in [0, 1).
    """
    for k in range(0, NUMBERS_PER_BOX, NUMBERS_PER_TRY):
        u_area, u_ratio, u_swap, u_left, u_top = numbers[k : k + NUMBERS_PER_TRY]
        area = width * height * _lerp(crop_area, u_area)
        ratio = _lerp(crop_ratio, u_ratio)
        if u_swap < 0.5 and crop_ratio[0] <= 1 / ratio <= crop_ratio[1]:
            ratio = 1 / ratio
        box_width = round(math.sqrt(area * ratio))
        box_height = round(math.sqrt(area / ratio))
        if 0 < box_width <= width and 0 < box_height <= height:
            left = int(u_left * (width - box_width + 1))
            top = int(u_top * (height - box_height + 1))
            return left, top, left + box_width, top + box_height
    return largest_centred_box(width, height, crop_ratio)


def _lerp(bounds: tuple[float, float], u: float) -> float:
    return bounds[0] + (bounds[1] - bounds[0]) * u


def centre_box(width: int, height: int, resize: int, size: int) -> Box:
    """Source box of: shorter side to `resize` keeping the ratio, centre `size` crop.

    The longer side is rounded down and the offset rounded to the nearest pixel, as
    in torchvision, so that resizing this box straight to (size, size) gives the
    pixels of a full resize followed by a crop.
    """
    if width <= height:
        new_width, new_height = resize, int(resize * height / width)
    else:
        new_width, new_height = int(resize * width / height), resize
    left = round((new_width - size) / 2)
    top = round((new_height - size) / 2)
    across, down = width / new_width, height / new_height
    return (
        left * across,
        top * down,
        min((left + size) * across, width),
        min((top + size) * down, height),
    )
