"""Crop boxes: the paper's random area/aspect rectangle and the centre crop.

Boxes are (left, top, right, bottom) in source pixels.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rtj.errors import ConfigError

FORMS = ("paper", "log")
TRIES = 10
# Area, ratio, swap, left, top.
NUMBERS_PER_TRY = 5
NUMBERS_PER_BOX = TRIES * NUMBERS_PER_TRY

Box = tuple[float, float, float, float]
IntBox = tuple[int, int, int, int]


@dataclass(frozen=True)
class Rule:
    """How random crops are drawn.

    Attributes:
        area: (min, max) fraction of the image's area, in (0, 1].
        ratio: (min, max) of width/height.
        form: 'paper' draws the ratio uniformly, 'log' uniformly in its logarithm as
            torchvision and timm do.
    """

    area: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    form: str = "paper"


def make_rule(area: Sequence[float], ratio: Sequence[float], form: str) -> Rule:
    """Checks the three fields; ConfigError names the wrong one."""
    if form not in FORMS:
        raise ConfigError(f"crop_form={form!r}: allowed are {', '.join(FORMS)}")
    return Rule(
        check_range("crop_area", area, 0.0, 1.0),
        check_range("crop_ratio", ratio, 0.0, float("inf")),
        form,
    )


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
) -> IntBox:
    """The largest centred box whose width/height lies in `crop_ratio`."""
    ratio = min(max(width / height, crop_ratio[0]), crop_ratio[1])
    box_width = max(1, min(width, round(height * ratio)))
    box_height = max(1, min(height, round(width / ratio)))
    left = (width - box_width) // 2
    top = (height - box_height) // 2
    return left, top, left + box_width, top + box_height


def random_box(width: int, height: int, rule: Rule, numbers: Sequence[float]) -> IntBox:
    """The paper's random crop (section 2.1, step 2), one rectangle.

    Area fraction and aspect ratio (width/height) are drawn together; a rectangle that
    does not fit is drawn again, up to 10 times, then the largest centred box is taken.
    The paper does not say how the ratio is distributed; as in MXNet's RecordIter the
    form 'paper' is uniform (not log-uniform), and width and height change places with
    probability 1/2, here only if the swapped ratio lies in `rule.ratio` too (for the
    paper's [3/4, 4/3] it always does). MXNet's fallback is a crop of the target size,
    which is tiny in a large image; ours is torchvision's.

    Args:
      width, height: size of the image, pixels.
      rule: ranges of area and ratio.
      numbers: NUMBERS_PER_BOX uniform numbers in [0, 1).
    """
    for k in range(0, NUMBERS_PER_BOX, NUMBERS_PER_TRY):
        u_area, u_ratio, u_swap, u_left, u_top = numbers[k : k + NUMBERS_PER_TRY]
        area = width * height * _lerp(rule.area, u_area)
        ratio = _draw_ratio(rule, u_ratio, u_swap)
        box_width = round(math.sqrt(area * ratio))
        box_height = round(math.sqrt(area / ratio))
        if 0 < box_width <= width and 0 < box_height <= height:
            left = int(u_left * (width - box_width + 1))
            top = int(u_top * (height - box_height + 1))
            return left, top, left + box_width, top + box_height
    return largest_centred_box(width, height, rule.ratio)


def _draw_ratio(rule: Rule, u_ratio: float, u_swap: float) -> float:
    if rule.form == "log":
        low, high = math.log(rule.ratio[0]), math.log(rule.ratio[1])
        return math.exp(_lerp((low, high), u_ratio))
    ratio = _lerp(rule.ratio, u_ratio)
    swaps = u_swap < 0.5 and rule.ratio[0] <= 1 / ratio <= rule.ratio[1]
    return 1 / ratio if swaps else ratio


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
