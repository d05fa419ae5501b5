"""A feature pyramid (Lin et al. 2016, arXiv 1612.03144) and RoIs on its levels.

P2 to P5 come from the four stages: a 1x1 convolution of the stage, plus the level above
made twice as large by repetition, then a 3x3 convolution. P6, for large anchors alone,
is every other cell of P5. Kernels start from N(0, 1 / inputs), as in gluon-cv.

An RoI of area w h is read from level floor(4 + log2(sqrt(w h) / 224)), held between
2 and 5. Written for any strides: from the last level on which its side is 14 cells or
more, the first if there is none.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.nn.initializers import variance_scaling
from jax.typing import DTypeLike

from rtj.models.layers import conv
from rtj.transfer.detection.boxes import area
from rtj.transfer.detection.roi_align import roi_align

# 224 pixels on stride 16.
_CELLS = 14
# Of equal sides, rounded differently, the larger counts (torchvision's 1e-6).
_SLACK = 1 + 1e-6


class FeaturePyramid(nn.Module):
    """The maps P2 to P6, all with the same channels.

    Attributes:
        channels: of all levels.
        dtype: of the convolutions.
    """

    channels: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, stages: Sequence[jax.Array]) -> list[jax.Array]:
        """Stages' maps (B, h, w, C), the largest first, to one map more."""

        def layer(kernel: int, name: str) -> nn.Conv:
            return conv(
                self.channels,
                kernel,
                use_bias=True,
                dtype=self.dtype,
                kernel_init=variance_scaling(1.0, "fan_in", "normal"),
                name=name,
            )

        levels: list[jax.Array] = []
        above: jax.Array | None = None
        for number, stage in reversed(list(enumerate(stages, start=2))):
            x = layer(1, f"lateral{number}")(stage)
            if above is not None:
                x += enlarge(above, x.shape[1], x.shape[2])
            levels.insert(0, layer(3, f"output{number}")(x))
            above = x
        return [*levels, levels[-1][:, ::2, ::2]]


def enlarge(x: jax.Array, height: int, width: int) -> jax.Array:
    """(B, h, w, C) to (B, height, width, C): cells repeated, the surplus cut off.

    A map of odd size is half as large as the one below, rounded up.
    """
    rows, columns = -(-height // x.shape[1]), -(-width // x.shape[2])
    x = jnp.repeat(jnp.repeat(x, rows, axis=1), columns, axis=2)
    return x[:, :height, :width]


def roi_levels(boxes: jax.Array, strides: Sequence[int]) -> jax.Array:
    """The level of each of (..., 4) boxes, (...) int32 from 0 on; see above."""
    side = jnp.sqrt(area(boxes))[..., None] * _SLACK
    least = _CELLS * jnp.asarray(strides[1:], side.dtype)
    return (side >= least).sum(axis=-1, dtype=jnp.int32)


def pyramid_roi_align(
    levels: Sequence[jax.Array],
    boxes: jax.Array,
    strides: Sequence[int],
    output_size: int,
) -> jax.Array:
    """Features of one image's boxes, each from its own level.

    Shapes are static, so every level is read for all boxes and what belongs to another
    is dropped: a third more than reading P2 alone.

    Args:
        levels: (h, w, C) each, without P6.
        boxes: (R, 4) float32, pixels.
        strides: of the levels.
        output_size: bins a side.

    Returns:
        (R, output_size, output_size, C) in the levels' dtype.
    """
    own = roi_levels(boxes, strides)[:, None, None, None]
    read = [
        jnp.where(
            own == number,
            roi_align(level, boxes, output_size=output_size, spatial_scale=1 / stride),
            0,
        )
        for number, (level, stride) in enumerate(zip(levels, strides, strict=True))
    ]
    return sum(read[1:], start=read[0])
