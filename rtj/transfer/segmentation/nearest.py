"""The nearest pixel, by one rule on the host and on the device."""

from typing import TypeVar

import jax
import numpy as np

from rtj.transfer.examples import Size

Places = TypeVar("Places", np.ndarray, jax.Array)


def source_pixels(
    places: Places, source: int | Places, resized: int | Places
) -> Places:
    """The source pixel under the centre of each pixel of a resized side.

    In integers, so that a centre that falls on the border of two source pixels, as all
    do at half the size, takes the one on the right on every device. Pillow adds up
    floats and takes now this one, now that.

    Args:
        places: integers, pixels of the resized side.
        source, resized: pixels of the two sides.
    """
    return (2 * places + 1) * source // (2 * resized)


def resize_mask(mask: np.ndarray, size: Size) -> np.ndarray:
    """`mask` (H, W) at `size` (height, width), each pixel that of `source_pixels`."""
    if mask.shape == size:
        return mask
    rows, columns = (
        source_pixels(np.arange(resized), source, resized)
        for source, resized in zip(mask.shape, size, strict=True)
    )
    return mask[rows[:, None], columns]
