"""Encoded bytes or a uint8 array -> an RGB uint8 crop, with Pillow.

Resizing is bilinear and antialiased (Pillow widens the triangle filter when it
shrinks), for training and evaluation alike. MXNet's RecordIter used OpenCV's
bilinear, which does not antialias; networks evaluated with the other filter lose
1 to 3 points (NVIDIA/DALI#1111).
"""

import io
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from rtj.data import crop
from rtj.errors import DataError

# JPEGs are decoded at 1/2, 1/4 or 1/8 only while the crop stays this many times
# larger than the target: the rest of the shrinking is then the antialiased filter.
# Pillow's `resize` takes the same number for its own first, coarse pass.
_GAP = 2.0


def open_image(data: bytes | np.ndarray, example_id: str) -> Image.Image:
    """Opens encoded bytes (lazily) or wraps a uint8 (H, W), (H, W, 1|3) array."""
    try:
        if isinstance(data, bytes):
            return Image.open(io.BytesIO(data))
        if data.ndim == 3 and data.shape[2] == 1:
            data = data[:, :, 0]
        return Image.fromarray(np.ascontiguousarray(data, np.uint8))
    except Exception as error:
        raise _undecodable(example_id, error) from error


def _undecodable(example_id: str, error: Exception) -> DataError:
    reason = str(error) or type(error).__name__
    return DataError(f"example {example_id}: the image cannot be decoded: {reason}")


def _resized(
    image: Image.Image, size: int, box: crop.Box, gap: float | None
) -> np.ndarray:
    """Crop and resize to an RGB uint8 (size, size, 3) array."""
    # A grey image costs a third when it is made RGB after the resize.
    if image.mode not in ("RGB", "L"):
        image = image.convert("RGB")
    image = image.resize(
        (size, size), Image.Resampling.BILINEAR, box=box, reducing_gap=gap
    )
    return np.asarray(image.convert("RGB"))


def train_image(
    data: bytes | np.ndarray,
    example_id: str,
    size: int,
    crop_area: tuple[float, float],
    crop_ratio: tuple[float, float],
    numbers: Sequence[float],
) -> np.ndarray:
    """A random crop (`crop.random_box`) of the image: uint8 (size, size, 3) RGB.

    Raises DataError, naming the example, if the image cannot be decoded.
    """
    image = open_image(data, example_id)
    width, height = image.size
    box = crop.random_box(width, height, crop_area, crop_ratio, numbers)
    try:
        # Decodes a large JPEG at a fraction of its size; no effect on other formats.
        image.draft(
            None,
            (
                math.ceil(_GAP * size * width / (box[2] - box[0])),
                math.ceil(_GAP * size * height / (box[3] - box[1])),
            ),
        )
        if image.size != (width, height):
            x, y = image.width / width, image.height / height
            box = (box[0] * x, box[1] * y, box[2] * x, box[3] * y)
        return _resized(image, size, box, _GAP)
    except Exception as error:
        raise _undecodable(example_id, error) from error


def eval_image(
    data: bytes | np.ndarray, example_id: str, size: int, resize: int
) -> np.ndarray:
    """Shorter side to `resize`, centre crop of `size`: uint8 (size, size, 3) RGB.

    The paper's validation (section 2.1) is resize 256, size 224. Raises DataError,
    naming the example, if the image cannot be decoded.
    """
    image = open_image(data, example_id)
    box = crop.centre_box(*image.size, resize, size)
    try:
        return _resized(image, size, box, None)
    except Exception as error:
        raise _undecodable(example_id, error) from error
