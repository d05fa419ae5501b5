"""Resizing: antialiased with Pillow, or plain interpolation with OpenCV.

An antialiasing filter widens with the reduction, so that every source pixel counts.
Plain interpolation looks at 2x2 (bilinear) or 4x4 (bicubic) pixels only: that is
what MXNet's RecordIter, DALI's and tf.image's defaults do, and is faster. A network
evaluated with the other one loses 1 to 3 points (NVIDIA/DALI#1111).
"""

import importlib
import importlib.util
from functools import cache
from types import ModuleType

import numpy as np
from PIL import Image

from rtj.data.crop import Box
from rtj.errors import ConfigError

# (height, width), pixels.
Size = tuple[int, int]
INTERPOLATIONS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
# How far the filters reach, in pixels of the smaller of source and target.
SUPPORT = {"bilinear": 1, "bicubic": 2}


def check_antialias(antialias: bool) -> None:
    """Raises ConfigError if plain interpolation is asked for without OpenCV."""
    if not antialias and importlib.util.find_spec("cv2") is None:
        raise ConfigError(
            "data.antialias=False needs OpenCV, which is not installed: pip install "
            "'rtj[fast]', or allowed here: True"
        )


def resize(
    pixels: np.ndarray, box: Box, size: Size, interpolation: str, antialias: bool
) -> np.ndarray:
    """`box` of an image as uint8 (height, width, 3) RGB.

    Args:
        pixels: uint8 (h, w) grey or (h, w, 3) RGB.
        box: in pixels of it, fractions allowed; the filter looks beyond it as far as
            it reaches.
        size: (height, width) of the result.
        interpolation: a key of `INTERPOLATIONS`. Pillow's cubic has a = -0.5,
            OpenCV's -0.75.
    """
    if antialias:
        image = Image.fromarray(pixels)
        found = np.asarray(
            image.resize(size[::-1], INTERPOLATIONS[interpolation], box=box)
        )
    else:
        found = _interpolate(pixels, box, size, interpolation)
    # Grey costs a third when it is made RGB after the resize.
    return found if found.ndim == 3 else np.repeat(found[:, :, None], 3, axis=2)


def _interpolate(
    pixels: np.ndarray, box: Box, size: Size, interpolation: str
) -> np.ndarray:
    cv2 = _cv2()
    method = {"bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC}[interpolation]
    if box == (0, 0, pixels.shape[1], pixels.shape[0]):
        return cv2.resize(pixels, size[::-1], interpolation=method)
    across, down = (box[2] - box[0]) / size[1], (box[3] - box[1]) / size[0]
    # From a target pixel's centre to its place in the source.
    matrix = np.array(
        [
            [across, 0, box[0] + across / 2 - 0.5],
            [0, down, box[1] + down / 2 - 0.5],
        ]
    )
    return cv2.warpAffine(
        pixels,
        matrix,
        size[::-1],
        flags=method | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )


@cache
def _cv2() -> ModuleType:
    cv2 = importlib.import_module("cv2")
    # The pipeline's threads each resize their own image.
    cv2.setNumThreads(0)
    return cv2
