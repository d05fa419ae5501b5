"""Anchors: the boxes that a place of the feature map stands for.

With stride s, the window of s x s pixels at each place is reshaped to each ratio of
height to width, keeping its area, and its sides are rounded to whole pixels; then it is
enlarged so that at ratio 1 its side is each of `sizes`. All share the window's centre,
(column + 1/2, row + 1/2) s. This is Detectron's `generate_anchors` and gluon-cv's
`RPNAnchorGenerator`, in continuous coordinates: they name the first and the last
pixel, so their x2 and y2 are one less.

In the wild: torchvision centres anchors on column s, row s, half a stride up and left,
and rounds half the enlarged sides, so that 32 x 32 at ratio 1/2 is 46 x 22 instead of
46 x 24. Detectron2 centres them there too, and does not round. gluon-cv gives a place
of a pyramid as many anchors as there are ratios, one size a level.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

RATIOS = (0.5, 1.0, 2.0)
# One map of stride 16, base 16 times scales 2, 4, 8, 16 and 32 (gluon-cv on VOC).
C4_STRIDE = 16
C4_SIZES = (32, 64, 128, 256, 512)
# P2 to P6, one size a level (Lin et al. 2016, arXiv 1612.03144).
FPN_STRIDES = (4, 8, 16, 32, 64)
FPN_SIZES = (32, 64, 128, 256, 512)


def place_anchors(
    stride: int, sizes: Sequence[float], ratios: Sequence[float] = RATIOS
) -> np.ndarray:
    """Anchors of the place at row 0 and column 0: (ratios x sizes, 4) float64.

    The ratio changes slowest. Ratios are height / width. A window of one pixel is not
    rounded: half of it would be 0.
    """
    ratio = np.asarray(ratios, np.float64)
    whole = np.round if stride > 1 else np.positive
    width = whole(np.sqrt(stride * stride / ratio))
    sides = np.stack([width, whole(width * ratio)], axis=-1)
    sides = sides[:, None] * (np.asarray(sizes, np.float64) / stride)[:, None]
    sides = sides.reshape(-1, 2)
    return np.concatenate([stride - sides, stride + sides], axis=-1) / 2


def map_anchors(
    height: int,
    width: int,
    stride: int,
    sizes: Sequence[float],
    ratios: Sequence[float] = RATIOS,
) -> np.ndarray:
    """Anchors of a map of height x width places: (height x width x A, 4) float32.

    They are in the order of (height, width, A) outputs of a network, flattened. A
    constant on the host; inside `jax.jit` it becomes one of the program.
    """
    y, x = np.mgrid[:height, :width] * float(stride)
    shift = np.stack([x, y, x, y], axis=-1)[:, :, None]
    anchors = place_anchors(stride, sizes, ratios) + shift
    return anchors.reshape(-1, 4).astype(np.float32)


def inside_image(
    anchors: jax.Array,
    height: jax.Array | int,
    width: jax.Array | int,
    border: float = 0.0,
) -> jax.Array:
    """(N, 4) to (N,) bool: reaches no more than `border` pixels outside the image.

    Ren et al. and gluon-cv train the region proposal network on those alone (border 0);
    torchvision and Detectron2 take all anchors. `height` and `width` are the image's
    own where it is padded.
    """
    low = jnp.all(anchors[..., :2] >= -border, axis=-1)
    limit = jnp.stack([width, height]) + border
    return low & jnp.all(anchors[..., 2:] <= limit, axis=-1)
