"""The layers all networks share: convolution, pooling and the classifier."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike


def conv(
    features: int,
    kernel: int,
    *,
    stride: int = 1,
    dtype: DTypeLike,
    kernel_init: Initializer,
    name: str,
) -> nn.Conv:
    """A square NHWC convolution without bias, padded by kernel // 2 on each side.

    "SAME" pads unevenly at stride 2 (google/flax#963), so weights trained in
    PyTorch or MXNet would give other results; here the padding is symmetric.
    Parameters are float32, the convolution runs in `dtype`.
    """
    pad = kernel // 2
    return nn.Conv(
        features,
        (kernel, kernel),
        strides=stride,
        padding=((pad, pad), (pad, pad)),
        use_bias=False,
        dtype=dtype,
        kernel_init=kernel_init,
        name=name,
    )


def max_pool_3x3(x: jax.Array) -> jax.Array:
    """3x3 maximum, stride 2, one pixel of padding on each side."""
    return nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))


def average_pool_ceil(x: jax.Array, window: int) -> jax.Array:
    """Average over window x window at stride window, rounding the size up.

    Border cells average only the pixels that exist (MXNet's
    `pooling_convention='full', count_include_pad=False`, PyTorch's
    `ceil_mode=True, count_include_pad=False`), so odd maps keep the size that a
    strided convolution gives them.
    """
    if window == 1:
        return x
    pads: Sequence[tuple[int, int]] = [(0, -size % window) for size in x.shape[1:3]]
    return nn.avg_pool(
        x, (window, window), (window, window), pads, count_include_pad=False
    )


def classify(
    x: jax.Array,
    num_classes: int,
    *,
    dropout: float,
    kernel_init: Initializer,
    train: bool,
) -> jax.Array:
    """Global average pool, dropout and the dense layer `fc`, all in float32.

    Takes (N, H, W, C) in any dtype, gives (N, num_classes) float32 logits. At
    2048 x 1000 weights the dense layer is 0.05 % of ResNet-50's multiply-adds,
    so low precision would save nothing here. Call it inside a compact method.
    """
    x = x.astype(jnp.promote_types(jnp.float32, x.dtype)).mean(axis=(1, 2))
    x = nn.Dropout(dropout, deterministic=not train)(x)
    return nn.Dense(num_classes, kernel_init=kernel_init, name="fc")(x)
