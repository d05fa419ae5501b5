"""One example's bytes or array -> the RGB uint8 image of a batch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rtj.data import crop, images
from rtj.data.crop import Box, IntBox
from rtj.data.images import Opened
from rtj.data.resize import INTERPOLATIONS, SUPPORT, Size, check_antialias, resize
from rtj.errors import ConfigError

# JPEGs are decoded at 1/2, 1/4 or 1/8 only while the crop stays this many times
# larger than the target: the rest of the shrinking is then the antialiased filter.
_GAP = 2


@dataclass(frozen=True)
class Decoding:
    """How images are decoded and resized.

    Attributes:
        decoder: 'simplejpeg' or 'pillow'; no pixel depends on it.
        interpolation: 'bilinear' or 'bicubic'.
        antialias: see `rtj.data.resize`.
    """

    decoder: str = "pillow"
    interpolation: str = "bilinear"
    antialias: bool = True


PILLOW = Decoding()


def make_decoding(
    decoder: str = "auto", interpolation: str = "bilinear", antialias: bool = True
) -> Decoding:
    """Checks what is installed; ConfigError names the field and what is allowed."""
    if decoder not in images.DECODERS:
        allowed = ", ".join(images.DECODERS)
        raise ConfigError(f"data.decoder={decoder!r}: allowed are {allowed}")
    if interpolation not in INTERPOLATIONS:
        allowed = ", ".join(INTERPOLATIONS)
        raise ConfigError(f"data.interpolation={interpolation!r}: allowed: {allowed}")
    check_antialias(antialias)
    return Decoding(images.choose(decoder), interpolation, antialias)


def train_image(
    data: bytes | np.ndarray,
    example_id: str,
    size: int,
    rule: crop.Rule,
    numbers: Sequence[float],
    how: Decoding,
) -> np.ndarray:
    """A random crop (`crop.random_box`) of the image: uint8 (size, size, 3) RGB.

    Raises UndecodableImage (a DataError), naming the example.
    """
    image = images.open_image(data, example_id, how.decoder)
    box = crop.random_box(image.width, image.height, rule, numbers)
    scale = _scale(image, box, (size, size))
    if how.antialias:
        return _resize_in_context(image, box, scale, (size, size), how)
    pixels = image.region(box, scale)
    whole = (0, 0, pixels.shape[1], pixels.shape[0])
    return resize(pixels, whole, (size, size), how.interpolation, how.antialias)


def _resize_in_context(
    image: Opened, box: Box, scale: int, size: Size, how: Decoding
) -> np.ndarray:
    """Resizes a box; its edge is filtered with what lies beyond, not cut off."""
    around = _reach(box, image, size, SUPPORT[how.interpolation] * scale)
    pixels = image.region(around, scale)
    left, top = around[0] // scale, around[1] // scale
    inside = (
        box[0] / scale - left,
        box[1] / scale - top,
        min(box[2] / scale - left, pixels.shape[1]),
        min(box[3] / scale - top, pixels.shape[0]),
    )
    return resize(pixels, inside, size, how.interpolation, how.antialias)


def _scale(image: Opened, box: IntBox, size: Size) -> int:
    """The largest scale that leaves the crop `_GAP` times the target."""
    height, width = size
    room = min((box[2] - box[0]) / width, (box[3] - box[1]) / height) / _GAP
    return next((scale for scale in image.scales if scale <= room), 1)


def eval_image(
    data: bytes | np.ndarray, example_id: str, size: int, resized: int, how: Decoding
) -> np.ndarray:
    """Shorter side to `resized`, centre crop of `size`: uint8 (size, size, 3) RGB.

    The paper's validation (section 2.1) is resize 256, size 224. Resizing the box of
    the crop gives the pixels of a full resize followed by a crop to within a grey
    level (bilinear) or 0.4 on average (bicubic). Raises UndecodableImage (a
    DataError), naming the example.
    """
    image = images.open_image(data, example_id, how.decoder)
    box = crop.centre_box(image.width, image.height, resized, size)
    return _resize_in_context(image, box, 1, (size, size), how)


def whole_image(
    image: Opened, size: Size, how: Decoding, *, may_reduce: bool
) -> np.ndarray:
    """The whole image, resized to `size` = (height, width): uint8 (*size, 3) RGB.

    Args:
        may_reduce: decode a JPEG at 1/2, 1/4 or 1/8 where that leaves twice `size`,
            as for the crops in training.

    Raises UndecodableImage (a DataError), naming the example.
    """
    box = (0, 0, image.width, image.height)
    scale = _scale(image, box, size) if may_reduce else 1
    return _resize_in_context(image, box, scale, size, how)


def _reach(box: Box, image: Opened, size: Size, support: int) -> IntBox:
    """The whole pixels that a filter may look at to resize `box` to `size`."""
    left, top, right, bottom = box
    x = support * max(1.0, (right - left) / size[1]) + 1
    y = support * max(1.0, (bottom - top) / size[0]) + 1
    return (
        max(0, math.floor(left - x)),
        max(0, math.floor(top - y)),
        min(image.width, math.ceil(right + x)),
        min(image.height, math.ceil(bottom + y)),
    )
